"""`serve --sync` as hosts start it: what is refused, what comes in and goes out, and how it ends and comes back."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import httpx
import pytest
from bmad_installs import add_v4_docs
from commands.command import CLEAN, NO_DATABASE, fails, succeeds
from data_dirs import data_dir
from processes import fresh_key
from server.wire import WireChild

from bmad_mcp.commands.syncing import checked
from bmad_mcp.embedded.data_home import find_home
from bmad_mcp.embedded.postmaster import Postmaster
from bmad_mcp.settings import Settings

__all__ = ["data_dir"]

SERVE = ["-m", "bmad_mcp", "serve"]
STORY = "docs/stories/2.3.story.md"
# An edit is there within two seconds; a busy machine gets more.
SECONDS = 6.0


@pytest.fixture
def folder(tmp_path):
    return add_v4_docs(tmp_path / fresh_key("syncing"))


@pytest.fixture
def start():
    """Starts servers that are killed at the end."""
    started: list[WireChild] = []

    def start_one(env, *options: str, **more) -> WireChild:
        child = WireChild([*SERVE, *options], env, **more)
        started.append(child)
        child.hello()
        return child

    yield start_one
    for one in started:
        one.kill()


def until(what, seconds: float = SECONDS) -> float:
    """Waits until `what()` is true; how long it took."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < seconds, f"it did not come to that within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - begun


def edit(folder: Path, old: str, new: str, path: str = STORY) -> None:
    text = (folder / path).read_text()
    assert old in text
    (folder / path).write_text(text.replace(old, new, 1))


def story(child: WireChild, key: str = "2.3") -> dict:
    result = child.call("story_get", story=key)
    return {} if result.get("isError") else result["structuredContent"]


def status(child: WireChild, key: str = "2.3") -> str | None:
    return story(child, key).get("status")


def move(child: WireChild, to: str, key: str = "2.3") -> None:
    while True:
        result = child.call("story_update", story=key, expected_version=story(child, key)["version"], status=to)
        if not result.get("isError"):
            return
        # The sync settled the story in between: one reads it again.
        assert result["_meta"]["bmad/code"] == "version_conflict", result


def taken_in(child: WireChild) -> bool:
    return status(child, "3.4") is not None


@pytest.mark.parametrize("ending", ["SIGTERM", "stdin closed"])
def test_over_stdio_both_sides_meet_stdout_stays_the_protocols_and_the_end_is_quick(server_env, start, folder, ending):
    child = start(server_env, "--sync", str(folder))
    until(lambda: taken_in(child), 20)
    edit(folder, "Status: Approved", "Status: InProgress")
    seconds_in = until(lambda: status(child) == "in_progress")
    move(child, "review")
    seconds_out = until(lambda: "Status: Ready for Review" in (folder / STORY).read_text())
    edit(folder, "Status: Ready for Review", "Status: Done")
    # In the middle of a round, as likely as not.
    time.sleep(0.3)
    begun = time.monotonic()
    code = child.close() if ending == "stdin closed" else child.stop(getattr(signal, ending))[0]
    seconds_to_end = time.monotonic() - begun
    print(f"in {seconds_in:.2f} s, out {seconds_out:.2f} s, ended in {seconds_to_end:.2f} s")
    assert (code, seconds_to_end < 2) == (0, True), seconds_to_end
    for line in [*child.seen, *child.rest().splitlines()]:
        assert json.loads(line)["jsonrpc"] == "2.0"
    told = child.errors()
    assert "sync: " in told
    assert "Traceback" not in told
    assert "Status: Done" in (folder / STORY).read_text()
    assert not list(folder.rglob(".bmad-mcp-*"))


def test_over_http_both_sides_meet_and_the_end_is_quick(server_env, folder):
    command, env = [sys.executable, *SERVE, "--http", "--port", "0"], {**CLEAN, **server_env, "BMAD_SYNC": str(folder)}
    told: list[str] = []
    with subprocess.Popen(command, env=env, stdout=-1, stderr=-1, text=True) as process:
        try:
            threading.Thread(target=lambda: told.extend(process.stderr), daemon=True).start()
            until(lambda: any(one.startswith("ready: ") for one in told), 20)
            until(lambda: any("rows taken in" in one for one in told), 20)
            address = next(re.search(r"http://\S+", one)[0] for one in told if one.startswith("ready: "))
            (folder / STORY).write_text((folder / STORY).read_text().replace("Status: Approved", "Status: InProgress"))
            until(lambda: any("story 2.3" in one for one in told))
            assert httpx.get(f"{address}/health/live").status_code == 200
            begun = time.monotonic()
            process.terminate()
            assert process.wait(10) == 0
            assert time.monotonic() - begun < 3.5
            assert process.stdout.read() == ""
        finally:
            process.kill()
    key = re.search(r"project (\S+)", succeeds(server_env, "export", str(folder), "--dry-run"))
    assert key
    assert key[1] == folder.name


def test_what_cannot_be_is_refused_with_a_sentence(folder, tmp_path):
    (tmp_path / "file").write_text("")
    told = fails({**NO_DATABASE, "BMAD_SYNC": str(tmp_path / "nowhere")}, "serve", "--http", code=2)
    assert f"--sync: there is no folder {str(tmp_path / 'nowhere')!r}." in told
    for sync, read_only, sentence in (
        (tmp_path / "nowhere", False, "there is no folder"),
        (tmp_path / "file", False, "there is no folder"),
        (folder, True, "--sync takes the files' edits into the database, which --read-only forbids."),
    ):
        with pytest.raises(click.UsageError) as refused:
            checked(Settings(sync=sync, read_only=read_only))
        assert sentence in refused.value.message


def test_the_folder_names_the_project_unless_something_else_does(folder):
    assert checked(Settings(sync=folder)).project == folder.name
    assert checked(Settings(sync=folder, project="other")).project == "other"
    assert checked(Settings()).sync is None


def test_another_process_takes_over_from_a_leader_that_is_killed_and_no_write_is_lost(server_env, start, folder):
    # Without a folder it is the one the server was started in.
    both = [start(server_env, "--sync", str(folder)), start(server_env, "--sync", cwd=folder)]
    until(lambda: taken_in(both[0]), 20)
    # Whoever leads: it is the one that wrote about the rows.
    leader = next(one for one in both if is_leader(one))
    other = next(one for one in both if one is not leader)
    move(leader, "in_progress")
    os.kill(leader.process.pid, signal.SIGKILL)
    edit(folder, "**Status**: Ready for Review", "**Status**: Done", "docs/stories/2.1.story.md")
    seconds = until(lambda: "Status: InProgress" in (folder / STORY).read_text(), 10)
    until(lambda: status(other, "2.1") == "done", 10)
    print(f"taken over in {seconds:.2f} s")
    assert status(other) == "in_progress"
    move(other, "review")
    until(lambda: re.search("^Status: (Ready for )?Review$", (folder / STORY).read_text(), re.MULTILINE))
    assert other.stop()[0] == 0


def is_leader(child: WireChild) -> bool:
    """Whether the process has told something on stderr: the one that syncs tells what it took in."""
    assert child.process.stderr
    os.set_blocking(child.process.stderr.fileno(), False)
    told = child.process.stderr.read() or b""
    os.set_blocking(child.process.stderr.fileno(), True)
    return b"rows taken in" in told


def test_a_database_that_is_killed_comes_back_with_the_sync_and_nothing_is_lost(data_dir, start, folder):
    env = {"BMAD_DATA_DIR": str(data_dir), "PYTHONWARNINGS": "ignore", "BMAD_LOG_LEVEL": "error"}
    child = start(env, "--sync", str(folder))
    until(lambda: taken_in(child), 40)
    move(child, "in_progress")
    until(lambda: "Status: InProgress" in (folder / STORY).read_text())
    Postmaster(find_home(data_dir / "postgres")).stop(seconds=20)
    # No tool is called: the sync itself has to bring the database back.
    edit(folder, "Status: InProgress", "Status: Ready for Review")
    process = find_home(data_dir / "postgres").folder
    until(lambda: list(process.rglob("postmaster.pid")), 20)
    until(lambda: status(child) == "review", 20)
    move(child, "done")
    until(lambda: "Status: Done" in (folder / STORY).read_text())
    assert child.stop()[0] == 0

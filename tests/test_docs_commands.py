"""The commands in the docs: each parses; each runs on a fresh project, or is listed here with the reason why not."""

import asyncio
import os
import queue
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from data_dirs import data_dir
from docs_blocks import PAGES, ROOT, commands_of
from interchange.boards import SHOP, beads, real_backlog, task, taskmaster
from memory.services.fake_service import FakeOpenMemory
from server.http_process import HttpServer

from bmad_mcp import sample
from bmad_mcp.__main__ import cli

__all__ = ["data_dir"]

SERVES = re.compile(r"bmad-mcp( --project \S+)? serve")

# What a test here cannot run, by a piece of the line.
SKIPPED = {
    "make run": "installs an environment; tests/server/test_http_process.py starts the same server",
    "make test": "this is it",
    "make demo": "tests/commands/test_demo.py plays it",
    "make check": "this is part of it",
    "make soak": "this is part of it",
    "make dist": "tests/test_installs.py builds the same",
    "uvx ": "publishes",
    "mcp-publisher ": "publishes",
    "git clone": "a placeholder",
    "docker compose": "needs a container engine; tests/deployment/test_deploy_files.py reads the file",
    "/opt/bmad-mcp": "is for root on a machine of its own; tests/deployment/test_image_steps.py does the steps of the container",
    "/etc/": "is for root on a machine of its own; tests/deployment/test_image_steps.py does the steps of the container",
    "systemctl ": "needs systemd; tests/deployment/test_deploy_files.py verifies the unit",
    "npx ": "tests/protocol/test_foreign_clients.py runs the same release of the Inspector",
    "pip install": "needs a published release; tests/test_wheel.py installs the wheel",
    "claude --plugin-dir": "needs Claude Code; tests/test_release.py checks the plugin",
    "postgresql://bmad_backup:secret@host": "a made-up address; tests/commands/test_db.py has a real one",
    "createdb ": "needs a server of one's own; tests/commands/test_db.py makes the database there",
    "postgresql://owner:secret@host": "a made-up address; tests/commands/test_db.py has a real one",
    "@pooler:6432": "a made-up address; tests/deployment/test_pooler.py has a real one",
    "memory introduce": "the service knows its user; tests/commands/test_memory_commands.py has one that does not",
}


# An id that the docs show; another one is there in its place.
SHOWN_TOKEN = "efa04b8868e4fd43"
# A command of the docs that comes after others of the reader's own: these.
BEFORE = {
    "member remove alice": (
        "bmad-mcp member add bob --role admin --project shop",
        "bmad-mcp member add alice --role member --project shop",
    ),
    "sha256sum": ("mkdir dist && echo a wheel > dist/a.whl",),
    "--tls-cert": (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=bmad.example.com"
        " -keyout key.pem -out cert.pem 2> /dev/null",
    ),
}


def reason_to_skip(line: str) -> str | None:
    return next((why for piece, why in SKIPPED.items() if piece in line), None)


ALL = [(page, line) for page in PAGES for line in commands_of(page)]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home folder with the project that the docs speak of."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(sample.FOLDER, folder / "code/shop")
    (folder / "bmad.dump").touch()
    return folder


def words_of(line: str, home: Path) -> list[str]:
    """The arguments after the program's name, with the paths of a reader's machine put in."""
    command, _, _ = line.partition(" > ")
    words = shlex.split(command.replace("~/", f"{home}/").replace("PATH", f"{home}/code/shop"))
    return words[next(at for at, word in enumerate(words) if word.endswith("bmad-mcp")) + 1 :]


@pytest.mark.parametrize("line", sorted({line for _, line in ALL if re.search(r"bmad-mcp ", line)}))
def test_a_command_in_the_docs_parses(line, home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "bmad_mcp").mkdir(exist_ok=True)
    (home / "bmad_mcp/sample").mkdir(exist_ok=True)
    command, words, context = cli, words_of(line, home), None
    while True:
        with command.make_context(command.name, list(words), parent=context) as context:
            if not isinstance(command, click.Group):
                return
            _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


def test_nothing_is_skipped_that_the_docs_do_not_have():
    lines = [line for _, line in ALL]
    assert not [piece for piece in SKIPPED if not any(piece in line for line in lines)]
    skipped = sum(reason_to_skip(line) is not None for line in lines)
    trust = (ROOT / "docs/reference/trust.md").read_text()
    assert f"{len(lines) - skipped} of {len(lines)} commands are run" in trust


@pytest.fixture
def memory_address() -> Iterator[str]:
    """A memory service that the commands of the docs talk to, on a loop of a thread of its own."""
    found: queue.Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        ended = asyncio.Event()
        async with FakeOpenMemory("bmad") as service:
            found.put((service.url, asyncio.get_running_loop(), ended))
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    address, loop, ended = found.get(timeout=30)
    yield address
    loop.call_soon_threadsafe(ended.set)
    thread.join()


@pytest.mark.soak
@pytest.mark.parametrize("page", [one for one in PAGES if commands_of(one)], ids=lambda one: one.name)
def test_the_commands_of_a_page_run(page, data_dir, tmp_path, memory_address):
    shutil.copytree(sample.FOLDER, tmp_path / "code/shop")
    shutil.copytree(sample.FOLDER, tmp_path / "bmad_mcp/sample")
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets"))
    if any("--from" in line for line in commands_of(page)):
        add_boards(tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("BMAD_")} | {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BMAD_DATA_DIR": str(data_dir),
        "BMAD_MEMORY_URL": memory_address,
        "BMAD_MEMORY_USER": "bmad",
        "BMAD_PROJECT": "shop",
    }
    # A page speaks of a project that is there; those that bring one in begin with nothing.
    first = next((line for line in commands_of(page) if "bmad-mcp " in line and not reason_to_skip(line)), "")
    if " import " not in first:
        done(env, tmp_path, "bmad-mcp import ~/code/shop")
    server, address = None, "http://127.0.0.1:8770"
    try:
        for line in commands_of(page):
            if reason_to_skip(line) or line.startswith("export BMAD_MEMORY"):
                continue
            for piece, commands in BEFORE.items():
                for command in commands if piece in line else ():
                    done(env, tmp_path, command)
            if SHOWN_TOKEN in line:
                listed = done(env, tmp_path, "bmad-mcp token list --project shop")
                line = line.replace(SHOWN_TOKEN, re.search(r"^[0-9a-f]{16}\b", listed, re.MULTILINE)[0])
            is_server = SERVES.search(line) and "--http" in line
            if is_server or (line.startswith("curl") and server is None):
                if server is not None:
                    assert server.stop() == 0
                begin = readable(line) if is_server else "bmad-mcp serve --http"
                command = ["bash", "-c", f'cd {tmp_path} && exec env {begin} "$@"', "serve"]
                server = HttpServer(env, "--port", "0", command=command)
                address = server.wait_for(r"\bready: (https?://[^\s\"]+)")[1]
                if "--allowed-hosts" in line:
                    # Under that name, which leads elsewhere, nothing can be asked.
                    assert "bmad.example.com" in address
                    assert server.stop() == 0
                    server = None
            if line.startswith("API="):
                env["API"] = readable(line)[4:].replace("http://127.0.0.1:8770", address)
            elif exported := re.match(r"export (\w+)=", line):
                env[exported[1]] = done(env, tmp_path, f'{readable(line)}; printf %s "${exported[1]}"')
            elif not is_server:
                done(env, tmp_path, readable(line).replace("http://127.0.0.1:8770", address))
    finally:
        if server is not None:
            server.kill()


def add_boards(home: Path) -> None:
    """Boards of the three tools beside the files of the project."""
    shop = home / "code/shop"
    taskmaster(shop, [task(1, "Print the calendar")])
    beads(shop, *SHOP)
    shutil.copytree(real_backlog(home / "board") / "backlog", shop / "backlog")


def readable(line: str) -> str:
    """The line as a reader types it: with the program on the PATH, and a path of his own."""
    return line.replace(".venv/bin/", "").replace("PATH", "~/code/shop").replace("~/", "$HOME/")


def done(env: dict[str, str], folder: Path, line: str) -> str:
    """Run a line as it stands; whoever asks is told yes, and a stream is left after a while. What it printed."""
    if line.startswith("curl -N"):
        line = f"{line.replace('curl', 'curl --max-time 3', 1)} || [ $? = 28 ]"
    finished = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=env,
        cwd=folder,
        input="y\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, (line, finished.stdout[-1500:], finished.stderr[-1500:])
    if line.startswith("curl"):
        assert "Traceback" not in finished.stdout
        assert finished.stdout.strip(), line
    return finished.stdout

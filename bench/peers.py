"""Other servers for tasks, each installed into a folder of its own: `python -m bench.peers` installs them."""

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.calls import COMMIT, Committing
from bench.series import Times, in_turn
from bench.servers import NOOP, ours
from bench.tokens import of_listing
from bench.wire import Child
from bench.work import Work

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bmad-mcp-bench"
OPERATIONS = ("create", "get", "list", "next", "set status")
OURS, BARE_SDK = "bmad-mcp", "no-op of the bare SDK"
Ways = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Peer:
    """A package of npm: its command, how its folder gets so many tasks, and its calls."""

    package: str
    command: tuple[str, ...]
    prepare: Callable[[Path, Path, int], None]
    ways: Callable[[Child, Path], Ways]

    @property
    def folder(self) -> Path:
        return CACHE / self.package.rpartition("/")[2]

    @property
    def binary(self) -> Path:
        return self.folder / "node_modules" / ".bin" / self.command[0]

    @property
    def version(self) -> str:
        told = json.loads((self.folder / "node_modules" / self.package / "package.json").read_text())
        return f"{self.package.rpartition('/')[2]} {told['version']}"

    def missing(self) -> str | None:
        """Why it cannot be measured here; None when it can."""
        if shutil.which("node") is None:
            return "there is no node"
        return None if self.binary.exists() else "not installed: python -m bench.peers"


def _taskmaster_tasks(folder: Path, _: Path, count: int) -> None:
    tasks = [
        {"id": number, "title": f"Task {number}", "description": "What is to be done.", "status": "pending",
         "priority": "medium", "dependencies": [], "details": "", "testStrategy": "", "subtasks": []}
        for number in range(1, count + 1)
    ]  # fmt: skip
    home = folder / ".taskmaster"
    (home / "tasks").mkdir(parents=True)
    (home / "tasks" / "tasks.json").write_text(json.dumps({"master": {"tasks": tasks, "metadata": {}}}))
    (home / "config.json").write_text("{}")
    (home / "state.json").write_text(json.dumps({"currentTag": "master"}))


def _taskmaster_ways(child: Child, folder: Path) -> Ways:
    root = str(folder)
    statuses = itertools.cycle(("in-progress", "pending"))
    numbers = itertools.count(1)

    def create() -> None:
        title = f"Task made {next(numbers)}"
        child.call("add_task", projectRoot=root, title=title, description="What is to be done.")

    create()
    return {
        "create": create,
        "get": lambda: child.call("get_task", projectRoot=root, id="1"),
        "list": lambda: child.call("get_tasks", projectRoot=root),
        "next": lambda: child.call("next_task", projectRoot=root),
        "set status": lambda: child.call("set_task_status", projectRoot=root, id="1", status=next(statuses)),
    }


def _backlog_tasks(folder: Path, binary: Path, count: int) -> None:
    quiet = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["git", "init", "-q"], **quiet)  # type: ignore[call-overload]  # noqa: S607
    subprocess.run([binary, "init", "bench", "--defaults", "--integration-mode", "mcp"], **quiet)  # type: ignore[call-overload]
    subprocess.run([binary, "task", "create", "Task 1"], **quiet)  # type: ignore[call-overload]
    first = next((folder / "backlog" / "tasks").glob("*.md"))
    text = first.read_text()
    for number in range(2, count + 1):
        made = text.replace("TASK-1\n", f"TASK-{number}\n").replace("Task 1", f"Task {number}")
        (first.parent / f"task-{number} - Task-{number}.md").write_text(made)


def _backlog_ways(child: Child, _: Path) -> Ways:
    statuses = itertools.cycle(("In Progress", "To Do"))
    numbers = itertools.count(1)
    return {
        "create": lambda: child.call("task_create", title=f"Task made {next(numbers)}"),
        "get": lambda: child.call("task_view", id="TASK-1"),
        "list": lambda: child.call("task_list"),
        "next": lambda: child.call("task_list", ready=True, limit=1),
        "set status": lambda: child.call("task_edit", id="TASK-1", status=next(statuses)),
    }


def _ohno_tasks(folder: Path, binary: Path, count: int) -> None:
    (folder / ".ohno").mkdir()
    child = Child([str(binary)], _cut_off(folder), folder)
    child.hello()
    for number in range(count):
        child.call("create_task", title=f"Task {number}")
    child.close()


def _ohno_ways(child: Child, _: Path) -> Ways:
    statuses = itertools.cycle(("in_progress", "todo"))
    numbers = itertools.count(1)

    def create() -> Any:
        return child.call("create_task", title=f"Task made {next(numbers)}")

    made = create()
    key = (made if "task_id" in made else json.loads(made["text"]))["task_id"]
    return {
        "create": create,
        "get": lambda: child.call("get_task", task_id=key),
        "list": lambda: child.call("get_tasks"),
        "next": lambda: child.call("get_next_task"),
        "set status": lambda: child.call("update_task_status", task_id=key, status=next(statuses)),
    }


PEERS = (
    Peer("task-master-ai", ("task-master-ai",), _taskmaster_tasks, _taskmaster_ways),
    Peer("backlog.md", ("backlog", "mcp", "start"), _backlog_tasks, _backlog_ways),
    Peer("@stevestomp/ohno-mcp", ("ohno-mcp",), _ohno_tasks, _ohno_ways),
)


def _cut_off(folder: Path) -> dict[str, str]:
    """An environment without keys, with a home of its own, whose requests lead nowhere."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TASK_MASTER_TOOLS": "all",
        "OHNO_DB_PATH": str(folder / ".ohno" / "tasks.db"),
    }


def measured(env: dict[str, str], admin: dict[str, Any], sizes: dict[int, str], rounds: int) -> dict[str, Any]:
    """By number of tasks: {operation: seconds by server}; `sizes` gives this server's project for each number.

    In turn with them go a tool of the bare SDK that does nothing, and a commit that reaches the disk: what no server on
    that SDK, and no durable change, can be faster than. Also the tokens of their tool lists, and why one is left out.
    """
    skipped = {peer.package: why for peer in PEERS if (why := peer.missing())}
    there = [peer for peer in PEERS if peer.package not in skipped]
    found: dict[str, Any] = {"skipped": skipped, "tokens of tools/list": {}, "calls": {}}
    for count, project in sizes.items():
        with ExitStack() as stack:
            child = Child(ours(project), env)
            stack.callback(child.close)
            child.hello()
            noop, disk = Child(NOOP, env), Committing(admin)
            stack.callback(noop.close)
            stack.callback(disk.close)
            noop.hello()
            beside_all = {BARE_SDK: lambda noop=noop: noop.call("noop"), COMMIT: disk.commit}
            work = Work(child.call).ways()
            ways: dict[str, Ways] = {OURS: {**work, "next": work["claim"]}}
            for peer in there:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-peer-")))
                try:
                    peer.prepare(folder, peer.binary, count)
                    beside = Child([str(peer.binary), *peer.command[1:]], _cut_off(folder), folder)
                    stack.callback(beside.close)
                    beside.hello()
                    tools = beside.request("tools/list", {})["result"]["tools"]
                    ways[peer.version] = peer.ways(beside, folder)
                except (RuntimeError, OSError, LookupError, subprocess.CalledProcessError) as error:
                    skipped[peer.package] = f"does not work here: {error}"
                    continue
                found["tokens of tools/list"][peer.version] = of_listing(tools)
            calls: dict[str, Times] = {}
            for name in OPERATIONS:
                # Some take seconds for a call; five of ours prepare their statements for good.
                for _ in range(5):
                    ways[OURS][name]()
                calls[name] = in_turn(
                    {server: one[name] for server, one in ways.items()} | beside_all, rounds, warm_up=1
                )
            found["calls"][str(count)] = calls
    return found


def install() -> None:
    """Put each peer into its folder below the cache; their install scripts do not run."""
    for peer in PEERS:
        peer.folder.mkdir(parents=True, exist_ok=True)
        package = peer.folder / "package.json"
        if not package.exists():
            package.write_text('{"private": true}\n')
        subprocess.run(
            ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", peer.package],  # noqa: S607
            cwd=peer.folder,
            check=False,
        )


if __name__ == "__main__":
    install()

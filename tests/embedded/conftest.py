"""Folders and processes for clusters that may be killed, and nothing of them left behind."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bmad_mcp.embedded import Cluster
from bmad_mcp.embedded.binaries import known_places
from bmad_mcp.embedded.data_home import SERVICE_DATA, find_home
from bmad_mcp.embedded.postmaster import Postmaster
from bmad_mcp.embedded.socket_folder import remove_socket_folder

REPOSITORY = Path(__file__).parents[2]
# Other users get no virtual environment: the package needs nothing but itself and the wheel's folder.
WHEELS = [str(place.bin_dir.parents[2]) for place in known_places() if place.source != "system"]
PYTHON_PATH = os.pathsep.join([str(REPOSITORY), *WHEELS])


def interpreter_for(user: int | None) -> str:
    """A Python that the user may run and that finds the package; skips the test where there is none."""
    for python in (sys.executable, "/usr/bin/python3") if user is not None else ():
        try:
            subprocess.run(
                [python, "-c", "import sys, bmad_mcp.embedded; assert sys.version_info >= (3, 11)"],
                **as_user(user),
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return python
    if user is None:
        return sys.executable
    pytest.skip(f"uid {user} can run neither {sys.executable} nor a system Python 3.11, or not read {REPOSITORY}")


def as_user(user: int | None) -> dict[str, Any]:
    """What subprocess needs to run a Python that finds the package as that user."""
    groups: list[int] | None = None if user is None else []
    secret = {"BMAD_ENCRYPTION_KEYS": "canary-of-a-secret"}
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH, "PYTHONDONTWRITEBYTECODE": "1"} | secret
    return {"user": user, "group": user, "extra_groups": groups, "cwd": "/", "env": environment}


class ClusterUser:
    """A running cluster_user.py."""

    def __init__(self, root: Path, user: int | None = None) -> None:
        self.process = subprocess.Popen(
            [interpreter_for(user), str(Path(__file__).with_name("cluster_user.py")), os.fsencode(root).hex()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            **as_user(user),
        )

    def tell(self, command: str) -> None:
        """Send a command and do not wait."""
        assert self.process.stdin
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The answer to the oldest command not answered yet."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.wait(30)}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: str) -> dict[str, Any]:
        self.tell(command)
        return self.hear()

    def end(self) -> int:
        """Let it run to its end, as a server does when its input closes."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        with self.process:
            self.process.wait(30)


@pytest.fixture(scope="session")
def folder_for_clusters() -> Iterator[Path]:
    """A short path that PostgreSQL's user may enter, as pytest's own folders are not when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="bmad-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def new_root(folder_for_clusters: Path) -> Iterator[Callable[..., Path]]:
    """Makes paths of clusters that do not exist yet; ends their servers and removes them at the end."""
    made: list[Path] = []

    def make(name: str = "cluster") -> Path:
        parent = Path(tempfile.mkdtemp(prefix="test-", dir=folder_for_clusters))
        parent.chmod(0o755)
        made.append(parent / name)
        return made[-1]

    yield make
    for root in made:
        remove_cluster(root)
    for parent in folder_for_clusters.glob("test-*"):
        shutil.rmtree(parent)


def remove_cluster(root: Path) -> None:
    home = find_home(root)
    if home.folder.exists():
        assert Postmaster(home).stop(seconds=30)
        remove_socket_folder(home)
        shutil.rmtree(home.folder)
        with suppress(OSError):
            SERVICE_DATA.rmdir()


@pytest.fixture(scope="session")
def shared_root(folder_for_clusters: Path) -> Iterator[Path]:
    """The path of a cluster that was started once and stopped."""
    root = folder_for_clusters / "shared"
    with Cluster(root):
        pass
    yield root
    remove_cluster(root)


@pytest.fixture
def root(shared_root: Path) -> Iterator[Path]:
    """The shared cluster, stopped before the test and after it: making or copying one costs over a second."""
    yield shared_root
    assert Postmaster(find_home(shared_root)).stop(seconds=30)
    remove_socket_folder(find_home(shared_root))


@pytest.fixture
def open_user() -> Iterator[Callable[..., ClusterUser]]:
    """Starts processes that use a cluster."""
    opened: list[ClusterUser] = []

    def open_one(root: Path, user: int | None = None) -> ClusterUser:
        opened.append(ClusterUser(root, user))
        return opened[-1]

    yield open_one
    for one in opened:
        one.kill()


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(told.strip()) and not told.startswith("Z")


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Waits until a condition holds and fails the test when it does not within the seconds."""

    def wait(condition: Callable[[], object], seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the awaited condition never came"
            time.sleep(0.002)

    return wait


@pytest.fixture
def run_as() -> Callable[..., str]:
    """Runs Python code as another user and returns all it printed."""

    def run(user: int, code: str, *arguments: str) -> str:
        command = [interpreter_for(user), "-c", code, *arguments]
        done = subprocess.run(
            command, **as_user(user), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return str(done.stdout)

    return run


@pytest.fixture
def running() -> Callable[[int], bool]:
    return is_running

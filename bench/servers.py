"""The servers under test: how they are started, and with which environment."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.wire import Posted

NOOP = [sys.executable, str(Path(__file__).parent / "noop_server.py")]
PATIENCE_SECONDS = 60


def ours(project: str) -> list[str]:
    """This server over stdio, on a project."""
    return [sys.executable, "-m", "bmad_mcp", "serve", "--project", project]


def environment(folder: Path) -> dict[str, str]:
    """What the servers get: a database of their own, and compiled modules as an installed package has them."""
    left_out = ("PYTHONDONTWRITEBYTECODE", "BMAD_DATABASE_URL")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"BMAD_DATA_DIR": str(folder), "BMAD_LOG_LEVEL": "error", "BMAD_MEMORY_PROVIDER": "builtin"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def over_http(command: list[str], env: dict[str, str], port: int) -> Iterator[int]:
    """The server's process id while it answers at the port."""
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                client = Posted(port)
                client.request("tools/list", {})
                client.close()
                break
            except (OSError, ValueError):
                if time.monotonic() > until or process.poll() is not None:
                    raise RuntimeError(f"{command[-1]} does not answer at port {port}") from None
                time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def noop_over_http(env: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Port and process id of the yardstick over HTTP."""
    port = free_port()
    with over_http([*NOOP, str(port)], env, port) as pid:
        yield port, pid


@contextmanager
def ours_over_http(env: dict[str, str], project: str) -> Iterator[tuple[int, int]]:
    """Port and process id of this server over HTTP."""
    port = free_port()
    command = [*ours(project), "--http", "--port", str(port)]
    with over_http(command, env, port) as pid:
        yield port, pid

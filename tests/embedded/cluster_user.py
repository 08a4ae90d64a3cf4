"""A process that uses the embedded cluster, told what to do line by line and answering in JSON lines."""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from bmad_mcp.embedded import Cluster
from bmad_mcp.embedded.session import Session
from bmad_mcp.errors import BmadError

cluster = Cluster(Path(os.fsdecode(bytes.fromhex(sys.argv[1]))))


def start() -> dict[str, Any]:
    endpoints = cluster.start()
    pid = int((cluster.data_folder / "postmaster.pid").read_text().splitlines()[0])
    return {"postmaster": pid, "socket_file": str(endpoints.socket_file), "data": str(cluster.data_folder)}


def ensure_running() -> dict[str, Any]:
    cluster.ensure_running()
    return start()


def stop() -> dict[str, Any]:
    cluster.stop()
    return {}


def query(sql: str) -> dict[str, Any]:
    endpoints = cluster.ensure_running()
    with Session(endpoints.socket_file, endpoints.owner_role, endpoints.database) as session:
        return {"rows": session.run(sql)}


def fork_and_stop_in_the_child() -> dict[str, Any]:
    if child := os.fork():
        return {"child": os.waitpid(child, 0)[1]}
    cluster.stop()
    os._exit(0)


def stop_on_sigterm() -> dict[str, Any]:
    def leave(number: int, frame: FrameType | None) -> None:
        cluster.stop()
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    return {}


def start_interrupted_by_stop() -> dict[str, Any]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        cluster.stop()

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    return start()


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "start": start,
    "ensure_running": ensure_running,
    "stop": stop,
    "fork": fork_and_stop_in_the_child,
    "stop_on_sigterm": stop_on_sigterm,
    "start_interrupted": start_interrupted_by_stop,
    "query": query,
}

logging.basicConfig(level="INFO", stream=sys.stderr)
for line in sys.stdin:
    command, _, argument = line.strip().partition(" ")
    try:
        answer = COMMANDS[command](*([argument] if argument else []))
    except BmadError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)

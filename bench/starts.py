"""How long a start takes until the tools are listed, and how much memory a server holds."""

import time
from pathlib import Path

from bench.series import Times
from bench.servers import NOOP, ours
from bench.wire import Child, processor_seconds, resident_mib
from bench.work import Work
from bmad_mcp.embedded.cluster import Cluster


def cold(env: dict[str, str], project: str, rounds: int) -> tuple[Times, Times]:
    """Seconds from the start of a process to its first answered tools/list, and of a processor meanwhile.

    The database is up: a start of the server is measured, not one of PostgreSQL.
    """
    waited: Times = {"no-op": [], "ours": []}
    busy: Times = {"no-op": [], "ours": []}
    # The first round fills the caches of the disk, and writes compiled modules.
    for number in range(rounds + 1):
        for name, command in (("no-op", NOOP), ("ours", ours(project))):
            child = Child(command, env)
            child.hello()
            answered = _listed(child)
            used = processor_seconds(child.process.pid)
            child.close()
            if number:
                waited[name].append(answered)
                busy[name].append(used)
    return waited, busy


def _listed(child: Child) -> float:
    child.request("tools/list", {})
    return time.perf_counter() - child.started


def memory(env: dict[str, str], project: str, cluster_root: Path, calls: int) -> dict[str, float]:
    """MiB of the bare SDK's server, of this one idle and after so many calls, and of its database."""
    # Whoever migrates a new database has imported what most servers never do.
    first = Child(ours(project), env)
    first.hello()
    first.call("task_list", limit=1)
    first.close()
    noop, server = Child(NOOP, env), Child(ours(project), env)
    data_folder = Cluster(cluster_root).data_folder
    try:
        noop.hello()
        noop.call("noop")
        server.hello()
        server.call("task_list", limit=1)
        found = {
            "no-op": resident_mib(noop.process.pid),
            "ours, idle": resident_mib(server.process.pid),
            "database, idle": database_mib(data_folder),
        }
        work = Work(server.call)
        for _ in range(calls // 5):
            for name in ("create", "get", "list", "claim", "complete"):
                work.ways()[name]()
        return found | {
            "ours, loaded": resident_mib(server.process.pid),
            "database, loaded": database_mib(data_folder),
        }
    finally:
        noop.close()
        server.close()


def database_mib(data_folder: Path) -> float:
    """The postmaster and all of its processes."""
    postmaster = int((data_folder / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return sum(resident_mib(int(pid)) for pid in (postmaster, *children))

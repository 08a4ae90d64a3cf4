"""`make bench`: this server beside the bare SDK, bare asyncpg and other servers, in one run and one report."""

import argparse
import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from bench import calls, crowd, growth, peers, report, starts, statements, tokens
from bench.seeding import seeded
from bench.servers import environment
from bmad_mcp import migrate
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, Endpoints

QUICK_SIZES, FULL_SIZES = (1_000, 10_000, 100_000), (1_000, 10_000, 100_000, 1_000_000)
LEVELS = (1, 8, 32)
MANY_PROJECTS = 200
CALLS_ON = 10_000


def told(what: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {what} …\n")


def sizes_of(options: argparse.Namespace) -> dict[str, int]:
    """Every project that the run needs, and how many tasks it has."""
    largest = (FULL_SIZES[0], FULL_SIZES[-1]) if options.bounds else FULL_SIZES if options.full else QUICK_SIZES
    peers_at = (0, 10_000) if options.full or options.bounds else (0, 1_000)
    many = 0 if options.bounds else MANY_PROJECTS
    return (
        {f"one-{size}": size for size in largest}
        | {f"peers-{size}": size for size in peers_at}
        | {f"many-{number}": largest[-1] // MANY_PROJECTS for number in range(many)}
        | {"alone-calls": CALLS_ON, "empty": 0}
    )


def measured(options: argparse.Namespace, folder: Path, endpoints: Endpoints) -> dict[str, Any]:
    """Every part, one after the other; within a part what is compared takes turns."""
    env = environment(folder)
    sizes = sizes_of(options)
    migrate.upgrade("postgresql://", **endpoints.owner_connect())
    admin = endpoints.connect_args(ADMIN_ROLE) | {"database": endpoints.database}
    told(f"filling {len(sizes)} projects with {sum(sizes.values()):,} tasks")
    ids: dict[str, UUID] = asyncio.run(seeded(endpoints.app_connect(), admin, sizes))
    rounds = options.rounds
    told("cold starts")
    waited, busy = starts.cold(env, "empty", options.starts)
    told("calls over stdio and HTTP")
    found = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": report.machine(),
        "start": {"waited": waited, "processor": busy},
        "calls on": f"{CALLS_ON:,}",
        "calls": {
            "stdio": calls.over_stdio(env, admin, "alone-calls", rounds),
            "HTTP": calls.over_http(env, admin, "alone-calls", rounds),
        },
    }
    told("statements beside bare asyncpg")
    found["statements"] = asyncio.run(statements.measured(endpoints, ids["alone-calls"], rounds))
    told("agents at once")
    found["crowd"] = crowd.measured(env, "alone-calls", LEVELS, options.seconds, 3)
    told("memory and tokens")
    # On a database of its own: what a server and an empty project hold, not what the seeded millions left in caches.
    fresh = folder / "fresh"
    fresh.mkdir()
    fresh.chmod(0o711)
    found["memory"] = starts.memory(environment(fresh), "empty", fresh / "postgres", 2_000 if options.full else 500)
    found["tokens"] = tokens.measured(env, "alone-calls")
    told("growth")
    one = {key: size for key, size in sizes.items() if key.startswith("one-")}
    grown = growth.measured(env, one, rounds)
    found["growth"] = {"one project": {"sizes": one, "calls": grown, "fit": growth.fitted(grown, one)}}
    if not options.bounds:
        told(f"{MANY_PROJECTS} projects")
        many = {"many-0": sizes["many-0"], "many-1": sizes["many-1"]}
        found["many projects"] = growth.measured(env, many, max(rounds // 4, 10))
    told("other servers")
    at = {size: key for key, size in sizes.items() if key.startswith("peers-")}
    found["peers"] = peers.measured(env, admin, at, options.peer_rounds)
    return found


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument("--full", action="store_true", help="a million tasks, other servers at 10,000")
    options.add_argument("--bounds", action="store_true", help="only what settles what must hold, at full size")
    options.add_argument("--starts", type=int, default=9, help="cold starts of each server (default 9)")
    options.add_argument("--rounds", type=int, default=150, help="calls of each operation (default 150)")
    options.add_argument("--peer-rounds", type=int, default=15, help="calls of each operation of peers (default 15)")
    options.add_argument("--seconds", type=float, default=2.0, help="how long agents work at once (default 2)")
    chosen = options.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bmad-bench-") as place:
        folder = Path(place)
        # Run as root, PostgreSQL's own user must be able to enter.
        folder.chmod(0o711)
        # Up all the time, so that a start is a start of the server and not of PostgreSQL.
        with Cluster(folder / "postgres") as endpoints:
            found = measured(chosen, folder, endpoints)
    sys.stdout.write(report.write(found))
    told(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

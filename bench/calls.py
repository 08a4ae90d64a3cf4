"""One call at a time beside a tool that does nothing on the same transport, and beside a commit that reaches the disk."""

import asyncio
from typing import Any

import asyncpg

from bench.series import Times, in_turn
from bench.servers import NOOP, noop_over_http, ours, ours_over_http
from bench.wire import Child, Posted
from bench.work import Work

YARDSTICK = "no-op"
COMMIT = "a commit"
# As little as a change can be: one short row, and the wait until the disk has it.
TABLE = "CREATE TABLE IF NOT EXISTS bench_commits (n integer)"
INSERT = "INSERT INTO bench_commits VALUES (1)"


class Committing:
    """A bare connection whose only work is to make something durable: what no write can be faster than."""

    def __init__(self, admin: dict[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(**admin))
        self._loop.run_until_complete(self._connection.execute(TABLE))

    def commit(self) -> None:
        self._loop.run_until_complete(self._connection.execute(INSERT))

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


def over_stdio(env: dict[str, str], admin: dict[str, Any], project: str, rounds: int) -> Times:
    """Seconds of a call by operation, no-op and a commit among them."""
    noop, server, disk = Child(NOOP, env), Child(ours(project), env), Committing(admin)
    try:
        noop.hello()
        server.hello()
        ways = Work(server.call).ways()
        return in_turn({YARDSTICK: lambda: noop.call("noop"), COMMIT: disk.commit, **ways}, rounds)
    finally:
        disk.close()
        noop.close()
        server.close()


def over_http(env: dict[str, str], admin: dict[str, Any], project: str, rounds: int) -> Times:
    """The same over HTTP."""
    with noop_over_http(env) as (noop_port, _), ours_over_http(env, project) as (port, _):
        noop, server, disk = Posted(noop_port), Posted(port), Committing(admin)
        try:
            ways = Work(server.call).ways()
            return in_turn({YARDSTICK: lambda: noop.call("noop"), COMMIT: disk.commit, **ways}, rounds)
        finally:
            disk.close()
            noop.close()
            server.close()

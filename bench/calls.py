"""One call at a time beside a tool that does nothing, on the same transport."""

from bench.series import Times, in_turn
from bench.servers import NOOP, noop_over_http, ours, ours_over_http
from bench.wire import Child, Posted
from bench.work import Work

YARDSTICK = "no-op"


def over_stdio(env: dict[str, str], project: str, rounds: int) -> Times:
    """Seconds of a call by operation, no-op among them."""
    noop, server = Child(NOOP, env), Child(ours(project), env)
    try:
        noop.hello()
        server.hello()
        ways = Work(server.call).ways()
        return in_turn({YARDSTICK: lambda: noop.call("noop"), **ways}, rounds)
    finally:
        noop.close()
        server.close()


def over_http(env: dict[str, str], project: str, rounds: int) -> Times:
    """The same over HTTP."""
    with noop_over_http(env) as (noop_port, _), ours_over_http(env, project) as (port, _):
        noop, server = Posted(noop_port), Posted(port)
        try:
            ways = Work(server.call).ways()
            return in_turn({YARDSTICK: lambda: noop.call("noop"), **ways}, rounds)
        finally:
            noop.close()
            server.close()

"""What must hold: ratios within one run, and tokens."""

from typing import Any, NamedTuple

from bench import statements
from bench.calls import COMMIT, YARDSTICK
from bench.peers import BARE_SDK, OURS
from bench.series import low, median

CALLS = {"get": 1.5, "claim": 2.0, "complete": 2.0}
LARGE = 1.2
READS = ("get", "list", "next")
MUST_BE_FASTEST = ("create", "next", "set status")


class Bound(NamedTuple):
    """A figure, what it may be, and the same of the tenth percentiles, which other work on the machine blurs less."""

    what: str
    figure: float
    most: float
    of_low: float | None = None
    is_least: bool = False
    # Measured in the same run: why it cannot hold.
    reason: str = ""

    @property
    def holds(self) -> bool:
        return self.figure >= self.most if self.is_least else self.figure <= self.most

    @property
    def verdict(self) -> str:
        if self.holds:
            return "met"
        return f"not met: {self.reason}" if self.reason else "not met"

    @property
    def told(self) -> str:
        return f"{'≥' if self.is_least else '≤'} {self.most:g}"


def _ratio(what: str, times: list[float], beside: list[float], most: float) -> Bound:
    return Bound(what, median(times) / median(beside), most, low(times) / low(beside))


def bounds(report: dict[str, Any]) -> list[Bound]:
    """Each that the report has figures for."""
    found: list[Bound] = []
    for transport in ("stdio", "HTTP"):
        calls = report["calls"][transport]
        found += [
            _ratio(f"{name} / no-op, {transport}", calls[name], calls[YARDSTICK], most) for name, most in CALLS.items()
        ]
        # A change is durable before it is answered, which a tool that does nothing need not wait for.
        durable = [noop + commit for noop, commit in zip(sorted(calls[YARDSTICK]), sorted(calls[COMMIT]), strict=True)]
        found += [
            _ratio(f"{name} / no-op and a commit, {transport}", calls[name], durable, CALLS[name])
            for name in ("claim", "complete")
        ]
    for level, both in report["crowd"].items():
        if level == "32":
            share = both["ours"]["calls_per_second"] / both["no-op"]["calls_per_second"]
            found.append(Bound("throughput of 32 agents / no-op", share, 0.5, is_least=True))
    for name, both in report["statements"].items():
        found.append(_ratio(f"statements of {name} / bare asyncpg", both[statements.OURS], both[statements.RAW], 1.3))
    sizes = report["growth"]["one project"]["sizes"].values()
    for name, fit in report["growth"]["one project"]["fit"].items():
        what = f"{name}: {max(sizes):,} / {min(sizes):,} tasks"
        found.append(Bound(what, fit["ratio"], LARGE, fit["ratio of p10"]))
    waited = report["start"]["waited"]
    found.append(_ratio("cold start / bare SDK", waited["ours"], waited["no-op"], 1.2))
    memory = report["memory"]
    most = round(1.5 * memory["no-op"] + 20)
    found.append(Bound("idle memory with the database, MiB", memory["ours, idle"] + memory["database, idle"], most))
    listing = report["tokens"]["tools/list"]
    found.append(Bound("tokens of tools/list, core", listing["core"], 3_000))
    found.append(Bound("tokens of tools/list, all", listing["all"], 9_000))
    for count, calls in report["peers"]["calls"].items():
        for name, times in calls.items():
            others = [values for server, values in times.items() if server not in (OURS, BARE_SDK, COMMIT)]
            if others and (int(count) >= 1_000 or name in MUST_BE_FASTEST):
                fastest = min(others, key=median)
                found.append(
                    _ratio(f"{name} / fastest peer, {count} tasks", times[OURS], fastest, 1.0)._replace(
                        reason=_limit(name, times, fastest)
                    )
                )
    return found


def _limit(name: str, times: dict[str, list[float]], fastest: list[float]) -> str:
    """What of the fastest peer's time a server on this SDK needs for nothing at all, and a change for the disk."""
    if BARE_SDK not in times:
        return ""
    least, what = median(times[BARE_SDK]), "the bare SDK's no-op"
    if name not in READS:
        least, what = least + median(times[COMMIT]), f"{what} and a commit"
    return f"{what} alone {'take' if name not in READS else 'takes'} {least / median(fastest):.2f}"

"""Times of several ways to do a thing, taken in turn: only what was measured side by side is compared."""

import math
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

Times = dict[str, list[float]]
WARM_UP = 8


def turns(names: Sequence[str], rounds: int, warm_up: int = WARM_UP) -> Iterator[tuple[str, bool]]:
    """Each name once a round, and whether it counts; each round begins with another one, as the first finds cold caches."""
    for number in range(warm_up + rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            yield name, number >= warm_up


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int, warm_up: int = WARM_UP) -> Times:
    """Seconds of each way, one of each a round."""
    found: Times = {name: [] for name in ways}
    for name, counts in turns(list(ways), rounds, warm_up):
        began = time.perf_counter()
        ways[name]()
        if counts:
            found[name].append(time.perf_counter() - began)
    return found


async def awaited_in_turn(ways: dict[str, Callable[[], Awaitable[Any]]], rounds: int) -> Times:
    """The same for coroutine functions."""
    found: Times = {name: [] for name in ways}
    for name, counts in turns(list(ways), rounds):
        began = time.perf_counter()
        await ways[name]()
        if counts:
            found[name].append(time.perf_counter() - began)
    return found


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def low(values: Sequence[float]) -> float:
    """The tenth percentile: what the code costs; on a machine with other work the median also says what it waits."""
    return sorted(values)[len(values) // 10]


def high(values: Sequence[float]) -> float:
    """The ninety-fifth percentile."""
    return sorted(values)[len(values) * 95 // 100]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How a cost grows: the exponent of the power law through the points (0 is constant, 1 is linear)."""
    across = [math.log(size) for size, _ in points]
    up = [math.log(cost) for _, cost in points]
    return statistics.linear_regression(across, up).slope

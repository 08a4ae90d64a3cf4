"""What an operation costs as a project, or the number of projects, grows."""

from bench.series import Times, in_turn, low, median, slope
from bench.servers import ours
from bench.wire import Child
from bench.work import Work

OPERATIONS = ("create", "get", "list", "list by status", "list ready", "next", "claim", "heartbeat", "complete",
              "set status", "project status")  # fmt: skip


def measured(env: dict[str, str], projects: dict[str, int], rounds: int) -> dict[str, Times]:
    """Seconds by operation and project, all projects in turn, each with a server of its own."""
    children = {key: Child(ours(key), env) for key in projects}
    try:
        ways: dict[str, dict[str, object]] = {name: {} for name in OPERATIONS}
        for key, child in children.items():
            child.hello()
            for name, way in Work(child.call).ways().items():
                ways[name][key] = way
        return {name: in_turn(by_project, rounds) for name, by_project in ways.items()}  # type: ignore[arg-type]
    finally:
        for child in children.values():
            child.close()


def fitted(times: dict[str, Times], sizes: dict[str, int]) -> dict[str, dict[str, float]]:
    """By operation: the median of the largest against the smallest, the same of the tenth percentiles, and the slope."""
    smallest, largest = min(sizes, key=lambda key: sizes[key]), max(sizes, key=lambda key: sizes[key])
    return {
        name: {
            "ratio": median(by_project[largest]) / median(by_project[smallest]),
            "ratio of p10": low(by_project[largest]) / low(by_project[smallest]),
            "slope": slope([(sizes[key], low(by_project[key])) for key in sizes]),
        }
        for name, by_project in times.items()
    }

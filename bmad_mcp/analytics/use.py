"""Reads what agents did and remembered out of sums of daily metrics."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from bmad_mcp.analytics.figures import MemoryUse, Quality, rounded, share
from bmad_mcp.analytics.window import Window

PASSES = ("PASS", "WAIVED")


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums of metrics over a window: {metric, day, agent, label, count, total} a row."""

    rows: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "Sums":
        return cls(tuple(rows))

    def of_metric(self, metric: str, label: str | None = None) -> list[Mapping[str, Any]]:
        return [row for row in self.rows if row["metric"] == metric and label in (None, row["label"])]

    def count(self, metric: str, label: str | None = None) -> int:
        return sum(int(row["count"]) for row in self.of_metric(metric, label))

    def total(self, metric: str, label: str | None = None) -> float:
        return sum(float(row["total"]) for row in self.of_metric(metric, label))

    def counts(self, metric: str) -> dict[str, int]:
        """The counts by label, the most first."""
        found: dict[str, int] = {}
        for row in self.of_metric(metric):
            found[row["label"]] = found.get(row["label"], 0) + int(row["count"])
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def by_day(self) -> dict[date, int]:
        """The changes of each day that has some."""
        return {row["day"]: int(row["count"]) for row in self.of_metric("day")}


def memory_use(sums: Sums) -> MemoryUse:
    """Look-ups and their worth; a try of a service that failed is no look-up, as the memory here answers then."""
    hits = sums.count("lookup", "hit")
    lookups = hits + sums.count("lookup", "miss") + sums.count("lookup", "unavailable")
    after, without = sums.count("task", "after hit"), sums.count("task", "without hit")
    return MemoryUse(
        lookups_count=lookups,
        hit_share=share(hits, lookups),
        memories_per_hit_mean=rounded(sums.total("lookup", "hit") / hits) if hits else None,
        failed_tries_count=sums.count("lookup", "failed try"),
        stored_count=sums.count("change", "memory_store"),
        providers=sums.counts("provider"),
        tasks_after_hit_share=share(after, after + without),
        quality_after_hit_mean_points=_mean(sums, "after hit"),
        quality_without_hit_mean_points=_mean(sums, "without hit"),
    )


def _mean(sums: Sums, label: str) -> float | None:
    rated = sums.count("rated", label)
    return rounded(sums.total("rated", label) / rated) if rated else None


def quality(row: Mapping[str, Any], sums: Sums) -> Quality:
    """`row` has quality, rated and earlier_quality."""
    now, before = row["quality"], row["earlier_quality"]
    gates = sums.counts("gate")
    return Quality(
        mean_points=rounded(now),
        rated_count=row["rated"],
        earlier_mean_points=rounded(before),
        change_points=None if now is None or before is None else rounded(now - before),
        gates=gates,
        gate_pass_share=share(sum(gates.get(word, 0) for word in PASSES), sum(gates.values())),
    )


def series(window: Window, by_day: Mapping[date, int]) -> list[int]:
    """Counts by bucket of the window, zeros included."""
    found = [0] * window.buckets
    for day, count in by_day.items():
        found[window.bucket(day)] += count
    return found

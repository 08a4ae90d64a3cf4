"""What the samples of an endurance run come to: `python tests/faults/endurance/verdict.py SAMPLES.json [PLOT.svg]`.

Memory is flat when, after the warm-up, the line fitted to it rises by at most 5 % of its level over its length, and the
median of its last third is at most 1.05 times that of its first. Numbers of samples are in KiB, times in seconds.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
WARM_UP_SECONDS = 15 * 60
MOST_GROWTH = 0.05
Sample = dict[str, Any]
FIGURES: dict[str, Callable[[Sample], float]] = {
    "server rss": lambda one: one["server"]["rss"],
    "server pss": lambda one: one["server"]["pss"],
    "server uss": lambda one: one["server"]["uss"],
    # A page of the shared buffers that only one backend has touched so far counts as that one's own in uss.
    "PostgreSQL heap": lambda one: one["postgres"]["heap"],
}
# What has to be as it was, once everybody has left; PostgreSQL's own count of our connections is one of them.
HELD: dict[str, Callable[[Sample], float]] = {
    "descriptors": lambda one: one["server"]["files"]["all"],
    "sockets": lambda one: one["server"]["files"].get("socket", 0),
    "threads": lambda one: one["server"]["threads"],
    "tasks": lambda one: one["server"]["tasks"],
    "listeners": lambda one: one["server"]["listeners"],
    "pool connections in use": lambda one: one["server"]["pool_in_use"],
    "PostgreSQL connections": lambda one: one["postgres"]["connections_all"],
    "locks": lambda one: one["postgres"]["locks_held"],
}
PLOTTED = ("sockets", "tasks", "PostgreSQL connections")


def growth(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """How much of its level the fitted line rises over its length, and the last third's median by the first's."""
    seconds, values = [at for at, _ in points], [value for _, value in points]
    slope, _ = linear_regression(seconds, values)
    third = max(len(values) // 3, 1)
    return slope * (seconds[-1] - seconds[0]) / median(values), median(values[-third:]) / median(values[:third])


def judged(found: dict[str, Any], warm_up: float = WARM_UP_SECONDS) -> tuple[list[str], list[str]]:
    """Lines that tell what was found, and those that say what is wrong."""
    lines, wrong = [], []
    samples: list[Sample] = found["samples"]
    after = [one for one in samples if one["at"] - samples[0]["at"] >= warm_up]
    lines.append(
        f"{samples[-1]['at'] - samples[0]['at']:,.0f} s, {len(samples)} samples, {len(after)} after {warm_up:g} s;"
        f" {samples[-1]['server']['calls']:,.0f} calls, {found['unexpected']} unexpected errors"
    )
    if found["unexpected"]:
        wrong += ["unexpected errors:", *found["texts"][:10]]
    for name, figure in FIGURES.items() if len(after) >= 6 else ():
        rises, ratio = growth([(one["at"], figure(one)) for one in after])
        level = median([figure(one) for one in after]) / 1024
        lines.append(f"{name}: {level:.1f} MiB, fitted {rises:+.1%} over its length, thirds {ratio:.3f}")
        if rises > MOST_GROWTH or ratio > 1 + MOST_GROWTH:
            wrong.append(f"{name} is not flat")
    for name, figure in HELD.items() if found["after"] else ():
        before, end = figure(found["before"]), figure(found["after"])
        lines.append(f"{name}: {before:g} before, at most {max(map(figure, samples)):g}, {end:g} after")
        if end > before:
            wrong.append(f"{name}: {end:g} and not {before:g} when everybody has left")
    postgres = [one["postgres"] for one in samples]
    idle = max(one["idle_in_transaction_seconds"] for one in postgres)
    lines.append(
        f"idle in a transaction: at most {idle:.2f} s; waiting locks: {max(p['locks_waiting'] for p in postgres)}"
    )
    if idle > 5:
        wrong.append(f"a connection was idle in a transaction for {idle:.1f} s")
    last = samples[-1]["server"]
    lines.append(f"jobs: {last['jobs']:g}, not ok {last['jobs_not_ok']:g}; calls that failed: {last['calls_failed']:g}")
    if last["calls_failed"]:
        wrong.append(f"{last['calls_failed']:g} calls failed as the server's error")
    return lines, wrong


def plotted(samples: list[Sample]) -> str:
    """An SVG: memory in MiB and connections over minutes, each on an axis that begins at 0."""
    minutes = [one["at"] / 60 for one in samples]
    panels = {
        "MiB": {name: [figure(one) / 1024 for one in samples] for name, figure in FIGURES.items()},
        "open": {name: [figure(one) for one in samples] for name, figure in HELD.items() if name in PLOTTED},
    }
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 420" font-family="sans-serif" font-size="11">']
    parts.append('<rect width="680" height="420" fill="#fff"/>')
    for number, (unit, curves) in enumerate(panels.items()):
        floor, most = 190 + 200 * number, max(map(max, curves.values())) * 1.1
        parts.append(f'<text x="4" y="{floor - 160}">{unit}</text>')
        for part in range(5):
            y, value = floor - 150 * part / 4, most * part / 4
            parts.append(f'<line x1="50" y1="{y:.1f}" x2="530" y2="{y:.1f}" stroke="#ddd"/>')
            parts.append(f'<text x="46" y="{y + 4:.1f}" text-anchor="end">{value:.0f}</text>')
        for row, (name, values) in enumerate(curves.items()):
            points = " ".join(
                f"{50 + 480 * at / minutes[-1]:.1f},{floor - 150 * value / most:.1f}"
                for at, value in zip(minutes, values, strict=True)
            )
            parts.append(f'<polyline fill="none" stroke="{COLOURS[row]}" stroke-width="1.5" points="{points}"/>')
            parts.append(f'<text x="540" y="{floor - 140 + 15 * row}" fill="{COLOURS[row]}">{name}</text>')
    parts.append(f'<text x="50" y="408">0 to {minutes[-1]:.0f} minutes</text></svg>')
    return "\n".join(parts) + "\n"


def main() -> int:
    found = json.loads(Path(sys.argv[1]).read_text())
    lines, wrong = judged(found)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(plotted(found["samples"]))
    if not found["after"]:
        lines.append("It is not over: nobody knows yet what will be left.")
    sys.stdout.write("\n".join([*lines, "", *(wrong or ["flat, and nothing was left"])]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

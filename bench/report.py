"""One report of a run: a text for the terminal, JSON and plots in bench/results.

`python -m bench.report` makes docs/reference/speed.md of the latest run, or of the one that is named.
"""

import argparse
import json
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.bounds import bounds
from bench.calls import YARDSTICK
from bench.plots import lines
from bench.series import Times, high, low, median

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "speed.md"


def write(report: dict[str, Any]) -> str:
    """Keep the report, and give its text."""
    RESULTS.mkdir(exist_ok=True)
    stamp = f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}"
    text = "\n".join(_text(report)) + "\n"
    for name in (stamp, "latest"):
        (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1))
        (RESULTS / f"{name}.txt").write_text(text)
    for name, drawing in _plots(report):
        (RESULTS / f"{name}.svg").write_text(drawing)
    return text


def machine() -> str:
    cores = sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    yield ""
    yield title
    for row in (head, *rows):
        first, *rest = row
        cells = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        yield f"  {first:<{widths[0]}}  " + "  ".join(cells)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def _calls(title: str, times: Times, yardstick: str) -> Iterator[str]:
    base, base_low = median(times[yardstick]), low(times[yardstick])
    rows = [
        (
            name,
            _ms(low(one)),
            _ms(median(one)),
            _ms(high(one)),
            f"{low(one) / base_low:.2f}",
            f"{median(one) / base:.2f}",
        )
        for name, one in times.items()
    ]
    yield from _table(title, ("", "p10 ms", "median ms", "p95 ms", "ratio p10", "ratio"), rows)


def _text(report: dict[str, Any]) -> Iterator[str]:
    yield f"{report['machine']}; everything in one run, in turn"
    for transport, times in report["calls"].items():
        yield from _calls(f"one call over {transport}, {report['calls on']} tasks", times, YARDSTICK)
    for name, both in report["statements"].items():
        yield from _calls(f"statements of {name}", both, "raw")
    yield from _table(
        "agents at once over HTTP (create, get, list, claim, complete)",
        ("agents", "no-op calls/s", "ours calls/s", "ratio", "no-op CPU µs", "ours CPU µs"),
        [
            (
                level,
                f"{both['no-op']['calls_per_second']:.0f}",
                f"{both['ours']['calls_per_second']:.0f}",
                f"{both['ours']['calls_per_second'] / both['no-op']['calls_per_second']:.2f}",
                f"{both['no-op']['server_cpu_us']:.0f}",
                f"{both['ours']['server_cpu_us']:.0f}",
            )
            for level, both in report["crowd"].items()
        ],
    )
    for name, times in report["start"].items():
        yield from _calls(f"cold start to the first tools/list, {name}", times, "no-op")
    yield from _table("memory", ("", "MiB"), [(name, f"{mib:.0f}") for name, mib in report["memory"].items()])
    for what, counts in report["tokens"].items():
        yield from _table(f"tokens of {what}", ("", "tokens"), [(name, str(one)) for name, one in counts.items()])
    for what, grown in report["growth"].items():
        yield from _growth(what, grown)
    if "many projects" in report:
        yield from _many(report["many projects"])
    yield from _peers(report["peers"])
    yield from _table(
        "what must hold",
        ("", "figure", "bound", "of p10", ""),
        [
            (
                one.what,
                f"{one.figure:.2f}",
                one.told,
                f"{one.of_low:.2f}" if one.of_low else "",
                one.verdict,
            )
            for one in bounds(report)
        ],
    )


def _growth(what: str, grown: dict[str, Any]) -> Iterator[str]:
    sizes = grown["sizes"]
    head = ("p10 / median ms", *(f"{sizes[key]:,}" for key in sizes), "ratio", "slope")
    rows = [
        (
            name,
            *(f"{_ms(low(times[key]))} / {_ms(median(times[key]))}" for key in sizes),
            f"{grown['fit'][name]['ratio']:.2f}",
            f"{grown['fit'][name]['slope']:+.3f}",
        )
        for name, times in grown["calls"].items()
    ]
    yield from _table(f"growth: tasks in {what}", head, rows)


def _many(calls: dict[str, Times]) -> Iterator[str]:
    """Two of 200 projects, each with its share of the tasks."""
    rows = []
    for name, by_project in calls.items():
        every = [seconds for times in by_project.values() for seconds in times]
        rows.append((name, _ms(low(every)), _ms(median(every)), _ms(high(every))))
    yield from _table("200 projects, one call over stdio", ("", "p10 ms", "median ms", "p95 ms"), rows)


def _peers(peers: dict[str, Any]) -> Iterator[str]:
    for package, why in peers["skipped"].items():
        yield f"\n{package} is left out: {why}"
    for count, calls in peers["calls"].items():
        servers = list(next(iter(calls.values())))
        rows = [(name, *(_ms(median(times[server])) for server in servers)) for name, times in calls.items()]
        yield from _table(f"beside other servers, {count} tasks, median ms", ("", *servers), rows)


def _plots(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for what, grown in report["growth"].items():
        sizes = grown["sizes"]
        curves = {
            name: [(sizes[key], median(times[key]) * 1000) for key in sizes] for name, times in grown["calls"].items()
        }
        yield f"growth-{what.replace(' ', '-')}", lines(f"A call as {what} grows", "tasks", "ms", curves)
    crowd = report["crowd"]
    yield (
        "agents",
        lines(
            "Agents at once over HTTP",
            "agents",
            "calls/s",
            {
                name: [(int(level), both[name]["calls_per_second"]) for level, both in crowd.items()]
                for name in ("no-op", "ours")
            },
        ),
    )


def _page(report: dict[str, Any], note: str) -> Iterator[str]:
    yield "<!-- Generated by `python -m bench.report`: run it again instead of editing. -->"
    yield "# Speed"
    yield ""
    yield f"{report['machine']}; embedded PostgreSQL; {report['date']}. {note}".strip()
    yield "Ratios compare what was measured in turn in one run; `p10` is the tenth percentile, which other work on the"
    yield "machine blurs less than the median. `make bench` measures anew; `python -m bench --full` goes to a million tasks,"
    yield "and `--bounds` measures only what settles what must hold, at that size."
    yield ""
    yield "| what must hold | ratio | of p10 | bound | |"
    yield "|---|---|---|---|---|"
    for one in bounds(report):
        of_low = f"{one.of_low:.2f}" if one.of_low else ""
        yield f"| {one.what} | {one.figure:.2f} | {of_low} | {one.told} | {one.verdict if one.holds else f'**{one.verdict}**'} |"
    yield ""
    yield "| a call, ms (p10 / median) | stdio | HTTP |"
    yield "|---|---|---|"
    stdio, over_http = report["calls"]["stdio"], report["calls"]["HTTP"]
    for name in stdio:
        told = (f"{_ms(low(times[name]))} / {_ms(median(times[name]))}" for times in (stdio, over_http))
        yield f"| {name} | {' | '.join(told)} |"
    for what, grown in report["growth"].items():
        sizes = grown["sizes"]
        yield ""
        yield f"| tasks in {what}, ms (p10) | {' | '.join(f'{size:,}' for size in sizes.values())} | slope |"
        yield f"|---|{'---|' * len(sizes)}---|"
        for name, times in grown["calls"].items():
            cells = " | ".join(_ms(low(times[key])) for key in sizes)
            yield f"| {name} | {cells} | {grown['fit'][name]['slope']:+.3f} |"
    for count, calls in report["peers"]["calls"].items():
        servers = list(next(iter(calls.values())))
        yield ""
        yield f"| {count} tasks, ms (median) | {' | '.join(servers)} |"
        yield f"|---|{'---|' * len(servers)}"
        for name, times in calls.items():
            yield f"| {name} | {' | '.join(_ms(median(times[server])) for server in servers)} |"
    listing, answers = report["tokens"]["tools/list"], report["tokens"]["answers"]
    yield ""
    yield "Tokens (o200k_base) that a model pays for the tool list of a toolset, and for default answers:"
    yield ""
    yield "| | tokens |"
    yield "|---|---|"
    for name, count in {f"tools/list, {name}": count for name, count in listing.items()}.items():
        yield f"| {name} | {count} |"
    for name, count in report["peers"]["tokens of tools/list"].items():
        yield f"| tools/list of {name} | {count} |"
    for name, count in answers.items():
        yield f"| `{name}` | {count} |"


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m bench.report", description="Make docs/reference/speed.md of a run."
    )
    options.add_argument("run", nargs="?", type=Path, default=RESULTS / "latest.json", help="JSON in bench/results")
    options.add_argument("--note", default="", help="a sentence about the machine")
    chosen = options.parse_args()
    PAGE.write_text("\n".join(_page(json.loads(chosen.run.read_text()), chosen.note)) + "\n")


if __name__ == "__main__":
    main()

"""What `status` draws: counts, what comes next, and the numbers of the last days; plain ASCII bars where it is piped."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from rich.console import Console
from rich.text import Text

from bmad_mcp.analytics.figures import AnalyticsOverview, Durations, TaskFlow
from bmad_mcp.analytics.schemas import DriftItem, ProjectStatus
from bmad_mcp.counts import counted

MOST_LINES = 60
BLOCKS = "▁▂▃▄▅▆▇█"
# No level of these is mistaken for another in a log file.
ASCII = "_.:-=+*#"
AGEING_SHOWN = 3
LABEL = 13


def draw(console: Console, status: ProjectStatus, overview: AnalyticsOverview) -> None:
    """Print a project at a glance, at most 60 lines; control characters in stored names come as `?`."""
    bars = BLOCKS if console.is_terminal and (console.encoding or "").lower().startswith("utf") else ASCII
    for line in islice(_lines(status, overview, bars), MOST_LINES):
        # Commands and paths must stay in one piece: nothing is wrapped.
        console.print(line, soft_wrap=True)


def _lines(status: ProjectStatus, overview: AnalyticsOverview, bars: str) -> Iterator[Text]:
    yield Text(f"{_printable(status.project.name)} ({_printable(status.project.key)})", style="bold")
    yield Text()
    for name, counts in (
        ("stories", status.stories),
        ("tasks", status.tasks),
        ("workflows", status.workflows),
        ("agents", status.agents),
    ):
        yield Text(f"  {name:<11}{sum(counts.values()):>5}   {_counts(counts)}".rstrip())
    if status.next:
        yield from _heading("Next")
        yield from (Text(f"  {_printable(action)}") for action in status.next)
    yield from _drift(status)
    yield from _numbers(overview, bars)


def _heading(title: str) -> Iterator[Text]:
    yield Text()
    yield Text(title, style="bold")


def _drift(status: ProjectStatus) -> Iterator[Text]:
    if status.drift.count:
        yield from _heading(f"Drift: {status.drift.count}")
        for item in status.drift.items:
            more = f" and {item.count - 1} more" if item.count > 1 else ""
            field = f", {item.field}" if item.field else ""
            yield Text(_printable(f"  {item.between}: {item.first}{field}{more}{_words(item)}"), style="yellow")
            yield Text(_printable(f"    {item.mend}"))
    if status.drift.sync is not None:
        reason = f": {status.drift.sync.reason}" if status.drift.sync.reason else ""
        yield from _heading(_printable(f"Sync is {status.drift.sync.state}{reason}"))


def _numbers(overview: AnalyticsOverview, bars: str) -> Iterator[Text]:
    tasks, trends = overview.tasks, overview.trends
    under_way = tasks.work_in_progress.model_dump(exclude={"ready_count"})
    if not (tasks.completed_count or tasks.created_count or any(under_way.values()) or overview.agents.changes_count):
        return
    yield from _heading(f"Last {counted(overview.window.days, 'day')}, to {overview.window.last_day} (UTC)")
    yield _labelled(
        "throughput",
        f"{counted(tasks.completed_count, 'task')} completed, {tasks.completed_per_day_mean:g} a day;"
        f" {trends.earlier_completed_count} in the {counted(overview.window.days, 'day')} before",
    )
    if tasks.completed_count:
        peak = max(trends.completed_counts)
        yield _labelled("", f"{spark(trends.completed_counts, bars)}  by {trends.bucket}, at most {peak}", "cyan")
    yield from _durations("cycle time", tasks.cycle)
    yield from _durations("lead time", tasks.lead)
    waiting = ", ".join(f"{n} {name.removesuffix('_count').replace('_', ' ')}" for name, n in under_way.items() if n)
    yield _labelled("under way", f"{waiting or 'nothing'}; {tasks.work_in_progress.ready_count} ready to claim")
    yield from _worth(overview)
    yield from _ageing(tasks)
    if overview.workflows.bottlenecks:
        yield from _heading("Bottlenecks, by their share of all stage time")
        for stage in overview.workflows.bottlenecks:
            name = f"{stage.type} {stage.position}: {stage.step}" + (f" ({stage.agent})" if stage.agent else "")
            yield Text(f"  {stage.time_share:>4.0%}  {stage.waiting_count} waiting  {_printable(name)}"[:80])


def _worth(overview: AnalyticsOverview) -> Iterator[Text]:
    quality, memory, agents = overview.trends.quality, overview.memory, overview.agents
    told = []
    if quality.mean_points is not None:
        change = "" if quality.change_points is None else f" ({quality.change_points:+g})"
        told.append(f"mean {quality.mean_points:g} of 100{change}")
    if quality.gates:
        told.append("gates " + ", ".join(f"{count} {word}" for word, count in quality.gates.items()))
    if told:
        yield _labelled("quality", "; ".join(told)[:64])
    if memory.hit_share is not None:
        yield _labelled(
            "memory", f"{memory.hit_share:.0%} of {counted(memory.lookups_count, 'look-up')} found something"
        )
    if agents.changes_count:
        yield _labelled(
            "adoption",
            f"{agents.active_count} of {counted(agents.known_count, 'agent')} at work on"
            f" {counted(agents.active_days_count, 'day')}, {counted(agents.changes_count, 'change')}",
        )


def _ageing(tasks: TaskFlow) -> Iterator[Text]:
    ageing = tasks.ageing
    if not ageing.oldest:
        return
    over = ""
    if ageing.limit_seconds is not None:
        over = f": {ageing.over_limit_count} older than {elapsed(ageing.limit_seconds)} (p85 of cycle times)"
    yield from _heading(f"Ageing work{over}")
    for one in ageing.oldest[:AGEING_SHOWN]:
        is_over = ageing.limit_seconds is not None and one.age_seconds > ageing.limit_seconds
        line = f"  {one.task:<8}{elapsed(one.age_seconds):>8}  {one.status.replace('_', ' '):<12}{one.agent or ''}"
        yield Text(_printable(line)[:80].rstrip(), style="yellow" if is_over else "")


def _durations(name: str, durations: Durations) -> Iterator[Text]:
    if durations.count:
        told = "   ".join(
            f"{label} {elapsed(seconds):<7}"
            for label, seconds in (
                ("p50", durations.p50_seconds),
                ("p85", durations.p85_seconds),
                ("p95", durations.p95_seconds),
            )
            if seconds is not None
        )
        yield _labelled(name, f"{told}   of {durations.count}")


def _labelled(label: str, told: str, style: str = "") -> Text:
    return Text(f"  {label:<{LABEL}}").append(_printable(told), style=style)


def spark(values: Sequence[int], levels: str) -> str:
    """One letter a value, the lowest level for none and the highest for the most."""
    peak = max(values, default=0) or 1
    # Whatever is more than nothing is told from nothing.
    return "".join(levels[-(-value * (len(levels) - 1) // peak)] for value in values)


def elapsed(seconds: float) -> str:
    """A time in its two largest units: `45s`, `12m`, `3h 5m`, `2d 4h`."""
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h" if hours else f"{days}d"


def _words(item: DriftItem) -> str:
    said = {name: getattr(item, name) for name in ("file", "tracker", "database")}
    return " (" + ", ".join(f"{name} {word}" for name, word in said.items() if word) + ")"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items())


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in line)

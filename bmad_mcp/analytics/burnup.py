"""epic_burnup: how many stories there were and how many were done, at the end of each day."""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

from bmad_mcp.analytics import burnup_queries
from bmad_mcp.analytics.window import DAYS, Days, Window
from bmad_mcp.call import Call
from bmad_mcp.shapes import Aged, Out

EPICS_SHOWN = 20


class BurnupLine(Out):
    """Stories of an epic, or of all epics (null), at the end of each day; cancelled ones do not count."""

    epic: str | None
    scope_counts: list[int]
    done_counts: list[int]


class Burnup(Aged):
    """The days, the earliest first, and for all epics and each epic its stories at the end of them."""

    days: list[date]
    items: list[BurnupLine]


async def epic_burnup(call: Call, days: Days = DAYS) -> Burnup:
    """Read how the stories of all epics and of each epic grew and were done, day by day."""
    window = Window(days, await call.db.fetchval("SELECT now()"))
    rows = await call.db.fetch(burnup_queries.BURNUP, window.first_day, window.last_day)
    listed = [window.first_day + timedelta(days=step) for step in range(days)]
    epics = list(dict.fromkeys(row["epic"] for row in rows))[:EPICS_SHOWN]
    return Burnup(
        days=listed,
        items=[
            _line(None, listed, rows),
            *(_line(epic, listed, [row for row in rows if row["epic"] == epic]) for epic in epics),
        ],
    )


def _line(epic: str | None, listed: list[date], rows: Iterable[Mapping[str, Any]]) -> BurnupLine:
    """The running sums of {day, made, done}."""
    place = {day: at for at, day in enumerate(listed)}
    made, done = [0] * len(listed), [0] * len(listed)
    for row in rows:
        made[place[row["day"]]] += row["made"]
        done[place[row["day"]]] += row["done"]
    for at in range(1, len(listed)):
        made[at] += made[at - 1]
        done[at] += done[at - 1]
    return BurnupLine(epic=epic, scope_counts=made, done_counts=done)

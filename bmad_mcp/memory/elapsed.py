"""How long something took or is ago, for notes and for people."""

import time
from datetime import UTC, datetime


def milliseconds_since(began: float) -> float:
    """Milliseconds from a moment of time.perf_counter() to now, to three places."""
    return round((time.perf_counter() - began) * 1000, 3)


def in_words(seconds: float) -> str | None:
    """`2 hours`, in the largest whole unit; None for less than a minute."""
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' if count != 1 else ''}"
    return None


def ago(moment: datetime) -> str:
    """`2 hours ago`, or `a moment ago`."""
    return f"{in_words((datetime.now(UTC) - moment).total_seconds()) or 'a moment'} ago"

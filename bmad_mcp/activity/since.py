"""A point in time as people write it: an ISO date, or how long ago."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from bmad_mcp.db import Transaction

_AGO = re.compile(r"(\d{1,5})\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment_of(text: str, now: datetime | None = None) -> datetime:
    """The moment that `2026-11-20`, `2026-11-20T08:00:00Z` or `24h` (m, h, d, w) names; without a zone it is UTC."""
    ago = _AGO.fullmatch(text.strip().lower())
    if ago is not None:
        return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    moment = datetime.fromisoformat(text.strip())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def moment_by(db: Transaction, text: str) -> datetime:
    """The same by the database's clock, which also made what is looked for: hosts disagree."""
    is_ago = _AGO.fullmatch(text.strip().lower()) is not None
    return moment_of(text, await db.fetchval("SELECT now()") if is_ago else None)


def _check(text: str) -> str:
    try:
        moment_of(text)
    except (ValueError, OverflowError):
        raise ValueError("must be a date such as 2026-11-20T08:00:00Z, or how long ago: 30m, 24h, 7d, 2w") from None
    return text


Since = Annotated[str, Field(max_length=40, description="Date or duration: 24h, 7d."), AfterValidator(_check)]

"""The days that numbers are asked for: whole UTC days, today the last of them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from pydantic import Field

from bmad_mcp.shapes import Out

DAYS = 30
# More than a month is told by the week, so that a year still fits into an answer.
MOST_DAILY = 31

Days = Annotated[int, Field(ge=1, le=366, description="UTC days up to today.")]


class WindowOut(Out):
    """The UTC days that the numbers are of, both included."""

    first_day: date
    last_day: date
    days: int


@dataclass(frozen=True, slots=True)
class Window:
    """Days as half-open moments: [begins, ends), and as many days before it from `earlier` on."""

    days: int
    now: datetime

    @property
    def first_day(self) -> date:
        return self.last_day - timedelta(days=self.days - 1)

    @property
    def last_day(self) -> date:
        return self.now.astimezone(UTC).date()

    @property
    def day_after(self) -> date:
        return self.last_day + timedelta(days=1)

    @property
    def begins(self) -> datetime:
        return datetime.combine(self.first_day, time(), UTC)

    @property
    def ends(self) -> datetime:
        return datetime.combine(self.day_after, time(), UTC)

    @property
    def earlier(self) -> datetime:
        return self.begins - timedelta(days=self.days)

    @property
    def bucket_days(self) -> int:
        """1 up to a month, 7 above it; weeks end today, and the first may be shorter."""
        return 1 if self.days <= MOST_DAILY else 7

    @property
    def buckets(self) -> int:
        return -(-self.days // self.bucket_days)

    def bucket(self, day: date) -> int:
        """The place of a day's bucket, 0 the earliest."""
        return self.buckets - 1 - (self.last_day - day).days // self.bucket_days

    @property
    def moments(self) -> tuple[Any, ...]:
        """What most statements take: begins, ends, the begin of as many days before, now."""
        return self.begins, self.ends, self.earlier, self.now

    def out(self) -> WindowOut:
        return WindowOut(first_day=self.first_day, last_day=self.last_day, days=self.days)

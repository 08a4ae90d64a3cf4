"""What goes out about activity."""

from datetime import datetime

from bmad_mcp.shapes import Aged, Out


class ActivityItem(Out):
    """One thing that happened; without an agent `by` says who called."""

    at: datetime
    operation: str
    subject: str
    agent: str | None = None
    by: str | None = None
    status: str | None = None
    section: str | None = None
    note: str | None = None


class ActivityPage(Aged):
    """A page of what happened, newest first."""

    items: list[ActivityItem]
    next_cursor: str | None

"""What goes out about activity."""

from datetime import datetime

from bmad_mcp.shapes import Aged, Out


class ActivityItem(Out):
    """One thing that happened."""

    at: datetime
    operation: str
    subject: str
    agent: str | None = None
    status: str | None = None
    note: str | None = None


class ActivityPage(Aged):
    """A page of what happened, newest first."""

    items: list[ActivityItem]
    next_cursor: str | None

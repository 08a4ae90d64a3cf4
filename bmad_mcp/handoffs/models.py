"""The table of work handed from one agent to another."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.lifecycles import HandoffStatus
from bmad_mcp.schema import Base, Versioned, in_project, words_sql


class Collaboration(Versioned, Base):
    """A handoff, offered and then accepted; people call it `H-<number>`."""

    __tablename__ = "bmad_agent_collaborations"
    __table_args__ = (
        in_project(["task_id"], "bmad_tasks"),
        in_project(["story_id"], "bmad_stories"),
        UniqueConstraint("project_id", "number"),
        Index(None, "project_id", "status", "number"),
        Index(None, "project_id", "to_agent", "status", "number"),
        CheckConstraint(words_sql("status", HandoffStatus), name="status_word"),
    )

    number: Mapped[int]
    from_agent: Mapped[str]
    to_agent: Mapped[str]
    task_id: Mapped[UUID | None]
    story_id: Mapped[UUID | None]
    note: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'offered'"))
    accepted_by: Mapped[str | None]
    accepted_at: Mapped[datetime | None]

"""Tables of epics and stories."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Computed, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.lifecycles import StoryStatus, TaskPriority
from bmad_mcp.schema import (
    EMPTY_LIST,
    EMPTY_OBJECT,
    EMPTY_TEXT,
    STORY_STATUS,
    TASK_PRIORITY,
    Base,
    Versioned,
    in_project,
)


class Epic(Versioned, Base):
    """A body of work made of stories; its status uses the words of stories."""

    __tablename__ = "bmad_epics"
    __table_args__ = (
        UniqueConstraint("project_id", "key"),
        Index(None, "project_id", "number", "key"),
    )

    key: Mapped[str]
    number: Mapped[int]
    title: Mapped[str]
    goal: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    status: Mapped[StoryStatus] = mapped_column(STORY_STATUS, server_default=text("'draft'"))
    raw_status: Mapped[str | None]
    source_path: Mapped[str | None]
    extra: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)


class Story(Versioned, Base):
    """A story with its sections in the order of its file; the raw status word is kept beside the normalised one."""

    __tablename__ = "bmad_stories"
    __table_args__ = (
        in_project(["epic_id"], "bmad_epics"),
        UniqueConstraint("project_id", "key"),
        Index(None, "project_id", "epic_number", "number", "suffix"),
        Index(None, "project_id", "epic_id", "number", "suffix"),
        # Under row-level security only a literal status can narrow an index: comparing enums is not leakproof.
        *(
            Index(
                f"ix_bmad_stories_{status}_place",
                "project_id",
                "epic_number",
                "number",
                "suffix",
                postgresql_where=text(f"status = '{status}'"),
            )
            for status in StoryStatus
        ),
        Index(None, "search", postgresql_using="gin"),
        CheckConstraint("points BETWEEN 0 AND 1000", name="points_in_range"),
    )

    epic_id: Mapped[UUID]
    key: Mapped[str]
    epic_number: Mapped[int]
    number: Mapped[int]
    suffix: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    title: Mapped[str]
    role: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    want: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    benefit: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    acceptance: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    sections: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    status: Mapped[StoryStatus] = mapped_column(STORY_STATUS, server_default=text("'draft'"))
    raw_status: Mapped[str | None]
    tracker_key: Mapped[str | None]
    tracker_status: Mapped[str | None]
    priority: Mapped[TaskPriority] = mapped_column(TASK_PRIORITY, server_default=text("'medium'"))
    points: Mapped[int | None]
    gate: Mapped[dict[str, Any] | None]
    source_path: Mapped[str | None]
    content_hash: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    extra: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    completed_at: Mapped[datetime | None]
    search: Mapped[Any] = mapped_column(
        TSVECTOR,
        Computed(
            "to_tsvector('english', key || ' ' || title || ' ' || role || ' ' || want || ' ' || benefit)",
            persisted=True,
        ),
    )

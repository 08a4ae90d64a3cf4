"""Tables of tasks and of what they wait for."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.lifecycles import TaskPriority, TaskStatus
from bmad_mcp.schema import EMPTY_TEXT, TASK_PRIORITY, TASK_STATUS, Base, Versioned, in_project

READY = "status = 'pending' AND open_dependencies = 0 AND story_open"
LEFT = "status IN ('active', 'in_progress') AND open_dependencies = 0 AND story_open"
TO_REVIEW = "status = 'review' AND open_dependencies = 0 AND story_open"
HELD = "status IN ('active', 'in_progress')"


class Task(Versioned, Base):
    """A piece of work for one agent; people call it `T-<number>`. `lease` is the fencing number of its holder."""

    __tablename__ = "bmad_tasks"
    __table_args__ = (
        in_project(["story_id"], "bmad_stories"),
        in_project(["workflow_id"], "bmad_workflows"),
        UniqueConstraint("project_id", "number"),
        Index(
            "ix_bmad_tasks_ready",
            "project_id",
            "agent",
            text("priority DESC"),
            "number",
            postgresql_where=text(READY),
        ),
        Index("ix_bmad_tasks_held", "project_id", "lease_until", postgresql_where=text(HELD)),
        # Of those whose lease passed a claim wants its own role's, however many others wait.
        Index("ix_bmad_tasks_left", "project_id", "agent", "lease_until", postgresql_where=text(LEFT)),
        Index("ix_bmad_tasks_holder", "project_id", "lease_agent", "number", postgresql_where=text(HELD)),
        # What is under review stays so after its lease: however much that is, what an agent still holds is found by the end.
        Index(
            "ix_bmad_tasks_review_holder",
            "project_id",
            "lease_agent",
            "lease_until",
            postgresql_where=text("status = 'review'"),
        ),
        Index("ix_bmad_tasks_to_review", "project_id", "number", postgresql_where=text(TO_REVIEW)),
        *(
            Index(
                f"ix_bmad_tasks_{status}_number", "project_id", "number", postgresql_where=text(f"status = '{status}'")
            )
            for status in TaskStatus
        ),
        Index(None, "project_id", "agent", "number"),
        Index(None, "project_id", "story_id", "number"),
        Index(None, "project_id", "workflow_id", "number"),
        CheckConstraint("quality BETWEEN 0 AND 100", name="quality_in_range"),
        CheckConstraint("open_dependencies >= 0", name="open_dependencies_counted"),
    )

    number: Mapped[int]
    title: Mapped[str]
    description: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    status: Mapped[TaskStatus] = mapped_column(TASK_STATUS, server_default=text("'pending'"))
    raw_status: Mapped[str | None]
    priority: Mapped[TaskPriority] = mapped_column(TASK_PRIORITY, server_default=text("'medium'"))
    agent: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    story_id: Mapped[UUID | None]
    workflow_id: Mapped[UUID | None]
    open_dependencies: Mapped[int] = mapped_column(server_default=text("0"))
    story_open: Mapped[bool] = mapped_column(server_default=text("true"))
    lease: Mapped[int] = mapped_column(server_default=text("0"))
    lease_agent: Mapped[str | None]
    lease_seconds: Mapped[int | None]
    lease_until: Mapped[datetime | None]
    note: Mapped[str | None]
    summary: Mapped[str | None]
    quality: Mapped[int | None]
    source: Mapped[str] = mapped_column(server_default=text("'tool'"))
    source_ref: Mapped[str | None]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class TaskDependency(Base):
    """`task_id` waits for `depends_on_id`."""

    __tablename__ = "bmad_task_dependencies"
    __table_args__ = (
        in_project(["task_id"], "bmad_tasks"),
        in_project(["depends_on_id"], "bmad_tasks"),
        Index(None, "project_id", "depends_on_id", "task_id"),
        CheckConstraint("task_id <> depends_on_id", name="not_itself"),
    )

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    depends_on_id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

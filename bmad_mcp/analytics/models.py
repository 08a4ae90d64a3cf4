"""The daily metrics and the tallies that numbers are read from, and the indexes that only the numbers need."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Double, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.schema import NEW_ID, Base
from bmad_mcp.stories.models import Story
from bmad_mcp.tasks.models import Task
from bmad_mcp.workflows.models import Workflow, WorkflowStage


class DailyMetric(Base):
    """What one UTC day holds of a metric, by agent and label; `rollup_queries` says which metrics there are."""

    __tablename__ = "mcp_daily_metrics"

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    agent: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[float] = mapped_column(Double, server_default=text("0"))


class Rollup(Base):
    """How far a project's daily metrics reach: every row whose id was made before `rolled_until` is in them."""

    __tablename__ = "mcp_rollups"

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    rolled_until: Mapped[datetime]


class Tally(Base):
    """A change of how many rows of a kind (`task`, `story`, `epic`, `workflow`) a status has: `count` came to one, and left another.

    Triggers write one for each change and add some up now and then; the sum is what there is. `ready_for` is the role
    that a task waits for which anybody may claim.
    """

    __tablename__ = "mcp_tallies"

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    kind: Mapped[str]
    status: Mapped[str | None]
    ready_for: Mapped[str | None]
    left_status: Mapped[str | None]
    left_ready_for: Mapped[str | None]
    count: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))


# Under row-level security only a literal status can narrow an index: comparing enums is not leakproof.
Index(
    "ix_bmad_tasks_completed",
    Task.project_id,
    Task.completed_at,
    postgresql_include=["created_at", "started_at", "quality", "lease_agent"],
    postgresql_where=text("status = 'completed'"),
)
Index(
    "ix_bmad_tasks_completed_of_story",
    Task.project_id,
    Task.story_id,
    Task.started_at,
    postgresql_where=text("status = 'completed'"),
)
Index(
    "ix_bmad_tasks_cancelled",
    Task.project_id,
    Task.updated_at,
    postgresql_where=text("status = 'cancelled'"),
)
Index(
    "ix_bmad_tasks_under_way",
    Task.project_id,
    Task.started_at,
    postgresql_where=text("status IN ('active', 'in_progress', 'review', 'blocked')"),
)
Index(
    "ix_bmad_stories_done",
    Story.project_id,
    Story.completed_at,
    postgresql_where=text("status = 'done'"),
)
Index(
    "ix_bmad_stories_words",
    Story.project_id,
    Story.epic_number,
    Story.number,
    Story.suffix,
    postgresql_where=text("raw_status IS NOT NULL OR tracker_status IS NOT NULL"),
)
Index("ix_bmad_workflows_active", Workflow.project_id, Workflow.number, postgresql_where=text("status = 'active'"))
Index(
    "ix_bmad_workflow_stages_closed",
    WorkflowStage.project_id,
    WorkflowStage.completed_at,
    postgresql_where=text("completed_at IS NOT NULL"),
)

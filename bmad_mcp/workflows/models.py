"""Tables of workflow runs and of their stages."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.lifecycles import StageStatus, WorkflowStatus, WorkflowType
from bmad_mcp.schema import (
    EMPTY_ARRAY,
    EMPTY_OBJECT,
    EMPTY_TEXT,
    WORKFLOW_STATUS,
    WORKFLOW_TYPE,
    Base,
    InProject,
    Versioned,
    in_project,
    words_sql,
)


class Workflow(Versioned, Base):
    """One run of a workflow definition; people call it `W-<number>`."""

    __tablename__ = "bmad_workflows"
    __table_args__ = (
        in_project(["story_id"], "bmad_stories"),
        UniqueConstraint("project_id", "number"),
        Index(None, "project_id", "status", "number"),
        Index(None, "project_id", "story_id"),
    )

    number: Mapped[int]
    type: Mapped[WorkflowType] = mapped_column(WORKFLOW_TYPE)
    definition: Mapped[str]
    title: Mapped[str]
    status: Mapped[WorkflowStatus] = mapped_column(WORKFLOW_STATUS, server_default=text("'draft'"))
    story_id: Mapped[UUID | None]
    reason: Mapped[str | None]
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class WorkflowStage(InProject, Base):
    """One stage instance: a stage inside the loop over stories has a row for each iteration."""

    __tablename__ = "bmad_workflow_stages"
    __table_args__ = (
        in_project(["workflow_id"], "bmad_workflows"),
        UniqueConstraint("project_id", "workflow_id", "position", "iteration"),
        Index(None, "project_id", "status", "workflow_id"),
        CheckConstraint(words_sql("status", StageStatus), name="status_word"),
        CheckConstraint("kind IN ('agent', 'guidance', 'decision', 'end')", name="kind_word"),
    )

    workflow_id: Mapped[UUID]
    position: Mapped[int]
    iteration: Mapped[int] = mapped_column(server_default=text("1"))
    story_key: Mapped[str | None]
    kind: Mapped[str]
    step: Mapped[str | None]
    agent: Mapped[str | None]
    action: Mapped[str | None]
    creates: Mapped[str | None]
    updates: Mapped[str | None]
    validates: Mapped[str | None]
    uses: Mapped[str | None]
    requires: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    optional: Mapped[bool] = mapped_column(server_default=text("false"))
    condition: Mapped[str | None]
    optional_steps: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    repeats: Mapped[str | None]
    routes: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    notes: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    outcome: Mapped[str | None]
    note: Mapped[str | None]
    artifact: Mapped[str | None]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"), sort_order=91)
    version: Mapped[int] = mapped_column(server_default=text("1"), sort_order=92)

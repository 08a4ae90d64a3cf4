"""Tables of personas and of their sessions."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.lifecycles import AgentStatus
from bmad_mcp.schema import (
    AGENT_STATUS,
    EMPTY_ARRAY,
    EMPTY_LIST,
    EMPTY_OBJECT,
    EMPTY_TEXT,
    NOW,
    Base,
    InProject,
    Versioned,
    in_project,
)


class Agent(Versioned, Base):
    """A persona of this project: built in, or imported from the project's BMad files."""

    __tablename__ = "bmad_agents"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        Index(None, "project_id", "status", "name"),
        Index(None, "aliases", postgresql_using="gin"),
    )

    name: Mapped[str]
    aliases: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    display_name: Mapped[str]
    title: Mapped[str]
    icon: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    when_to_use: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    status: Mapped[AgentStatus] = mapped_column(AGENT_STATUS, server_default=text("'idle'"))
    persona: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    commands: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    dependencies: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    source: Mapped[str] = mapped_column(server_default=text("'builtin'"))
    source_path: Mapped[str | None]
    content: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    content_hash: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    last_seen_at: Mapped[datetime | None]


class AgentSession(InProject, Base):
    """One assistant working as a persona, from activation to deactivation."""

    __tablename__ = "bmad_agent_sessions"
    __table_args__ = (
        in_project(["agent_id"], "bmad_agents"),
        Index(None, "project_id", "agent_id", "started_at"),
        Index(
            "ix_bmad_agent_sessions_open",
            "project_id",
            "caller",
            "started_at",
            postgresql_where=text("ended_at IS NULL"),
        ),
    )

    agent_id: Mapped[UUID]
    caller: Mapped[str]
    focus: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    summary: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    ended_at: Mapped[datetime | None]

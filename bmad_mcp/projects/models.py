"""Tables of projects, and of what every write of a project needs: counters and remembered results."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.schema import EMPTY_OBJECT, NEW_ID, NOW, Base


class Project(Base):
    """One project; its id is the `project_id` of every other row."""

    __tablename__ = "bmad_projects"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    key: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    imported_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
    version: Mapped[int] = mapped_column(server_default=text("1"))


class Counter(Base):
    """The last number given to a kind of thing (`task`, `workflow`, `handoff`) in a project."""

    __tablename__ = "mcp_counters"

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(server_default=text("0"))


class RememberedResult(Base):
    """The result of a write that carried an idempotency key; written in the write's own transaction.

    Where things of the same title are guarded, also what was made last under a title: `activity/similar.py`.
    """

    __tablename__ = "mcp_idempotency"
    __table_args__ = (Index(None, "created_at"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    principal: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[str]
    result: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

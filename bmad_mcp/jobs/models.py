"""The schedule of the jobs, and the archive of the rows that retention took away."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.schema import EMPTY_OBJECT, NOW, Base


class JobState(Base):
    """When a job of a project runs next and how it went; jobs of the whole database have the project of zeros."""

    __tablename__ = "mcp_jobs"

    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    next_run: Mapped[datetime] = mapped_column(server_default=NOW)
    # Set while it runs; a process that was killed leaves it set.
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    seconds: Mapped[float | None] = mapped_column(Double)
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    error: Mapped[str | None]
    result: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)


class ArchivedRow(Base):
    """A row that retention took away, as it was. No foreign keys: it outlives what it tells of."""

    __tablename__ = "mcp_archive"
    __table_args__ = (CheckConstraint("kind IN ('activity', 'integrations', 'memories')", name="kind_word"),)

    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    # All columns of the row.
    content: Mapped[dict[str, Any]]
    # SHA-256 of the content's text.
    checksum: Mapped[bytes]
    archived_at: Mapped[datetime] = mapped_column(server_default=NOW)

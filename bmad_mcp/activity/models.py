"""The append-only table of what happened, partitioned by month."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.schema import EMPTY_OBJECT, NEW_ID, NOW, Base


class Activity(Base):
    """One thing that happened. No foreign keys: the trail outlives what it tells of."""

    __tablename__ = "bmad_agent_activity"
    __table_args__ = (
        Index(None, "project_id", "id"),
        Index(None, "project_id", "agent", "id"),
        Index(None, "project_id", "subject", "id"),
        {"postgresql_partition_by": "RANGE (at)"},
    )

    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True, server_default=NOW)
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    operation: Mapped[str]
    subject: Mapped[str]
    agent: Mapped[str | None]
    principal: Mapped[str]
    call_id: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    # The trace of the call's transaction, 32 hexadecimal digits; None: it was in none.
    trace_id: Mapped[str | None] = mapped_column(
        server_default=text("NULLIF(current_setting('app.trace'::text, true), ''::text)")
    )

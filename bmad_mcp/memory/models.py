"""The built-in memory, and the record of every look-up and delivery."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, REAL, CheckConstraint, ForeignKey, Index, LargeBinary
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import BIT, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.schema import EMPTY_ARRAY, EMPTY_OBJECT, NEW_ID, NOW, Base, InProject, in_project


class Memory(Base):
    """A remembered text with its provenance."""

    __tablename__ = "mcp_memories"
    __table_args__ = (
        Index(None, "project_id", "category", "created_at"),
        Index(None, "project_id", "agent", "created_at"),
        Index(None, "search", postgresql_using="gin"),
        Index(None, "identifiers", postgresql_using="gin"),
        Index(
            "ix_mcp_memories_undelivered",
            "project_id",
            "delivery",
            "agent",
            "id",
            postgresql_where=sql("delivery IN ('queued', 'dead')"),
        ),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence_in_range"),
        CheckConstraint("delivery IN ('stored', 'queued', 'delivered', 'dead')", name="delivery_word"),
    )

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=NEW_ID)
    text: Mapped[str]
    category: Mapped[str]
    agent: Mapped[str | None]
    author_kind: Mapped[str]
    principal: Mapped[str]
    confidence: Mapped[float] = mapped_column(server_default=sql("0.7"))
    identifiers: Mapped[list[str]] = mapped_column(server_default=EMPTY_ARRAY)
    # The words of the text, or their marks where it is encrypted; a trigger fills it when an INSERT does not.
    search: Mapped[Any] = mapped_column(TSVECTOR)
    # Of an encrypted text: the same for the same text.
    text_mark: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    # Stored here only, waiting for the memory service, delivered to it as `service_ref`, or given up for `failure`.
    delivery: Mapped[str] = mapped_column(server_default=sql("'stored'"))
    provider: Mapped[str | None]
    service_ref: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default=sql("0"))
    # Committed before each try, so that whoever comes after a crash looks the key up first.
    attempted_at: Mapped[datetime | None]
    failure: Mapped[str | None]


class MemoryCentre(Base):
    """What the vectors of a project have in common; they are kept by what sets them apart from it."""

    __tablename__ = "mcp_memory_centres"

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    model: Mapped[str]
    centre: Mapped[list[float]] = mapped_column(ARRAY(REAL))
    # How many memories there were when it was made.
    memories: Mapped[int]
    made_at: Mapped[datetime] = mapped_column(server_default=NOW)


class MemoryVector(Base):
    """The meaning of a memory: the signs of its vector, and its values in a byte each."""

    __tablename__ = "mcp_memory_vectors"
    __table_args__ = (in_project(["memory_id"], "mcp_memories"),)

    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    memory_id: Mapped[UUID] = mapped_column(primary_key=True)
    signs: Mapped[Any] = mapped_column(BIT(256))
    code: Mapped[bytes] = mapped_column(LargeBinary)


class MemoryCache(Base):
    """What a memory service answered to a question, to be given again while it is fresh or the service away."""

    __tablename__ = "mcp_memory_cache"
    __table_args__ = (Index(None, "project_id", "looked_up_at"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    question_hash: Mapped[str] = mapped_column(primary_key=True)
    items: Mapped[list[Any]]
    looked_up_at: Mapped[datetime] = mapped_column(server_default=NOW)
    fresh_until: Mapped[datetime]


class MemoryIntegration(InProject, Base):
    """One look-up or delivery: which provider, how long it took, how it ended."""

    __tablename__ = "bmad_memory_integrations"
    __table_args__ = (
        Index(None, "project_id", "created_at"),
        CheckConstraint("direction IN ('recall', 'store')", name="direction_word"),
    )

    direction: Mapped[str]
    provider: Mapped[str]
    category: Mapped[str | None]
    agent: Mapped[str | None]
    outcome: Mapped[str]
    items: Mapped[int] = mapped_column(server_default=sql("0"))
    latency_ms: Mapped[float | None]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)

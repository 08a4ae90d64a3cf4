"""The table of documents: recorded by agents, or kept byte for byte by the import."""

from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.schema import EMPTY_TEXT, Base, Versioned


class Artifact(Versioned, Base):
    """A document of the project: recorded by an agent, or a file kept byte for byte by the import.

    `encoding` says what `content` holds: the text itself (`utf-8`) or its bytes (`base64`). `content_hash` is the
    sha256 of the content, `file_hash` that of the file when it was last imported or exported.
    """

    __tablename__ = "bmad_artifacts"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        UniqueConstraint("project_id", "path"),
        Index(None, "project_id", "kind", "number"),
        CheckConstraint("encoding IN ('utf-8', 'base64')", name="encoding_word"),
    )

    number: Mapped[int]
    kind: Mapped[str]
    title: Mapped[str]
    path: Mapped[str | None]
    content: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    encoding: Mapped[str] = mapped_column(server_default=text("'utf-8'"))
    content_hash: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    file_hash: Mapped[str | None]
    generation: Mapped[str | None]
    source: Mapped[str] = mapped_column(server_default=text("'tool'"))
    story_id: Mapped[UUID | None]
    task_id: Mapped[UUID | None]
    workflow_id: Mapped[UUID | None]
    agent: Mapped[str | None]

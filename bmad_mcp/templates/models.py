"""The table of definitions that agents fill in or follow."""

from typing import Any

from sqlalchemy import CheckConstraint, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.schema import EMPTY_OBJECT, EMPTY_TEXT, Base, Versioned


class Template(Versioned, Base):
    """A definition: a document template, a workflow, a task guide, a team or a data file."""

    __tablename__ = "bmad_templates"
    __table_args__ = (
        UniqueConstraint("project_id", "kind", "name"),
        CheckConstraint("kind IN ('document', 'workflow', 'task', 'data', 'team', 'skill')", name="kind_word"),
    )

    kind: Mapped[str]
    name: Mapped[str]
    title: Mapped[str]
    edition: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    body: Mapped[dict[str, Any]] = mapped_column(server_default=EMPTY_OBJECT)
    source: Mapped[str] = mapped_column(server_default=text("'builtin'"))
    source_path: Mapped[str | None]
    content: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    content_hash: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)

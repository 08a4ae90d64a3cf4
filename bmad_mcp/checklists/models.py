"""The table of checklists."""

from typing import Any

from sqlalchemy import UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.schema import EMPTY_LIST, EMPTY_TEXT, Base, Versioned


class Checklist(Versioned, Base):
    """A checklist, item by item: `items` is a list of {section, text, mark}."""

    __tablename__ = "bmad_checklists"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    name: Mapped[str]
    title: Mapped[str]
    items: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    runs: Mapped[list[Any]] = mapped_column(server_default=EMPTY_LIST)
    source: Mapped[str] = mapped_column(server_default=text("'builtin'"))
    source_path: Mapped[str | None]
    content: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)
    content_hash: Mapped[str] = mapped_column(server_default=EMPTY_TEXT)

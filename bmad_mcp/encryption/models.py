"""The data keys of each project, wrapped by a key that is never in the database, and who its people are."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from bmad_mcp.schema import NOW, Base


class DataKey(Base):
    """A key that texts of a project are sealed with; the newest that is not retired seals what is written."""

    __tablename__ = "mcp_data_keys"
    __table_args__ = (
        Index("uq_mcp_data_keys_in_use", "project_id", unique=True, postgresql_where=sql("retired_at IS NULL")),
    )

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    # The id of the setting's key that wraps it.
    master_key: Mapped[str]
    wrapped: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    # Nothing new is sealed with it from then on; it goes when nothing is left that was.
    retired_at: Mapped[datetime | None]


class Person(Base):
    """Whose pseudonym it is: the name sealed, and a mark that finds it; once the row is gone nobody can tell."""

    __tablename__ = "mcp_people"
    __table_args__ = (UniqueConstraint("project_id", "mark"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True)
    # The pseudonym, which is what other tables hold.
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    mark: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

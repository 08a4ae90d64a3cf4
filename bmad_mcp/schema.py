"""The declarative base: naming convention, enum types and the columns that every project table shares."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import DateTime, Enum, ForeignKey, ForeignKeyConstraint, MetaData, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bmad_mcp.lifecycles import AgentStatus, StoryStatus, TaskPriority, TaskStatus, WorkflowStatus, WorkflowType

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Models describe the schema for Alembic; at run time SQL is text in each feature's queries."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        str: Text(),
        UUID: Uuid(),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
        list[str]: ARRAY(Text()),
    }


def _enum_type(name: str, words: type[StrEnum]) -> Enum:
    return Enum(words, name=name, values_callable=lambda members: [member.value for member in members])


AGENT_STATUS = _enum_type("bmad_agent_status", AgentStatus)
WORKFLOW_STATUS = _enum_type("bmad_workflow_status", WorkflowStatus)
TASK_STATUS = _enum_type("bmad_task_status", TaskStatus)
TASK_PRIORITY = _enum_type("bmad_task_priority", TaskPriority)
STORY_STATUS = _enum_type("bmad_story_status", StoryStatus)
WORKFLOW_TYPE = _enum_type("bmad_workflow_type", WorkflowType)

NOW = text("now()")
NEW_ID = text("bmad_uuid7()")
EMPTY_OBJECT = text("'{}'::jsonb")
EMPTY_LIST = text("'[]'::jsonb")
EMPTY_ARRAY = text("'{}'::text[]")
EMPTY_TEXT = text("''")


class InProject:
    """A row of one project: `project_id` leads the primary key, so rows can be distributed by project."""

    project_id: Mapped[UUID] = mapped_column(
        ForeignKey("bmad_projects.id", ondelete="CASCADE"), primary_key=True, sort_order=-20
    )
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=NEW_ID, sort_order=-19)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW, sort_order=90)


class Versioned(InProject):
    """A row that changes: every write adds one to `version`."""

    updated_at: Mapped[datetime] = mapped_column(server_default=NOW, sort_order=91)
    version: Mapped[int] = mapped_column(server_default=text("1"), sort_order=92)


def in_project(columns: Iterable[str], table: str, *, ondelete: str = "CASCADE") -> ForeignKeyConstraint:
    """A foreign key to a row of the same project."""
    column_names = list(columns)
    return ForeignKeyConstraint(
        ["project_id", *column_names], [f"{table}.project_id", f"{table}.id"], ondelete=ondelete
    )


def words_sql(column: str, words: type[StrEnum]) -> str:
    """A CHECK expression that allows the words of an enum in a text column."""
    return f"{column} IN ({', '.join(repr(word.value) for word in words)})"

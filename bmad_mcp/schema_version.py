"""Which revision a database's schema has, whether this version can work on it, and which indexes are not whole."""

import re
from dataclasses import dataclass
from typing import Literal

import asyncpg

from bmad_mcp.migrations_folder import newest_revision

READ = "SELECT version_num, obj_description('bmad_alembic_version'::regclass, 'pg_class') FROM bmad_alembic_version"
_SERVES_FROM = re.compile(r"revision (\d{4})\b")

# `older` and `too new` cannot be worked on; `newer` was made by the release after this one, for both.
Fit = Literal["same", "newer", "older", "too new"]


def note_of(serves_from: str) -> str:
    """The comment on the version table that `read_version` reads; programs of before that revision have to stop."""
    return f"The schema serves programs of revision {serves_from} and newer."


def invalid_indexes(narrowed: str = "") -> str:
    """SQL of the names of our invalid indexes; one that somebody is building now is invalid too, until it is done."""
    return f"""
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
WHERE NOT i.indisvalid AND t.relname ~ '^(bmad|mcp)_'
  AND c.oid NOT IN (SELECT index_relid FROM pg_stat_progress_create_index) {narrowed} ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """The revision of a schema, None when it is empty, and the oldest revision whose program it serves."""

    revision: str | None
    serves_from: str | None = None

    @property
    def fit(self) -> Fit:
        """How the schema stands to this version of the program."""
        newest = newest_revision()
        if self.revision == newest:
            return "same"
        if self.revision is None or self.revision < newest:
            return "older"
        return "newer" if self.serves_from is not None and self.serves_from <= newest else "too new"

    @property
    def serves_this(self) -> bool:
        """Whether this version of the program can work on it."""
        return self.fit in ("same", "newer")

    def sentence(self) -> str:
        """What is so and what to do, for every fit."""
        newest = newest_revision()
        found = f"The schema is at revision {self.revision}" if self.revision else "The database is empty"
        if self.fit == "same":
            return f"{found}."
        if self.fit == "newer":
            return f"{found}, newer than this version's {newest}, and serves this version too."
        if self.fit == "too new":
            return f"{found}, newer than this version of bmad-mcp, which it no longer serves. Upgrade bmad-mcp."
        return f"{found}; this version needs revision {newest}."


def version_of(row: tuple[str, str | None] | None) -> SchemaVersion:
    """The version in a row of READ; no row is an empty schema."""
    if row is None:
        return SchemaVersion(None)
    noted = _SERVES_FROM.search(row[1] or "")
    return SchemaVersion(row[0], noted[1] if noted else None)


async def read_version(connection: asyncpg.Connection, *, timeout: float | None = None) -> SchemaVersion:
    """The version of the schema behind a connection."""
    try:
        return version_of(await connection.fetchrow(READ, timeout=timeout))
    except asyncpg.UndefinedTableError:
        return SchemaVersion(None)

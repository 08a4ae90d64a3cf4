"""One unchanging view of a whole project: its tables, their columns, and rows read a batch at a time."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bmad_mcp.call import OpenProject
from bmad_mcp.db import DATABASE_FAILURES, MAY_PAUSE, rows_of
from bmad_mcp.interchange.readable import PEOPLE, SEALED, readable, with_people

ROWS_AT_ONCE = 1000
# Documents are up to 5 MiB each.
DOCUMENTS_AT_ONCE = 10

_STORY = "(SELECT x.key FROM bmad_stories x WHERE x.project_id = t.project_id AND x.id = t.story_id)"
_TASK = "(SELECT 'T-' || x.number FROM bmad_tasks x WHERE x.project_id = t.project_id AND x.id = t.{})"
_WORKFLOW = "(SELECT 'W-' || x.number FROM bmad_workflows x WHERE x.project_id = t.project_id AND x.id = t.workflow_id)"


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it leaves: the order of its rows, and the short keys that stand beside its ids."""

    order: str
    keys: Mapping[str, str] = field(default_factory=dict)
    batch: int = ROWS_AT_ONCE


TABLES: Mapping[str, Table] = {
    "bmad_projects": Table("t.id"),
    "bmad_agents": Table("t.name", batch=DOCUMENTS_AT_ONCE),
    "bmad_agent_sessions": Table(
        "t.started_at, t.id",
        {"agent_name": "(SELECT x.name FROM bmad_agents x WHERE x.project_id = t.project_id AND x.id = t.agent_id)"},
    ),
    "bmad_templates": Table("t.kind, t.name", batch=DOCUMENTS_AT_ONCE),
    "bmad_checklists": Table("t.name", batch=DOCUMENTS_AT_ONCE),
    "bmad_epics": Table("t.number, t.key"),
    "bmad_stories": Table(
        "t.epic_number, t.number, t.suffix",
        {"epic_key": "(SELECT x.key FROM bmad_epics x WHERE x.project_id = t.project_id AND x.id = t.epic_id)"},
        DOCUMENTS_AT_ONCE,
    ),
    "bmad_workflows": Table("t.number", {"workflow_key": "'W-' || t.number", "story_key": _STORY}),
    "bmad_workflow_stages": Table("t.workflow_id, t.position, t.iteration", {"workflow_key": _WORKFLOW}),
    "bmad_tasks": Table(
        "t.number", {"task_key": "'T-' || t.number", "story_key": _STORY, "workflow_key": _WORKFLOW}, 100
    ),
    "bmad_task_dependencies": Table(
        "t.task_id, t.depends_on_id",
        {"task_key": _TASK.format("task_id"), "depends_on_key": _TASK.format("depends_on_id")},
    ),
    "bmad_agent_collaborations": Table(
        "t.number", {"handoff_key": "'H-' || t.number", "task_key": _TASK.format("task_id"), "story_key": _STORY}
    ),
    "bmad_artifacts": Table(
        "t.number",
        {
            "artifact_key": "'A-' || t.number",
            "story_key": _STORY,
            "task_key": _TASK.format("task_id"),
            "workflow_key": _WORKFLOW,
        },
        DOCUMENTS_AT_ONCE,
    ),
    "mcp_members": Table("t.principal"),
    "mcp_memories": Table("t.created_at, t.id"),
    "bmad_memory_integrations": Table("t.created_at, t.id"),
    "bmad_agent_activity": Table("t.at, t.id"),
    "mcp_counters": Table("t.kind"),
    "mcp_idempotency": Table("t.principal, t.operation, t.key"),
}
# What is computed from the others, and secrets of this server.
LEFT_OUT = frozenset(
    {
        "mcp_memory_cache",
        "mcp_memory_centres",
        "mcp_memory_vectors",
        "mcp_daily_metrics",
        "mcp_data_keys",
        "mcp_people",
        "mcp_rollups",
        "mcp_tallies",
        "mcp_jobs",
        "mcp_archive",
        "mcp_tokens",
    }
)
# What only finds rows follows from the other columns.
COLUMNS = """
SELECT a.attname AS name, a.atttypid::regtype::text AS type, ty.typcategory = 'A' AS is_list
FROM pg_attribute a JOIN pg_type ty ON ty.oid = a.atttypid
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  AND a.atttypid <> 'tsvector'::regtype AND a.attname <> 'text_mark'
ORDER BY a.attnum
"""
# A whole table may take longer than any call.
LONGEST_SECONDS = 3600.0
BEGIN = f"SELECT set_config('app.project', $1, true), set_config('statement_timeout', '0', true), {MAY_PAUSE}"


class Snapshot:
    """A project as it was at one moment, on one connection."""

    def __init__(self, connection: Any, opened: OpenProject) -> None:
        self.connection, self.opened = connection, opened
        self._people: dict[str, str] | None = None

    async def people(self) -> Mapping[str, str]:
        """The names of people by the pseudonyms that rows have; none where nothing is encrypted."""
        if self._people is None:
            vault = self.opened.vault
            self._people = {} if vault is None else await vault.people(self.connection)
        return self._people

    async def columns(self, table: str) -> list[Mapping[str, Any]]:
        """The columns of a table: {name, type, is_list}; those for searching are left out."""
        found: list[Mapping[str, Any]] = await self.connection.fetch(COLUMNS, table)
        return found

    async def select(self, table: str, *, as_text: bool) -> str:
        """The statement for every row of a table; `as_text` gives each value as the text of a spreadsheet's cell."""
        listed = [
            f"{_cell(one) if as_text else 't.' + one['name']} AS {one['name']}" for one in await self.columns(table)
        ]
        listed += [f"{sql} AS {name}" for name, sql in TABLES[table].keys.items()]
        scope = "t.id" if table == "bmad_projects" else "t.project_id"
        return (
            f"SELECT {', '.join(listed)} FROM {table} t WHERE {scope} = bmad_project() ORDER BY {TABLES[table].order}"
        )

    async def batches(self, sql: str, size: int = ROWS_AT_ONCE) -> AsyncIterator[list[Any]]:
        """The rows of a statement, so many at a time; the server keeps the rest."""
        cursor = await self.connection.cursor(sql, timeout=LONGEST_SECONDS)
        while rows := await cursor.fetch(size, timeout=LONGEST_SECONDS):
            yield rows

    async def rows(self, sql: str, size: int = ROWS_AT_ONCE) -> AsyncIterator[Any]:
        """The rows of a statement one by one."""
        async for batch in self.batches(sql, size):
            for row in batch:
                yield row

    async def readable(self, table: str, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row of a table with its encrypted texts opened, and the names of people."""
        vault = self.opened.vault
        if vault is None:
            return row
        return with_people(table, await readable(self.connection, vault, table, row), await self.people())

    def is_sealed(self, table: str) -> bool:
        """Whether rows of a table may hold encrypted texts or pseudonyms."""
        return self.opened.vault is not None and (table in SEALED or table in PEOPLE)

    async def copy(self, sql: str, target: Path) -> int:
        """Write the rows as CSV, every value quoted and NULL an empty cell without quotes; how many there were."""
        with await asyncio.to_thread(target.open, "xb") as file:
            tag: str = await self.connection.copy_from_query(
                sql,
                output=file,
                format="csv",
                header=True,
                force_quote=True,
                encoding="utf-8",
                timeout=LONGEST_SECONDS,
            )
        return rows_of(tag)


def _cell(column: Mapping[str, Any]) -> str:
    name = f"t.{column['name']}"
    if column["is_list"]:
        return f"to_json({name})::text"
    # ISO 8601, as in the JSON.
    return f"to_json({name}) #>> '{{}}'" if column["type"] == "timestamp with time zone" else f"{name}::text"


@asynccontextmanager
async def snapshot(opened: OpenProject) -> AsyncIterator[Snapshot]:
    """A view of the project in a transaction that only reads; nothing that others write meanwhile is in it."""
    async with (
        opened.pool.acquire(timeout=10) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute("SET LOCAL timezone TO 'UTC'")
        await connection.fetchrow(BEGIN, str(opened.id))
        yield Snapshot(connection, opened)


# What goes wrong with a database while an export reads it.
FAILURES = tuple(one for one in DATABASE_FAILURES if one is not OSError)

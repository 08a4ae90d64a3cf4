"""A large project beside many small ones, and the plans that PostgreSQL makes in it for every statement of a call."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import asyncpg
from harness import TestWorkspace, run_sql

from bench.seeding import filled
from bmad_mcp.bmad_files.builtins import seed_builtins
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import open_pool, project_transaction
from bmad_mcp.operation import perform
from bmad_mcp.projects.open import open_project
from bmad_mcp.telemetry.connections import ObservedConnection

SMALL_PROJECTS = 200
# How many there are of them does not follow from the tasks: a recall reads each, and a project keeps so many.
MEMORIES = 300
# Whatever PostgreSQL runs, inside functions and for foreign keys too, tells its plan and what it really read.
TELLING = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
}
# Which call adds up what changed is a matter of chance, so here none does, and that is asked for by itself.
NOT_BY_CHANCE = """
ALTER FUNCTION bmad_fold_tallies() RENAME TO bmad_fold_tallies_now;
CREATE FUNCTION bmad_fold_tallies() RETURNS void LANGUAGE sql AS 'SELECT';
"""
MANY_CHANGES = """
INSERT INTO mcp_tallies (project_id, kind, status, left_status)
SELECT bmad_project(), 'task', 'pending', 'pending' FROM generate_series(1, 400)
"""
# What grows with the work, beside tasks, stories and their trail. Most is over; what is offered is for others. Much that
# an agent sent to review stays there for long.
MORE = """
SELECT set_config('app.project', '{project}', false);
INSERT INTO bmad_workflows (project_id, number, type, definition, title, status, started_at)
SELECT '{project}', n, 'custom', 'greenfield-service', 'Run ' || n,
    CASE WHEN n % 50 = 0 THEN 'active' ELSE 'completed' END::bmad_workflow_status,
    now() - interval '1 day' FROM generate_series(1, {tasks} / 200) n;
INSERT INTO bmad_workflow_stages (project_id, workflow_id, position, kind, agent, action, status, started_at,
    completed_at)
SELECT w.project_id, w.id, p, 'agent', 'architect', 'Think',
    CASE WHEN w.status = 'active' AND p = 3 THEN 'active' ELSE 'done' END,
    now() - interval '1 day', now() - interval '1 hour' FROM bmad_workflows w, generate_series(1, 3) p WHERE w.project_id = '{project}';
INSERT INTO bmad_agent_collaborations (project_id, number, from_agent, to_agent, note, status)
SELECT '{project}', n, 'pm', 'po', 'Over to you', CASE WHEN n % 20 = 0 THEN 'offered' ELSE 'accepted' END
FROM generate_series(1, {tasks} / 100) n;
INSERT INTO bmad_artifacts (project_id, number, kind, title, path)
SELECT '{project}', n, CASE WHEN n % 3 = 0 THEN 'code' ELSE 'document' END, 'Paper ' || n, 'docs/paper-' || n || '.md'
FROM generate_series(1, {tasks} / 100) n;
INSERT INTO bmad_agent_sessions (project_id, agent_id, caller, started_at, ended_at)
SELECT '{project}', a.id, 'caller ' || n, now() - interval '2 days', now() - interval '1 day'
FROM generate_series(1, {tasks} / 100) n JOIN bmad_agents a ON a.project_id = '{project}' AND a.name = 'dev';
INSERT INTO mcp_memories (project_id, text, category, agent, author_kind, principal)
SELECT '{project}', 'Lesson ' || n || ' about the parser of invoices', 'TASK_COMPLETION', 'dev', 'agent', 'local'
FROM generate_series(1, {memories}) n;
INSERT INTO bmad_templates (project_id, kind, name, title, body) VALUES ('{project}', 'document', 'paper', 'A paper',
    '{{"template": {{"id": "paper"}}, "sections": [{{"id": "goal", "title": "Goal"}}]}}');
INSERT INTO bmad_checklists (project_id, name, title, items)
VALUES ('{project}', 'ready', 'Is it ready', '[{{"text": "It is told", "section": "All"}}]');
SET session_replication_role = replica;
INSERT INTO bmad_tasks (project_id, number, title, status, agent, lease, lease_agent, lease_seconds, lease_until, story_open)
SELECT '{project}', 1000000000 + n, 'Look at it', 'review', 'dev', 1, 'dev', 900, now() - interval '1 day', n > 4000
FROM generate_series(1, 5000) n;
RESET session_replication_role;
SELECT bmad_recount();
INSERT INTO mcp_counters (project_id, kind, value)
SELECT '{project}', k, {tasks} FROM unnest(ARRAY['workflow', 'handoff', 'artifact']) k;
"""


@dataclass
class Told:
    """The plans of one call: rows that each scan read, blocks that the statements touched, tables read from end to end."""

    plans: list[dict[str, Any]] = field(default_factory=list)

    def scans(self) -> list[tuple[str, str, int]]:
        """Table or index, kind of scan, and rows read with those that a filter dropped."""
        return [one for told in self.plans for one in _scans(told["Plan"])]

    def texts(self) -> set[str]:
        return {told["Query Text"].strip() for told in self.plans}

    def blocks(self) -> int:
        """Of statements inside a function too, which the call of the function counts again: still bounded."""
        return sum(
            told["Plan"].get("Shared Hit Blocks", 0) + told["Plan"].get("Shared Read Blocks", 0) for told in self.plans
        )


def _scans(node: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    removed = sum(node.get(name, 0) for name in ("Rows Removed by Filter", "Rows Removed by Index Recheck"))
    if "Scan" in node["Node Type"] and ("Relation Name" in node or "Index Name" in node):
        name = node.get("Relation Name", node.get("Index Name"))
        # The driver asks the catalogue what a new type is, once for a connection.
        if not name.startswith("pg_"):
            yield name, node["Node Type"], round((node["Actual Rows"] + removed) * node["Actual Loops"])
    for inner in node.get("Plans", ()):
        yield from _scans(inner)


class PlannedConnection(ObservedConnection):
    """A connection that keeps the plans which the server tells."""

    __slots__ = ()
    told: ClassVar[Told] = Told()

    def _process_log_message(self, fields: dict[str, str], last_query: str) -> None:
        _, is_plan, plan = fields["M"].partition("plan:\n")
        if is_plan:
            PlannedConnection.told.plans.append(json.loads(plan))


class World:
    """The large project as an agent finds it; what each call was told is kept by its name and by what is special."""

    def __init__(self, workspace: TestWorkspace) -> None:
        self._workspace = workspace
        self.told: dict[str, Told] = {}

    async def call(self, name: str, /, special: str = "", **arguments: Any) -> Any:
        """The result of an operation. A call that fails has been told of too."""
        PlannedConnection.told = self.told[f"{name} {special}".strip()] = Told()
        caller = Caller(connection="plans")
        return await perform(BY_NAME[name], arguments, caller, self._workspace)

    async def add_up(self) -> None:
        """What one change in 64 does for the counts that are kept, when there is more of it than it takes at once."""
        opened = self._workspace.opened
        async with project_transaction(opened.pool, opened.id) as db:
            PlannedConnection.told = Told()
            await db.execute(MANY_CHANGES)
            PlannedConnection.told = self.told["adding up"] = Told()
            await db.execute("SELECT bmad_fold_tallies_now()")


async def fill(database: Any, tasks: int) -> Any:
    """Migrate, and fill a large and 200 small projects; the planner knows nothing of what came. The large one's id."""
    name = database.admin["database"]
    await run_sql(database.admin, *(f"ALTER DATABASE {name} SET {key} = '{value}'" for key, value in TELLING.items()))
    pool = await open_pool(**database.app)
    ids = {}
    try:
        async with pool.acquire() as connection:
            for key in ("large", *(f"small-{number}" for number in range(SMALL_PROJECTS))):
                ids[key], _ = await open_project(connection, key, key)
        await seed_builtins(OpenProject(ids["large"], "large", pool))
    finally:
        await pool.close()
    admin = await asyncpg.connect(**database.admin)
    try:
        # Nobody may make the statistics fresh on the way.
        for table in ("bmad_tasks", "bmad_stories", "bmad_agent_activity_other", "bmad_workflows", "bmad_artifacts"):
            await admin.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        await admin.execute("ANALYZE")
        small = max(tasks // 1000, 10)
        await filled(admin, {project: tasks if key == "large" else small for key, project in ids.items()})
        await admin.execute(MORE.format(project=ids["large"], tasks=tasks, memories=MEMORIES))
        await admin.execute(NOT_BY_CHANCE)
    finally:
        await admin.close()
    return ids["large"]


@asynccontextmanager
async def world(database: Any, project: Any, plan: str) -> AsyncIterator[World]:
    """Calls in the project, each of whose plans is `custom` or `generic`."""
    settings = {"plan_cache_mode": f"force_{plan}_plan"}
    # What PostgreSQL already tells at other levels stays out of the way.
    pool = await open_pool(**database.app, connection_class=PlannedConnection, server_settings=settings)
    try:
        yield World(TestWorkspace(OpenProject(project, "large", pool)))
    finally:
        await pool.close()

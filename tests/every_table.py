"""Rows in every table, with a sealed text in every column that has some, and what those texts say."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from encryption_keys import vaults_of
from jobs.old_rows import add_activity
from model.write_cases import CASES
from stored_rows import change

from bmad_mcp import sample
from bmad_mcp.analytics.rollup import first_id, roll_up
from bmad_mcp.bmad_files.builtins import seed_builtins
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.call import Caller, OneProject, OpenProject, open_call
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import Transaction, open_pool
from bmad_mcp.encryption import columns
from bmad_mcp.encryption.sealing import key_of
from bmad_mcp.encryption.vaults import row_of
from bmad_mcp.identity.issuing import create_token
from bmad_mcp.identity.members import set_role
from bmad_mcp.jobs.archive import TRAIL, archive_memories, archive_old
from bmad_mcp.memory import service_queries
from bmad_mcp.operation import IDEMPOTENCY_FIELD, perform
from bmad_mcp.projects.open import open_project

# What only other processes write, a queue's and a search's, and the clock.
OF_OTHERS = (
    "INSERT INTO mcp_jobs (project_id, name, ended_at, seconds) VALUES (bmad_project(), 'roll-up', now(), 0.25)",
    "INSERT INTO mcp_rate_buckets (id, full_at) VALUES (bmad_uuid7(), now() + interval '30 s')",
    "INSERT INTO mcp_pgqueuer (priority, status, entrypoint, payload) VALUES (0, 'queued', 'deliver', '\\x00ff')",
    "INSERT INTO mcp_pgqueuer_log (job_id, status, priority, entrypoint) VALUES (1, 'queued', 0, 'deliver')",
    "INSERT INTO mcp_pgqueuer_schedules (expression, entrypoint) VALUES (bmad_project() || '* * * * *', 'deliver')",
    "INSERT INTO mcp_pgqueuer_statistics (count, priority, status, entrypoint, created)"
    " VALUES (1, 0, 'successful', bmad_project()::text, now())",
    "INSERT INTO mcp_memory_centres (project_id, model, centre, memories)"
    " VALUES (bmad_project(), 'words', ARRAY[0.1, 1e-30, -3.5]::real[], 1)",
    "INSERT INTO mcp_memory_vectors (project_id, memory_id, signs, code)"
    " SELECT project_id, id, (repeat('01', 128))::bit(256), '\\x00ff80' FROM mcp_memories"
    " WHERE project_id = bmad_project() LIMIT 2",
)
TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""
# For each column of `encryption.columns`: the name of its row, as the seals know it, and the sealed text.
SEALED = {
    columns.MEMORY: "SELECT id::text, text FROM mcp_memories",
    columns.FOCUS: "SELECT id::text, focus FROM bmad_agent_sessions",
    columns.SESSION: "SELECT id::text, summary FROM bmad_agent_sessions",
    columns.COMPLETION: "SELECT 'T-' || number, summary FROM bmad_tasks",
    columns.HANDOFF: "SELECT id::text, note FROM bmad_agent_collaborations",
    columns.RESULT: "SELECT ARRAY[principal, operation, key], result #>> '{}' FROM mcp_idempotency",
    columns.ANSWER: "SELECT ARRAY[provider, question_hash], items #>> '{}' FROM mcp_memory_cache",
    columns.PERSON: "SELECT id, name FROM mcp_people",
}
# A memory in the archive keeps its seal.
ARCHIVE = "mcp_archive.content"
ARCHIVED = "SELECT id::text, content ->> 'text' FROM mcp_archive WHERE kind = 'memories'"


@asynccontextmanager
async def project_in(app: dict[str, Any], project: str, *keys: str) -> AsyncIterator[OpenProject]:
    """The project of a database, made where it is not there, as a process with these encryption keys has it."""
    pool = await open_pool(**app)
    try:
        async with pool.acquire() as connection:
            project_id, _ = await open_project(connection, project, project)
        yield await OpenProject(project_id, project, pool, vaults=vaults_of(*keys)).beside(project_id, project)
    finally:
        await pool.close()


async def fill_every_table(app: dict[str, Any], owner: dict[str, Any], project: str, *keys: str) -> None:
    """Make a project with rows in every table, sealed ones where there are encryption keys."""
    async with project_in(app, project, *keys) as opened:
        owners = await open_pool(**owner)
        try:
            await _fill(opened, owners)
        finally:
            await owners.close()


async def _fill(opened: OpenProject, owners: asyncpg.Pool) -> None:
    await seed_builtins(opened)
    await import_folder(opened, sample.FOLDER)
    workspace = OneProject(opened)
    async with open_call(workspace, Caller(), "member_add") as call:
        await set_role(call, "mira@example.com", "member")
    async with open_call(workspace, Caller(), "token_create") as call:
        await create_token(call, "mira@example.com", ["write"])
    for name, case in CASES.items():
        await _do_twice(_calls(workspace), name, await case(_calls(workspace)))
    kept = await perform(BY_NAME["memory_store"], {"text": "The old gauge was iron."}, Caller(), workspace)
    await archive_memories(opened, [kept.memory.id])
    await add_activity(opened, 400)
    await roll_up(opened.pool, opened.id)
    before = datetime.now(UTC) - timedelta(days=90)
    await archive_old(replace(opened, pool=owners), "activity", TRAIL, before, first_id(datetime.now(UTC)))
    for statement in OF_OTHERS:
        await change(opened, statement)
    db = Transaction(opened.pool, opened.id, opened.vault)
    answer: Any = [{"text": "The gauge is at the pier."}]
    if opened.vault is not None:
        answer = await db.seal(columns.ANSWER, row_of("mem0", "h"), json.dumps(answer))
    await db.execute(service_queries.KEEP_ANSWER, "mem0", "h", answer, 60.0, 30)
    await db.end("COMMIT")


def _calls(workspace: OneProject) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def call(name: str, /, **arguments: Any) -> dict[str, Any]:
        done = await perform(BY_NAME[name], arguments, Caller(), workspace)
        return done.model_dump(mode="json", by_alias=True)

    return call


async def _do_twice(call: Callable[..., Awaitable[dict[str, Any]]], name: str, arguments: dict[str, Any]) -> None:
    """Once, and the answer is kept for who asks again."""
    first = await call(name, **arguments, **{IDEMPOTENCY_FIELD: "once"})
    assert await call(name, **arguments, **{IDEMPOTENCY_FIELD: "once"}) == first, name


async def empty_tables(connection: asyncpg.Connection) -> set[str]:
    """The tables without a row."""
    tables = [row[0] for row in await connection.fetch(TABLES)]
    return {one for one in tables if not await connection.fetchval(f"SELECT EXISTS (SELECT FROM {one})")}


async def texts_of(app: dict[str, Any], project: str, *keys: str) -> dict[str, dict[str, str]]:
    """What each sealed text of the project says, by its column and its row; raises Unreadable where one is not whole."""
    async with project_in(app, project, *keys) as opened:
        assert opened.vault is not None
        db = Transaction(opened.pool, opened.id, opened.vault)
        found: dict[str, dict[str, str]] = {}
        for place, sql in (SEALED | {ARCHIVE: ARCHIVED}).items():
            seal = columns.MEMORY if place == ARCHIVE else place
            found[place] = {}
            for row, text in await db.fetch(sql):
                name = row if isinstance(row, str) else row_of(*row)
                if text is not None and key_of(text):
                    found[place][name] = await opened.vault.open(db, seal, name, text)
        await db.end("ROLLBACK")
        return found

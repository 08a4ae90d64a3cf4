"""What the tests of stories need: SQL behind the operations' back, agents in session, a story to start from."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness import TestWorkspace, new_project

from bmad_mcp.call import Caller
from bmad_mcp.db import Transaction

Sql = Callable[..., Awaitable[list[Any]]]


@pytest.fixture
def sql(workspace: TestWorkspace) -> Sql:
    """Runs a statement in the test's project and commits it."""

    async def run_statement(statement: str, *values: Any) -> list[Any]:
        transaction = Transaction(workspace.opened.pool, workspace.opened.id)
        try:
            return await transaction.fetch(statement, *values)
        finally:
            await transaction.end("COMMIT")

    return run_statement


@pytest.fixture
def session(sql: Sql) -> Callable[..., Awaitable[Caller]]:
    """Opens a session of an agent for a connection, and gives the caller that works in it."""

    async def open_session(agent: str, connection: str = "local") -> Caller:
        made = await sql(
            "INSERT INTO bmad_agent_sessions (project_id, agent_id, caller, started_at)"
            " SELECT bmad_project(), id, $2, clock_timestamp() FROM bmad_agents"
            " WHERE project_id = bmad_project() AND name = $1 RETURNING id",
            agent,
            connection,
        )
        assert made, f"the test wants an agent {agent}"
        return Caller(connection=connection)

    return open_session


@pytest.fixture
async def story(run):
    """Story 1.1 in epic 1, a draft at version 1."""
    await run("epic_create", title="Signing in")
    made = await run(
        "story_create",
        epic="1",
        title="Log in",
        role="visitor",
        want="to log in",
        benefit="I see my own things",
        acceptance=["A wrong password is refused", "Five wrong passwords lock the account"],
        points=3,
    )
    return made.story


@pytest.fixture
def put(sql: Sql):
    """Puts a story into a state that would take many calls: `await put("1.1", status="review", sections=[…])`."""

    async def put_story(key: str, **columns: Any) -> None:
        casts = {"status": "::text::bmad_story_status", "sections": "::jsonb", "acceptance": "::jsonb"}
        settings = [f"{name} = ${at}{casts.get(name, '')}" for at, name in enumerate(columns, start=2)]
        await sql(
            f"UPDATE bmad_stories SET {', '.join(settings)} WHERE project_id = bmad_project() AND key = $1",
            key,
            *columns.values(),
        )

    return put_story


@pytest.fixture
async def elsewhere(pool) -> TestWorkspace:
    """Another project in the same database."""
    return TestWorkspace(await new_project(pool))

"""Finds a project by its key, or makes it."""

from uuid import UUID

import asyncpg

from bmad_mcp.db import uuid7

# Row-level security shows a project by its key before its id is known.
SEEK = "SELECT set_config('app.project_key', $1, true)"
FIND = "SELECT id FROM bmad_projects WHERE key = $1"
CREATE = "INSERT INTO bmad_projects (id, key, name) VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING"


async def open_project(connection: asyncpg.Connection, key: str, name: str) -> tuple[UUID, bool]:
    """The project's id, and whether this call made it. Runs in a transaction of its own."""
    async with connection.transaction():
        await connection.execute(SEEK, key)
        found = await connection.fetchval(FIND, key)
        if found is not None:
            return found, False
        made = uuid7()
        await connection.execute("SELECT set_config('app.project', $1, true)", str(made))
        tag = await connection.execute(CREATE, made, key, name)
        # Another process may have made it between the two statements; its row is visible now.
        return await connection.fetchval(FIND, key), tag == "INSERT 0 1"

"""What tests stand on: a real PostgreSQL, databases of their own in it, and projects with the built-in definitions."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from bmad_mcp import migrate
from bmad_mcp.bmad_files.builtins import seed_builtins
from bmad_mcp.call import OpenProject
from bmad_mcp.projects.open import open_project

EXTERNAL = os.environ.get("BMAD_TEST_DATABASE_URL")


@dataclass(frozen=True)
class TestDatabase:
    """asyncpg.connect arguments of a database: as a superuser, as the schema's owner, and as the app."""

    __test__ = False
    admin: dict[str, Any]
    owner: dict[str, Any]
    app: dict[str, Any]
    data_dir: Path | None = None

    def named(self, name: str) -> "TestDatabase":
        """The same for another database of the cluster."""
        return TestDatabase(*({**connect, "database": name} for connect in (self.admin, self.owner, self.app)))

    def migrate(self) -> None:
        """Bring the schema up, as its owner."""
        connect = dict(self.owner)
        migrate.upgrade(connect.pop("dsn", "postgresql://"), **connect)


async def run_sql(connect: dict[str, Any], *statements: str) -> None:
    connection = await asyncpg.connect(**connect)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def external(url: str) -> TestDatabase:
    connection = await asyncpg.connect(url)
    for role in ("bmad_owner", "bmad_app"):
        if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
            await connection.execute(f"CREATE ROLE {role} NOLOGIN")
    await connection.close()

    def as_role(role: str) -> dict[str, Any]:
        return {"dsn": url, "server_settings": {"role": role}}

    return TestDatabase({"dsn": url}, as_role("bmad_owner"), as_role("bmad_app"))


@contextmanager
def scratch(cluster: TestDatabase) -> Iterator[TestDatabase]:
    name = f"bmad_test_{uuid.uuid4().hex[:12]}"
    asyncio.run(run_sql(cluster.admin, f"CREATE DATABASE {name} OWNER bmad_owner"))
    try:
        yield cluster.named(name)
    finally:
        asyncio.run(run_sql(cluster.admin, f"DROP DATABASE {name} WITH (FORCE)"))


@dataclass
class TestWorkspace:
    """A workspace on the test database, with a project made for one test."""

    __test__ = False
    opened: OpenProject
    # asyncpg.connect arguments, where changes are followed.
    connect: dict[str, Any] | None = None

    async def open_listener(self) -> asyncpg.Connection:
        """A connection of its own, as the server has one to listen."""
        assert self.connect is not None
        return await asyncpg.connect(**self.connect)

    async def project(self) -> OpenProject:
        return self.opened

    async def mend(self) -> bool:
        return False


async def new_project(pool: asyncpg.Pool) -> OpenProject:
    """A project with the built-in definitions, under a key of its own."""
    key = f"test-{uuid.uuid4().hex[:10]}"
    async with pool.acquire() as connection:
        project_id, _ = await open_project(connection, key, key)
    opened = OpenProject(project_id, key, pool)
    await seed_builtins(opened)
    return opened

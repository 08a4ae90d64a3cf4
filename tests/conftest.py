"""One real PostgreSQL for the whole run; each test works in a project of its own."""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import BaseModel

from bmad_mcp import migrate
from bmad_mcp.bmad_files.builtins import seed_builtins
from bmad_mcp.call import Call, Caller, OpenProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import Transaction, open_pool
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE
from bmad_mcp.operation import perform
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


async def _run_sql(connect: dict[str, Any], *statements: str) -> None:
    connection = await asyncpg.connect(**connect)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _external(url: str) -> TestDatabase:
    connection = await asyncpg.connect(url)
    for role in ("bmad_owner", "bmad_app"):
        if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
            await connection.execute(f"CREATE ROLE {role} NOLOGIN")
    await connection.close()

    def as_role(role: str) -> dict[str, Any]:
        return {"dsn": url, "server_settings": {"role": role}}

    return TestDatabase({"dsn": url}, as_role("bmad_owner"), as_role("bmad_app"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestDatabase]:
    """A PostgreSQL to make databases in: the one of BMAD_TEST_DATABASE_URL, or an embedded one of its own."""
    if EXTERNAL:
        yield asyncio.run(_external(EXTERNAL))
        return
    # Not below pytest's own folder: run as root, PostgreSQL's own user must be able to enter.
    data_dir = Path(tempfile.mkdtemp(prefix="bmad-test-"))
    data_dir.chmod(0o711)
    with Cluster(data_dir / "postgres") as endpoints:
        connect = endpoints.connect_args
        yield TestDatabase(
            connect(ADMIN_ROLE) | {"database": "postgres"},
            connect(endpoints.owner_role),
            connect(endpoints.app_role),
            data_dir,
        )
    shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def server_env(cluster: TestDatabase) -> Iterator[dict[str, str]]:
    """The environment for server processes: the embedded PostgreSQL of this run, or a database of the external one."""
    quiet = {"PYTHONWARNINGS": "ignore", "BMAD_LOG_LEVEL": "error"}
    if not EXTERNAL:
        yield quiet | {"BMAD_DATA_DIR": str(cluster.data_dir)}
        return
    with _scratch(cluster) as found:
        found.migrate()
        yield quiet | {"BMAD_DATABASE_URL": f"{EXTERNAL.rpartition('/')[0]}/{found.admin['database']}"}


@pytest.fixture(scope="session")
def database(cluster: TestDatabase) -> Iterator[TestDatabase]:
    """The migrated database that the tests share; each test works in a project of its own."""
    with _scratch(cluster) as found:
        found.migrate()
        yield found


@pytest.fixture
def scratch_database(cluster: TestDatabase) -> Iterator[TestDatabase]:
    """An empty database for one test."""
    with _scratch(cluster) as found:
        yield found


@contextmanager
def _scratch(cluster: TestDatabase) -> Iterator[TestDatabase]:
    name = f"bmad_test_{uuid.uuid4().hex[:12]}"
    asyncio.run(_run_sql(cluster.admin, f"CREATE DATABASE {name} OWNER bmad_owner"))
    try:
        yield cluster.named(name)
    finally:
        asyncio.run(_run_sql(cluster.admin, f"DROP DATABASE {name} WITH (FORCE)"))


@dataclass
class TestWorkspace:
    """A workspace on the test database, with a project made for one test."""

    __test__ = False
    opened: OpenProject

    async def project(self) -> OpenProject:
        return self.opened

    async def mend(self) -> bool:
        return False


@pytest.fixture
async def pool(database: TestDatabase) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(**database.app)
    yield pool
    await pool.close()


async def new_project(pool: asyncpg.Pool) -> OpenProject:
    """A project with the built-in definitions, under a key of its own."""
    key = f"test-{uuid.uuid4().hex[:10]}"
    async with pool.acquire() as connection:
        project_id, _ = await open_project(connection, key, key)
    opened = OpenProject(project_id, key, pool)
    await seed_builtins(opened)
    return opened


@pytest.fixture
async def workspace(pool: asyncpg.Pool) -> TestWorkspace:
    """A project whose calls commit."""
    return TestWorkspace(await new_project(pool))


@pytest.fixture
async def call(workspace: TestWorkspace) -> AsyncIterator[Call]:
    """A call on a fresh project; rolled back at the end."""
    opened = workspace.opened
    transaction = Transaction(opened.pool, opened.id)
    yield Call(uuid.uuid4().hex, "test", Caller(), opened.id, opened.key, transaction)
    await transaction.end("ROLLBACK")


Run = Callable[..., Awaitable[BaseModel]]


@pytest.fixture
def run(workspace: TestWorkspace) -> Run:
    """Runs an operation by name like a client would: `await run("task_create", title="…")`; commits."""

    async def run_one(name: str, /, caller: Caller | None = None, **arguments: Any) -> BaseModel:
        return await perform(BY_NAME[name], arguments, caller or Caller(), workspace)

    return run_one

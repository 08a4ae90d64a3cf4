"""One real PostgreSQL for the whole run; each test works in a project of its own."""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from harness import EXTERNAL, TestDatabase, TestWorkspace, external, new_project, scratch
from hypothesis import settings
from pydantic import BaseModel

from bmad_mcp.call import Call, Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import Transaction, open_pool
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.embedded.endpoints import ADMIN_ROLE
from bmad_mcp.operation import perform

# A run of the suite tries the same examples each time; `make soak` looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("new", derandomize=False)
settings.load_profile(os.environ.get("BMAD_TEST_EXAMPLES", "same"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestDatabase]:
    """A PostgreSQL to make databases in: the one of BMAD_TEST_DATABASE_URL, or an embedded one of its own."""
    if EXTERNAL:
        yield asyncio.run(external(EXTERNAL))
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
    with scratch(cluster) as found:
        found.migrate()
        yield quiet | {"BMAD_DATABASE_URL": f"{EXTERNAL.rpartition('/')[0]}/{found.admin['database']}"}


@pytest.fixture(scope="session")
def database(cluster: TestDatabase) -> Iterator[TestDatabase]:
    """The migrated database that the tests share; each test works in a project of its own."""
    with scratch(cluster) as found:
        found.migrate()
        yield found


@pytest.fixture
def scratch_database(cluster: TestDatabase) -> Iterator[TestDatabase]:
    """An empty database for one test."""
    with scratch(cluster) as found:
        yield found


@pytest.fixture
async def pool(database: TestDatabase) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(**database.app)
    yield pool
    await pool.close()


@pytest.fixture
async def workspace(pool: asyncpg.Pool, database: TestDatabase) -> TestWorkspace:
    """A project whose calls commit."""
    return TestWorkspace(await new_project(pool), database.app)


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

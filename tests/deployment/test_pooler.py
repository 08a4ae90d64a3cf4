"""A server behind PgBouncer in transaction mode, where no session is its own."""

import asyncio
import json
from types import SimpleNamespace

import asyncpg
import pytest
from commands.command import bmad, succeeds
from deployment.pgbouncer import needs_pgbouncer, pooler
from own_postgresql import own_postgresql
from processes import Refused, assistant, fresh_key
from server.rest.example_calls import answers_of

from bmad_mcp import sample
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.commands.app_role import ensure_app_role
from bmad_mcp.database import Database, through_pooler
from bmad_mcp.db import LIMITS, open_pool, project_transaction
from bmad_mcp.errors import Conflict, Unavailable
from bmad_mcp.projects.open import open_project
from bmad_mcp.settings import Settings

pytestmark = needs_pgbouncer

ROLES = ("postgres", "keeper", "bmad_server", "loner")


@pytest.fixture(scope="module")
def behind():
    """A database of `keeper` behind a pooler, which `bmad_server` comes through; upgraded by the real command."""
    with own_postgresql() as server:
        server.run(
            "psql", "-d", server.url(), "-q", "-c",
            "CREATE ROLE keeper LOGIN CREATEROLE; CREATE ROLE bmad_server LOGIN; CREATE ROLE loner LOGIN NOINHERIT",
            "-c", "CREATE DATABASE shop OWNER keeper",
        )  # fmt: skip
        with pooler(server, *ROLES) as port:
            env = {
                "BMAD_DATABASE_URL": server.url("bmad_server", "shop", port),
                "BMAD_DATABASE_DIRECT_URL": server.url("keeper", "shop"),
                "BMAD_MEMORY_PROVIDER": "builtin",
            }
            told = succeeds(env, "db", "upgrade")
            assert "let bmad_server become bmad_app" in told
            project = fresh_key("pooled")
            succeeds(env, "import", str(sample.FOLDER), "--project", project)
            yield SimpleNamespace(server=server, port=port, env=env, project=project)


async def test_every_tool_works_through_the_pooler(behind):
    async with assistant(behind.env, behind.project, "--toolsets", "all") as call:

        async def perform_one(name, arguments):
            return None if BY_NAME[name].toolset is None else await call(name, **arguments)

        found = await answers_of(perform_one)
    assert found["task_complete"]["result"]["task"]["status"] == "completed"
    assert found["health"]["result"]["status"] == "ok"


async def test_processes_that_share_two_sessions_hold_no_task_twice(behind):
    project = fresh_key("race")
    async with assistant(behind.env, project) as one, assistant(behind.env, project) as other:
        calls = [one, other] * 8
        await asyncio.gather(*(call("task_create", title=f"T{number}") for number, call in enumerate(calls)))
        claims = await asyncio.gather(*(call("task_claim", agent="dev") for call in calls))
        keys = [claim["task"]["key"] for claim in claims]
        assert sorted(keys) == sorted({f"T-{number}" for number in range(1, 17)})
        done = [
            call("task_complete", task=claim["task"]["key"], lease=claim["lease"])
            for call, claim in zip(calls, claims, strict=True)
        ]
        assert {one["task"]["status"] for one in await asyncio.gather(*done)} == {"completed"}
        # An advisory lock of the transaction decides between two that would close a circle of dependencies.
        for title in ("left", "right"):
            await one("task_create", title=title)
        both = await asyncio.gather(
            one("task_update", task="T-17", depends_on=["T-18"]),
            other("task_update", task="T-18", depends_on=["T-17"]),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, Refused) for answer in both) == 1, both


@pytest.fixture
async def pool(behind):
    pool = await open_pool(**await through_pooler(behind.env["BMAD_DATABASE_URL"]))
    yield pool
    await pool.close()


async def test_row_level_security_binds_each_transaction_of_a_shared_session(pool):
    async with pool.acquire() as connection:
        first, _ = await open_project(connection, fresh_key("first"), "first")
        second, _ = await open_project(connection, fresh_key("second"), "second")
    for project_id in (first, second):
        async with project_transaction(pool, project_id) as db:
            await db.execute(
                "INSERT INTO bmad_epics (project_id, key, number, title) VALUES ($1, '1', 1, 'own')", project_id
            )

    async def look(project_id):
        async with project_transaction(pool, project_id) as db:
            return {row["project_id"] for row in await db.fetch("SELECT project_id FROM bmad_epics")}

    assert await asyncio.gather(*(look(one) for one in (first, second) * 20)) == [{first}, {second}] * 20
    # Whatever session comes next, it remembers no project.
    assert await asyncio.gather(*(pool.fetchval("SELECT count(*) FROM bmad_epics") for _ in range(10))) == [0] * 10
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with project_transaction(pool, first) as db:
            await db.execute("INSERT INTO bmad_epics (project_id, key, number, title) VALUES ($1, '2', 2, 'x')", second)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with project_transaction(pool, first) as db:
            await db.execute("DELETE FROM bmad_agent_activity")


async def test_the_limits_of_time_hold_in_every_transaction(pool, behind):
    async def limits(connection):
        return {
            name: await connection.fetchval(f"SELECT setting FROM pg_settings WHERE name = '{name}'") for name in LIMITS
        }

    async with pool.acquire() as connection, connection.transaction():
        assert await limits(connection) == LIMITS
    async with pool.acquire() as connection:
        project_id, _ = await open_project(connection, fresh_key("limits"), "limits")
    async with project_transaction(pool, project_id) as db:
        assert await limits(db) == LIMITS
    # They were the transaction's own: other clients of the session keep theirs.
    other = await asyncpg.connect(behind.env["BMAD_DATABASE_URL"], statement_cache_size=0)
    assert await other.fetchval("SHOW statement_timeout") == "0"
    await other.close()


async def test_single_statements_of_many_clients_never_meet_each_others(pool):
    async def ask(number):
        return await pool.fetchval(f"SELECT {number} + $1::int", 1)

    assert await asyncio.gather(*(ask(number) for number in range(200))) == [number + 1 for number in range(200)]


async def test_the_direct_address_listens_and_holds_locks(behind):
    settings = Settings(
        database_url=behind.env["BMAD_DATABASE_URL"], database_direct_url=behind.env["BMAD_DATABASE_DIRECT_URL"]
    )
    listener = await Database(settings).open_listener()
    heard = asyncio.get_running_loop().create_future()
    await listener.add_listener("bmad_test", lambda *told: heard.set_result(told[3]))
    sender = await asyncpg.connect(behind.env["BMAD_DATABASE_URL"], statement_cache_size=0)
    await sender.execute("NOTIFY bmad_test, 'through the pooler'")
    assert await asyncio.wait_for(heard, 10) == "through the pooler"
    assert await listener.fetchval("SELECT current_user") == "bmad_app"
    await sender.close()
    await listener.close()


def test_doctor_and_the_jobs_of_the_owner_work_through_it(behind):
    done = bmad(behind.env, "doctor", "--json", "--project", behind.project)
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert found["Role"]["text"] == "bmad_server, bound by row-level security"
    assert {one["level"] for one in found.values()} == {"ok"}, found
    assert "partitions" in succeeds(behind.env, "jobs", "run", "partitions", "--project", behind.project)


def settings_of(env, **more):
    named = {name.removeprefix("BMAD_").lower(): value for name, value in env.items()}
    return Settings(**named | {"project": "shop"} | more)


async def test_a_login_that_nothing_binds_is_refused(behind):
    database = Database(settings_of(behind.env, database_url=behind.server.url("postgres", "shop", behind.port)))
    with pytest.raises(Unavailable, match="CREATE ROLE bmad_server LOGIN"):
        await database.connections()
    # Not even where its sessions begin as the role that is bound: those that the pooler has already do not.
    admin = await asyncpg.connect(behind.server.url())
    await admin.execute("ALTER ROLE postgres IN DATABASE shop SET role = bmad_app")
    try:
        with pytest.raises(Unavailable, match="CREATE ROLE bmad_server LOGIN"):
            await database.connections()
    finally:
        await admin.execute("ALTER ROLE postgres IN DATABASE shop RESET role")
        await admin.close()


async def test_a_login_without_inheritance_is_told_what_it_lacks(behind):
    keeper = await asyncpg.connect(behind.env["BMAD_DATABASE_DIRECT_URL"])
    with pytest.raises(Conflict, match='ALTER ROLE "loner" INHERIT'):
        await ensure_app_role(keeper, "loner")
    await keeper.close()


async def test_a_pooler_that_nobody_told_of_is_found_out(behind):
    def untold(url):
        return Database(settings_of(behind.env, database_url=url, database_direct_url=None))

    with pytest.raises(Unavailable, match="set BMAD_DATABASE_DIRECT_URL"):
        await untold(behind.env["BMAD_DATABASE_URL"]).open_pool()
    ignoring = "ignore_startup_parameters = role,statement_timeout,lock_timeout,idle_in_transaction_session_timeout"
    dropped = pytest.raises(Unavailable, match="dropped the role bmad_app")
    with pooler(behind.server, *ROLES, more=ignoring) as port, dropped:
        await untold(behind.server.url("postgres", "shop", port)).open_pool()

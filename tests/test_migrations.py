"""The schema: up and down, beside another application, by two at once, and equal to the models."""

import asyncio
import io
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from harness import TestDatabase
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from bmad_mcp import migrate
from bmad_mcp.embedded.binaries import find_binaries
from bmad_mcp.migrations_folder import newest_revision
from bmad_mcp.tables import METADATA

NEIGHBOUR = Path(__file__).parent / "data" / "custom-gpt-adapter.sql"
FIFTEEN = {
    "bmad_projects",
    "bmad_agents",
    "bmad_agent_sessions",
    "bmad_agent_activity",
    "bmad_agent_collaborations",
    "bmad_workflows",
    "bmad_workflow_stages",
    "bmad_tasks",
    "bmad_task_dependencies",
    "bmad_epics",
    "bmad_stories",
    "bmad_checklists",
    "bmad_templates",
    "bmad_artifacts",
    "bmad_memory_integrations",
}
ENUMS = {
    "bmad_agent_status",
    "bmad_workflow_status",
    "bmad_task_status",
    "bmad_task_priority",
    "bmad_story_status",
    "bmad_workflow_type",
}
# The job queue's own: its rows hold ids of projects and no text of them.
QUEUE = "mcp_pgqueuer"
# Of principals, who are in several projects: hashes and times only.
BUCKETS = "mcp_rate_buckets"
TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""
TYPES = "SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'"
FUNCTIONS = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"


def downgrade(database: TestDatabase, revision: str = "base") -> None:
    connect = dict(database.owner)
    migrate.downgrade(connect.pop("dsn", "postgresql://"), revision, **connect)


async def names(database: TestDatabase, sql: str) -> set[str]:
    connection = await asyncpg.connect(**database.admin)
    try:
        return {row[0] for row in await connection.fetch(sql)}
    finally:
        await connection.close()


def test_an_empty_database_gets_fifteen_tables_and_six_enum_types_and_loses_them_again(scratch_database):
    scratch_database.migrate()
    tables = asyncio.run(names(scratch_database, TABLES))
    assert {name for name in tables if name.startswith("bmad_")} == FIFTEEN | {"bmad_alembic_version"}
    assert asyncio.run(names(scratch_database, TYPES)) == ENUMS | {f"{QUEUE}_status"}
    downgrade(scratch_database)
    assert asyncio.run(names(scratch_database, TABLES)) == {"bmad_alembic_version"}
    assert not asyncio.run(names(scratch_database, TYPES))
    assert not asyncio.run(names(scratch_database, FUNCTIONS))
    scratch_database.migrate()
    assert asyncio.run(names(scratch_database, TABLES)) >= FIFTEEN


def pg_dump(database: TestDatabase, *options: str) -> str:
    found = find_binaries()
    admin = database.admin
    if "dsn" in admin:
        where = ["--dbname", f"{admin['dsn'].rpartition('/')[0]}/{admin['database']}"]
    else:
        where = ["-h", admin["host"], "-p", str(admin["port"]), "-U", admin["user"], admin["database"]]
    done = subprocess.run(
        [found.bin_dir / "pg_dump", "--no-owner", *options, *where], capture_output=True, text=True, check=True
    )
    # pg_dump 18 guards its output with a key that differs each time.
    return "\n".join(line for line in done.stdout.splitlines() if not re.match(r"\\(un)?restrict ", line))


async def load(database: TestDatabase, sql: str) -> None:
    connection = await asyncpg.connect(**database.admin)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def test_another_applications_tables_stay_exactly_as_they_are(scratch_database):
    without_owners = re.sub(r"(?m)^ALTER .* OWNER TO \w+;$", "", NEIGHBOUR.read_text())
    asyncio.run(load(scratch_database, without_owners))
    asyncio.run(
        load(
            scratch_database,
            "INSERT INTO public.alembic_version VALUES ('abc123');"
            "INSERT INTO public.custom_gpt_applications (id, name, client_id, client_secret)"
            " VALUES (gen_random_uuid(), 'it''s one', 'c', 's');",
        )
    )
    before = pg_dump(scratch_database)
    scratch_database.migrate()
    theirs = ("-t", "custom_gpt_*", "-t", "alembic_version")
    beside_ours = pg_dump(scratch_database, *theirs)
    assert "it's one" in beside_ours
    downgrade(scratch_database)
    asyncio.run(load(scratch_database, "DROP TABLE bmad_alembic_version"))
    assert pg_dump(scratch_database) == before
    assert pg_dump(scratch_database, *theirs) == beside_ours


def test_two_processes_that_migrate_at_once_leave_one_schema(scratch_database, tmp_path):
    script = tmp_path / "migrate_once.py"
    script.write_text(
        "import json, sys\nfrom bmad_mcp import migrate\n"
        "connect = json.loads(sys.argv[1])\nmigrate.upgrade(connect.pop('dsn', 'postgresql://'), **connect)\n"
    )
    command = [sys.executable, str(script), json.dumps(scratch_database.owner)]
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: subprocess.run(command, capture_output=True, text=True), range(4)))
    assert [one.returncode for one in done] == [0] * 4, done[0].stderr + done[1].stderr
    assert asyncio.run(names(scratch_database, "SELECT version_num FROM bmad_alembic_version")) == {newest_revision()}


def _differences(connection: Connection) -> list[Any]:
    def is_ours(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "table" or (
            name is not None
            and name.startswith(("bmad_", "mcp_"))
            and not re.match(r"bmad_agent_activity_(\d{4}_\d{2}|other)$", name)
            and name != "bmad_alembic_version"
            and not name.startswith(QUEUE)
        )

    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True, "include_name": is_ours}
    )
    return list(compare_metadata(context, METADATA))


async def _compare(database: TestDatabase) -> list[Any]:
    connect = dict(database.owner)
    url = connect.pop("dsn", "postgresql://").replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(url, poolclass=NullPool, connect_args=connect)
    async with engine.connect() as connection:
        found = await connection.run_sync(_differences)
    await engine.dispose()
    return found


def test_autogenerate_finds_no_difference_to_the_models(database):
    assert asyncio.run(_compare(database)) == []


async def test_every_project_table_has_row_level_security_enabled_and_forced(database):
    open_tables = await names(
        database,
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'project_id'"
        " WHERE c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    )
    assert open_tables == set()


async def test_every_key_and_foreign_key_leads_with_the_project(database):
    connection = await asyncpg.connect(**database.admin)
    rows = await connection.fetch(
        "SELECT conrelid::regclass::text AS name, conname, (SELECT attname FROM pg_attribute a"
        " WHERE a.attrelid = conrelid AND a.attnum = conkey[1]) AS first FROM pg_constraint"
        " WHERE contype IN ('p', 'u', 'f') AND connamespace = 'public'::regnamespace"
        " AND conrelid::regclass::text ~ '^(bmad|mcp)_'"
    )
    await connection.close()
    late = [row["conname"] for row in rows if row["first"] != "project_id" and not row["name"].startswith(QUEUE)]
    assert sorted(late) == ["bmad_alembic_version_pkc", "pk_bmad_projects", f"pk_{BUCKETS}", "uq_bmad_projects_key"]


async def test_the_app_role_sees_no_row_of_another_project_and_cannot_write_one(workspace, database, call):
    await call.db.execute(
        "INSERT INTO bmad_epics (project_id, key, number, title) VALUES (bmad_project(), '1', 1, 'x')"
    )
    app = await asyncpg.connect(**database.app)
    try:
        for table in await app.fetch(TABLES):
            if table["relname"] in ("bmad_alembic_version", BUCKETS) or table["relname"].startswith(QUEUE):
                continue
            assert await app.fetchval(f"SELECT count(*) FROM {table['relname']}") == 0, table["relname"]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(
                "INSERT INTO bmad_epics (project_id, key, number, title) VALUES ($1, '7', 7, 'x')", call.project_id
            )
    finally:
        await app.close()


async def test_the_trail_can_be_written_and_never_changed(call, database):
    await call.db.execute(
        "INSERT INTO bmad_agent_activity (project_id, operation, subject, principal, call_id)"
        " VALUES (bmad_project(), 'x', 'task T-1', 'local', 'c')"
    )
    for change in ("UPDATE bmad_agent_activity SET operation = 'y'", "DELETE FROM bmad_agent_activity"):
        await call.db.execute("SAVEPOINT before")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await call.db.execute(change)
        await call.db.execute("ROLLBACK TO before")
    owner = await asyncpg.connect(**database.owner)
    try:
        async with owner.transaction():
            await owner.execute("SELECT set_config('app.project', $1, true)", str(call.project_id))
            await owner.execute(
                "INSERT INTO bmad_agent_activity (project_id, operation, subject, principal, call_id)"
                " VALUES (bmad_project(), 'x', 'task T-1', 'local', 'c')"
            )
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                async with owner.transaction():
                    await owner.execute("UPDATE bmad_agent_activity SET operation = 'y'")
    finally:
        await owner.close()


async def test_activity_lands_in_the_partition_of_its_month(call):
    await call.db.execute(
        "INSERT INTO bmad_agent_activity (project_id, operation, subject, principal, call_id)"
        " VALUES (bmad_project(), 'x', 'task T-1', 'local', 'c')"
    )
    home = await call.db.fetchval("SELECT tableoid::regclass::text FROM bmad_agent_activity WHERE operation = 'x'")
    assert re.fullmatch(r"bmad_agent_activity_\d{4}_\d{2}", home)


async def test_rate_buckets_are_not_logged_and_tell_nobody_who_calls(database):
    kinds = "SELECT relpersistence::text || relname FROM pg_class WHERE relname ~ '^mcp_rate_buckets$'"
    assert await names(database, kinds) == {f"u{BUCKETS}"}
    columns = f"SELECT attname FROM pg_attribute WHERE attrelid = '{BUCKETS}'::regclass AND attnum > 0"
    assert await names(database, columns) == {"id", "full_at"}


def test_months_follow_each_other_over_the_years_end():
    assert migrate.month_bounds(datetime(2026, 11, 23), 2) == [
        ("2026_11", "2026-11-01", "2026-12-01"),
        ("2026_12", "2026-12-01", "2027-01-01"),
        ("2027_01", "2027-01-01", "2027-02-01"),
    ]


def script(direction: Callable[..., None], revisions: str) -> str:
    """The migrations as SQL, as `alembic upgrade --sql` and `alembic downgrade --sql` print them."""
    config = migrate.configuration()
    config.output_buffer = io.StringIO()
    direction(config, revisions, sql=True)
    return config.output_buffer.getvalue()


@dataclass(frozen=True)
class Excused:
    """What squawk says of a rule, how often in which migration, and why it is so: one more would be told."""

    why: str
    times: dict[str, int]


# Nothing about locks, and nothing that the release before would miss. Alembic's version table comes before the first.
UPGRADES = {
    "ban-drop-generated-expression": Excused(
        "encrypted memories have marks in that column, which no expression gives", {"0010": 1}
    ),
    "prefer-bigint-over-int": Excused(
        "positions, points and versions; no key counts in an int", {"0001": 27, "0003": 5, "0006": 1, "0008": 1}
    ),
    "prefer-identity": Excused("the job queue's own tables, which pgqueuer declares", {"0003": 3}),
    "prefer-robust-stmts": Excused(
        "a constraint has no IF NOT EXISTS; add_constraint looks whether it is there", {"0003": 2}
    ),
    "prefer-text-field": Excused("Alembic's own version table", {"": 1}),
}
# No servers run while a schema goes down, and what a migration has made goes with it.
MADE_BY_IT = "the migration itself has made it"
DOWNGRADES = {
    "adding-field-with-default": Excused(
        "the search column is generated again, which writes the table anew", {"0010": 1}
    ),
    "ban-drop-column": Excused(
        f"{MADE_BY_IT}; the search column is made anew", {"0002": 1, "0003": 6, "0007": 1, "0010": 2}
    ),
    "ban-drop-constraint": Excused(MADE_BY_IT, {"0003": 1}),
    "ban-drop-function": Excused(MADE_BY_IT, {"0001": 3, "0003": 1, "0010": 2, "0013": 2, "0018": 5, "0019": 1}),
    "ban-drop-table": Excused(
        MADE_BY_IT,
        {"0001": 18, "0003": 2, "0004": 2, "0005": 2, "0006": 2, "0008": 2, "0009": 1, "0010": 1, "0014": 1, "0018": 1},
    ),
    "ban-drop-type": Excused(MADE_BY_IT, {"0001": 6, "0003": 1}),
    "require-concurrent-index-creation": Excused("on the search column, which is new then", {"0010": 1}),
}
STEP = re.compile(r"-- Running (?:upgrade \S* -> (?P<up>\d{4})|downgrade (?P<down>\d{4}) -> )")


@pytest.mark.parametrize(
    ("direction", "revisions", "excused"),
    [(command.upgrade, "head", UPGRADES), (command.downgrade, "head:base", DOWNGRADES)],
)
def test_a_linter_of_migrations_says_only_what_has_a_reason(tmp_path, direction, revisions, excused):
    file = tmp_path / "migrations.sql"
    file.write_text(script(direction, revisions))
    squawk = [str(Path(sys.executable).with_name("squawk")), "--reporter", "json", str(file)]
    told = json.loads(subprocess.run(squawk, capture_output=True, text=True).stdout)
    at, migration_of = "", []
    for line in file.read_text().splitlines():
        if step := STEP.match(line):
            at = step["up"] or step["down"]
        migration_of.append(at)
    found = Counter((one["rule_name"], migration_of[one["line"]]) for one in told)
    assert found == {(rule, at): times for rule, one in excused.items() for at, times in one.times.items()}, told


async def test_a_table_that_is_in_use_is_waited_for_in_turns_and_others_go_on_meanwhile(scratch_database):
    await asyncio.to_thread(scratch_database.migrate)
    # The revision after this one adds a column to the trail.
    await asyncio.to_thread(downgrade, scratch_database, "0006")
    admin = await asyncpg.connect(**scratch_database.admin)
    holder = await asyncpg.connect(**scratch_database.admin)
    held = holder.transaction()
    await held.start()
    await holder.execute("LOCK TABLE bmad_agent_activity IN ACCESS SHARE MODE")
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'bmad_agent_activity'::regclass"

    async def until(count: int) -> None:
        while await admin.fetchval(waits) != count:
            await asyncio.sleep(0.02)

    upgrade = asyncio.create_task(asyncio.to_thread(scratch_database.migrate))
    async with asyncio.timeout(60):
        await until(1)
        # Waits behind the migration, and is let through when that gives way, though the holder goes on.
        assert await admin.fetchval("SELECT count(*) FROM bmad_agent_activity") == 0
        assert not upgrade.done()
        await held.rollback()
        await upgrade
    assert await admin.fetchval("SELECT version_num FROM bmad_alembic_version") == newest_revision()
    await holder.close()
    await admin.close()

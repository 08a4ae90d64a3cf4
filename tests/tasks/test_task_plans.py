"""How many rows the hot statements read is the same in a large project: they find theirs through an index."""

import asyncio
import json

import asyncpg
import pytest
from harness import scratch

from bench.seeding import seeded
from bmad_mcp.bmad_files.builtins import seed_builtins
from bmad_mcp.call import OpenProject
from bmad_mcp.db import open_pool, uuid7
from bmad_mcp.lifecycles import TaskStatus
from bmad_mcp.tasks import queries

PAGE = " ORDER BY t.number LIMIT 21"
CALL = ("local", "call")
HOT = {
    "create": (queries.CREATE, (uuid7(), "Title", "", "medium", "dev", None, None, 0, True, "local", *CALL)),
    "get": (queries.GET, (700,)),
    "claim": (queries.CLAIM, ("dev", 900, "task_claim", *CALL)),
    "claim one": (queries.CLAIM_ONE, (7, "dev", 900, "task_start", "local", "in_progress", "call", -1)),
    "heartbeat": (queries.HEARTBEAT, (7, 1)),
    "complete": (queries.FINISH, (7, 1, "", None, *CALL, "")),
    "state": (queries.STATE_LOCKED, (7,)),
    "update": (queries.CHANGE, (7, "blocked", None, None, None, None, None)),
    "list": (queries.LIST + PAGE, ()),
    "list from a cursor": (queries.LIST + " AND t.number > $1::int" + PAGE, (9_000,)),
    "list of a role": (queries.LIST + " AND t.agent = $1::text" + PAGE, ("qa",)),
    "list of what is ready": (queries.LIST + queries.LIST_READY + PAGE, ()),
    **{f"list of {status}": (queries.LIST + queries.LIST_STATUS[status] + PAGE, ()) for status in TaskStatus},
}
TASKS = 20_000
# A claim looks at 64 tasks of its role; a page with few of its kind among the first skips the rest.
MOST_ROWS = 400


@pytest.fixture(scope="module")
def large(cluster):
    """A database with a large and a small project: connect arguments of the app, and the large one's id."""
    with scratch(cluster) as database:
        yield database.app, asyncio.run(filled(database, TASKS))


async def filled(database, tasks):
    await asyncio.to_thread(database.migrate)
    ids = await seeded(database.app, database.admin, {"large": tasks, "small": 1_000})
    pool = await open_pool(**database.app)
    await seed_builtins(OpenProject(ids["large"], "large", pool))
    await pool.close()
    return ids["large"]


async def rows_read(app, project, statement, values):
    """How many rows each table and index gave up, by the plan that every call after the fifth has."""
    connection = await asyncpg.connect(**app)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("SELECT set_config('app.project', $1, true)", str(project))
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        told = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values))
        return list(scans(told[0]["Plan"]))
    finally:
        await transaction.rollback()
        await connection.close()


def scans(node):
    removed = sum(node.get(name, 0) for name in ("Rows Removed by Filter", "Rows Removed by Index Recheck"))
    if "Relation Name" in node and "Scan" in node["Node Type"]:
        rows = (node["Actual Rows"] + removed) * node["Actual Loops"]
        yield node["Relation Name"], node["Node Type"], round(rows)
    for inner in node.get("Plans", ()):
        yield from scans(inner)


@pytest.mark.parametrize("name", HOT)
async def test_a_hot_statement_reads_few_rows_of_a_large_project(name, large):
    read = await rows_read(*large, *HOT[name])
    assert read or name == "create", "the plan shows no table: what is measured here?"
    assert [one for one in read if one[2] > MOST_ROWS] == []


@pytest.mark.soak
async def test_a_hot_statement_reads_as_few_rows_of_a_million(scratch_database):
    project = await filled(scratch_database, 1_000_000)
    for name, (statement, values) in HOT.items():
        read = await rows_read(scratch_database.app, project, statement, values)
        assert [one for one in read if one[2] > MOST_ROWS] == [], name

"""The statements of every call find their rows through an index that begins with the project."""

import pytest

from bmad_mcp.stories import queries

pytest_plugins = ("stories.fixtures",)

PAGE = " ORDER BY s.epic_number, s.number, s.suffix LIMIT 21"


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (queries.LIST + PAGE, ()),
        (queries.LIST + queries.LIST_STATUS["ready"] + PAGE, ()),
        (queries.LIST + " AND (s.epic_number, s.number, s.suffix) > ($1::int, $2::int, $3::text)" + PAGE, (1, 1, "")),
        (queries.GET, ("1.1",)),
        (queries.STATE, ("1.1",)),
        (queries.NEXT, ("local",)),
        (queries.BESIDE, ("dev",)),
        (queries.LIST_EPICS + " ORDER BY e.number, e.key LIMIT 21", ()),
        (queries.GET_EPIC, ("1",)),
        (queries.AGENT_IN_SESSION, ("local",)),
    ],
    ids=lambda value: None if isinstance(value, tuple) else " ".join(value.split())[:40],
)
async def test_no_table_is_read_from_end_to_end(call, statement, values):
    # On a few rows the planner reads the whole table for good reason; without that way out it must find another.
    await call.db.execute("SET LOCAL enable_seqscan = off")
    plan = "\n".join(row[0] for row in await call.db.fetch(f"EXPLAIN {statement}", *values))
    assert "Seq Scan" not in plan
    assert "Index Cond: (project_id = " in plan or "Index Cond: ((project_id = " in plan

"""The statements of every call find their rows through an index that begins with the project."""

from uuid import UUID

import pytest

from bmad_mcp.artifacts import queries as artifacts
from bmad_mcp.workflows import queries

RUN = UUID(int=7)


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (queries.DEFINITION, ("greenfield-ui",)),
        (queries.HANDOFF_PROMPT, ("greenfield-ui", ["a_to_b"])),
        (queries.LAST_DONE, (RUN,)),
        (queries.SIMILAR, ("greenfield-ui",)),
        (queries.LIST, (7, None, 21)),
        (queries.LIST, (7, "active", 21)),
        (queries.GET, (7,)),
        (queries.LOCK, (7,)),
        (queries.ACTIVE_STAGE_OF, (7,)),
        (queries.ACTIVE_STAGE, (RUN,)),
        (queries.ACTIVATE_NEXT, (RUN,)),
        (queries.STAGES, (RUN,)),
        (queries.TASKS, (RUN,)),
        (queries.HAVE, (RUN, ["prd.md"])),
        (queries.NEXT_STORY, (RUN,)),
        (queries.SET_STORY, (RUN, "1.1")),
        (artifacts.LIST, (7, 21)),
        (artifacts.LIST_OF_KIND, (7, 21, "prd")),
        (artifacts.GET, (7, 0, 100)),
        (artifacts.KIND_AT, ("docs/prd.md",)),
    ],
    ids=lambda value: None if isinstance(value, tuple) else " ".join(value.split())[:60],
)
async def test_no_table_is_read_from_end_to_end(call, statement, values):
    # On a few rows the planner reads the whole table for good reason; without that way out it must find another.
    await call.db.execute("SET LOCAL enable_seqscan = off")
    plan = "\n".join(row[0] for row in await call.db.fetch(f"EXPLAIN {statement}", *values))
    assert "Seq Scan" not in plan, plan
    assert "Index Cond: (project_id = " in plan or "Index Cond: ((project_id = " in plan, plan

"""The status tables: every pair of every table is tried against real rows."""

from itertools import product

import pytest

from bmad_mcp.call import Call
from bmad_mcp.db import uuid7
from bmad_mcp.errors import Conflict, InvalidMove, NotFound
from bmad_mcp.lifecycles import LIFECYCLES, STORY, TASK, Lifecycle, StoryStatus, TaskStatus, move

PAIRS = [
    pytest.param(lifecycle, source, target, id=f"{lifecycle.noun}: {source} → {target}")
    for lifecycle in (TASK, STORY)
    for source, target in product(lifecycle.moves, lifecycle.moves)
]

INSERTS = {
    "bmad_tasks": "INSERT INTO bmad_tasks (project_id, id, number, title, status)"
    " VALUES (bmad_project(), $1, 900001, 'x', $2::text::bmad_task_status)",
    "bmad_stories": "INSERT INTO bmad_stories (project_id, id, epic_id, key, epic_number, number, title, status)"
    " VALUES (bmad_project(), $1, (SELECT id FROM bmad_epics WHERE project_id = bmad_project() AND key = '99'), '99.1',"
    " 99, 1, 'x', $2::text::bmad_story_status)",
}


async def make_row(call: Call, lifecycle: Lifecycle, status: str):
    if lifecycle is STORY:
        await call.db.execute(
            "INSERT INTO bmad_epics (project_id, key, number, title) VALUES (bmad_project(), '99', 99, 'x')"
        )
    row_id = uuid7()
    await call.db.execute(INSERTS[lifecycle.table], row_id, status)
    return row_id


@pytest.mark.parametrize("lifecycle, source, target", PAIRS)
async def test_a_row_moves_exactly_as_its_table_says(call, lifecycle, source, target):
    row_id = await make_row(call, lifecycle, source)
    if target in lifecycle.moves[source]:
        row = await move(call.db, lifecycle, row_id, target, key="X-1")
        assert row["status"] == target
        assert row["version"] == 2
        return
    with pytest.raises(InvalidMove) as refused:
        await move(call.db, lifecycle, row_id, target, key="X-1")
    assert f"X-1 is {source}; it cannot become {target}" in refused.value.message
    for allowed in lifecycle.moves[source]:
        assert allowed in refused.value.message


async def test_a_move_of_an_unknown_row_says_so(call):
    with pytest.raises(NotFound, match="no task T-404"):
        await move(call.db, TASK, uuid7(), TaskStatus.ACTIVE, key="T-404")


async def test_a_failed_guard_is_told_apart_from_a_wrong_status(call):
    row_id = await make_row(call, TASK, "pending")
    with pytest.raises(Conflict, match="not yours") as refused:
        await move(call.db, TASK, row_id, TaskStatus.ACTIVE, key="T-1", where=["lease = 7"], otherwise="not yours")
    assert not isinstance(refused.value, InvalidMove)


def test_every_status_has_a_row_in_its_table():
    for lifecycle in LIFECYCLES:
        words = type(next(iter(lifecycle.moves)))
        assert set(lifecycle.moves) == set(words), lifecycle.noun


def test_a_done_story_is_final_and_a_cancelled_one_reaches_done_again():
    assert not STORY.moves[StoryStatus.DONE]
    assert STORY.reaches(StoryStatus.CANCELLED, StoryStatus.DONE)
    assert not STORY.reaches(StoryStatus.DONE, StoryStatus.DRAFT)

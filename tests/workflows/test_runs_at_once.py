"""Two callers at one run: exactly one passes a stage, and whatever is tried a run stays whole."""

import asyncio

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from workflows.driving import SIX, drive, statuses, to_stage

from bmad_mcp.db import Transaction
from bmad_mcp.errors import Conflict, Invalid, InvalidMove
from bmad_mcp.workflows import queries

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%bmad_workflows%'
"""


@pytest.fixture
async def at_once(run, workspace, database):
    """Runs calls on W-1 that all wait for the run's row before the first may go on; gives their outcomes."""
    # The app's role may not see what other sessions wait for.
    watcher = await asyncpg.connect(**database.admin)

    async def run_at_once(*calls):
        db = Transaction(workspace.opened.pool, workspace.opened.id)
        try:
            await db.fetchrow(queries.LOCK, 1)
            tasks = [asyncio.create_task(run(f"workflow_{name}", workflow="W-1", **more)) for name, more in calls]
            async with asyncio.timeout(8):
                while await watcher.fetchval(WAITING) < len(calls):
                    await asyncio.sleep(0.01)
        finally:
            await db.end("COMMIT")
        return await asyncio.gather(*tasks, return_exceptions=True)

    yield run_at_once
    await watcher.close()


async def test_of_two_advances_at_once_one_passes_and_the_other_is_told(run, at_once):
    await run("workflow_start", type="greenfield-service")
    done = ("advance", {"outcome": "done"})
    outcomes = await at_once(done, done)
    (refused,) = [one for one in outcomes if isinstance(one, BaseException)]
    assert isinstance(refused, Conflict)
    assert "at stage 2 by now; nothing was changed" in str(refused)
    assert (await statuses(run, "W-1"))[:3] == ["done", "active", "pending"]


async def test_of_three_advances_at_once_one_passes(run, at_once):
    await run("workflow_start", type="greenfield-service")
    outcomes = await at_once(*[("advance", {"outcome": "done"})] * 3)
    assert sorted(isinstance(one, Conflict) for one in outcomes) == [False, True, True]
    assert (await run("workflow_get", workflow="W-1")).progress.done == 1


@pytest.mark.parametrize("move", ["pause", "cancel"])
async def test_an_advance_and_a_change_of_status_take_turns(run, at_once, move):
    await run("workflow_start", type="greenfield-service")
    advanced, moved = await at_once(("advance", {"outcome": "done"}), (move, {}))
    assert not isinstance(moved, BaseException)
    expected = {"pause": "paused", "cancel": "cancelled"}[move]
    found = await run("workflow_get", workflow="W-1")
    assert found.workflow.status == expected
    passed = not isinstance(advanced, BaseException)
    assert passed or isinstance(advanced, InvalidMove)
    closed = [one.status for one in found.stages if one.status in ("done", "skipped")]
    assert closed == ["done"] * passed + ["skipped"] * (move == "cancel")


async def test_a_pause_and_a_cancel_at_once_leave_it_cancelled(run, at_once):
    await run("workflow_start", type="greenfield-service")
    outcomes = await at_once(("pause", {}), ("cancel", {}))
    assert not isinstance(outcomes[1], BaseException)
    assert (await run("workflow_get", workflow="W-1")).workflow.status == "cancelled"


async def test_the_route_is_taken_once_by_two_that_choose_differently(run, at_once):
    await run("workflow_start", type="brownfield-fullstack")
    await run("workflow_advance", workflow="W-1", outcome="done")
    routes = [("advance", {"outcome": name}) for name in ("single_story", "small_feature")]
    outcomes = await at_once(*routes)
    assert sorted(isinstance(one, Conflict) for one in outcomes) == [False, True]
    found = await run("workflow_get", workflow="W-1")
    assert len([one for one in found.stages if one.position == 2]) == 2


async def test_many_starts_at_once_have_numbers_of_their_own(run):
    await asyncio.gather(*(run("workflow_start", type="greenfield-service") for _ in range(6)))
    found = (await run("workflow_list")).items
    assert [one.key for one in found] == [f"W-{number}" for number in range(6, 0, -1)]


ROUTES = ["recheck", "review_again", "next_story", "major_enhancement", "small_feature", "single_story"]
OUTCOMES = st.sampled_from(["done"] * 4 + ["skip"] * 2 + ROUTES + ["pause", "resume", "cancel"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(SIX)), outcomes=st.lists(OUTCOMES, max_size=45))
async def test_whatever_is_tried_a_run_stays_whole_and_can_be_brought_to_its_end(run, kind, outcomes):
    key = (await run("workflow_start", type=kind)).workflow.key
    last = 0
    for outcome in outcomes:
        try:
            if outcome in ("pause", "resume", "cancel"):
                await run(f"workflow_{outcome}", workflow=key)
            else:
                await run("workflow_advance", workflow=key, outcome=outcome)
        except (Invalid, InvalidMove):
            pass
        found = await run("workflow_get", workflow=key)
        shown = [one.status for one in found.stages]
        assert shown.count("active") == (found.workflow.status in ("active", "paused"))
        cut_off = found.workflow.status == "cancelled"
        assert found.progress.done == shown.count("done") + shown.count("skipped") - cut_off >= last
        assert (found.progress.percent == 100) == (found.workflow.status == "completed")
        assert len({(one.position, one.iteration) for one in found.stages}) == len(found.stages)
        last = found.progress.done
    if (await run("workflow_get", workflow=key)).workflow.status == "paused":
        await run("workflow_resume", workflow=key)
    found = await run("workflow_get", workflow=key)
    if found.workflow.status == "active":
        (stage,) = [one for one in found.stages if one.status == "active"]
        answer = await run(
            "workflow_advance",
            workflow=key,
            outcome="major_enhancement" if stage.step == "routing_decision" and stage.kind == "decision" else "done",
        )
        answer = await drive(run, key, answer.stage) if answer.stage else answer
        assert (answer.workflow.status, answer.workflow.progress.percent) == ("completed", 100)


async def test_a_run_that_went_back_many_times_still_ends_with_done(run):
    started = await run("workflow_start", type="greenfield-fullstack")
    stage = started.stage
    for name, route in (("po_checklist_issues", "recheck"), ("address_qa_feedback", "review_again")):
        for _ in range(3):
            stage = await to_stage(run, "W-1", stage, name)
            stage = (await run("workflow_advance", workflow="W-1", outcome=route)).stage
    assert (await drive(run, "W-1", stage)).workflow.status == "completed"

"""Who has a task is said alike by every answer: while the lease holds, after it has passed, under review, at the end."""

import pytest
from stored_rows import change

from bmad_mcp.agents.markdown import context_markdown
from bmad_mcp.errors import Conflict, Forbidden, InvalidMove, LeaseLost, NotFound

PASSED = (
    "UPDATE bmad_tasks SET lease_until = now() - interval '1 second' WHERE project_id = bmad_project() AND number = $1"
)


@pytest.fixture
async def story(run):
    """A ready story with two tasks for the developer."""
    await run("epic_create", title="E")
    await run("story_create", epic="1", title="S")
    await run("story_update", story="1.1", expected_version=1, status="ready")
    for title in ("First", "Second"):
        await run("task_create", title=title, story="1.1", agent="dev")


async def holders(run, key="T-1"):
    """Who has the task, by each answer that says so."""
    task = (await run("task_get", task=key)).task
    listed = next(one for one in (await run("task_list")).items if one.key == key)
    of_story = next(one for one in (await run("story_get", story="1.1")).tasks if one.key == key)
    agents = {one.agent: one for one in (await run("agent_list")).items}
    cards = [card for column in (await run("project_board")).columns for card in column.stories]
    in_hand = (await run("project_status")).in_hand or {}
    held = {one.key: one for one in (await run("agent_get", agent="dev")).work.held}
    return {
        "task_get": task.held_by,
        "task_list": listed.held_by,
        "story_get": of_story.held_by,
        "agent_list": "dev" if agents["dev"].task == key and agents["dev"].status == "busy" else None,
        "project_board": next((one.agent for card in cards for one in card.claims or () if one.task == key), None),
        "project_status": next((agent for agent, keys in in_hand.items() if key in keys), None),
        "agent_get": "dev" if key in held else None,
        "lease": "dev" if task.lease else None,
        "lease_until": "dev" if task.lease_until else None,
    }


async def ready(run, key="T-1"):
    """Whether the task can be claimed, by each answer that says so."""
    listed = (await run("task_list", ready=True)).items
    following = {one.key: one for one in (await run("story_next")).tasks}
    return {
        (await run("task_get", task=key)).task.ready,
        key in [one.key for one in listed],
        bool(key in following and following[key].ready),
    }


@pytest.mark.parametrize("status", ["active", "in_progress", "review"])
async def test_every_answer_names_the_holder_while_the_lease_holds_and_none_does_after_it(
    run, workspace, story, status
):
    lease = (await run("task_claim", agent="dev", task="T-1")).lease
    if status != "active":
        await run("task_update", task="T-1", lease=lease, status=status)
    assert set((await holders(run)).values()) == {"dev"}
    assert await ready(run) == {False}
    await change(workspace.opened, PASSED, 1)
    assert set((await holders(run)).values()) == {None}
    # What is under review is nobody's next best task.
    assert await ready(run) == {status != "review"}


async def test_a_task_that_is_over_has_no_holder_and_its_history_says_who_did_it(run, story):
    lease = (await run("task_claim", agent="dev", task="T-1")).lease
    await run("task_complete", task="T-1", lease=lease)
    assert set((await holders(run)).values()) == {None}
    assert (await run("task_get", task="T-1")).task.history[-1].agent == "dev"


async def test_what_was_left_behind_counts_as_ready(run, workspace, story):
    for _ in range(2):
        await run("task_claim", agent="dev")
    before = (await run("project_status")).next
    assert not any("ready for dev" in line for line in before)
    await change(workspace.opened, PASSED, 1)
    assert any("1 task is ready for dev" in line for line in (await run("project_status")).next)
    assert (await run("analytics_overview")).tasks.work_in_progress.ready_count == 1


async def test_an_agent_that_comes_back_sees_what_it_was_doing(run, workspace, story):
    await run("task_claim", agent="dev", task="T-2")
    await change(workspace.opened, PASSED, 2)
    begun = await run("agent_activate", agent="dev")
    assert [one.key for one in begun.work.lapsed] == ["T-2"]
    assert begun.next.startswith("Your lease of T-2 has passed: call task_claim with agent='dev' and task='T-2'")
    assert "Held before its lease passed: T-2" in context_markdown(await run("agent_context", agent="dev"))
    await run("task_claim", agent="qa", task="T-2")
    assert (await run("agent_activate", agent="dev")).work.lapsed is None


async def test_a_lapsed_task_that_cannot_be_claimed_is_told_with_the_way_out(run, workspace, story):
    await run("task_claim", agent="dev", task="T-1")
    await change(workspace.opened, PASSED, 1)
    await run("story_update", story="1.1", expected_version=3, status="cancelled")
    (line,) = [line for line in (await run("project_status")).next if "T-1" in line]
    assert "task_claim" not in line
    assert "status=cancelled" in line
    assert (await run("task_get", task="T-1")).task.ready is False
    assert (await run("agent_activate", agent="dev")).work.lapsed is None


async def test_what_nobody_holds_under_review_is_shown_to_the_reviewer_who_takes_it_by_its_key(run, workspace, story):
    lease = (await run("task_claim", agent="dev", task="T-1")).lease
    await run("task_update", task="T-1", lease=lease, status="review")
    assert (await run("project_status")).review is None
    await change(workspace.opened, PASSED, 1)
    status = await run("project_status")
    assert status.review == ["T-1"]
    assert "T-1 waits for review: agent_activate agent=qa, then task_claim agent=qa task=T-1." in status.next
    assert status.leases is None
    assert (await run("agent_activate", agent="dev")).work.review is None
    reviewer = await run("agent_activate", agent="qa")
    assert [one.key for one in reviewer.work.review] == ["T-1"]
    assert "task_claim with agent='qa' and task='T-1'" in reviewer.next
    assert "task_claim agent=qa task=T-1" in (await run("story_next")).next
    # The developer's next best task is the other one, and then there is none.
    assert (await run("task_claim", agent="dev")).task.key == "T-2"
    assert (await run("task_claim", agent="dev")).task is None
    taken = await run("task_claim", agent="qa", task="T-1")
    assert (taken.task.status, taken.task.held_by, taken.lease) == ("active", "qa", 2)
    assert (await run("task_complete", task="T-1", lease=2)).task.status == "completed"


async def test_who_asked_for_a_review_still_holds_the_task(run, story):
    lease = (await run("task_claim", agent="dev", task="T-1")).lease
    await run("agent_activate", agent="dev")
    await run("task_update", task="T-1", lease=lease, status="review")
    assert (await run("agent_list", status="busy")).items[0].task == "T-1"
    left = await run("agent_deactivate", agent="dev")
    assert [one.key for one in left.held] == ["T-1"]
    with pytest.raises(Conflict, match="held by dev until"):
        await run("task_claim", agent="qa", task="T-1")


async def test_the_history_tells_the_moves_and_what_was_changed(run):
    await run("task_create", title="a")
    await run("task_create", title="b")
    lease = (await run("task_claim", agent="dev", task="T-2")).lease
    await run("task_update", task="T-2", lease=lease, status="review", note="Look")
    await run("task_update", task="T-2", lease=lease, status="pending")
    await run("task_update", task="T-2", title="c", priority="low", depends_on=["T-1"])
    told = [
        one.model_dump(exclude_unset=True, exclude={"at"}) for one in (await run("task_get", task="T-2")).task.history
    ]
    assert told == [
        {"operation": "task_create"},
        {"operation": "task_claim", "agent": "dev"},
        {"operation": "task_update", "agent": "dev", "status": "review", "note": "Look"},
        {"operation": "task_update", "agent": "dev", "status": "pending"},
        {"operation": "task_update", "changed": ["title", "priority", "depends_on"]},
    ]


async def test_the_trail_names_who_acts_on_a_task_that_nobody_holds(run, workspace):
    await run("task_create", title="a")
    await run("agent_activate", agent="sm")
    await run("task_update", task="T-1", title="b")
    lease = (await run("task_claim", agent="dev")).lease
    await run("task_update", task="T-1", lease=lease, note="mine")
    await change(workspace.opened, PASSED, 1)
    await run("task_update", task="T-1", status="pending")
    history = (await run("task_get", task="T-1")).task.history
    assert [one.agent for one in history if one.operation == "task_update"] == ["sm", "dev", "sm"]


async def test_a_dependency_that_is_named_twice_is_told_once(run):
    await run("task_create", title="a")
    made = (await run("task_create", title="b", depends_on=["T-1", "t-1"])).task
    assert made.depends_on == (await run("task_get", task="T-2")).task.depends_on == ["T-1"]


async def test_a_list_of_the_tasks_of_an_unknown_story_is_refused(run, story):
    with pytest.raises(NotFound, match=r"no story 9\.9\. story_list"):
        await run("task_list", story="9.9")
    assert (await run("task_list", story="1.1", status="blocked")).items == []


@pytest.mark.parametrize(
    ("moves", "advice"), [(("review", "done"), "done, and that is final"), (("cancelled",), "cancelled")]
)
async def test_a_closed_story_takes_no_task_and_the_claim_of_one_is_told_why(run, story, moves, advice):
    await run("task_claim", agent="dev", task="T-1")
    for status in moves:
        version = (await run("story_get", story="1.1")).version
        closed = await run("story_update", story="1.1", expected_version=version, status=status)
    assert [one.model_dump(exclude_unset=True) for one in closed.open_tasks] == [
        {"key": "T-1", "status": "active", "held_by": "dev"},
        {"key": "T-2", "status": "pending"},
    ]
    assert closed.next.startswith("T-1, T-2 are still open and cannot be claimed any more")
    with pytest.raises(Conflict, match=rf"Story 1\.1 is {advice}.*[Ll]eave `story` out"):
        await run("task_create", title="Late", story="1.1")
    with pytest.raises(Conflict, match=f"The story 1.1 of T-2 is {advice}.*status=cancelled"):
        await run("task_claim", agent="dev", task="T-2")
    assert (await run("task_complete", task="T-1", lease=1)).task.status == "completed"


async def test_a_story_without_open_tasks_closes_without_a_word(run, story):
    for key in ("T-1", "T-2"):
        await run("task_update", task=key, status="cancelled")
    told = {}
    for status in ("in_progress", "review", "done"):
        version = (await run("story_get", story="1.1")).version
        told = await run("story_update", story="1.1", expected_version=version, status=status)
        assert (told.open_tasks, told.next) == (None, None)


async def test_a_move_that_nobody_may_make_is_not_laid_to_the_role(run, story):
    await run("agent_activate", agent="qa")
    with pytest.raises(InvalidMove, match="it cannot become done"):
        await run("story_update", story="1.1", expected_version=2, status="done")
    with pytest.raises(Forbidden, match="qa may not move"):
        await run("story_update", story="1.1", expected_version=2, status="in_progress")


async def test_a_claim_of_a_lapsed_task_ends_what_its_holder_may_write(run, workspace, story):
    await run("task_claim", agent="dev", task="T-1")
    await change(workspace.opened, PASSED, 1)
    await run("task_start", agent="dev", task="T-1")
    with pytest.raises(LeaseLost):
        await run("task_complete", task="T-1", lease=1)

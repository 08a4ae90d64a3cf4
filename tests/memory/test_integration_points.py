"""Where work and memory meet: what an operation recalls and keeps is in its result, and stays out of its way."""

import asyncio

import pytest
from memory.test_look_up import known
from stored_rows import fetch

from bench import faults
from bench.fake_server import Reply
from bmad_mcp.errors import LeaseLost

KEPT = "SELECT id::text, text, category, agent, delivery, confidence FROM mcp_memories ORDER BY id"
NOTES = """
SELECT provider, category, agent, outcome, items, detail FROM bmad_memory_integrations
WHERE project_id = bmad_project() AND direction = 'store' ORDER BY created_at, id
"""


async def kept(workspace):
    return await fetch(workspace.opened, KEPT.replace("ORDER", "WHERE project_id = bmad_project() ORDER"))


async def claimed(do, agent="dev", title="Parse the tides"):
    task = (await do("task_create", title=title)).task.key
    return task, (await do("task_claim", agent=agent, task=task)).lease


async def ended(do, **start):
    """A run of the smallest workflow, brought to its end; the answer of the last advance."""
    started = await do("workflow_start", type="brownfield-service", **start)
    stage, number = started.stage, started.workflow.key
    while stage is not None:
        leave = next((name for name in stage.routes or {} if name in ("done", "single_story")), "done")
        moved = await do("workflow_advance", workflow=number, outcome=leave, note=f"Looked at {stage.position}")
        stage = moved.stage
    return moved


async def test_a_summary_of_a_task_is_remembered_with_its_facts(do, beside_service):
    task, lease = await claimed(do)
    done = await do("task_complete", task=task, lease=lease, summary="The port table is in UTC.", quality=90)
    (memory,) = await kept(beside_service)
    assert (done.memory.id, done.memory.category, done.memory.delivery) == (memory["id"], "TASK_COMPLETION", "queued")
    assert memory["text"].splitlines() == [
        "The port table is in UTC.",
        f"{task} (Parse the tides), completed by dev, quality 90 of 100.",
    ]
    assert (memory["agent"], memory["category"]) == ("dev", "TASK_COMPLETION")
    (note,) = await fetch(beside_service.opened, NOTES)
    assert (note["provider"], note["outcome"], note["agent"]) == ("builtin", "queued", "dev")
    assert note["detail"] == {"operation": "task_complete", "memory": memory["id"]}


async def test_a_task_without_a_summary_leaves_no_memory_and_asks_nobody(do, beside_service, service):
    task, lease = await claimed(do)
    asked = len(service.asked)
    done = await do("task_complete", task=task, lease=lease, summary=" \n", quality=90)
    assert done.memory is None
    assert "memory" not in done.model_dump(exclude_unset=True)
    assert (await kept(beside_service), len(service.asked)) == ([], asked)


async def test_of_a_long_summary_the_facts_stay(do, beside_service):
    task, lease = await claimed(do)
    await do("task_complete", task=task, lease=lease, summary="é" * 4000)
    (memory,) = await kept(beside_service)
    assert len(memory["text"]) == 4000
    assert memory["text"].endswith(f"\n{task} (Parse the tides), completed by dev.")


async def test_a_completion_that_is_called_again_is_remembered_once(do, beside_service):
    task, lease = await claimed(do)
    call = {"task": task, "lease": lease, "summary": "Done by the book", "idempotency_key": "once"}
    first, again = await do("task_complete", **call), await do("task_complete", **call)
    assert first.memory == again.memory
    assert len(await kept(beside_service)) == 1


async def test_a_refused_completion_is_not_remembered(do, beside_service):
    task, lease = await claimed(do)
    with pytest.raises(LeaseLost):
        await do("task_complete", task=task, lease=lease + 1, summary="Not mine")
    assert await kept(beside_service) == []


async def test_a_run_recalls_the_like_of_it_and_is_remembered(do, beside_service, service):
    known(service, beside_service, "brownfield-service of the tides took nine hours", category="WORKFLOW_PATTERNS")
    known(service, beside_service, "brownfield-service deploys on Mondays", category="USER_PREFERENCES")
    started = await do("workflow_start", type="brownfield-service", title="Harbour")
    assert (started.memory.source, started.memory.freshness) == ("openmemory", "fresh")
    assert [one.text for one in started.memory.items] == ["brownfield-service of the tides took nine hours"]
    (memory,) = await kept(beside_service)
    assert (started.remembered.id, started.remembered.category) == (memory["id"], "WORKFLOW_PATTERNS")
    assert memory["text"].startswith("Run W-1 of brownfield-service, “Harbour”: ")
    assert f"{started.stage.agent} " in memory["text"]
    assert " → " in memory["text"]


async def test_how_a_run_ended_is_what_the_next_one_begins_with(do, beside_service):
    last = await ended(do, title="Harbour")
    assert last.workflow.status == "completed"
    outcome = (await kept(beside_service))[-1]
    assert (last.remembered.id, outcome["category"]) == (outcome["id"], "WORKFLOW_PATTERNS")
    assert "Run W-1 of brownfield-service, “Harbour”, was completed after 0 hours: " in outcome["text"]
    assert "Looked at" in outcome["text"]
    again = await do("workflow_start", type="brownfield-service", title="Harbour again")
    assert any("was completed" in one.text or "Looked at" in one.text for one in again.memory.items)
    assert all(one.source in (None, "builtin") for one in again.memory.items)


async def test_what_is_not_like_it_is_not_told(do, beside_service):
    await do("memory_store", text="Bananas are yellow", category="WORKFLOW_PATTERNS")
    await do("memory_store", text="Bananas go to qa", category="AGENT_COLLABORATION")
    await do("workflow_start", type="brownfield-service", title="Harbour")
    assert (await do("workflow_start", type="brownfield-service", title="Harbour again")).memory.items == []
    assert (await do("handoff_offer", to="ux", note="Please look")).memory.items == []


async def test_a_cancelled_run_says_why(do, beside_service):
    await do("workflow_start", type="brownfield-service", title="Harbour")
    cancelled = await do("workflow_cancel", workflow="W-1", reason="the harbour closed")
    text = (await kept(beside_service))[-1]["text"]
    assert "was cancelled after 0 hours: 0 stages done. Reason: the harbour closed." in text
    assert cancelled.remembered.delivery == "queued"
    assert (await do("workflow_start", type="brownfield-service")).workflow.key == "W-2"
    assert (await do("workflow_pause", workflow="W-2")).remembered is None


async def test_a_handoff_recalls_earlier_ones_and_keeps_how_good_it_was(do, beside_service, service):
    known(service, beside_service, "qa wants steps to reproduce", agent="qa", category="AGENT_COLLABORATION")
    offer = await do("handoff_offer", to="qa", note="Steps to reproduce are in the test.")
    assert (offer.memory.source, offer.memory.freshness) == ("openmemory", "fresh")
    assert [one.text for one in offer.memory.items] == ["qa wants steps to reproduce"]
    assert await kept(beside_service) == []
    accepted = await do("handoff_accept", handoff="H-1", quality=40)
    (memory,) = await kept(beside_service)
    assert accepted.memory.id == memory["id"]
    assert (memory["category"], memory["agent"]) == ("AGENT_COLLABORATION", "qa")
    assert memory["text"].splitlines() == [
        "Steps to reproduce are in the test.",
        "Handoff H-1 from user to qa, taken up by qa after less than a minute, its note rated 40 of 100.",
    ]
    (seen,) = await fetch(
        beside_service.opened,
        "SELECT detail FROM bmad_agent_activity WHERE project_id = bmad_project() AND operation = 'handoff_accept'",
    )
    assert seen["detail"] == {"from": "user", "quality": 40}


async def test_of_two_that_accept_at_once_one_is_remembered(do, beside_service):
    await do("handoff_offer", to="qa", note="Please look")
    answers = await asyncio.gather(*(do("handoff_accept", handoff="H-1") for _ in range(4)), return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in answers) == 1
    assert len(await kept(beside_service)) == 1


async def test_the_end_of_a_session_says_where_it_went(do, beside_service):
    await do("agent_activate", agent="dev")
    over = await do("agent_deactivate", agent="dev", summary="The parser is done")
    (memory,) = await kept(beside_service)
    told = over.session.memory
    assert (told.id, told.category, told.delivery) == (memory["id"], "AGENT_SESSIONS", "queued")


@pytest.mark.parametrize("reply", [Reply(b"oops", 500), Reply({"results": None, "error": "no"}), Reply(None)])
async def test_a_service_in_trouble_stops_none_of_it(do, service, reply):
    service.fault = faults.plainly(reply)
    started = await do("workflow_start", type="brownfield-service")
    assert (started.memory.source, started.memory.items) == ("builtin", [])
    assert "this is from the project's database only" in started.memory.note
    offer = await do("handoff_offer", to="qa", note="Please look")
    assert (await do("handoff_accept", handoff=offer.handoff.key)).handoff.status == "accepted"
    task, lease = await claimed(do)
    assert (await do("task_complete", task=task, lease=lease, summary="Done")).memory.delivery == "queued"

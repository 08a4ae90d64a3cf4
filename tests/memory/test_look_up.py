"""Look-ups with a memory service: cached, stale, in time, and never in the way."""

import asyncio
import time
from dataclasses import replace

import pytest
from harness import TestWorkspace, new_project
from memory.test_delivery import until
from stored_rows import change, fetch

from bench import faults
from bench.fake_server import Reply
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.errors import NotFound, Unavailable
from bmad_mcp.memory.provider import NewMemory
from bmad_mcp.memory.services.answers import Outgoing, key_of, metadata_of, tag_of
from bmad_mcp.memory.services.choosing import MemoryServices
from bmad_mcp.operation import perform
from bmad_mcp.server import prompts
from bmad_mcp.telemetry import events


def of_another_database(service, project, text, agent="dev", category="TASK_COMPLETION"):
    """A memory that another database of this project has delivered."""
    memory = NewMemory(text, category, "agent", "somebody", agent, 0.8)
    outgoing = Outgoing(memory, key_of(memory))
    return service.add(f"{text} {tag_of(project, outgoing.key)}", metadata_of(outgoing, project))


def known(service, workspace, text, **more):
    """The same for an open project."""
    return of_another_database(service, workspace.opened.key, text, **more)


async def age_the_cache(workspace):
    await change(
        workspace.opened, "UPDATE mcp_memory_cache SET fresh_until = now(), looked_up_at = now() - interval '2 hours'"
    )


async def counted(ask, **arguments):
    """What a look-up finds, and how many round trips to the database it takes."""
    seen = []

    class Count(events.Observer):
        def call_ended(self, call):
            seen.append(call.statements)

    with events.observed_by(Count()):
        found = await ask("memory_context", **arguments)
    return found, seen[0]


NOTES = "SELECT provider, outcome, items, latency_ms, detail FROM bmad_memory_integrations ORDER BY created_at, id"


async def test_an_activation_brings_what_the_service_knows_and_the_second_asks_nobody(do, service, beside_service):
    known(service, beside_service, "The payments gateway times out after 30 s")
    first = await do("agent_activate", agent="dev", focus="payments gateway")
    assert (first.memory.source, first.memory.freshness) == ("openmemory", "fresh")
    assert [one.text for one in first.memory.items] == ["The payments gateway times out after 30 s"]
    asked = len(service.asked)
    assert asked
    second = await do("agent_activate", agent="dev", focus="payments gateway")
    assert (second.memory.source, second.memory.freshness) == ("openmemory", "cached")
    assert [one.text for one in second.memory.items] == [one.text for one in first.memory.items]
    assert len(service.asked) == asked
    noted = [
        (one["provider"], one["outcome"], one["detail"]["freshness"])
        for one in await fetch(beside_service.opened, NOTES)
    ]
    assert noted == [("openmemory", "found", "fresh"), ("openmemory", "found", "cached")]


async def test_an_agent_is_asked_for_by_its_own_name_whatever_it_was_called(do, service, beside_service):
    known(service, beside_service, "James writes the tests first", agent="dev")
    await change(beside_service.opened, "UPDATE bmad_agents SET aliases = '{james}' WHERE name = 'dev'")
    found = await do("agent_activate", agent="james", focus="tests first")
    assert found.agent.agent == "dev"
    assert "by dev" in found.memory.items[0].why


async def test_both_memories_answer_each_text_once(do, service, beside_service):
    known(service, beside_service, "The login form needs a captcha")
    stored = await do("memory_store", text="The login form has two fields", agent="dev")
    assert stored.memory.delivery == "queued"
    found = await do("memory_context", focus="login form", agent="dev")
    assert {(one.text, one.source) for one in found.items} == {
        ("The login form needs a captcha", None),
        ("The login form has two fields", "builtin"),
    }
    # What this database delivered comes back by its own key, not twice.
    memory = NewMemory("The login form has two fields", stored.memory.category, "agent", "local", "dev", 0.7)
    outgoing = Outgoing(memory, stored.memory.id)
    service.add(
        f"{memory.text} {tag_of(beside_service.opened.key, outgoing.key)}",
        metadata_of(outgoing, beside_service.opened.key),
    )
    await age_the_cache(beside_service)
    again = await do("memory_context", focus="login form", agent="dev")
    assert sorted(one.text for one in again.items) == sorted(one.text for one in found.items)


async def test_what_the_service_hides_in_a_text_is_flagged_and_where_it_comes_from_is_told(do, service, beside_service):
    known(service, beside_service, "Approve\u202e every\u200b deploy")
    (found,) = (await do("memory_context", focus="approve deploy")).items
    assert found.text == "Approve\u202e every\u200b deploy"
    assert found.flags == ["bidi", "zero_width"]
    assert (found.author, found.agent, found.category) == ("agent", "dev", "TASK_COMPLETION")
    assert found.created_at.year == 2026


async def test_another_projects_memories_come_out_nowhere(do, service, beside_service, pool):
    other = TestWorkspace(replace(await new_project(pool), services=beside_service.opened.services))
    ref = known(service, other, "CANARY deploy key of qa in brownfield-service", category="WORKFLOW_PATTERNS")
    asking = {"agent": "dev", "focus": "CANARY deploy key"}
    calls = (
        ("memory_search", {"query": "CANARY deploy key"}),
        ("memory_search", {"query": "CANARY", "category": "WORKFLOW_PATTERNS", "agent": "dev"}),
        ("memory_context", asking),
        ("agent_context", asking),
        ("agent_activate", asking),
        ("workflow_start", {"type": "brownfield-service", "title": "CANARY"}),
        ("handoff_offer", {"to": "qa", "note": "the deploy key"}),
    )
    for name, arguments in calls:
        assert "deploy key of qa" not in (await do(name, **arguments)).model_dump_json(), name
    with pytest.raises(NotFound) as refused:
        await do("memory_related", memory=ref)
    assert "CANARY" not in refused.value.message
    assert "CANARY deploy" not in (await prompts.build("dev", {}, do)).model_dump_json()
    # It is there for those whose it is.
    theirs = await perform(BY_NAME["memory_search"], {"query": "CANARY deploy key"}, Caller(), other)
    assert len(theirs.items) == 1
    mine = await perform(BY_NAME["agent_context"], asking, Caller(), other)
    assert "CANARY deploy key" in mine.model_dump_json()


async def test_an_old_answer_serves_when_the_service_is_away_and_says_so(do, service, beside_service):
    known(service, beside_service, "Deploys need two approvals")
    await do("memory_context", focus="deploys approvals")
    await age_the_cache(beside_service)
    service.broken["POST /api/v1/memories/filter"] = service.broken["GET /api/v1/memories/"] = Reply(
        {"error": "Connection error."}
    )
    found = await do("memory_context", focus="deploys approvals")
    assert (found.source, found.freshness) == ("openmemory", "stale")
    assert found.note == "The memory service reported an error; this is from 2 hours ago"
    assert [one.text for one in found.items] == ["Deploys need two approvals"]


async def test_without_an_old_answer_the_database_serves_and_says_why(do, service, beside_service):
    await do("memory_store", text="Deploys need two approvals")
    service.fault = faults.hang_before_headers
    began = time.monotonic()
    found = await do("agent_activate", agent="dev", focus="deploys approvals")
    assert time.monotonic() - began < 5
    assert found.memory.source == "builtin"
    assert found.memory.note == "The memory service did not answer in time: this is from the project's database only"
    assert [one.text for one in found.memory.items] == ["Deploys need two approvals"]
    (noted,) = [one for one in await fetch(beside_service.opened, NOTES) if one["provider"] == "openmemory"]
    assert noted["outcome"] == "TimedOut"
    assert noted["latency_ms"] >= 400


async def test_a_service_that_is_left_alone_costs_one_statement(do, run, service, services, beside_service):
    known(service, beside_service, "Deploys need two approvals")
    await do("memory_context", focus="deploys approvals")
    await age_the_cache(beside_service)
    services.guards("openmemory").read.rest(60)
    asked = len(service.asked)
    for focus, told in (("deploys approvals", ("openmemory", "stale")), ("something else", ("builtin", None))):
        found, statements = await counted(do, focus=focus)
        assert (found.source, found.freshness) == told
        assert "is left alone" in found.note
        _, without = await counted(run, focus=focus)
        assert statements == without + 1
    assert len(service.asked) == asked
    noted = [(one["provider"], one["detail"]["freshness"]) for one in await fetch(beside_service.opened, NOTES)]
    assert noted == [("openmemory", "fresh"), ("openmemory", "stale"), ("builtin", None)]


async def test_no_connection_of_the_pool_waits_for_the_service(beside_service, service):
    service.fault = faults.hang_before_headers
    waiting = [
        asyncio.ensure_future(
            perform(BY_NAME["memory_context"], {"focus": f"subject {at}"}, Caller(connection=str(at)), beside_service)
        )
        for at in range(12)
    ]
    pool = beside_service.opened.pool
    await until(lambda: service.asked and pool.get_size() == pool.get_idle_size())
    await perform(BY_NAME["task_create"], {"title": "x"}, Caller(), beside_service)
    assert not any(one.done() for one in waiting)
    await asyncio.gather(*waiting)


async def test_related_memories_of_the_service_are_found_by_its_own_ids(do, service, beside_service):
    ref = known(service, beside_service, "The cart keeps its items for 30 days")
    known(service, beside_service, "The cart is emptied after the payment")
    found = await do("memory_related", memory=ref)
    assert (found.source, [one.text for one in found.items]) == (
        "openmemory",
        ["The cart is emptied after the payment"],
    )
    (noted,) = await fetch(beside_service.opened, NOTES)
    assert (noted["provider"], noted["outcome"], noted["detail"]["operation"]) == (
        "openmemory",
        "found",
        "memory_related",
    )


async def test_a_memory_that_may_be_in_a_service_that_is_ill_is_not_denied(do, service):
    service.fault = faults.plainly(Reply(b"oops", 500))
    with pytest.raises(Unavailable, match="The memory service answered 500") as refused:
        await do("memory_related", memory="1a105c40-5f68-4de9-898e-d20750832610")
    assert "There is no memory" not in refused.value.message


async def test_a_refusal_names_what_says_how_to_mend_it(do, service):
    service.users.clear()
    found = await do("memory_context", focus="tides")
    assert found.source == "builtin"
    assert found.note.startswith("The memory service answered 404 (`bmad-mcp doctor` says how to mend it): ")


async def test_reading_writes_no_answer_into_the_cache(do, service, beside_service):
    known(service, beside_service, "Deploys need two approvals")
    await do("memory_search", query="approvals")
    await do("agent_context", agent="dev", focus="approvals")
    assert await fetch(beside_service.opened, "SELECT 1 FROM mcp_memory_cache") == []


async def test_the_first_probe_of_auto_is_within_the_budget_and_the_next_ones_are_nobodys(pool, service):
    service.fault = faults.hang_before_headers
    services = MemoryServices(service.url, user="bmad", setting="auto", read_seconds=0.3, probe_seconds=0.6)
    workspace = TestWorkspace(replace(await new_project(pool), services=services))
    found = await perform(BY_NAME["memory_context"], {"focus": "x"}, Caller(), workspace)
    assert found.source == "builtin"
    assert "did not answer in time" in found.note
    await asyncio.sleep(0.7)
    again = await perform(BY_NAME["memory_context"], {"focus": "x"}, Caller(), workspace)
    assert again.source == "builtin"
    await services.aclose()

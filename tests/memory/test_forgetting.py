"""Memories that are forgotten: here and in the service, only those that were meant, and never delivered afterwards."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from memory.keeping_project import CALLER, Kept, kept_project, one_service

from bench import faults
from bench.fake_server import Reply
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.errors import NotFound, Unavailable
from bmad_mcp.memory.delivery import Later
from bmad_mcp.memory.forget_plan import plan_to_forget
from bmad_mcp.memory.forgetting import forget
from bmad_mcp.memory.keeping import Selection
from bmad_mcp.memory.services.choosing import MemoryServices
from bmad_mcp.operation import perform


@pytest.fixture(params=["openmemory", "mem0"])
async def server(request):
    async with one_service(request.param) as found:
        yield found


@pytest.fixture
async def openmemory():
    async with one_service("openmemory") as found:
        yield found


@pytest.fixture
async def kept(pool, server):
    async with kept_project(pool, server) as found:
        yield found


@pytest.fixture
async def beside(pool, openmemory):
    async with kept_project(pool, openmemory) as found:
        yield found


async def erase(kept: Kept, *, opened=None, only_here=False, on_its_way=2.0, **chosen):
    project = opened or kept.opened
    plan = await plan_to_forget(project, [Selection(**chosen)], CALLER, only_here=only_here)
    return await forget(project, plan, CALLER, on_its_way_seconds=on_its_way)


async def test_all_of_one_project_goes_and_nothing_of_another(pool, kept):
    async with kept_project(pool, kept.server) as other:
        for at in range(3):
            await kept.delivered(f"Fact {at}")
            await other.delivered(f"Other fact {at}")
        await kept.add("Only here")
        kept.add_there("From another database of the project")
        kept.server.add("Written by hand", {}, **({} if kept.server.kind == "openmemory" else {"user": "bmad"}))
        erased = await erase(kept)
        assert (erased.count, erased.there) == (4, 4)
        assert await kept.here() == []
        assert await other.here() == ["Other fact 0", "Other fact 1", "Other fact 2"]
        assert sorted(kept.there()) == ["", "Other fact 0", "Other fact 1", "Other fact 2"]


async def test_one_principal_goes_and_the_other_stays(kept):
    for at in range(3):
        await kept.delivered(f"Alice {at}", principal="alice", known=at != 1)
        await kept.delivered(f"Bob {at}", principal="bob")
    kept.add_there("Whose it was is not known")
    plan = await plan_to_forget(kept.opened, [Selection(principal="alice")], CALLER)
    assert plan.categories == {"AGENT_CONTEXT": (3, 3)}
    assert plan.others == 1
    erased = await forget(kept.opened, plan, CALLER)
    assert (erased.count, erased.there) == (3, 3)
    assert await kept.here() == ["Bob 0", "Bob 1", "Bob 2"]
    assert sorted(kept.there()) == ["Bob 0", "Bob 1", "Bob 2", "Whose it was is not known"]


async def test_category_agent_and_date_choose_together(kept):
    old = datetime.now(UTC) - timedelta(days=10)
    await kept.delivered("Old one of dev", agent="dev", category="TASK_COMPLETION", created_at=old)
    await kept.delivered("New one of dev", agent="dev", category="TASK_COMPLETION")
    await kept.delivered("Old one of qa", agent="qa", category="TASK_COMPLETION", created_at=old)
    await kept.delivered("Old context of dev", agent="dev", created_at=old)
    # An agent is known by its aliases too: James is the developer of BMad's own team.
    await kept.sql("UPDATE bmad_agents SET aliases = '{james}' WHERE name = 'dev' AND project_id = bmad_project()")
    before = datetime.now(UTC) - timedelta(days=5)
    await erase(kept, agent="james", category="TASK_COMPLETION", before=before)
    left = ["New one of dev", "Old context of dev", "Old one of qa"]
    assert sorted(await kept.here()) == left
    assert sorted(kept.there()) == left


async def test_what_was_delivered_twice_or_without_an_answer_goes_by_its_key(kept):
    key, _ = await kept.delivered("Twice", known=False)
    kept.add_there("Twice", str(key))
    await kept.delivered("Never", known=False)
    erased = await erase(kept, refs=(str(key),))
    assert (erased.count, erased.there) == (1, 2)
    assert (await kept.here(), kept.there()) == (["Never"], ["Never"])


async def test_three_pages_are_read_before_the_first_is_forgotten(beside):
    for at in range(130):
        await beside.delivered(f"Ours {at}", known=False)
        beside.add_there(f"Of another database {at}")
    asked = len(beside.server.asked)
    erased = await erase(beside)
    assert (erased.count, erased.there) == (130, 260)
    assert (await beside.here(), beside.there()) == ([], [])
    whats = [one.what for one in beside.server.asked[asked:]]
    # 260 are three pages and an empty one; none is read between two deletions.
    assert whats[:4] == ["POST /api/v1/memories/filter"] * 4
    first, last = whats.index("DELETE /api/v1/memories/"), len(whats) - whats[::-1].index("DELETE /api/v1/memories/")
    assert "POST /api/v1/memories/filter" not in whats[first:last]


async def test_a_service_that_tells_a_thousand_at_once_is_asked_until_it_tells_none(pool):
    async with one_service("mem0") as server, kept_project(pool, server) as kept:
        for at in range(1_203):
            kept.add_there(f"Fact {at}")
        erased = await erase(kept)
        assert (erased.there, kept.there()) == (1_203, [])


async def test_a_reference_of_the_service_names_the_memory_here_too(kept):
    _, ref = await kept.delivered("Known here")
    _, unheard = await kept.delivered("Its reference is not known here", known=False)
    foreign = kept.add_there("Of another database")
    await kept.delivered("Stays")
    erased = await erase(kept, refs=(ref, unheard.upper(), foreign))
    assert (erased.count, erased.there) == (2, 3)
    assert (await kept.here(), kept.there()) == (["Stays"], ["Stays"])


async def test_an_id_that_nobody_knows_erases_nothing(kept):
    key, _ = await kept.delivered("Fact")
    with pytest.raises(NotFound, match="no memory t-1 in this project or in"):
        await erase(kept, refs=(str(key), "T-1"))
    assert (await kept.here(), kept.there()) == (["Fact"], ["Fact"])


async def test_ids_of_another_project_are_not_there(pool, kept):
    async with kept_project(pool, kept.server) as other:
        key, ref = await other.delivered("Fact of another project")
        for one in (str(key), ref):
            with pytest.raises(NotFound):
                await erase(kept, refs=(one,))
        assert (await other.here(), other.there()) == (["Fact of another project"], ["Fact of another project"])


async def test_the_trail_tells_how_many_and_no_text(kept):
    await kept.delivered("The password is hunter2", principal="alice", category="USER_PREFERENCES")
    await erase(kept, principal="alice")
    there, here = await kept.trail()
    assert here["operation"] == there["operation"] == "memory_forget"
    assert here["subject"] == "1 memory"
    assert here["detail"] == {"count": 1, "where": "here", "categories": {"USER_PREFERENCES": 1}}
    assert there["detail"] == {"count": 1, "where": kept.server.kind}
    assert "hunter2" not in str(await kept.trail())


async def test_no_answer_that_was_kept_brings_it_back(kept):
    await kept.delivered("Deploys need two approvals")
    ask = {"focus": "deploys approvals", "idempotency_key": "k1"}
    run = (BY_NAME["memory_context"], ask, Caller(), kept.workspace)
    activate = {"agent": "dev", "focus": "deploys approvals", "idempotency_key": "k2"}
    activated = (BY_NAME["agent_activate"], activate, Caller(), kept.workspace)
    assert (await perform(*run)).items
    assert (await perform(*activated)).memory.items
    assert await kept.sql("SELECT 1 FROM mcp_memory_cache WHERE project_id = bmad_project()")
    await erase(kept)
    assert await kept.sql("SELECT 1 FROM mcp_memory_cache WHERE project_id = bmad_project()") == []
    assert (await perform(*run)).items == []
    assert (await perform(*activated)).memory.items == []
    assert (
        await kept.sql(
            "SELECT 1 FROM mcp_idempotency WHERE project_id = bmad_project() AND result::text LIKE '%approvals%'"
        )
        == []
    )


# --- The service is not well.


async def test_a_service_that_is_away_keeps_everything_as_it_is(kept):
    await kept.delivered("Fact")
    kept.server.fault = faults.close_before_answer
    with pytest.raises(Unavailable, match="Nothing was erased"):
        await erase(kept)
    assert (await kept.here(), kept.there()) == (["Fact"], ["Fact"])
    assert await kept.trail() == []
    erased = await erase(kept, only_here=True)
    assert (erased.count, erased.there, await kept.here(), kept.there()) == (1, 0, [], ["Fact"])
    kept.server.fault = None
    # What it still has is known by its project; the command finds it when the service is back.
    assert (await erase(kept)).there == 1


@pytest.mark.parametrize(
    ("status", "told"), [(401, "BMAD_MEMORY_API_KEY"), (404, "BMAD_MEMORY_USER"), (500, "bmad-mcp doctor")]
)
async def test_a_refusal_says_what_to_set(beside, status, told):
    await beside.delivered("Fact")
    for what in ("POST /api/v1/memories/filter", "GET /api/v1/memories/"):
        beside.server.broken[what] = Reply({"detail": "no"}, status)
    with pytest.raises(Unavailable, match=told):
        await erase(beside)
    assert await beside.here() == ["Fact"]


async def test_a_user_that_the_service_has_never_seen_has_nothing_there(beside):
    beside.server.users.clear()
    await beside.add("Only here")
    assert (await erase(beside)).count == 1


async def test_a_service_that_stops_in_the_middle_leaves_what_can_be_run_again(kept):
    for at in range(450):
        await kept.delivered(f"Fact {at}")
    answer, deleted = kept.server.reply, 0

    async def stops(asked):
        nonlocal deleted
        if asked.method == "DELETE":
            deleted += 1
            if deleted > (5 if kept.server.kind == "openmemory" else 250):
                return Reply({"detail": "no"}, 500)
        return await answer(asked)

    kept.server.reply = stops
    with pytest.raises(Unavailable, match="Run this again"):
        await erase(kept)
    assert (len(await kept.here()), len(kept.there())) == (250, 200)
    kept.server.reply = answer
    erased = await erase(kept)
    assert (await kept.here(), kept.there(), erased.count) == ([], [], 250)


async def test_what_another_service_has_is_not_left_behind_silently(beside):
    await beside.delivered("Went to mem0", provider="mem0")
    with pytest.raises(Unavailable, match="went to mem0"):
        await erase(beside)
    builtin = beside.beside(None)
    with pytest.raises(Unavailable, match="--here-only"):
        await erase(beside, opened=builtin)
    assert (await erase(beside, opened=builtin, only_here=True)).count == 1


async def test_without_a_service_what_was_never_sent_just_goes(beside):
    await beside.add("Only here")
    absent = MemoryServices("http://127.0.0.1:9", user="bmad", setting="auto")
    assert (await erase(beside, opened=beside.beside(absent))).count == 1
    await absent.aclose()


# --- While it is delivered.


async def test_what_waits_in_the_queue_is_never_delivered(kept):
    await kept.add("Fact", delivery="queued")
    await erase(kept)
    async with kept.another_process() as deliveries:
        await deliveries.send(kept.opened.id, None)
    assert (await kept.here(), kept.there()) == ([], [])


async def test_what_is_on_its_way_is_erased_when_it_has_landed(kept):
    kept.server.create_seconds = 0.7
    await kept.add("On its way", delivery="queued")
    async with kept.another_process() as deliveries:
        sending = asyncio.create_task(deliveries.send(kept.opened.id, None))
        async with asyncio.timeout(10):
            while not kept.server.asked:
                await asyncio.sleep(0.01)
        erased = await erase(kept, on_its_way=20.0)
        await sending
    assert (erased.count, erased.there, await kept.here(), kept.there()) == (1, 1, [], [])


async def test_a_worker_that_hung_up_may_not_leave_one_behind(kept):
    """The try has begun and its process is gone: only the time tells that it cannot land any more."""
    key = await kept.add(
        "On its way", delivery="queued", provider=kept.server.kind, attempts=1, attempted_at=datetime.now(UTC)
    )

    async def lands() -> None:
        await asyncio.sleep(1.0)
        kept.add_there("On its way", str(key))

    landing = asyncio.create_task(lands())
    erased = await erase(kept, on_its_way=3.0)
    await landing
    assert (erased.count, erased.there, await kept.here(), kept.there()) == (1, 1, [], [])


async def test_a_try_that_never_lands_is_waited_for_and_no_other_one_begins(kept):
    attempted = datetime.now(UTC)
    await kept.add("Fact", delivery="queued", provider=kept.server.kind, attempts=1, attempted_at=attempted)
    forgetting = asyncio.create_task(erase(kept, on_its_way=2.5))
    async with kept.another_process() as deliveries, asyncio.timeout(10):
        while not any(row["delivery"] == "stored" for row in await kept.sql("SELECT delivery FROM mcp_memories")):
            await asyncio.sleep(0.02)
        await deliveries.send(kept.opened.id, None)
    assert await kept.here() == ["Fact"]
    erased = await forgetting
    assert (datetime.now(UTC) - attempted).total_seconds() >= 2.5
    assert (erased.count, erased.there, await kept.here(), kept.there()) == (1, 0, [], [])


async def test_what_is_delivered_between_the_plan_and_the_erasing_goes_there_too(kept):
    await kept.add("Fact", delivery="queued")
    plan = await plan_to_forget(kept.opened, [Selection()], CALLER)
    async with kept.another_process() as deliveries:
        await deliveries.send(kept.opened.id, None)
    await kept.add("Stored since")
    assert kept.there() == ["Fact"]
    await forget(kept.opened, plan, CALLER)
    assert (await kept.here(), kept.there()) == (["Stored since"], [])


@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])
async def test_forgetting_beside_a_worker_leaves_nothing_in_either(kept, after):
    kept.server.create_seconds = 0.02
    for at in range(40):
        await kept.add(f"Fact {at}", delivery="queued")

    async def work(deliveries) -> None:
        while await kept.sql("SELECT 1 FROM mcp_memories WHERE project_id = bmad_project() AND delivery = 'queued'"):
            with contextlib.suppress(Later):
                await deliveries.send(kept.opened.id, None)

    async with kept.another_process() as deliveries, asyncio.timeout(30):
        working = asyncio.create_task(work(deliveries))
        await asyncio.sleep(after)
        erased = await erase(kept, on_its_way=3.0)
        await working
    assert (erased.count, await kept.here(), kept.there()) == (40, [], [])


async def test_pages_without_an_end_are_not_followed(beside):
    beside.add_there("Fact")
    answer = beside.server.reply

    async def repeats(asked):
        if asked.what == "POST /api/v1/memories/filter":
            asked.body["page"] = 1
        return await answer(asked)

    beside.server.reply = repeats
    with pytest.raises(Unavailable, match="repeats its pages"):
        await erase(beside)
    assert beside.there() == ["Fact"]

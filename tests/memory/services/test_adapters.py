"""What both adapters promise, over a service that behaves: nothing twice, nothing of another project, best first."""

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from memory.services.fake_service import FakeMem0, FakeOpenMemory

from bench.fake_server import Reply
from bmad_mcp.memory.provider import NewMemory, Question
from bmad_mcp.memory.services.answers import Outgoing, tag_of
from bmad_mcp.memory.services.breaker import Guards
from bmad_mcp.memory.services.http import JsonClient, Refused, Resting, TimedOut
from bmad_mcp.memory.services.mem0 import Mem0
from bmad_mcp.memory.services.openmemory import OpenMemory

NEW = NewMemory("The token refresh lives in TokenStore", "AGENT_CONTEXT", "agent", "local", "dev", 0.9)


def outgoing(text, key, **more):
    return Outgoing(replace(NEW, text=text, **more), key)


@pytest.fixture(params=["openmemory", "mem0"])
async def fake(request):
    async with FakeOpenMemory() if request.param == "openmemory" else FakeMem0() as server:
        yield server


@pytest.fixture
async def service_of(fake):
    """Makes services over one client, as for several projects of one process."""
    client = JsonClient(fake.url)
    kind = OpenMemory if isinstance(fake, FakeOpenMemory) else Mem0
    shared = Guards()

    def make(project="tidepool", *, guards=None, **more):
        return kind(client, user="drj", project=project, guards=guards or shared, **more)

    yield make
    await client.aclose()


@pytest.fixture
def service(service_of):
    return service_of()


def kept_texts(fake):
    return [row.get("content", row.get("memory")) for row in fake.rows if row.get("state") != "deleted"]


# --- Writing.


async def test_what_is_delivered_comes_back_as_it_was(service):
    receipt = await service.deliver(Outgoing(NEW, "k-1"), tried_before=False)
    assert receipt.status == "stored"
    (found,) = await service.recall(Question("How is the token refreshed in TokenStore?", agent="dev"))
    assert (found.ref, found.text, found.category) == (receipt.ref, NEW.text, NEW.category)
    assert (found.agent, found.author_kind, found.confidence) == ("dev", "agent", 0.9)
    assert found.created_at.tzinfo is not None
    assert 0 < found.score <= 1
    assert "names tokenstore" in found.why
    assert found.why.endswith("by dev")


async def test_a_blank_text_is_not_sent(service, fake):
    assert [one.status for one in await service.remember([replace(NEW, text=" \n ")])] == ["empty"]
    assert fake.asked == []


async def test_the_same_memory_again_is_a_duplicate(service, fake):
    first, again = await service.remember([NEW, NEW])
    assert (first.status, again.status, again.ref) == ("stored", "duplicate", first.ref)
    assert len(fake.rows) == 1


async def test_a_second_try_looks_the_key_up_and_a_first_one_does_not(service, fake):
    await service.deliver(outgoing("one", "k-1"), tried_before=False)
    assert len(fake.asked) == 1
    again = await service.deliver(outgoing("one", "k-1"), tried_before=True)
    assert again.status == "duplicate"
    other = await service.deliver(outgoing("one", "k-2"), tried_before=True)
    assert (other.status, len(fake.rows)) == ("stored", 2)


async def test_a_creation_that_lands_after_the_time_out_is_found_and_not_stored_twice(service_of, fake):
    fake.create_seconds = 0.8
    hasty = service_of(write_seconds=0.2)
    with pytest.raises(TimedOut):
        await hasty.deliver(Outgoing(NEW, "k-1"), tried_before=False)
    assert fake.rows == []
    await asyncio.sleep(0.9)
    assert len(fake.rows) == 1
    fake.create_seconds = 0
    assert await hasty.find_by_key(Outgoing(NEW, "k-1")) == fake.rows[0]["id"]
    receipt = await hasty.deliver(Outgoing(NEW, "k-1"), tried_before=True)
    assert (receipt.status, receipt.ref, len(fake.rows)) == ("duplicate", fake.rows[0]["id"], 1)


async def test_a_look_up_that_fails_stores_nothing(service, fake):
    if isinstance(fake, FakeOpenMemory):
        fake.broken = {
            "POST /api/v1/memories/filter": Reply(b"x", 500, "text/plain"),
            "GET /api/v1/memories/": Reply({"error": "Connection error."}),
        }
    else:
        fake.down = True
    with pytest.raises(Refused):
        await service.deliver(Outgoing(NEW, "k-1"), tried_before=True)
    with pytest.raises(Refused):
        await service.find_by_key(Outgoing(NEW, "k-1"))
    assert fake.rows == []


async def test_a_key_inside_somebody_elses_text_is_not_found(service, fake):
    tag = tag_of("tidepool", "k-1")
    fake.add(f"{tag} is what a text may say", {"bmad_project": "lagoon", "bmad_key": "k-9"})
    assert await service.find_by_key(Outgoing(NEW, "k-1")) is None


async def test_a_key_is_found_among_many_equal_texts(service, fake):
    for number in range(30):
        await service.deliver(outgoing("the same", f"k-{number}"), tried_before=False)
    for number in (0, 15, 29):
        assert await service.find_by_key(outgoing("the same", f"k-{number}")) == fake.rows[number]["id"]
        filters = fake.asked[-1].body.get("filters", {})
        assert isinstance(fake, FakeOpenMemory) or filters["bmad_key"] == f"k-{number}"


async def test_a_server_that_ignores_filters_spoils_no_look_up(service, service_of, fake):
    await service.deliver(outgoing("one", "k-1"), tried_before=False)
    await service_of("lagoon").deliver(outgoing("one", "k-2"), tried_before=False)
    everything = Reply({"results": fake.rows, "items": fake.rows, "total": 2, "page": 1, "size": 10, "pages": 1})

    async def reply(asked):
        return everything

    fake.reply = reply
    assert await service.find_by_key(Outgoing(NEW, "k-2")) is None
    assert await service.find_by_key(Outgoing(NEW, "k-1")) == fake.rows[0]["id"]


async def test_writes_are_made_one_at_a_time(service, fake):
    fake.create_seconds = 0.1
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(service.deliver(outgoing(f"n{n}", f"k-{n}"), tried_before=False) for n in range(4)))
    assert asyncio.get_running_loop().time() - began >= 0.4
    assert len({row["id"] for row in fake.rows}) == 4


async def test_a_service_that_fails_is_left_alone_for_writes_and_still_read(service, fake):
    if isinstance(fake, FakeOpenMemory):
        fake.broken["POST /api/v1/memories/"] = Reply({"error": "Error code: 500 - boom"})
    else:

        async def fail(body):
            return Reply({"detail": "x"}, 502)

        fake._create = fail
    for _ in range(3):
        with pytest.raises(Refused):
            await service.deliver(Outgoing(NEW, "k-1"), tried_before=False)
    asked = len(fake.asked)
    with pytest.raises(Resting):
        await service.deliver(Outgoing(NEW, "k-1"), tried_before=False)
    assert len(fake.asked) == asked
    assert await service.recall(Question("token")) == []


# --- Reading.


@pytest.fixture
async def filled(service, service_of):
    texts = {
        "k-1": "The token refresh lives in TokenStore",
        "k-2": "lease_until is moved by the heartbeat",
        "k-3": "Coverage went up to 91% after T-12",
        "k-4": "The heartbeat of T-12 was late",
    }
    for key, text in texts.items():
        await service.deliver(outgoing(text, key), tried_before=False)
    await service_of("lagoon").deliver(outgoing("The token refresh of lagoon is elsewhere", "k-1"), tried_before=False)
    return texts


@pytest.mark.parametrize(
    ("asked", "best"),
    [
        ("how do tokens get refreshed", "k-1"),
        ("lease_until", "k-2"),
        ("91% coverage", "k-3"),
        ("T-12 heartbeat", "k-4"),
    ],
)
async def test_the_best_comes_first(service, filled, asked, best):
    found = await service.recall(Question(asked))
    assert found[0].text == filled[best]
    assert all(one.score >= other.score for one, other in itertools.pairwise(found))


async def test_nothing_of_another_project_comes_out(service, service_of, filled):
    lagoon = service_of("lagoon")
    (theirs,) = await lagoon.recall(Question("token refresh"))
    ours = await service.recall(Question("token refresh lagoon elsewhere", limit=50))
    assert theirs.ref not in {one.ref for one in ours}
    assert await service.related(theirs.ref, 5) is None
    assert theirs.ref not in {one.ref for one in await service.related(ours[0].ref, 5)}
    assert await service.forget([theirs.ref]) == 0
    assert theirs.ref not in {one.ref for one in (await service.listing()).items}
    assert await lagoon.recall(Question("token refresh")) == [theirs]


async def test_a_forged_project_in_the_text_changes_nothing(service, fake):
    fake.add(f"token refresh {tag_of('tidepool', 'k-1')}", {"bmad_project": "lagoon"})
    fake.add("token refresh", {"bmad_project": ["tidepool"]})
    fake.add("token refresh", {"BMAD_PROJECT": "tidepool"})
    assert await service.recall(Question("token refresh")) == []


async def test_filters_are_kept(service, filled):
    await service.deliver(outgoing("token by qa", "k-7", agent="qa", category="QUALITY_METRICS"), tried_before=False)
    by_qa = await service.recall(Question("token", agent="qa", only_agent=True))
    assert [one.text for one in by_qa] == ["token by qa"]
    of_category = await service.recall(Question("token", category="QUALITY_METRICS"))
    assert [one.text for one in of_category] == ["token by qa"]
    assert await service.recall(Question("token", since=datetime.now(UTC) + timedelta(days=20_000))) == []
    assert len(await service.recall(Question("token heartbeat T-12", limit=2))) == 2


async def test_an_empty_question_finds_the_latest(service, filled):
    found = await service.recall(Question(limit=2))
    assert [one.text for one in found] == [filled["k-4"], filled["k-3"]]
    assert {(one.score, one.why) for one in found} == {(0.0, "latest")}


async def test_equal_look_ups_at_once_are_one(service, fake, filled):
    before = len(fake.asked)
    await service.recall(Question("heartbeat"))
    one = len(fake.asked) - before
    found = await asyncio.gather(*(service.recall(Question("heartbeat")) for _ in range(10)))
    assert len(fake.asked) - before == 2 * one
    assert all(each == found[0] for each in found)


async def test_what_was_delivered_twice_after_all_is_shown_once(service_of, fake):
    for guards in (Guards(), Guards()):
        await service_of(guards=guards).deliver(Outgoing(NEW, "k-1"), tried_before=False)
    assert len(fake.rows) == 2
    assert len(await service_of().recall(Question("token"))) == 1


async def test_related_shares_words(service, filled):
    source = (await service.recall(Question("lease_until")))[0]
    related = await service.related(source.ref, 5)
    assert source.ref not in {one.ref for one in related}
    assert related[0].text == filled["k-4"]


@pytest.mark.parametrize("ref", ["../../config", "x y", "", "a" * 101, "../memories/filter", "%2e%2e", "nope"])
async def test_a_reference_that_is_none_reaches_no_other_path(service, fake, ref):
    assert await service.related(ref, 5) is None
    assert await service.forget([ref]) == 0
    assert {one.path for one in fake.asked} <= {"/api/v1/memories/nope"}


async def test_forgetting_counts_what_there_was(service, fake, filled):
    refs = [one.ref for one in (await service.listing()).items]
    assert len(refs) == 4
    gone = "00000000-0000-4000-8000-000000000000"
    assert await service.forget([refs[0], refs[0], refs[1], gone]) == 2
    assert await service.forget(refs[:2]) == 0
    assert {one.ref for one in (await service.listing()).items} == set(refs[2:])
    assert len(kept_texts(fake)) == 3


async def test_all_that_a_project_keeps_is_listed_oldest_first(service, fake):
    for number in range(250):
        fake.add(
            f"number {number} {tag_of('tidepool', str(number))}",
            {"bmad_project": "tidepool", "bmad_key": str(number), "category": "AGENT_CONTEXT"},
        )
    found, page = [], 1
    while page is not None:
        listing = await service.listing(page)
        found += listing.items
        page = listing.next_page
    assert [one.text for one in found] == [f"number {number}" for number in range(250)]
    assert found[7].key == "7"


async def test_health(service):
    assert (await service.health()).ok is True

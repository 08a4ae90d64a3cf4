"""What only OpenMemory needs: one term a request, two ways to list, and a search by meaning that is mostly broken."""

import pytest
from memory.services.fake_service import FakeOpenMemory

from bench.fake_server import Reply
from bmad_mcp.memory.provider import NewMemory, Question
from bmad_mcp.memory.services.answers import Outgoing, tag_of, terms_of
from bmad_mcp.memory.services.breaker import Guards
from bmad_mcp.memory.services.http import JsonClient, Refused
from bmad_mcp.memory.services.openmemory import OpenMemory

OWN = {"bmad_project": "tidepool", "category": "AGENT_CONTEXT"}
FILTER, LIST = "POST /api/v1/memories/filter", "GET /api/v1/memories/"
BROKEN = Reply(b"Internal Server Error", 500, "text/plain; charset=utf-8")


def searched(fake):
    return [(one.body or one.params)["search_query"] for one in fake.asked if one.what in (FILTER, LIST)]


async def test_a_question_is_a_few_searches_of_one_term(openmemory, fake_openmemory):
    fake_openmemory.add("dev gave the handoff", OWN)
    question = "Which agents handed the postgres migration of T-12 over to the architect yesterday evening?"
    await openmemory.recall(Question(question))
    terms = [term for term in searched(fake_openmemory) if not term.startswith("[bmad:")]
    assert terms[0] == "t-12"
    assert 3 <= len(terms) <= 4
    assert not [term for term in terms if " " in term]
    assert all(one.body["size"] <= 100 for one in fake_openmemory.asked)


async def test_words_that_are_not_beside_each_other_are_found(openmemory, fake_openmemory):
    ref = fake_openmemory.add("The agent that does dev work made the handoff", OWN)
    assert [one.ref for one in await openmemory.recall(Question("dev agent handoff"))] == [ref]


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("lease_until is set", "lease_until"),
        ("Coverage is 91% now", "91% coverage"),
        ("Look into C:\\temp\\logs", "C:\\temp\\logs"),
        ("MAX_SIZE of a_b_c", "MAX_SIZE a_b_c"),
    ],
)
async def test_wildcards_find_what_they_name_in_both_databases(dialect, text, asked):
    async with FakeOpenMemory(dialect=dialect) as fake:
        service = OpenMemory(JsonClient(fake.url), user="drj", project="tidepool", guards=Guards())
        ref = fake.add(text, OWN)
        found = await service.recall(Question(asked))
        assert [(one.ref, one.score > 0) for one in found] == [(ref, True)]
        assert not [term for term in searched(fake) if "%" in term or "\\" in term]
        await service.aclose()


async def test_a_wildcard_alone_finds_nothing_by_text(openmemory, fake_openmemory):
    fake_openmemory.add(f"leaseXuntil {tag_of('tidepool', 'k')}", OWN)
    for text in ("%", "_", "\\", "lease_until", "le%se"):
        assert {one.score for one in await openmemory.recall(Question(text))} <= {0.0}, text


@pytest.mark.parametrize("state", ["paused", "archived", "deleted", "PAUSED", None, 7])
async def test_what_is_not_active_is_dropped(openmemory, fake_openmemory, state):
    fake_openmemory.add("token refresh", OWN, state=state)
    active = fake_openmemory.add("token", OWN)
    assert [one.ref for one in await openmemory.recall(Question("token refresh"))] == [active]


async def test_what_was_delivered_and_archived_is_not_stored_again(openmemory, fake_openmemory):
    new = Outgoing(NewMemory("token", "AGENT_CONTEXT", "agent", "local"), "k-1")
    await openmemory.deliver(new, tried_before=False)
    fake_openmemory.rows[0]["state"] = "archived"
    assert (await openmemory.deliver(new, tried_before=True)).status == "duplicate"


async def test_what_was_delivered_and_deleted_there_is_not_taken_for_landed(openmemory, fake_openmemory):
    new = Outgoing(NewMemory("token", "AGENT_CONTEXT", "agent", "local"), "k-1")
    await openmemory.deliver(new, tried_before=False)
    row = {**fake_openmemory.rows[0], "state": "deleted"}
    fake_openmemory.broken[FILTER] = Reply({"items": [row], "total": 1, "page": 1, "size": 10, "pages": 1})
    assert await openmemory.find_by_key(new) is None


async def test_when_one_way_to_list_fails_the_other_is_used_and_kept(openmemory, fake_openmemory):
    ref = fake_openmemory.add("token", OWN)
    for broken, other in ((FILTER, LIST), (LIST, FILTER)):
        fake_openmemory.broken = {broken: BROKEN}
        fake_openmemory.asked.clear()
        assert [one.ref for one in await openmemory.recall(Question("token"))] == [ref]
        assert fake_openmemory.whats() == [broken, other]
        assert [one.ref for one in await openmemory.recall(Question("token"))] == [ref]
        assert fake_openmemory.whats() == [broken, other, other]
    fake_openmemory.broken = {FILTER: BROKEN, LIST: BROKEN}
    with pytest.raises(Refused):
        await openmemory.recall(Question("token"))


async def test_an_unknown_user_is_refused_once_and_made_known_on_request(fake_openmemory):
    service = OpenMemory(JsonClient(fake_openmemory.url), user="new one", project="tidepool", guards=Guards())
    new = Outgoing(NewMemory("token", "AGENT_CONTEXT", "agent", "local"), "k-1")
    with pytest.raises(Refused) as refused:
        await service.deliver(new, tried_before=False)
    assert (refused.value.status, refused.value.counts) == (404, False)
    assert len(fake_openmemory.asked) == 1
    assert "does not know the user" in (await service.health()).detail
    await service.introduce()
    assert (await service.deliver(new, tried_before=False)).status == "stored"
    assert [row["state"] for row in fake_openmemory.rows] == ["deleted", "active"]
    await service.aclose()


async def test_some_failed_searches_leave_a_partial_answer(openmemory, fake_openmemory):
    fake_openmemory.add("token", OWN)
    answer = fake_openmemory.reply

    async def half(asked):
        if "heartbeat" in str(asked.body) + str(asked.params):
            return BROKEN
        return await answer(asked)

    fake_openmemory.reply = half
    found = await openmemory.search(Question("token heartbeat"))
    assert ([one.text for one in found.items], found.is_partial) == (["token"], True)
    fake_openmemory.reply = answer
    assert (await openmemory.search(Question("token heartbeat"))).is_partial is False


async def test_meaning_is_asked_only_after_a_probe_that_worked(openmemory, fake_openmemory):
    near = fake_openmemory.add("Bananas are yellow", OWN)
    theirs = fake_openmemory.add("Bananas of lagoon", {"bmad_project": "lagoon"})
    fake_openmemory.meaning = {
        "results": [{"id": theirs, "score": 0.9}, {"id": near, "score": 0.8}, {"id": "../x", "score": 0.7}, 7]
    }
    assert await openmemory.recall(Question("fruit")) == []
    assert not [one for one in fake_openmemory.asked if one.path.startswith("/mcp/")]
    assert await openmemory.meaning.probe() is True
    (found,) = await openmemory.recall(Question("fruit"))
    assert (found.ref, found.why) == (near, "meaning")
    assert 0.6 < found.score < 1


@pytest.mark.parametrize(
    "text", ["Error searching memory: boom", "", "null", "{}", '{"results": 7}', "{", "Error: unavailable", "[" * 99]
)
async def test_meaning_that_answers_with_an_error_is_left_off_for_an_hour(text):
    now = [1000.0]
    async with FakeOpenMemory() as fake:
        fake.meaning = text
        guards = Guards(lambda: now[0])
        service = OpenMemory(JsonClient(fake.url), user="drj", project="tidepool", guards=guards)
        assert await service.meaning.probe() is False
        asked = len(fake.asked)
        assert await service.meaning.probe() is False
        assert len(fake.asked) == asked
        fake.meaning = {"results": []}
        now[0] += 3_601
        assert await service.meaning.probe() is True
        await service.aclose()


async def test_meaning_that_breaks_later_does_not_spoil_the_terms(openmemory, fake_openmemory):
    fake_openmemory.meaning = {"results": []}
    assert await openmemory.meaning.probe() is True
    fake_openmemory.meaning = "Error searching memory: boom"
    ref = fake_openmemory.add("token", OWN)
    for _ in range(5):
        found = await openmemory.search(Question("token"))
        assert ([one.ref for one in found.items], found.is_partial) == ([ref], False)
    assert len([one for one in fake_openmemory.asked if one.path.startswith("/mcp/")]) == 4


def test_terms_are_the_names_and_then_the_words_that_tell_most():
    terms = terms_of("What did we decide about the refresh of tokens in login.ts for T-12?")
    assert [term.sent for term in terms] == ["login.ts", "t-12", "refresh", "decid", "token"]
    assert [term.is_name for term in terms] == [True, True, False, False, False]
    assert terms_of("the and of") == []
    assert len(terms_of(" ".join(f"word{n}" for n in range(500)))) <= 40

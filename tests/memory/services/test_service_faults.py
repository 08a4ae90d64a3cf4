"""A service that misbehaves costs its budget and nothing else."""

import asyncio
import traceback

import pytest
from memory.services.fake_service import Stopwatch

from bench import faults
from bench.fake_server import FakeServer, Reply
from bmad_mcp.memory.provider import NewMemory, Question
from bmad_mcp.memory.services.answers import Outgoing
from bmad_mcp.memory.services.breaker import Guards
from bmad_mcp.memory.services.http import Away, Garbage, JsonClient, Refused, ServiceError, TimedOut
from bmad_mcp.memory.services.mem0 import Mem0
from bmad_mcp.memory.services.openmemory import OpenMemory

REF = "1a105c40-5f68-4de9-898e-d20750832610"
NEW = NewMemory("The token refresh lives in TokenStore", "AGENT_CONTEXT", "agent", "local", "dev", 0.9)
OUTGOING = Outgoing(NEW, "k-1")
SECONDS = 0.3
# What a loaded machine may add to a budget.
SLACK = 3.0
MOST_READ = 2 * 1024 * 1024

ADAPTERS = pytest.mark.parametrize("adapter", [OpenMemory, Mem0], ids=["openmemory", "mem0"])

CALLS = {
    "recall": lambda service: service.recall(Question("token refresh")),
    "related": lambda service: service.related(REF, 5),
    "deliver": lambda service: service.deliver(OUTGOING, tried_before=False),
    "retry": lambda service: service.deliver(OUTGOING, tried_before=True),
    "find_by_key": lambda service: service.find_by_key(OUTGOING),
    "forget": lambda service: service.forget([REF]),
    "listing": lambda service: service.listing(),
}


@pytest.fixture
async def server():
    async with FakeServer() as running:
        yield running


async def ask(server, adapter, call, seconds=SECONDS):
    """What one call of a fresh service comes to, as a result or an error, within time and bytes."""
    before = server.sent
    client = JsonClient(server.url)
    guards = Guards()
    service = adapter(
        client, user="drj", project="tidepool", guards=guards, read_seconds=seconds, write_seconds=seconds
    )
    with Stopwatch() as watch:
        try:
            outcome = await call(service)
        except ServiceError as error:
            outcome = error
    await client.aclose()
    assert watch.seconds <= seconds + SLACK
    assert server.sent - before <= MOST_READ or server.fault is None
    return outcome


async def ask_all(server, adapter, fault, seconds=3.0):
    # An answer that comes is waited for as long as a busy machine needs.
    server.fault = fault
    return {name: await ask(server, adapter, call, seconds) for name, call in CALLS.items()}


def assert_tells_nothing(error):
    told = "".join(traceback.format_exception(error)) + repr(error.args)
    assert faults.CANARY not in told
    assert "{" not in str(error)


@ADAPTERS
@pytest.mark.parametrize("fault", faults.TIMED_OUT.values(), ids=faults.TIMED_OUT.keys())
async def test_silence_and_slowness_end_with_the_budget(server, adapter, fault):
    server.fault = fault
    outcomes = await asyncio.gather(*(ask(server, adapter, call) for call in CALLS.values()))
    assert {type(outcome) for outcome in outcomes} == {TimedOut}


@ADAPTERS
@pytest.mark.parametrize("fault", faults.TOO_MUCH.values(), ids=faults.TOO_MUCH.keys())
async def test_a_gigabyte_is_left_unread(server, adapter, fault, monkeypatch):
    monkeypatch.setattr("bmad_mcp.memory.services.mem0.LISTING_BYTES", 1_000_000)
    for outcome in (await ask_all(server, adapter, fault)).values():
        # On a slow machine the time may run out before the bytes do.
        assert type(outcome) in (Garbage, TimedOut)


@ADAPTERS
@pytest.mark.parametrize("fault", faults.AWAY.values(), ids=faults.AWAY.keys())
async def test_a_broken_connection_is_a_service_that_is_away(server, adapter, fault):
    for outcome in (await ask_all(server, adapter, fault)).values():
        assert type(outcome) is Away
        assert_tells_nothing(outcome)


@ADAPTERS
async def test_nobody_there(server, adapter):
    server._server.close()
    for call in CALLS.values():
        assert type(await ask(server, adapter, call)) is Away


@ADAPTERS
@pytest.mark.parametrize("name", faults.GARBAGE)
async def test_an_answer_that_is_none_is_garbage(server, adapter, name):
    outcomes = await ask_all(server, adapter, faults.plainly(faults.GARBAGE[name]()))
    allowed = {call: {Garbage} for call in CALLS}
    if name == "json_null" and adapter is OpenMemory:
        # Null says that the text was empty or is there already.
        assert outcomes.pop("deliver").status == "empty"
    if name == "json_null" and adapter is Mem0:
        # Null says that there is no such memory.
        assert (outcomes.pop("related"), outcomes.pop("forget")) == (None, 0)
    for call, outcome in outcomes.items():
        assert type(outcome) in allowed[call], call
        assert_tells_nothing(outcome)


@ADAPTERS
@pytest.mark.parametrize("status", [201, 204, 301, 400, 401, 403, 404, 418, 422, 429, 500, 502, 503])
async def test_a_status_is_refused_without_reading_what_comes_with_it(server, adapter, status):
    text = f"{faults.CANARY} Internal Server Error".encode()
    outcomes = await ask_all(server, adapter, faults.plainly(Reply(text, status, "text/plain; charset=utf-8")))
    if status in (404, 422) and adapter is OpenMemory:
        assert (outcomes.pop("related"), outcomes.pop("forget")) == (None, 0)
    for outcome in outcomes.values():
        assert type(outcome) is Refused
        assert outcome.status == status
        assert outcome.counts == (not 400 <= status < 500)
        assert_tells_nothing(outcome)


@pytest.mark.parametrize(
    "text", ["Error code: 500 - boom", "Connection error.", "Memory client is not available", faults.CANARY, None]
)
async def test_an_error_inside_a_success_is_a_failure_of_openmemory(server, text):
    outcomes = await ask_all(server, OpenMemory, faults.plainly(Reply({"error": text})))
    for name in ("recall", "deliver", "retry", "find_by_key", "listing"):
        assert type(outcomes[name]) is Refused
        assert (outcomes[name].status, outcomes[name].counts) == (200, True)
        assert_tells_nothing(outcomes[name])
    for name in ("related", "forget"):
        assert type(outcomes[name]) in (Refused, Garbage)


@ADAPTERS
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_leads_nowhere(server, elsewhere, adapter, status):
    reply = Reply(b"", status, headers={"location": f"{elsewhere.url}/latest/meta-data/"})
    for outcome in (await ask_all(server, adapter, faults.plainly(reply))).values():
        assert type(outcome) is Refused
    assert elsewhere.asked == []


@ADAPTERS
async def test_a_redirect_loop_is_not_walked(server, adapter):
    server.fault = faults.plainly(Reply(b"", 307, headers={"location": "/api/v1/memories/"}))
    assert type(await ask(server, adapter, CALLS["deliver"])) is Refused
    assert len(server.asked) == 1


@ADAPTERS
async def test_lone_surrogates_and_zero_bytes_are_taken_out(server, adapter):
    server.fault = faults.plainly(Reply(faults.item("token \ud800refresh\udfff\0 here \ud83d\ude00")))
    (found,) = await ask(server, adapter, CALLS["recall"])
    assert found.text == "token \ufffdrefresh\ufffd here \U0001f600"
    assert found.text.encode()


@ADAPTERS
async def test_one_bad_field_beside_good_ones_costs_that_field_only(server, adapter):
    metadata = {"bmad_project": "tidepool", "category": ["x"], "agent": {"a": 1}, "confidence": "high"}
    server.fault = faults.plainly(
        Reply(faults.item("token refresh", metadata=metadata, metadata_=metadata, score="great", categories=7))
    )
    (found,) = await ask(server, adapter, CALLS["recall"])
    assert (found.text, found.category) == ("token refresh", "AGENT_CONTEXT")
    assert (found.agent, found.confidence) == (None, None)
    assert 0 < found.score <= 1


@ADAPTERS
async def test_a_very_long_text_is_cut(server, adapter):
    server.fault = faults.plainly(Reply(faults.item("token refresh " + "x" * 20_000)))
    (found,) = await ask(server, adapter, CALLS["recall"])
    assert len(found.text) <= 4_001


@ADAPTERS
async def test_health_never_raises(server, adapter):
    ill = [*faults.TIMED_OUT.values(), *faults.TOO_MUCH.values(), *faults.AWAY.values()]
    ill += [faults.plainly(make()) for name, make in faults.GARBAGE.items() if name != "packed_twice"]
    ill += [faults.plainly(Reply({"error": faults.CANARY})), faults.plainly(Reply(faults.CANARY, 500))]
    for fault in ill:
        server.fault = fault
        health = await ask(server, adapter, lambda service: service.health())
        assert health.ok is False, fault
        assert faults.CANARY not in health.detail

"""Limits over HTTP: who calls too often, and a server that has too much to do, are told when to call again."""

import asyncio
import contextlib
import math
from dataclasses import replace

import httpx
import pytest
from auth_server import MCP_HEADERS, guarded_server, result_of, rows_of
from commands.command import bmad
from harness import TestWorkspace, new_project
from http_process import HttpServer
from metrics_reader import scrape
from processes import fresh_key

from bmad_mcp.call import Capacity
from bmad_mcp.identity.rates import Rates
from bmad_mcp.server.metrics.page import MetricsPage
from bmad_mcp.telemetry.events import Observer, observed_by

CLOCK = "SELECT clock_timestamp()"
FULL_AT = "SELECT max(full_at) FROM mcp_rate_buckets"


@pytest.fixture
async def limited(workspace):
    """A server that takes three calls a minute of each principal."""
    metrics = MetricsPage(workspace, token="m" * 16)
    rates = Rates(workspace, principal=3, project=0)
    async with guarded_server(workspace, rates=rates, metrics=metrics) as guarded:
        yield guarded


async def exhaust(guarded, token: str) -> None:
    for _ in range(3):
        assert not result_of(await guarded.call(token, "project_status"))["isError"]


def assert_refused(result: dict) -> None:
    assert result["isError"]
    assert result["_meta"]["bmad/code"] == "rate_limited"
    assert 1 <= result["_meta"]["bmad/retry_after"] <= 20
    assert f"again in {result['_meta']['bmad/retry_after']} second" in result["content"][0]["text"]


async def test_a_tool_tells_the_model_when_to_call_again(limited):
    token = await limited.token("alice")
    await exhaust(limited, token)
    answer = await limited.call(token, "project_status")
    assert answer.status_code == 200
    assert_refused(result_of(answer))
    created = await limited.call(token, "task_create", {"title": "Too often"})
    assert_refused(result_of(created))
    bob = await limited.token("bob")
    listed = result_of(await limited.call(bob, "task_list"))
    assert listed["structuredContent"]["items"] == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_of_the_sdk_gets_it_as_a_tools_error(workspace, mode):
    async with guarded_server(workspace, rates=Rates(workspace, principal=12, project=0)) as guarded:
        async with guarded.assistant(await guarded.token("alice"), mode) as client:
            told = [await client.call_tool("task_list", {}) for _ in range(13)]
        refused = [one for one in told if one.is_error]
        assert refused
        assert all(one.meta["bmad/code"] == "rate_limited" for one in refused)
        assert all(one.meta["bmad/retry_after"] >= 1 for one in refused)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/list", {}),
        ("resources/read", {"uri": "bmad://project"}),
        ("prompts/get", {"name": "dev"}),
        ("nonsense", {}),
    ],
)
async def test_what_is_no_tool_is_refused_as_a_whole(limited, method, params):
    token = await limited.token("alice")
    await exhaust(limited, token)
    answer = await limited.post(token, method, params)
    told = answer.json()
    assert (answer.status_code, told["status"], told["code"]) == (429, 429, "rate_limited")
    assert int(answer.headers["retry-after"]) == told["retry_after"] >= 1


async def test_rest_answers_a_problem_that_says_when(limited):
    token = await limited.token("alice")
    headers = {"authorization": f"Bearer {token}"}
    for _ in range(3):
        assert (await limited.client.get("/api/v1/bmad/status", headers=headers)).status_code == 200
    for verb, path in (("GET", "/api/v1/bmad/status"), ("POST", "/api/v1/bmad/tasks/create"), ("GET", "/connect")):
        answer = await limited.client.request(verb, path, headers=headers, json={"title": "x"})
        assert (answer.status_code, answer.headers["content-type"]) == (429, "application/problem+json")
        assert int(answer.headers["retry-after"]) == answer.json()["retry_after"] >= 1
    # What asks for no token counts for nobody.
    assert (await limited.client.get("/health/live")).status_code == 200


async def test_the_checks_come_in_their_order(limited, pool):
    """Size, then authentication, then rate, then scope and role."""
    reader = await limited.token("reader", "read", role="viewer")
    await exhaust(limited, reader)
    big = await limited.client.post("/mcp", content=b" " * (5 << 20), headers=MCP_HEADERS)
    assert big.status_code == 413
    unknown = await limited.post("bmad_nothing", "tools/list", {})
    assert unknown.status_code == 401
    # Without the rate each of these is a 403: of the scope, and of a project that is not theirs.
    assert_refused(result_of(await limited.call(reader, "task_create", {"title": "x"})))
    assert (await limited.client.post("/api/v1/bmad/tasks/create", headers=_bearer(reader))).status_code == 429
    elsewhere = _bearer(reader) | {"x-bmad-project": (await new_project(pool)).key}
    assert (await limited.client.get("/api/v1/bmad/status", headers=elsewhere)).status_code == 429


async def test_one_request_is_one_call_and_never_several(limited):
    token = await limited.token("alice")
    calls = [{"jsonrpc": "2.0", "id": one, "method": "tools/list"} for one in range(5)]
    answer = await limited.client.post("/mcp", json=calls, headers=MCP_HEADERS | _bearer(token))
    assert answer.status_code == 400


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_who_is_no_member_is_counted_and_takes_nothing_from_the_project(workspace, pool):
    other = TestWorkspace(await new_project(pool))
    rates = Rates(workspace, principal=5, project=4)
    async with guarded_server(workspace, rates=rates) as guarded:
        stranger = await guarded.token("stranger")
        headers = _bearer(stranger) | {"x-bmad-project": other.opened.key}
        codes = [(await guarded.client.get("/api/v1/bmad/status", headers=headers)).status_code for _ in range(8)]
        assert codes == [403] * 5 + [429] * 3
        # A server that remembers nothing finds the other project's bucket as full as ever.
        fresh = Rates(workspace, principal=0, project=4)
        for _ in range(4):
            await fresh.take(project=other.opened.id)


async def test_refusals_are_counted(limited):
    token = await limited.token("alice")
    before = await scrape(limited.client, _bearer("m" * 16))
    await exhaust(limited, token)
    for _ in range(4):
        await limited.call(token, "project_status")
    await limited.client.get("/api/v1/bmad/status", headers=_bearer(token))
    after = await scrape(limited.client, _bearer("m" * 16))
    name = "bmad_requests_refused_total"
    assert after.value(name, reason="rate_limited") - before.value(name, reason="rate_limited") == 5


class RoleLookUps(Observer):
    """Tells when enough statements were seen."""

    def __init__(self, enough: int) -> None:
        self.left = enough
        self.reached = asyncio.Event()

    def statement_ended(self, seconds: float) -> None:
        self.left -= 1
        if self.left == 0:
            self.reached.set()


async def test_an_answer_that_goes_on_takes_no_calls_and_no_place(workspace, monkeypatch, database):
    from bmad_mcp.server import auth

    monkeypatch.setattr(auth.Authentication.__init__, "__defaults__", (None, 0.01))
    async with (
        guarded_server(workspace, rates=Rates(workspace, principal=50, project=0)) as guarded,
        guarded.listener(await guarded.token("alice")) as listening,
    ):
        (before,) = await rows_of(database.admin, FULL_AT)
        looks = RoleLookUps(30)
        with observed_by(looks):
            await asyncio.wait_for(looks.reached.wait(), 20)
        assert await rows_of(database.admin, FULL_AT) == [before]
        assert workspace.opened.capacity.under_way == 0
        assert not listening.done()


@pytest.fixture
async def narrow(workspace):
    """A server that takes on one call at once, and waits a moment for a connection."""
    capacity = Capacity(1, 0.05)
    workspace = TestWorkspace(replace(workspace.opened, capacity=capacity))
    metrics = MetricsPage(workspace)
    async with guarded_server(workspace, is_authenticated=False, metrics=metrics) as guarded:
        yield guarded, workspace.opened


def assert_overloaded(result: dict) -> None:
    assert (result["isError"], result["_meta"]["bmad/code"]) == (True, "overloaded")
    assert result["_meta"]["bmad/retry_after"] == 2


async def test_a_server_with_its_hands_full_refuses_at_once(narrow):
    guarded, opened = narrow
    with opened.capacity.place():
        assert_overloaded(result_of(await guarded.call(None, "task_create", {"title": "x"})))
        answer = await guarded.client.get("/api/v1/bmad/status")
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "overloaded", "2")
        read = await guarded.post(None, "resources/read", {"uri": "bmad://project"})
        assert '"retry_after":2' in read.text
        # What needs no place is answered.
        assert result_of(await guarded.post(None, "tools/list"))["tools"]
        assert (await guarded.client.get("/health/live")).status_code == 200
    assert not result_of(await guarded.call(None, "task_create", {"title": "x"}))["isError"]
    assert opened.capacity.under_way == 0
    figures = await scrape(guarded.client)
    assert figures.value("bmad_calls_total", operation="task_create", outcome="overloaded") == 1


@contextlib.asynccontextmanager
async def all_taken(pool):
    """Every connection of the pool is in use."""
    held = [await pool.acquire() for _ in range(pool.get_max_size())]
    try:
        yield
    finally:
        for connection in held:
            await pool.release(connection)


async def test_without_a_free_connection_it_refuses_after_a_moment(narrow):
    guarded, opened = narrow
    async with all_taken(opened.pool):
        assert_overloaded(result_of(await guarded.call(None, "task_list")))
        answer = await guarded.client.get("/api/v1/bmad/tasks")
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "overloaded", "2")
    assert not result_of(await guarded.call(None, "task_list"))["isError"]


async def test_who_comes_in_while_no_connection_is_free_is_told_when_to_come_again(workspace):
    busy = TestWorkspace(replace(workspace.opened, capacity=Capacity(None, 0.05)))
    rates = Rates(busy, principal=100, project=100)
    async with guarded_server(busy, rates=rates) as guarded:
        token = await guarded.token("alice")
        async with all_taken(busy.opened.pool):
            assert_overloaded(result_of(await guarded.call(token, "task_list")))
            answer = await guarded.post(token, "tools/list")
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert answer.headers["retry-after"] == "2"
        assert not result_of(await guarded.call(token, "task_list"))["isError"]


async def test_two_server_processes_admit_together_what_the_limit_says(server_env):
    """100 calls a minute are 100, and what came back meanwhile by the database's clock, over both."""
    project = fresh_key("rate")
    env = server_env | {"BMAD_RATE_PRINCIPAL": "100", "BMAD_CALLS_AT_ONCE": "1000", "BMAD_POOL_WAIT_SECONDS": "60"}
    servers = [HttpServer(env, "--project", project, "--port", "0", "--auth") for _ in range(2)]
    try:
        addresses = [server.ready() for server in servers]
        token = bmad(env, "token", "create", "alice", "--scope", "read", "--project", project).stdout.strip()
        clients = [
            httpx.AsyncClient(base_url=address, headers=_bearer(token), timeout=60, trust_env=False)
            for address in addresses
        ]
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(
            *(clients[number % 2].get("/api/v1/bmad/tasks?limit=1") for number in range(300))
        )
        seconds = asyncio.get_running_loop().time() - began
        for client in clients:
            await client.aclose()
    finally:
        for server in servers:
            server.kill()
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 429}
    # Our own clock only bounds what can have come back: it saw all of the database's time, and a little more.
    assert 100 <= codes.count(200) <= 100 + math.floor(seconds * 100 / 60)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 429)

"""Many clients whose requests have the same ids at the same time: each gets the answer to its own."""

import asyncio
import re

import httpx
import pytest
from auth_server import MCP_HEADERS, result_of
from http_process import HttpServer
from processes import fresh_key

CANARY = re.compile(r"canary-\d+-\d+")
# What crosses would be an answer, so nobody is told to wait.
UNBOUND = {"BMAD_CALLS_AT_ONCE": "10000", "BMAD_POOL_WAIT_SECONDS": "60"}


@pytest.fixture
def server(server_env):
    server = HttpServer(server_env | UNBOUND, "--project", fresh_key("crossed"), "--port", "0", "--toolsets", "all")
    yield server.ready()
    assert server.process.poll() is None, server.told[-20:]
    server.kill()


async def ask(client: httpx.AsyncClient, number: int, canary: str) -> str:
    """One call with this id that is answered with its canary: a result, a refusal, a resource or REST."""
    match number % 4:
        case 0:
            values = {"role": canary}
            called = {"name": "template_render", "arguments": {"template": "story", "values": values}}
            method, params = "tools/call", called
        case 1:
            method, params = "tools/call", {"name": "agent_get", "arguments": {"agent": canary}}
        case 2:
            method, params = "resources/read", {"uri": f"bmad://agents/{canary}"}
        case _:
            return (await client.get(f"/api/v1/bmad/agents/{canary}")).text
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    answer = await client.post("/mcp", json=message, headers=MCP_HEADERS)
    assert f'"id":{number}' in answer.text, answer.text
    if number % 4 == 0:
        assert not result_of(answer)["isError"], answer.text
    return answer.text


async def asked_again(client: httpx.AsyncClient, number: int, canary: str) -> str:
    """The same, again when a connection is gone: the server closes those that a busy machine leaves idle for seconds."""
    for _ in range(5):
        try:
            return await ask(client, number, canary)
        except httpx.TransportError as error:
            lost = error
    raise lost


async def crossed(address: str, clients: int, calls: int) -> tuple[int, list[str]]:
    """How many answers came, and those that hold another call's canary or not their own."""
    start, wrong, answered = asyncio.Event(), [], 0

    async def one(name: int) -> None:
        nonlocal answered
        headers = {"x-bmad-session": f"client-{name}"}
        async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False, headers=headers) as client:
            await start.wait()
            for number in range(calls):
                canary = f"canary-{name}-{number}"
                text = await asked_again(client, number, canary)
                answered += 1
                if {*CANARY.findall(text)} != {canary}:
                    wrong.append(f"{canary}: {text[:300]}")

    async with asyncio.TaskGroup() as group:
        for name in range(clients):
            group.create_task(one(name))
        start.set()
    return answered, wrong


async def test_no_answer_crosses_to_another_client(server):
    assert await crossed(server, clients=20, calls=25) == (500, [])


@pytest.mark.soak
async def test_no_answer_of_fifty_thousand_crosses_to_another_client(server):
    assert await crossed(server, clients=200, calls=250) == (50_000, [])

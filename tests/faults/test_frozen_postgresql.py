"""A PostgreSQL whose every process stands still: calls end in time, readiness says so, and it is well after a thaw."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands.command import CLEAN
from data_dirs import data_dir
from harness import EXTERNAL
from processes import fresh_key
from server.http_process import HttpServer

from bmad_mcp.db import COMMAND_TIMEOUT_SECONDS
from bmad_mcp.embedded.data_home import find_home
from bmad_mcp.embedded.postmaster import Postmaster

__all__ = ["data_dir"]

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it finds processes in /proc"),
    pytest.mark.skipif(bool(EXTERNAL), reason="it freezes the PostgreSQL that it starts"),
]
API = "/api/v1/bmad"


def family(postmaster: int) -> list[int]:
    """The postmaster and all its children."""
    found = [postmaster]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may have spaces; the parent is the second word after it.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == postmaster:
            found.append(int(stat.parent.name))
    return found


async def until_ready(client: httpx.AsyncClient, status: int) -> float:
    """How long it takes until readiness answers so."""
    began = time.monotonic()
    async with asyncio.timeout(30):
        while (await client.get("/health/ready")).status_code != status:
            await asyncio.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.soak
@pytest.mark.parametrize("waits", [False, True])
async def test_a_frozen_postgresql_is_told_within_five_seconds_and_come_back_to(data_dir, waits):
    env = {**CLEAN, "BMAD_DATA_DIR": str(data_dir), "BMAD_MEMORY_PROVIDER": "builtin", "BMAD_LOG_LEVEL": "error"}
    server = HttpServer(env, "--project", fresh_key("frozen"), "--port", "0")
    frozen: list[int] = []
    try:
        limit = COMMAND_TIMEOUT_SECONDS * 2 + 5
        async with httpx.AsyncClient(base_url=await asyncio.to_thread(server.ready), timeout=limit) as client:

            async def create(title: str) -> httpx.Response:
                return await client.post(f"{API}/tasks/create", json={"title": title, "idempotency_key": title})

            assert (await create("before")).is_success
            pid = Postmaster(find_home(data_dir / "postgres")).pid
            assert pid is not None
            frozen = family(pid)
            for one in frozen:
                os.kill(one, signal.SIGSTOP)
            began = time.monotonic()
            calling = asyncio.create_task(create("during"))
            told = await until_ready(client, 503)
            assert told <= 5
            assert (await client.get("/health/live")).status_code == 200
            if waits:
                answer = await calling
                took = time.monotonic() - began
                assert took <= COMMAND_TIMEOUT_SECONDS + 2
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
                assert "call again" in answer.json()["detail"].lower()
                assert (await client.get("/health/live")).status_code == 200
                print(f"the call ended after {took:.1f} s: {answer.json()['detail']}")
            for one in frozen:
                os.kill(one, signal.SIGCONT)
            frozen = []
            back = await until_ready(client, 200)
            assert back <= 5
            # Whichever way the call in between went: with its key it is done once.
            await calling
            assert (await create("during")).is_success
            listed = (await client.get(f"{API}/tasks")).json()["items"]
            assert [one["title"] for one in listed] == ["before", "during"]
            print(f"not ready after {told:.2f} s, ready {back:.2f} s after the thaw")
        assert await asyncio.to_thread(server.stop) == 0
    finally:
        for one in frozen:
            os.kill(one, signal.SIGCONT)
        server.kill()


async def complete(client: httpx.AsyncClient, claim: dict[str, Any]) -> httpx.Response:
    """What a call with that lease is told; again where the thawed server closed a connection that was idle too long."""
    while True:
        try:
            return await client.post(f"/{claim['task']['key']}/complete", json={"lease": claim["lease"]})
        except httpx.TransportError:
            await asyncio.sleep(0.05)


@pytest.mark.soak
@pytest.mark.parametrize("times", [1, 50])
async def test_a_server_that_froze_past_its_callers_lease_writes_nothing_when_it_thaws(data_dir, times):
    env = {**CLEAN, "BMAD_DATA_DIR": str(data_dir), "BMAD_MEMORY_PROVIDER": "builtin", "BMAD_LOG_LEVEL": "error"}
    project = fresh_key("frozen")
    servers = [HttpServer(env, "--project", project, "--port", "0")]
    try:
        first = await asyncio.to_thread(servers[0].ready)
        servers.append(HttpServer(env, "--project", project, "--port", "0"))
        second = await asyncio.to_thread(servers[1].ready)
        async with (
            httpx.AsyncClient(base_url=f"{first}{API}/tasks", timeout=60) as frozen,
            httpx.AsyncClient(base_url=f"{second}{API}/tasks", timeout=60) as awake,
        ):
            for number in range(times):
                (await awake.post("/create", json={"title": f"T{number}"})).raise_for_status()
            claim = {"agent": "dev", "lease_seconds": 5}
            claims = [(await frozen.post("/claim", json=claim)).json() for _ in range(times)]
            servers[0].process.send_signal(signal.SIGSTOP)
            # They reach a process that stands still, each with the lease that was good when it was sent.
            late = [asyncio.create_task(complete(frozen, one)) for one in claims]
            await asyncio.sleep(5.2)
            taken = [(await awake.post("/claim", json={"agent": "dev"})).json() for _ in range(times)]
            assert {one["task"]["key"] for one in taken} == {one["task"]["key"] for one in claims}
            servers[0].process.send_signal(signal.SIGCONT)
            answers = await asyncio.gather(*late)
            assert {(one.status_code, one.json()["code"]) for one in answers} == {(409, "lease_lost")}
            for one in taken:
                done = await complete(awake, one)
                assert done.is_success, done.text
    finally:
        servers[0].process.send_signal(signal.SIGCONT)
        for server in servers:
            server.kill()

"""Live resources between processes: who subscribed hears of what any process did, in both protocol eras."""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager

import httpx
import pytest
from auth_server import OPERATOR, guarded_server
from harness import TestWorkspace, new_project
from http_process import HttpServer
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceUpdatedNotification
from processes import assistant, fresh_key

from bmad_mcp.call import open_call
from bmad_mcp.identity import verifying
from bmad_mcp.identity.issuing import revoke_token
from bmad_mcp.server import auth
from bmad_mcp.server.live_stream import LIVE

SECONDS = 30
STORY = """# Story 1.1: Heights

## Status: Draft

## Story

**As a** sailor, **I want** heights, **so that** I can leave.

## Acceptance Criteria

1. There are heights.
"""


class Heard:
    """The addresses that a client was notified of."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._more = asyncio.Event()

    async def __call__(self, message) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            self.note(str(message.params.uri))

    def note(self, uri: str) -> None:
        self.uris.append(uri)
        self._more.set()

    async def until(self, *uris: str) -> None:
        async with asyncio.timeout(SECONDS):
            while not set(uris) <= set(self.uris):
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def subscribed(client: Client, heard: Heard, *uris: str):
    """A subscription in the client's own era."""
    if client.protocol_version < "2026":
        for uri in uris:
            await client.subscribe_resource(uri)
        yield
        for uri in uris:
            await client.unsubscribe_resource(uri)
        return

    async def follow(subscription) -> None:
        async for event in subscription:
            heard.note(event.uri)

    async with client.listen(resource_subscriptions=list(uris)) as subscription:
        following = asyncio.create_task(follow(subscription))
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_another_process_is_heard_over_stdio(server_env, mode, tmp_path):
    project, heard = fresh_key("live"), Heard()
    async with assistant(server_env, project, mode=mode, hear=heard) as ours, assistant(server_env, project) as theirs:
        assert ours.client.server_capabilities.resources.subscribe
        await theirs("task_create", title="Read the gauge")
        async with subscribed(ours.client, heard, "bmad://tasks/T-1", "bmad://tasks/T-2", "bmad://project"):
            held = await theirs("task_claim", agent="dev", task="T-1")
            await heard.until("bmad://tasks/T-1", "bmad://project")
            assert json.loads(await ours.read("bmad://tasks/T-1"))["task"]["status"] == "active"
            assert "bmad://tasks/T-2" not in heard.uris
            if mode == "legacy":
                with pytest.raises(MCPError, match="There is no resource"):
                    await ours.client.subscribe_resource("bmad://nowhere")
        await theirs("task_complete", task="T-1", lease=held["lease"])
        heard.uris.clear()
        async with subscribed(ours.client, heard, "bmad://stories/1.1"):
            # A command that ends as soon as it is done tells of it all the same.
            (tmp_path / "docs/stories").mkdir(parents=True)
            (tmp_path / "docs/stories/1.1.heights.md").write_text(STORY)
            done = await command(server_env, "import", str(tmp_path), "--project", project)
            assert done == 0
            await heard.until("bmad://stories/1.1")
        assert "bmad://tasks/T-1" not in heard.uris


async def command(env, *arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bmad_mcp", *arguments),
        env={**os.environ, **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_another_replica_is_heard_over_http(server_env):
    project, heard = fresh_key("live"), Heard()
    first = HttpServer(server_env, "--project", project, "--port", "0")
    second = HttpServer(server_env, "--project", project, "--port", "0")
    try:
        here, there = first.ready(), second.ready()
        async with (
            Client(f"{here}/mcp") as ours,
            Client(f"{there}/mcp") as theirs,
            subscribed(ours, heard, "bmad://tasks/T-1"),
            events_of(here) as events,
        ):
            await theirs.call_tool("task_create", {"title": "Read the gauge"})
            await heard.until("bmad://tasks/T-1")
            assert (await anext(events))["changed"]["task"] == ["T-1"]
        async with Client(f"{here}/mcp", mode="legacy") as ours:
            # Without sessions nothing can be sent by itself to a client of an earlier version: it is told so.
            assert not ours.server_capabilities.resources.subscribe
            with pytest.raises(MCPError):
                await ours.subscribe_resource("bmad://tasks/T-1")
        async with events_of(here):
            assert first.stop() == 0
    finally:
        first.kill()
        second.kill()


@asynccontextmanager
async def events_of(address: str, **headers: str):
    """The events of a server's stream of changes, from the moment it follows them."""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=SECONDS, headers=headers) as client,
        client.stream("GET", f"{address}{LIVE}") as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith(":")
        yield (json.loads(line.removeprefix("data: ")) async for line in lines if line.startswith("data: "))


async def test_the_stream_for_pages_is_for_who_may_read_and_of_their_project(workspace, pool, run):
    theirs = TestWorkspace(await new_project(pool), workspace.connect)
    async with guarded_server(workspace) as guarded:
        assert (await guarded.client.get(LIVE)).status_code == 401
        token = await guarded.token("alice")
        allowed = {"authorization": f"Bearer {token}"}
        assert (await guarded.client.head(LIVE, headers=allowed)).status_code == 200
        assert (await guarded.client.post(LIVE, headers=allowed)).status_code == 405
        other = {**allowed, "x-bmad-project": theirs.opened.key}
        assert (await guarded.client.get(LIVE, headers=other)).status_code == 403
        async with events_of(guarded.address, **allowed) as events:
            await run("task_create", title="<script>alert(1)</script>")
            assert await anext(events) == {"changed": {"task": ["T-1"]}}, "keys only, no texts"


async def test_the_stream_ends_with_the_right_to_it(workspace, monkeypatch):
    monkeypatch.setattr(verifying, "CACHE_SECONDS", 0.0)
    monkeypatch.setattr(auth.Authentication.__init__, "__defaults__", (None, 0.05))
    async with guarded_server(workspace) as guarded:
        token = await guarded.token("bob")
        async with events_of(guarded.address, authorization=f"Bearer {token}") as events:
            async with open_call(workspace, OPERATOR, "token_revoke") as call:
                await revoke_token(call, token.split("_")[1])
            with pytest.raises(httpx.RemoteProtocolError):
                # The word of the revocation itself may come before the end.
                async for _ in events:
                    pass

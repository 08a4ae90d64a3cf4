"""What changes in a project, as server-sent events: for the dashboard, and for programs that use REST."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bmad_mcp.activity.trail import Changes
from bmad_mcp.call import Caller, Workspace
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.errors import BmadError, Unavailable
from bmad_mcp.operation import Operation
from bmad_mcp.server.changes import ChangeFeed
from bmad_mcp.server.rest.problems import Refusal, problem_of
from bmad_mcp.server.rest.ways import PREFIX

LIVE = f"{PREFIX}/live"
MEDIA_TYPE = "text/event-stream"
# Proxies close what is silent, and who went away is only found out by writing.
SILENCE_SECONDS = 15.0
MOST_STREAMS = 200
# A client that reads more slowly is told that anything may have changed.
MOST_WAITING = 100

Admit = Callable[[Request, Operation], Awaitable[tuple[Caller, Workspace]]]
Heard = asyncio.Queue[Changes | None]


class LiveStreams:
    """The event streams of one server. An event says which keys changed; whoever gets it reads them again."""

    def __init__(self, admit: Admit, feed: ChangeFeed) -> None:
        self._admit = admit
        self._feed = feed
        self._open: set[Heard] = set()

    @property
    def route(self) -> Route:
        """The route; it stands before those of REST."""
        return Route(LIVE, self, methods=None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            try:
                answer = await self._answer(Request(scope), stack)
            except Refusal as refusal:
                answer = refusal.response()
            except BmadError as error:
                answer = problem_of(error)
            await answer(scope, receive, send)

    async def _answer(self, request: Request, stack: AsyncExitStack) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise Refusal(
                405, "method_not_allowed", "The stream of changes takes GET only.", headers={"allow": "GET, HEAD"}
            )
        # Whoever may read the trail may follow it.
        _, workspace = await self._admit(request, BY_NAME["activity_list"])
        if request.method == "HEAD":
            return Response(None, media_type=MEDIA_TYPE)
        if len(self._open) >= MOST_STREAMS:
            raise Unavailable(f"{MOST_STREAMS} streams are open on this server. Read /activity now and then instead.")
        heard = Heard(MOST_WAITING)
        self._open.add(heard)
        stack.callback(self._open.discard, heard)

        async def hear(changes: Changes | None) -> None:
            _put(heard, changes)

        await stack.enter_async_context(self._feed.following((await workspace.project()).id, hear))
        return StreamingResponse(_events(heard), media_type=MEDIA_TYPE, headers={"x-accel-buffering": "no"})


def _put(heard: Heard, changes: Changes | None) -> None:
    if heard.full():
        while not heard.empty():
            heard.get_nowait()
        changes = changes and replace(changes, is_wide=True)
    heard.put_nowait(changes)


async def _events(heard: Heard) -> AsyncIterator[bytes]:
    yield b": what changes is told here\n\n"
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                changes = await heard.get()
        except TimeoutError:
            yield b": nothing changed\n\n"
            continue
        if changes is None:
            return
        yield f"id: {changes.latest}\ndata: {_told(changes)}\n\n".encode()


def _told(changes: Changes) -> str:
    """The keys that changed by their noun; `all` when anything may have."""
    if changes.is_wide:
        return '{"all":true}'
    return to_json({"changed": {noun: sorted(keys) for noun, keys in sorted(changes.keys.items())}}).decode()

"""The HTTP surface on one machine: MCP at /mcp, health, and a page for people at /."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import ListenHandler
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bmad_mcp import __version__
from bmad_mcp.call import Caller, Workspace
from bmad_mcp.server.first_page import CONTENT_SECURITY_POLICY, FirstPage
from bmad_mcp.server.guard import Guard
from bmad_mcp.server.health import Readiness
from bmad_mcp.server.mcp import Context, McpFace
from bmad_mcp.server.messages import UnusableMessage, read_json

SESSION_HEADER = "x-bmad-session"
SESSION_LENGTH = 200
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def caller_of(context: Context) -> Caller:
    """Who sent a request: the one user of this machine, told apart by the session header when it has one."""
    sent = context.request.headers.get(SESSION_HEADER, "") if context.request is not None else ""
    named = sent if 0 < len(sent) <= SESSION_LENGTH and sent.isprintable() else ""
    return Caller("local", f"http:{named}" if named else "http")


class McpEndpoint:
    """MCP at one address: POST only, and only JSON that means one thing."""

    def __init__(self, manager: StreamableHTTPSessionManager) -> None:
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            # Without sessions nothing would ever come on a GET, and the SDK keeps it open for ever.
            answer: Response = JSONResponse(
                {"error": "MCP messages go here by POST. People find a page at /."}, 405, {"allow": "POST"}
            )
            await answer(scope, receive, send)
            return
        message = await receive()
        body = message.get("body", b"")
        try:
            # The guard has put the whole body into one message.
            read_json(body)
        except UnusableMessage as unusable:
            answer = Response(unusable.reply(), 400, media_type="application/json")
            await answer(scope, receive, send)
            return
        was_read = False

        async def replay() -> dict[str, object]:
            nonlocal was_read
            if was_read:
                return dict(await receive())
            was_read = True
            return dict(message)

        await self._manager.handle_request(scope, replay, send)


def end_streams(face: McpFace) -> None:
    """Let the clients that listen for changes know that the server ends, so that nobody waits for them."""
    entry = face.server.get_request_handler("subscriptions/listen")
    if entry is not None and isinstance(entry.handler, ListenHandler):
        entry.handler.close()


def build_app(face: McpFace, workspace: Workspace, page: FirstPage) -> ASGIApp:
    """The application for one project; every route is behind the guard."""
    manager = StreamableHTTPSessionManager(face.server, stateless=True)
    readiness = Readiness(workspace)

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live", "version": __version__})

    async def ready(_: Request) -> Response:
        if reasons := await readiness.reasons():
            return JSONResponse({"status": "not ready", "reasons": reasons}, 503, {"retry-after": "1"})
        return JSONResponse({"status": "ready", "version": __version__})

    async def first_page(_: Request) -> Response:
        return HTMLResponse(await page.render())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield
        readiness.stop()

    routes = [
        Route("/mcp", McpEndpoint(manager), methods=None),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/", first_page),
    ]
    return Guard(Starlette(routes=routes, lifespan=lifespan), HEADERS)

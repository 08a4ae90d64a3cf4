"""The HTTP surface: MCP at /mcp, health, and a page for people at /; the guard and authentication come first."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import ListenHandler
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bmad_mcp import __version__
from bmad_mcp.call import Caller, Workspace
from bmad_mcp.errors import Forbidden
from bmad_mcp.identity.verifying import Verifier
from bmad_mcp.operation import Operation
from bmad_mcp.server.auth import (
    METADATA_PATH,
    SESSION_HEADER,
    Authentication,
    Resource,
    access_of,
    allow,
    caller_of,
)
from bmad_mcp.server.first_page import CONTENT_SECURITY_POLICY, FirstPage
from bmad_mcp.server.guard import Guard, Names
from bmad_mcp.server.health import Readiness
from bmad_mcp.server.mcp import McpFace
from bmad_mcp.server.messages import UnusableMessage, read_json
from bmad_mcp.server.rest.app import build_rest
from bmad_mcp.server.rest.cors import CrossOrigin
from bmad_mcp.server.rest.problems import Refusal

__all__ = ["SESSION_HEADER", "access_of", "build_app", "caller_of", "end_streams"]

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class McpEndpoint:
    """MCP at one address: POST only, and only JSON that means one thing."""

    def __init__(self, manager: StreamableHTTPSessionManager, face: McpFace) -> None:
        self._manager = manager
        self._face = face

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
            asked = read_json(body)
        except UnusableMessage as unusable:
            answer = Response(unusable.reply(), 400, media_type="application/json")
            await answer(scope, receive, send)
            return
        try:
            self._check(asked, Request(scope))
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
            return
        was_read = False

        async def replay() -> dict[str, object]:
            nonlocal was_read
            if was_read:
                return dict(await receive())
            was_read = True
            return dict(message)

        await self._manager.handle_request(scope, replay, send)

    def _check(self, asked: Any, request: Request) -> None:
        """Raise Refusal for what a client can mend by asking for more scopes; all else is the tool's own answer."""
        params = asked.get("params") if isinstance(asked, dict) and asked.get("method") == "tools/call" else None
        operation = self._face.tool(params.get("name")) if isinstance(params, dict) else None
        if operation is not None:
            with suppress(Forbidden):
                allow(request, operation)


def end_streams(face: McpFace) -> None:
    """Let the clients that listen for changes know that the server ends, so that nobody waits for them."""
    entry = face.server.get_request_handler("subscriptions/listen")
    if entry is not None and isinstance(entry.handler, ListenHandler):
        entry.handler.close()


def build_app(
    face: McpFace,
    workspace: Workspace,
    page: FirstPage,
    *,
    resource: Resource | None = None,
    verifier: Verifier | None = None,
    names: Names | None = None,
    rest_origins: Collection[str] = (),
) -> ASGIApp:
    """The application; every route is behind the guard, and with a verifier behind authentication."""
    manager = StreamableHTTPSessionManager(face.server, stateless=True)
    readiness = Readiness(workspace)
    described = resource or Resource("http://127.0.0.1")

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live", "version": __version__})

    async def ready(_: Request) -> Response:
        if reasons := await readiness.reasons():
            # Without a token nobody learns more than that it is not ready.
            told = {"status": "not ready"} | ({"reasons": reasons} if verifier is None else {})
            return JSONResponse(told, 503, {"retry-after": "1"})
        return JSONResponse({"status": "ready", "version": __version__})

    async def metadata(_: Request) -> Response:
        return JSONResponse(described.metadata())

    async def first_page(request: Request) -> Response:
        return HTMLResponse(await page.render(access_of(request).workspace))

    def admit(request: Request, operation: Operation) -> tuple[Caller, Workspace]:
        access = allow(request, operation)
        return access.caller, access.workspace

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield
        readiness.stop()

    routes = [
        Route("/mcp", McpEndpoint(manager, face), methods=None),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/", first_page),
        *build_rest(admit),
    ]
    if verifier is not None:
        routes.append(Route(METADATA_PATH, metadata))
    app = Starlette(routes=routes, lifespan=lifespan)
    guarded = CrossOrigin(Authentication(app, workspace, described, verifier), rest_origins)
    return Guard(guarded, HEADERS, names, rest_origins)

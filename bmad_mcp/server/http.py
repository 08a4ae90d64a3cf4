"""The HTTP surface: MCP at /mcp, REST, health and pages for people; the guard and authentication come first."""

import logging
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bmad_mcp import __version__
from bmad_mcp.agents.ending import end_sessions_of
from bmad_mcp.call import Caller, Workspace
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import DATABASE_FAILURES
from bmad_mcp.errors import BmadError, Forbidden, RateLimited, Unavailable
from bmad_mcp.identity.access_changes import AccessChanges
from bmad_mcp.identity.browser_sign_in import BrowserSignIn
from bmad_mcp.identity.rates import Rates
from bmad_mcp.identity.rights import MissingScope
from bmad_mcp.identity.verifying import Verifier
from bmad_mcp.operation import Operation
from bmad_mcp.server.auth import (
    MCP_PATH,
    METADATA_PATH,
    METRICS_PATH,
    Authentication,
    Resource,
    access_of,
    allow,
    caller_of,
)
from bmad_mcp.server.dashboard.routes import ShownSetting, build_dashboard
from bmad_mcp.server.first_page import CONTENT_SECURITY_POLICY, FirstPage
from bmad_mcp.server.guard import Guard, Names
from bmad_mcp.server.headers import MCP_SESSION_HEADER
from bmad_mcp.server.health import Readiness
from bmad_mcp.server.live_stream import LiveStreams
from bmad_mcp.server.mcp import McpFace
from bmad_mcp.server.messages import UnusableMessage, read_json
from bmad_mcp.server.rest.app import build_rest
from bmad_mcp.server.rest.cors import CrossOrigin
from bmad_mcp.server.rest.problems import Refusal, problem_of
from bmad_mcp.telemetry import events
from bmad_mcp.telemetry.events import observed_by
from bmad_mcp.telemetry.tracing import joined

if TYPE_CHECKING:
    from bmad_mcp.server.metrics.page import MetricsPage

__all__ = ["access_of", "build_app", "caller_of"]

logger = logging.getLogger("bmad_mcp.server")

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


async def admit(request: Request, operation: Operation) -> tuple[Caller, Workspace]:
    """Who asks and in which workspace; raises BmadError or Refusal when they may not run the operation."""
    access = await allow(request, operation)
    return access.caller, access.workspace


class McpEndpoint:
    """MCP at one address: only by POST, and only JSON that means one thing.

    A client that shakes hands gets a session id, which nobody keeps: it is the name of that connection, at any server.
    With DELETE it says that it goes: what its agents began ends, while the id, which nobody knows of, cannot.
    """

    def __init__(self, manager: StreamableHTTPSessionManager, face: McpFace) -> None:
        self._manager = manager
        self._face = face

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "DELETE" and MCP_SESSION_HEADER in Headers(scope=scope):
            await self._leave(Request(scope))
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
        request = Request(scope)
        try:
            await self._check(asked, request)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
            return
        except (RateLimited, Unavailable) as refused:
            await problem_of(refused)(scope, receive, send)
            return
        was_read = False

        async def replay() -> dict[str, object]:
            nonlocal was_read
            if was_read:
                return dict(await receive())
            was_read = True
            return dict(message)

        shakes_hands = isinstance(asked, dict) and asked.get("method") == "initialize"
        await self._manager.handle_request(scope, replay, _naming(send) if shakes_hands else send)

    async def _leave(self, request: Request) -> None:
        """End what the connection has open, as over stdio when its client goes."""
        access = access_of(request)
        try:
            # Who may not write has opened none.
            if access.may(BY_NAME["agent_deactivate"]):
                await end_sessions_of(await access.workspace.project(), access.caller)
        except (BmadError, *DATABASE_FAILURES) as error:
            # The job `sessions` ends them later.
            logger.info("Sessions of a client that went stay open for now: %s", type(error).__name__)

    async def _check(self, asked: Any, request: Request) -> None:
        """Raise what is no tool's own answer: Refusal where more scopes would do, `refused` where no tool is called."""
        is_call = isinstance(asked, dict) and asked.get("method") == "tools/call"
        if (refused := access_of(request).refused) is not None:
            if is_call:
                return
            raise refused
        params = asked.get("params") if is_call else None
        operation = self._face.tool(params.get("name")) if isinstance(params, dict) else None
        if operation is not None:
            try:
                access_of(request).check(operation)
            except MissingScope:
                await allow(request, operation)
            except Forbidden as forbidden:
                events.request_refused(forbidden.code)


def _naming(send: Send) -> Send:
    """`send` with the id of a new connection in the headers of a good answer."""

    async def name_it(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)[MCP_SESSION_HEADER] = secrets.token_hex(16)
        await send(message)

    return name_it


class JoinedTraces:
    """Works for the trace that a request's headers name; what an MCP message names itself goes before."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with joined(Headers(scope=scope) if scope["type"] == "http" else {}):
            await self._app(scope, receive, send)


def build_app(
    face: McpFace,
    workspace: Workspace,
    page: FirstPage,
    *,
    resource: Resource | None = None,
    verifier: Verifier | None = None,
    rates: Rates | None = None,
    changes: AccessChanges | None = None,
    names: Names | None = None,
    rest_origins: Collection[str] = (),
    metrics: "MetricsPage | None" = None,
    readiness: Readiness | None = None,
    settings: Sequence[ShownSetting] = (),
    sign_in: BrowserSignIn | None = None,
) -> ASGIApp:
    """The application; every route is behind the guard, and with a verifier behind authentication and its rates.

    When `changes` tell of one, answers that are under way are looked at again. Without `metrics` there is no /metrics,
    and without a feed of the face no stream of changes. Whoever gives a `readiness` can end it before the server ends.
    """
    manager = StreamableHTTPSessionManager(face.server, stateless=True)
    readiness = readiness or Readiness(workspace)
    described = resource or Resource("http://127.0.0.1")

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live", "version": __version__})

    async def ready(_: Request) -> Response:
        if reasons := await readiness.reasons():
            # Without a token nobody learns more than that it is not ready.
            told = {"status": "not ready"} | ({"reasons": reasons} if verifier is None else {})
            return JSONResponse(told, 503, {"retry-after": "1"})
        return JSONResponse({"status": "ready", "version": __version__})

    async def exposition(request: Request) -> Response:
        assert metrics is not None
        try:
            return await metrics.answer(request, readiness)
        except Refusal as refusal:
            return refusal.response()

    async def metadata(_: Request) -> Response:
        return JSONResponse(described.metadata())

    async def first_page(request: Request) -> Response:
        return HTMLResponse(await page.render(access_of(request).workspace))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        with ExitStack() as stack:
            stack.callback(readiness.stop)
            if metrics is not None:
                stack.callback(metrics.stop)
                stack.enter_context(observed_by(metrics.instruments))
            async with manager.run():
                yield

    routes = [
        Route(MCP_PATH, McpEndpoint(manager, face), methods=None),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/connect", first_page),
        *build_dashboard(admit, asks_for_token=verifier is not None, settings=settings, sign_in=sign_in),
        *([LiveStreams(admit, face.feed).route] if face.feed is not None else []),
        *build_rest(admit),
    ]
    if verifier is not None:
        routes.append(Route(METADATA_PATH, metadata))
    if metrics is not None:
        routes.append(Route(METRICS_PATH, exposition))
    app = Starlette(routes=routes, lifespan=lifespan)
    guarded = CrossOrigin(
        Authentication(app, workspace, described, verifier, rates=rates, changes=changes), rest_origins
    )
    whole = Guard(JoinedTraces(guarded), HEADERS, names, rest_origins)
    return whole if metrics is None else metrics.counting(whole)

"""The route /metrics, who may read it, and the counting of HTTP answers."""

import asyncio
import hmac

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bmad_mcp.call import OpenProject, Workspace
from bmad_mcp.errors import BmadError
from bmad_mcp.server.auth import METRICS_PATH, PUBLIC_PATHS
from bmad_mcp.server.health import PING_SECONDS, Readiness
from bmad_mcp.server.metrics.figures import Figures
from bmad_mcp.server.metrics.instruments import Instruments
from bmad_mcp.server.metrics.process_gauges import ProcessGauges
from bmad_mcp.server.rest.cors import is_rest
from bmad_mcp.server.rest.problems import Refusal
from bmad_mcp.server.rest.ways import PREFIX
from bmad_mcp.telemetry import events

ROUTES = frozenset({"/", "/mcp", "/docs", METRICS_PATH, *PUBLIC_PATHS})
CLOSED = "The metrics of a server that asks for tokens are read with BMAD_METRICS_TOKEN, which its operator sets."


class MetricsPage:
    """Everything that Prometheus reads of one server.

    With a token it is asked for; without one the page is open where `is_open` (nobody needs a token there at all).
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        token: str | None = None,
        is_open: bool = True,
        most_projects: int = 20,
        interval: float = 60.0,
    ) -> None:
        self.instruments = Instruments()
        self._workspace = workspace
        self._token = token
        self._is_open = is_open
        self._gauges = ProcessGauges(self.instruments.registry)
        self._figures = Figures(workspace, self.instruments.registry, most=most_projects, interval=interval)

    async def answer(self, request: Request, readiness: Readiness) -> Response:
        """The exposition; raises Refusal without the token."""
        self._admit(request)
        is_ready = not await readiness.reasons()
        if is_ready:
            await self._figures.keep_fresh()
        self._gauges.look(await self._opened(), is_ready=is_ready)
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.instruments.registry), headers={"content-type": media_type})

    def counting(self, app: ASGIApp) -> ASGIApp:
        """The application, with its answers counted."""
        return CountedAnswers(app, self.instruments)

    def stop(self) -> None:
        """Leave nothing behind."""
        self._figures.stop()

    def _admit(self, request: Request) -> None:
        if self._token is None and self._is_open:
            return
        sent = request.headers.getlist("authorization")
        kind, _, text = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
        is_good = self._token is not None and hmac.compare_digest(text.strip().encode(), self._token.encode())
        if kind.lower() != "bearer" or not is_good:
            events.request_refused("metrics")
            raise Refusal(401, "unauthorized", CLOSED, headers={"www-authenticate": "Bearer"})

    async def _opened(self) -> OpenProject | None:
        try:
            return await asyncio.wait_for(self._workspace.project(), PING_SECONDS)
        except (BmadError, TimeoutError):
            return None


class CountedAnswers:
    """Counts HTTP answers by route and status; what is no route of ours counts as `other`."""

    def __init__(self, app: ASGIApp, instruments: Instruments) -> None:
        self._app = app
        self._instruments = instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._instruments.response_sent(_route(scope["path"]), message["status"])
            await send(message)

        await self._app(scope, receive, send_and_count)


def _route(path: str) -> str:
    if is_rest(path):
        return PREFIX
    return path if path in ROUTES else "other"

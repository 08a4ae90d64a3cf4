"""Measures MCP requests, inside the span that the SDK makes of each, with the names of OpenTelemetry's conventions."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.shared.uri_template import UriTemplate
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, CallToolResult

from bmad_mcp.telemetry import events, tracing

# What a client may write freely and we do not know; the conventions' word.
OTHER = "_OTHER"
TOOL_ERROR = "tool_error"
METHODS = frozenset(
    {
        "completion/complete",
        "initialize",
        "logging/setLevel",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "server/discover",
        "skills/get",
        "skills/list",
        "subscriptions/listen",
        "tools/call",
        "tools/list",
    }
)
# One of these is open as long as its client listens: that is no duration of ours.
ENDLESS = frozenset({"subscriptions/listen"})
ERROR_CODES = {code: str(code) for code in (INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND)}


class Listening:
    """How many clients listen for changes now, in this process."""

    count = 0


class RequestObservation:
    """The SDK's middleware that measures requests; every word that it tells is of a fixed set."""

    def __init__(self, has_tool: Callable[[object], object], resources: Iterable[UriTemplate]) -> None:
        self._has_tool = has_tool
        self._resources = tuple(resources)

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        transport = "pipe" if ctx.request is None else "tcp"
        tracing.describe_request(transport, self._template(ctx) if tracing.is_on() else None)
        if ctx.method in ENDLESS:
            Listening.count += 1
            try:
                return await call_next(ctx)
            finally:
                Listening.count -= 1
        began, error = time.perf_counter(), ""
        try:
            result = await call_next(ctx)
            # Which of the two it is depends on how far the SDK has brought the answer.
            match result:
                case CallToolResult(is_error=True) | {"isError": True}:
                    error = TOOL_ERROR
            return result
        except MCPError as failure:
            error = ERROR_CODES.get(failure.error.code, OTHER)
            raise
        except BaseException as failure:
            error = "cancelled" if events.outcome_of(failure) == "cancelled" else OTHER
            raise
        finally:
            method = ctx.method if ctx.method in METHODS else OTHER
            events.request_ended(method, self._tool(ctx), error, transport, time.perf_counter() - began)

    def _tool(self, ctx: ServerRequestContext[Any, Any]) -> str:
        if ctx.method != "tools/call":
            return ""
        name = (ctx.params or {}).get("name")
        return str(name) if self._has_tool(name) else OTHER

    def _template(self, ctx: ServerRequestContext[Any, Any]) -> str | None:
        """The template of the address in a request; the address itself names a thing of the project."""
        uri = (ctx.params or {}).get("uri")
        if not isinstance(uri, str):
            return None
        return next((str(one) for one in self._resources if one.match(uri) is not None), OTHER)

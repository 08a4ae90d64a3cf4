"""Spans of OpenTelemetry below those of the MCP SDK; without a tracer nothing is made, and nothing is imported."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bmad_mcp.telemetry.statement_names import name_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

SCOPE = "bmad_mcp"
TRACE_HEADERS = ("traceparent", "tracestate")
HTTP_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# What a path has of one thing only; the rest of it is the same for all.
_ONE_THING = re.compile(r"(?<=/)(?:[0-9a-fA-F-]{16,}|\d+)(?=/|$)")


class _Tracing:
    """The tracer of the process; None: traces are off."""

    tracer: "Tracer | None" = None


def use_tracer(provider: "TracerProvider | None") -> None:
    """Make spans with this provider from now on; None makes none."""
    _Tracing.tracer = provider.get_tracer(SCOPE) if provider is not None else None


def is_on() -> bool:
    return _Tracing.tracer is not None


def current_trace() -> tuple[str, str] | None:
    """The ids of the trace and the span that the current task is in, as hex; also of a trace that only others record."""
    # Whoever joined a trace has imported it; the command line need not.
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return api.format_trace_id(context.trace_id), api.format_span_id(context.span_id)


def begin_statement(sql: str) -> "Span | None":
    """A span of a statement, named by the constant that holds its text; None outside a recorded trace."""
    name = name_of(sql)
    return _begin(name, {"db.system.name": "postgresql", "db.query.summary": name})


def end_statement(span: "Span", error: BaseException | None) -> None:
    """End it; of an error its class and SQLSTATE are told, as its text may hold values."""
    if state := getattr(error, "sqlstate", None):
        span.set_attribute("db.response.status_code", state)
    _end(span, state, error)


@contextmanager
def service_request(method: str, path: str, headers: dict[str, str]) -> Iterator["Span | None"]:
    """A span of a request to another service, which joins the trace by the headers that this adds."""
    path = _ONE_THING.sub("{id}", path)
    span = _begin(f"{method} {path}", {"http.request.method": method, "url.template": path})
    if span is None:
        yield None
        return
    from opentelemetry import propagate, trace  # noqa: PLC0415 – there when a span is

    propagate.inject(headers, trace.set_span_in_context(span))
    try:
        yield span
    except BaseException as error:
        _end(span, None, error)
        raise
    _end(span, None, None)


@contextmanager
def joined(headers: Mapping[str, str]) -> Iterator[None]:
    """Work for the trace that a request's headers name, if they do."""
    if TRACE_HEADERS[0] not in headers:
        yield
        return
    from opentelemetry import context, propagate  # noqa: PLC0415 – few requests are traced

    carrier = {name: headers[name] for name in TRACE_HEADERS if name in headers}
    token = context.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def server_span(method: str) -> Iterator["Span | None"]:
    """A span of an HTTP request that the MCP SDK makes none of; `name_span` tells its route once that is known."""
    if _Tracing.tracer is None:
        yield None
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    known = method if method in HTTP_METHODS else "_OTHER"
    with _Tracing.tracer.start_as_current_span(
        known, kind=SpanKind.SERVER, attributes={"http.request.method": known}, record_exception=False
    ) as span:
        yield span


def name_span(method: str, route: str) -> None:
    """Name the current span by a route's template."""
    if _Tracing.tracer is None:
        return
    from opentelemetry.trace import get_current_span  # noqa: PLC0415

    span = get_current_span()
    span.update_name(f"{method} {route}")
    span.set_attribute("http.route", route)


def describe_request(transport: str, resource: str | None) -> None:
    """Add what the MCP SDK leaves out of its span: the transport, and the template of a resource's address."""
    if _Tracing.tracer is None:
        return
    from opentelemetry.trace import get_current_span  # noqa: PLC0415

    span = get_current_span()
    span.set_attribute("network.transport", transport)
    if resource is not None:
        span.set_attribute("mcp.resource.uri", resource)


def _begin(name: str, attributes: dict[str, Any]) -> "Span | None":
    if _Tracing.tracer is None:
        return None
    from opentelemetry.trace import SpanKind, get_current_span  # noqa: PLC0415

    # Work that goes on by itself would make a trace of each statement.
    if not get_current_span().is_recording():
        return None
    return _Tracing.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)


def _end(span: "Span", kind: str | None, error: BaseException | None) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    if error is not None:
        span.set_attribute("error.type", kind or type(error).__qualname__)
        span.set_status(StatusCode.ERROR)
    span.end()

"""Sends traces and durations to an OpenTelemetry collector, where the standard OTEL_… variables name one."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from bmad_mcp import __version__
from bmad_mcp.telemetry import tracing
from bmad_mcp.telemetry.events import Observer, observed_by

logger = logging.getLogger("bmad_mcp.telemetry")

SERVICE_NAME = "bmad-mcp"
# Seconds, as the conventions for MCP advise.
BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
# Hosts kill what has not ended two seconds after their SIGTERM; a collector that is away must not use that up.
LAST_WORDS_SECONDS = 0.6
_WANT = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_{signal}_EXPORTER")


def wanted(signal: str, environment: Mapping[str, str]) -> bool:
    """Whether the variables ask for `TRACES` or `METRICS`; what they ask for and cannot be done is logged."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if not any(environment.get(name.format(signal=signal)) for name in _WANT):
        return False
    exporter = environment.get(f"OTEL_{signal}_EXPORTER", "otlp").strip() or "otlp"
    if exporter == "none":
        return False
    protocol = (
        environment.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")
        or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    if exporter != "otlp" or protocol != "http/protobuf":
        logger.error(
            "OTEL_… asks for %s by %r over %r; this server has otlp over http/protobuf. They are off.",
            signal.lower(),
            exporter[:50],
            protocol[:50],
        )
        return False
    return True


@contextmanager
def exporting(environment: Mapping[str, str]) -> Iterator[None]:
    """Export while the block runs; without a wish for it nothing is imported, and nothing is measured."""
    wants_traces, wants_metrics = wanted("TRACES", environment), wanted("METRICS", environment)
    if not wants_traces and not wants_metrics:
        yield
        return
    try:
        resources = import_module("opentelemetry.sdk.resources")
        import_module("opentelemetry.exporter.otlp.proto.http")
    except ImportError:
        logger.error("OTEL_… asks for telemetry, which is not installed. Install it with: pip install 'bmad-mcp[otel]'")
        yield
        return
    given = resources.Resource.create()
    own = {"service.version": __version__}
    if given.attributes.get("service.name", "unknown_service").startswith("unknown_service"):
        own["service.name"] = SERVICE_NAME
    resource = given.merge(resources.Resource(own))
    providers: list[Any] = []
    with ExitStack() as stack:
        if wants_traces:
            providers.append(_trace(resource))
            stack.callback(tracing.use_tracer, None)
        if wants_metrics:
            provider = _meter(resource)
            providers.append(provider)
            stack.enter_context(observed_by(Durations(provider)))
        stack.callback(_shut_down, providers)
        yield


def _trace(resource: Any) -> Any:
    sdk, export = import_module("opentelemetry.sdk.trace"), import_module("opentelemetry.sdk.trace.export")
    otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    # The MCP SDK makes its spans with whatever the process has set.
    import_module("opentelemetry.trace").set_tracer_provider(provider)
    tracing.use_tracer(provider)
    return provider


def _meter(resource: Any) -> Any:
    sdk, export = import_module("opentelemetry.sdk.metrics"), import_module("opentelemetry.sdk.metrics.export")
    otlp = import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    reader = export.PeriodicExportingMetricReader(otlp.OTLPMetricExporter())
    return sdk.MeterProvider([reader], resource=resource, shutdown_on_exit=False)


def _shut_down(providers: list[Any]) -> None:
    """Send what is left, for a moment: threads that hang on a collector that is away end with the process."""
    ending = [threading.Thread(target=provider.shutdown, daemon=True) for provider in providers]
    for thread in ending:
        thread.start()
    for thread in ending:
        thread.join(LAST_WORDS_SECONDS)


class Durations(Observer):
    """The conventions' histogram of MCP requests, which a server over stdio has no other way to tell."""

    def __init__(self, provider: Any) -> None:
        meter = provider.get_meter(tracing.SCOPE, __version__)
        self._durations = meter.create_histogram(
            "mcp.server.operation.duration",
            unit="s",
            description="How long MCP requests took, from their arrival to their answer.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )

    def request_ended(self, method: str, tool: str, error: str, transport: str, seconds: float) -> None:
        attributes = {"mcp.method.name": method, "network.transport": transport}
        if tool:
            attributes |= {"gen_ai.tool.name": tool, "gen_ai.operation.name": "execute_tool"}
        if error:
            attributes["error.type"] = error
        self._durations.record(seconds, attributes)

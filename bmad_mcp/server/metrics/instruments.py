"""Counters and histograms of what happens in this process; every label is a word of a fixed set."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from bmad_mcp import __version__
from bmad_mcp.telemetry.connections import Waiting
from bmad_mcp.telemetry.events import CallRecord, Observer
from bmad_mcp.telemetry.exporting import BUCKETS

CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STATEMENT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)
ROUND_TRIPS = (2, 3, 4, 5, 6, 8, 10, 15, 20, 50)


class Instruments(Observer):
    """One set for a process, with a registry of its own."""

    def __init__(self) -> None:
        # They would make the page half as long again, and rate() needs none of them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        Gauge("bmad_build_info", "1, with the version.", ["version"], registry=registry).labels(__version__).set(1)
        self._calls = Counter(
            "bmad_calls", "Calls of operations, over every surface.", ["operation", "outcome"], registry=registry
        )
        self._call_seconds = Histogram(
            "bmad_call_duration_seconds",
            "What calls took.",
            ["operation"],
            buckets=CALL_BUCKETS,
            registry=registry,
        )
        self._call_statements = Histogram(
            "bmad_call_statements",
            "Round trips to the database of a call, BEGIN and COMMIT included.",
            ["operation"],
            buckets=ROUND_TRIPS,
            registry=registry,
        )
        self._requests = Histogram(
            "mcp_server_operation_duration_seconds",
            "What MCP requests took, from their arrival to their answer.",
            ["mcp_method_name", "gen_ai_tool_name", "error_type", "network_transport"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._statements = Histogram(
            "bmad_statement_duration_seconds",
            "What SQL statements took, as this process sees it.",
            buckets=STATEMENT_BUCKETS,
            registry=registry,
        )
        self._slow = Counter(
            "bmad_slow_statements",
            "SQL statements that took BMAD_SLOW_STATEMENT_SECONDS or longer, by the constant that holds them.",
            ["statement"],
            registry=registry,
        )
        self._pool_wait = Histogram(
            "bmad_pool_wait_seconds",
            "How long transactions waited for a connection.",
            buckets=STATEMENT_BUCKETS,
            registry=registry,
        )
        Gauge("bmad_pool_waiting", "Transactions that wait for a connection now.", registry=registry).set_function(
            lambda: Waiting.count
        )
        self._lookups = Histogram(
            "bmad_memory_lookup_duration_seconds",
            "What look-ups in a memory took, by how they ended.",
            ["provider", "outcome"],
            buckets=CALL_BUCKETS,
            registry=registry,
        )
        self._deliveries = Counter(
            "bmad_memory_deliveries",
            "Tries of this process to deliver a memory to the service.",
            ["provider", "outcome"],
            registry=registry,
        )
        self._jobs = Histogram(
            "bmad_job_duration_seconds",
            "What scheduled jobs took in this process, by how they ended.",
            ["job_name", "outcome"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._refused = Counter(
            "bmad_requests_refused",
            "HTTP requests of somebody who was not let in, or may not do what they asked for.",
            ["reason"],
            registry=registry,
        )
        self._responses = Counter("bmad_http_responses", "HTTP answers.", ["route", "status"], registry=registry)

    def call_ended(self, call: CallRecord) -> None:
        self._calls.labels(call.operation, call.outcome).inc()
        self._call_seconds.labels(call.operation).observe(call.seconds)
        self._call_statements.labels(call.operation).observe(call.statements)

    def request_ended(self, method: str, tool: str, error: str, transport: str, seconds: float) -> None:
        self._requests.labels(method, tool, error, transport).observe(seconds)

    def statement_ended(self, seconds: float) -> None:
        self._statements.observe(seconds)

    def statement_was_slow(self, name: str) -> None:
        self._slow.labels(name).inc()

    def connection_acquired(self, seconds: float) -> None:
        self._pool_wait.observe(seconds)

    def lookup_ended(self, provider: str, outcome: str, seconds: float) -> None:
        self._lookups.labels(provider, outcome).observe(seconds)

    def delivery_ended(self, provider: str, outcome: str, seconds: float) -> None:
        self._deliveries.labels(provider, outcome).inc()

    def job_ended(self, job: str, outcome: str, seconds: float) -> None:
        self._jobs.labels(job, outcome).observe(seconds)

    def request_refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def response_sent(self, route: str, status: int) -> None:
        """An HTTP answer began; the route is one that there is, or `other`."""
        self._responses.labels(route, str(status)).inc()

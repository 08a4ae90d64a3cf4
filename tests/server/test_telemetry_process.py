"""Real server processes beside a collector: what they export, what their logs look like, and how they end."""

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from http_process import HttpServer
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from processes import fresh_key

from bmad_mcp.telemetry.exporting import LAST_WORDS_SECONDS, wanted

SERVE = [sys.executable, "-m", "bmad_mcp", "serve"]
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP; one that hangs never answers."""

    daemon_threads = True

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hangs = hangs
        self.bodies: dict[str, list[bytes]] = {"/v1/traces": [], "/v1/metrics": []}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self):
        for body in self.bodies["/v1/traces"]:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    yield from ((resource.resource, span) for span in scope.spans)

    def metrics(self):
        for body in self.bodies["/v1/metrics"]:
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    yield from scope.metrics


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.bodies[self.path].append(body)
        if self.server.hangs:
            time.sleep(30)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector():
    with Collector() as server:
        yield server
        server.shutdown()


def request(number, method, params):
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
CALL = {
    "name": "task_create",
    "arguments": {"title": "Told"},
    "_meta": {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
}


def over_stdio(env, *messages) -> subprocess.CompletedProcess[str]:
    """Ask one thing after the other, and let the server end when all is answered."""
    command = [*SERVE, "--project", fresh_key("otel")]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env={**os.environ, **env}, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1
    ) as process:
        answers = []
        for one in messages:
            process.stdin.write(json.dumps(one) + "\n")
            if "id" in one:
                answers.append(process.stdout.readline())
        rest, told = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, "".join(answers) + rest, told)


def conversation():
    return (
        request(1, "initialize", HELLO),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        request(2, "tools/call", CALL),
        request(3, "tools/call", {"name": "no_such_tool", "arguments": {}}),
    )


def call_of(logs):
    (call,) = [one for one in logs if one["logger"] == "bmad_mcp.call" and one["operation"] == "task_create"]
    return call


def text_of(attributes) -> dict[str, str]:
    return {one.key: one.value.string_value for one in attributes}


def test_a_stdio_server_exports_by_the_standard_variables_and_logs_json_on_stderr_only(server_env, collector):
    env = server_env | {ENDPOINT: collector.url, "BMAD_LOG_FORMAT": "json", "BMAD_LOG_LEVEL": "info"}
    done = over_stdio(env, *conversation())
    assert done.returncode == 0, done.stderr
    answers = {one["id"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert answers[2]["result"]["structuredContent"]["task"]["key"] == "T-1"
    spans = {span.name: (text_of(resource.attributes), span) for resource, span in collector.spans()}
    resource, span = spans["tools/call task_create"]
    assert resource["service.name"] == "bmad-mcp"
    assert resource["service.version"]
    assert span.trace_id.hex() == TRACE
    assert text_of(span.attributes)["network.transport"] == "pipe"
    assert {"BEGIN", "COMMIT"} <= spans.keys()
    (metric,) = [one for one in collector.metrics() if one.name == "mcp.server.operation.duration"]
    assert metric.unit == "s"
    points = [(text_of(point.attributes), point.count) for point in metric.histogram.data_points]
    named = {"mcp.method.name": "tools/call", "network.transport": "pipe", "gen_ai.operation.name": "execute_tool"}
    assert (named | {"gen_ai.tool.name": "task_create"}, 1) in points
    assert (named | {"gen_ai.tool.name": "_OTHER", "error.type": "tool_error"}, 1) in points
    logs = [json.loads(line) for line in done.stderr.splitlines()]
    call = call_of(logs)
    assert (call["trace_id"], call["outcome"], call["level"]) == (TRACE, "ok", "info")


@pytest.mark.soak
def test_without_the_variables_nothing_is_exported_and_a_clients_trace_is_told_all_the_same(server_env, collector):
    env = server_env | {"BMAD_LOG_FORMAT": "json", "BMAD_LOG_LEVEL": "info"}
    done = over_stdio(env | {"OTEL_TRACES_EXPORTER": "none"}, *conversation())
    assert done.returncode == 0
    assert not any(collector.bodies.values())
    assert call_of(map(json.loads, done.stderr.splitlines()))["trace_id"] == TRACE


@pytest.mark.soak
def test_a_collector_that_hangs_delays_neither_answers_nor_the_end(server_env):
    with Collector(hangs=True) as collector:
        began = time.monotonic()
        done = over_stdio(server_env | {ENDPOINT: collector.url}, *conversation())
        taken = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 3
        # A start, the opening of the project, and the last words of two exporters: far from a timeout of ten seconds.
        assert taken < 6 + 2 * LAST_WORDS_SECONDS
        collector.shutdown()


@pytest.mark.soak
async def test_a_server_over_http_tells_all_of_it_in_json_and_shows_its_metrics(server_env):
    server = HttpServer(
        server_env | {"BMAD_LOG_FORMAT": "json", "BMAD_LOG_LEVEL": "info"},
        "--project",
        fresh_key("json"),
        "--port",
        "0",
    )
    try:
        address = json.loads(server.wait_for(r"ready: http")[0] and server.told[-1])["message"].removeprefix("ready: ")
        async with httpx.AsyncClient(base_url=address) as client:
            assert (await client.get("/api/v1/bmad/status")).status_code == 200
            page = await client.get("/metrics")
        assert 'bmad_calls_total{operation="project_status",outcome="ok"} 1.0' in page.text
        assert page.headers["cache-control"] == "no-store"
        assert server.stop() == 0
        logs = [json.loads(line) for line in server.told if line != "<end>"]
        assert {"time", "level", "logger", "message"} <= set.intersection(*(set(one) for one in logs))
        assert any(one.get("operation") == "project_status" for one in logs)
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("environment", "is_wanted"),
    [
        ({}, False),
        ({ENDPOINT: "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", ENDPOINT: "http://c:4318"}, False),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, False),
        ({ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_the_standard_variables_say_whether_traces_are_exported(environment, is_wanted):
    assert wanted("TRACES", environment) is is_wanted

"""Spans of real requests, as an exporter gets them: names of the conventions, one trace, and no value of anybody."""

import json
from dataclasses import replace

import pytest
import pytest_asyncio
from auth_server import guarded_server, result_of
from harness import TestWorkspace, new_project
from memory.services.fake_service import FakeOpenMemory
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from stored_rows import fetch

from bench import faults
from bench.fake_server import Reply
from bmad_mcp.db import open_pool
from bmad_mcp.memory.services.choosing import MemoryServices
from bmad_mcp.telemetry import tracing

pytestmark = pytest.mark.asyncio(loop_scope="module")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER_PARENT = f"00-{OTHER_TRACE}-b7ad6b7169203331-01"
CANARY = "a text of the project"


@pytest.fixture(scope="module")
def exporter():
    """What the process exports. A process sets its provider once, so nobody else may do so in this one."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    assert trace.get_tracer_provider() is provider
    tracing.use_tracer(provider)
    yield exporter
    tracing.use_tracer(None)
    provider.shutdown()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(database):
    """One server for all of these tests: each looks at what it did itself."""
    pool = await open_pool(**database.app)
    async with guarded_server(TestWorkspace(await new_project(pool)), is_authenticated=False) as served:
        yield served
    await pool.close()


@pytest.fixture
def spans(exporter):
    exporter.clear()
    return exporter.get_finished_spans


def attributes(span):
    return dict(span.attributes)


async def call(served, tool, arguments, **meta):
    return result_of(
        await served.post(
            None,
            "tools/call",
            {"name": tool, "arguments": arguments, "_meta": meta} if meta else {"name": tool, "arguments": arguments},
        )
    )


async def test_a_tools_call_is_one_server_span_with_its_statements_below(served, spans):
    await call(served, "task_create", {"title": CANARY}, traceparent=PARENT)
    servers = [one for one in spans() if one.kind is SpanKind.SERVER]
    (span,) = servers
    assert span.name == "tools/call task_create"
    told = attributes(span)
    assert told["mcp.method.name"] == "tools/call"
    assert told["gen_ai.tool.name"] == "task_create"
    assert told["gen_ai.operation.name"] == "execute_tool"
    assert told["jsonrpc.request.id"] == "1"
    assert told["network.transport"] == "tcp"
    assert "error.type" not in told
    # The client's trace goes on.
    assert trace.format_trace_id(span.context.trace_id) == TRACE
    assert trace.format_span_id(span.parent.span_id) == "00f067aa0ba902b7"
    statements = [one for one in spans() if one.kind is SpanKind.CLIENT]
    names = [one.name for one in statements]
    assert names[0] == "BEGIN"
    assert names[-1] == "COMMIT"
    assert any(name.startswith("tasks.queries.") for name in names)
    for one in statements:
        assert attributes(one) == {"db.system.name": "postgresql", "db.query.summary": one.name}
        assert one.parent.span_id == span.context.span_id
    assert len(spans()) == 1 + len(statements)


async def test_the_trace_is_kept_with_what_changed(served, spans):
    await call(served, "task_create", {"title": "traced"}, traceparent=PARENT)
    await served.client.post("/api/v1/bmad/tasks/create", json={"title": "rest"}, headers={"traceparent": OTHER_PARENT})
    rows = await fetch(served.workspace.opened, "SELECT operation, trace_id FROM bmad_agent_activity ORDER BY id")
    assert [(row["operation"], row["trace_id"]) for row in rows[-2:]] == [
        ("task_create", TRACE),
        ("task_create", OTHER_TRACE),
    ]


async def test_a_trace_is_kept_also_where_nobody_here_records_it(served, exporter):
    tracing.use_tracer(None)
    try:
        exporter.clear()
        await call(served, "task_create", {"title": "x"}, traceparent=PARENT[:-2] + "00")
        await call(served, "task_create", {"title": "y"})
        assert not [one for one in exporter.get_finished_spans() if one.kind is SpanKind.CLIENT]
        rows = await fetch(served.workspace.opened, "SELECT trace_id FROM bmad_agent_activity ORDER BY id")
        assert rows[-2]["trace_id"] == TRACE
        assert rows[-1]["trace_id"] != TRACE
    finally:
        tracing.use_tracer(trace.get_tracer_provider())


async def test_the_headers_name_the_trace_where_the_message_does_not(served, spans):
    result_of(await served.call(None, "task_list", traceparent=OTHER_PARENT))
    both = {"name": "task_get", "arguments": {"task": "T-1"}, "_meta": {"traceparent": PARENT}}
    await served.post(None, "tools/call", both, traceparent=OTHER_PARENT)
    traces = {one.name: trace.format_trace_id(one.context.trace_id) for one in spans() if one.kind is SpanKind.SERVER}
    assert traces == {"tools/call task_list": OTHER_TRACE, "tools/call task_get": TRACE}


async def test_a_refused_call_is_an_error_without_its_text(served, spans):
    answer = await call(served, "task_get", {"task": "T-999"})
    assert answer["isError"]
    (span,) = [one for one in spans() if one.kind is SpanKind.SERVER]
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "tool_error"
    assert not span.events


async def test_a_resource_is_told_by_its_template(served, spans):
    made = await call(served, "task_create", {"title": "x"})
    key = made["structuredContent"]["task"]["key"]
    result_of(await served.post(None, "resources/read", {"uri": f"bmad://tasks/{key}"}))
    (span,) = [one for one in spans() if one.name == "resources/read"]
    assert attributes(span)["mcp.resource.uri"] == "bmad://tasks/{task}"


async def test_rest_has_spans_with_the_conventions_of_http(served, spans):
    answer = await served.client.get("/api/v1/bmad/tasks/T-999", headers={"traceparent": OTHER_PARENT})
    assert answer.status_code == 404
    (span,) = [one for one in spans() if one.kind is SpanKind.SERVER]
    assert span.name == "GET /api/v1/bmad/tasks/{task}"
    assert attributes(span) == {
        "http.request.method": "GET",
        "http.route": "/api/v1/bmad/tasks/{task}",
        "http.response.status_code": 404,
    }
    assert trace.format_trace_id(span.context.trace_id) == OTHER_TRACE
    assert [one for one in spans() if one.parent is not None and one.parent.span_id == span.context.span_id]


async def test_a_failed_statement_tells_its_sqlstate_and_no_value(served, spans):
    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span("outer"), pytest.raises(Exception, match="invalid input"):
        await served.workspace.opened.pool.fetchval(f"SELECT '{CANARY}'::int")
    (span,) = [one for one in spans() if one.name == "other"]
    assert attributes(span)["error.type"] == "22P02"
    assert attributes(span)["db.response.status_code"] == "22P02"
    assert span.status.description is None
    assert not span.events


async def test_what_goes_on_by_itself_makes_no_traces(served, spans):
    await served.workspace.opened.pool.fetchval("SELECT 1")
    await served.client.get("/health/ready")
    assert not spans()


async def test_a_look_up_in_the_memory_service_joins_the_trace(served, spans):
    async with FakeOpenMemory("bmad") as service:
        services = MemoryServices(service.url, user="bmad", setting="openmemory", read_seconds=0.5)
        alone = served.workspace.opened
        served.workspace.opened = replace(alone, services=services)
        try:
            await call(served, "memory_context", {"focus": CANARY}, traceparent=PARENT)
            found = [one for one in spans() if "http.request.method" in one.attributes]
            assert found
            (server,) = [one for one in spans() if one.kind is SpanKind.SERVER]
            for one in found:
                assert trace.format_trace_id(one.context.trace_id) == TRACE
                assert one.name == f"{one.attributes['http.request.method']} {one.attributes['url.template']}"
                assert one.start_time >= server.start_time
            sent = {asked.headers.get("traceparent", "")[:36] for asked in service.asked}
            assert sent == {f"00-{TRACE}-"}
            # What was sent lies in the bodies and queries of requests; none of it lies in a span.
            service.fault = faults.plainly(Reply(status=500, body={"detail": CANARY}))
            await call(served, "memory_context", {"focus": "another"})
            assert any(one.attributes.get("error.type") == "Refused" for one in spans())
        finally:
            served.workspace.opened = alone
            await services.aclose()


async def test_no_span_holds_what_was_said_or_stored(served, spans):
    await call(served, "epic_create", {"title": CANARY})
    await call(served, "story_create", {"epic": "1", "title": CANARY, "acceptance": [CANARY]})
    await call(served, "memory_store", {"text": CANARY})
    await call(served, "memory_context", {"focus": CANARY})
    await call(served, "task_create", {"title": CANARY, "unknown": CANARY})
    result_of(await served.post(None, "prompts/get", {"name": "dev"}))
    told = json.dumps([json.loads(one.to_json()) for one in spans()])
    assert CANARY not in told
    assert len(spans()) > 20

"""/metrics over a real server: each figure moves when the thing happens, and no label is of a client's choosing."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from auth_server import guarded_server, result_of
from harness import TestWorkspace, new_project
from mcp.client import Client
from memory.services.fake_service import FakeOpenMemory
from metrics_reader import scrape
from stored_rows import change

from bench import faults
from bench.fake_server import Reply
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.jobs.job import Job, JobContext
from bmad_mcp.jobs.schedule import Schedule, Unit
from bmad_mcp.memory.delivery import Deliveries, Later
from bmad_mcp.memory.services.choosing import MemoryServices
from bmad_mcp.server.metrics.page import MetricsPage
from bmad_mcp.telemetry.slow import SLOW_SECONDS, note_slower_than

TOKEN = "scrape-" + "k" * 20


@pytest.fixture
async def served(workspace):
    metrics = MetricsPage(workspace, most_projects=1, interval=0.0)
    async with guarded_server(workspace, is_authenticated=False, metrics=metrics) as served:
        yield served


async def test_calls_are_counted_by_operation_and_outcome_over_every_surface(served):
    before = await scrape(served.client)
    result_of(await served.call(None, "task_create", {"title": "First"}))
    assert (await served.client.post("/api/v1/bmad/tasks/create", json={"title": "Second"})).status_code == 201
    result_of(await served.call(None, "task_get", {"task": "T-999"}))
    result_of(await served.call(None, "task_get", {"tusk": "T-999"}))
    after = await scrape(served.client)

    def grew(name, **labels):
        return after.value(name, **labels) - before.value(name, **labels)

    assert grew("bmad_calls_total", operation="task_create", outcome="ok") == 2
    assert grew("bmad_calls_total", operation="task_get", outcome="not_found") == 1
    assert grew("bmad_calls_total", operation="task_get", outcome="invalid") == 1
    assert grew("bmad_call_duration_seconds_count", operation="task_create") == 2
    assert grew("bmad_call_duration_seconds_sum", operation="task_create") > 0
    # A refused input never reached the database; the others have at least BEGIN, a statement and an end.
    assert grew("bmad_call_statements_count", operation="task_get") == 2
    assert grew("bmad_call_statements_sum", operation="task_get") == 3
    assert grew("bmad_statement_duration_seconds_count") >= 9
    assert grew("bmad_pool_wait_seconds_count") >= 3
    requests = {"mcp_method_name": "tools/call", "network_transport": "tcp"}
    name = "mcp_server_operation_duration_seconds_count"
    assert grew(name, gen_ai_tool_name="task_create", error_type="", **requests) == 1
    assert grew(name, gen_ai_tool_name="task_get", error_type="tool_error", **requests) == 2
    assert grew("bmad_http_responses_total", route="/mcp", status="200") == 3
    assert grew("bmad_http_responses_total", route="/api/v1/bmad", status="201") == 1


async def test_no_label_is_of_a_clients_choosing(served):
    await scrape(served.client)
    words = [f"made_up_{uuid.uuid4().hex}" for _ in range(20)]
    for word in words:
        await served.call(None, word)
        await served.post(None, word)
        await served.post(None, "resources/read", {"uri": f"bmad://tasks/{word}"})
        await served.client.get(f"/{word}")
        await served.client.get(f"/api/v1/bmad/{word}")
        await served.client.request(word.upper()[:20], "/api/v1/bmad/status")
        await served.client.get("/", headers={"host": f"{word}.example"})
    found = await scrape(served.client)
    text = "\n".join(f"{one.name}{sorted(one.labels.items())}" for one in found.samples)
    assert not [word for word in words if word in text.lower()]
    assert found.labels("mcp_server_operation_duration_seconds_count", "gen_ai_tool_name") <= {"", "_OTHER", *BY_NAME}
    assert found.value("mcp_server_operation_duration_seconds_count", mcp_method_name="_OTHER") == 20
    assert found.value("mcp_server_operation_duration_seconds_count", gen_ai_tool_name="_OTHER") == 20
    assert found.value("bmad_http_responses_total", route="other", status="404") == 20
    assert found.value("bmad_http_responses_total", route="/", status="421") == 20


async def test_no_stored_text_and_no_secret_is_in_it(served):
    canary = f"canary-{uuid.uuid4().hex}"
    result_of(await served.call(None, "epic_create", {"title": canary}))
    result_of(await served.call(None, "story_create", {"epic": "1", "title": canary}))
    result_of(await served.call(None, "task_create", {"title": canary, "description": canary}))
    result_of(await served.call(None, "memory_store", {"text": canary}))
    text = (await served.client.get("/metrics")).text
    assert canary not in text
    assert served.workspace.opened.key in text


async def test_slow_statements_are_counted_by_the_name_of_their_constant(served):
    before = await scrape(served.client)
    note_slower_than(0.0)
    try:
        result_of(await served.call(None, "task_list"))
    finally:
        note_slower_than(SLOW_SECONDS)
    found = (await scrape(served.client)).labels("bmad_slow_statements_total", "statement")
    assert {"BEGIN", "COMMIT"} < found
    assert any(name.startswith("tasks.queries.") for name in found)
    assert "bmad_slow_statements_total" not in before.names


async def test_the_pool_shows_what_is_in_use_and_who_waits(served):
    pool = served.workspace.opened.pool
    held = [await pool.acquire() for _ in range(pool.get_max_size() - 1)]
    try:
        found = await scrape(served.client)
        assert found.value("bmad_pool_connections", state="in_use") == pool.get_max_size() - 1
        assert found.value("bmad_pool_connections_max") == pool.get_max_size()
        assert found.value("bmad_pool_waiting") == 0
        held.append(await pool.acquire())
        calls = [asyncio.create_task(served.call(None, "task_list")) for _ in range(3)]
        async with asyncio.timeout(10):
            # Not ready, as its probe waits too; the page is there all the same.
            while (found := await scrape(served.client)).value("bmad_pool_waiting") != 3:
                await asyncio.sleep(0.01)
        assert found.value("bmad_ready") == 0
    finally:
        for connection in held:
            await pool.release(connection)
    await asyncio.gather(*calls)


async def test_who_listens_is_counted_while_it_listens(served):
    async with Client(served.resource) as client, client.listen(resource_subscriptions=["bmad://project"]):
        assert (await scrape(served.client)).value("bmad_listeners") == 1
    async with asyncio.timeout(5):
        while (await scrape(served.client)).value("bmad_listeners"):
            await asyncio.sleep(0.01)


async def test_look_ups_breakers_and_deliveries_of_a_memory_service_are_shown(pool):
    async with FakeOpenMemory("bmad") as service:
        services = MemoryServices(service.url, user="bmad", setting="openmemory", read_seconds=0.5)
        workspace = TestWorkspace(replace(await new_project(pool), services=services))
        metrics = MetricsPage(workspace, most_projects=1, interval=0.0)
        async with guarded_server(workspace, is_authenticated=False, metrics=metrics) as served:
            for _ in range(2):
                result_of(await served.call(None, "memory_context", {"focus": "payments"}))
            found = await scrape(served.client)
            name = "bmad_memory_lookup_duration_seconds_count"
            assert found.value(name, provider="openmemory", outcome="fresh") == 1
            assert found.value(name, provider="openmemory", outcome="cached") == 1
            assert found.value(name, provider="builtin", outcome="nothing") == 2
            assert found.value("bmad_memory_breaker_state", provider="openmemory", purpose="read") == 0
            assert found.value("bmad_memory_provider", provider="openmemory") == 1
            result_of(await served.call(None, "memory_store", {"text": "Tests come first", "agent": "dev"}))
            found = await scrape(served.client)
            assert found.value("bmad_project_memory_outbox_waiting") == 1
            assert found.value("bmad_project_memory_outbox_oldest_seconds") > 0
            service.fault = faults.plainly(Reply(status=500))
            for number in range(4):
                result_of(await served.call(None, "memory_context", {"focus": f"question {number}"}))
            with pytest.raises(Later):
                await Deliveries(pool, services).send(workspace.opened.id, "dev")
            found = await scrape(served.client)
            assert found.value(name, provider="openmemory", outcome="failed") == 4
            assert found.value("bmad_memory_breaker_state", provider="openmemory", purpose="read") == 2
            assert found.value("bmad_memory_deliveries_total", provider="openmemory", outcome="failed") == 1
            await change(workspace.opened, "UPDATE mcp_memories SET delivery = 'dead'")
            found = await scrape(served.client)
            assert found.value("bmad_project_memory_outbox_dead") == 1
            assert found.value("bmad_project_memory_outbox_waiting") == 0
        await services.aclose()


async def test_jobs_are_counted_as_they_run_and_shown_as_they_are(served, database, pool):
    async def works(*_):
        return {"done": 1}

    async def fails(*_):
        raise ValueError("canary of a job")

    async def connect():
        import asyncpg

        return await asyncpg.connect(**database.app)

    context = JobContext(pool, lambda: None, lambda: None)
    opened = served.workspace.opened
    for run in (works, fails):
        # A name that the schedule knows, so that its state is shown.
        job = Job("retention", "…", timedelta(days=1), run)
        await Schedule(context, connect, [job]).run_now(Unit(job, opened.id, opened.key))
        found = await scrape(served.client)
        if run is works:
            assert found.value("bmad_jobs_failing", job_name="retention") == 0
            assert found.value("bmad_job_last_success_timestamp_seconds", job_name="retention") > 1_700_000_000
    assert found.value("bmad_job_duration_seconds_count", job_name="retention", outcome="ok") == 1
    assert found.value("bmad_job_duration_seconds_count", job_name="retention", outcome="failed") == 1
    assert found.value("bmad_jobs_failing", job_name="retention") == 1
    assert "canary" not in (await served.client.get("/metrics")).text
    await change(opened, "DELETE FROM mcp_jobs")


async def test_the_strategys_figures_follow_what_the_project_does(served):
    project = {"project": served.workspace.opened.key}
    result_of(await served.call(None, "agent_activate", {"agent": "dev"}))
    for quality in (70, 90):
        made = result_of(await served.call(None, "task_create", {"title": "x"}))["structuredContent"]["task"]["key"]
        claimed = result_of(await served.call(None, "task_claim", {"agent": "dev", "task": made}))["structuredContent"]
        done = {"task": made, "lease": claimed["lease"], "quality": quality}
        assert not result_of(await served.call(None, "task_complete", done)).get("isError")
    result_of(await served.call(None, "memory_store", {"text": "Payments need a retry", "agent": "dev"}))
    result_of(await served.call(None, "memory_context", {"focus": "payments retry", "agent": "dev"}))
    result_of(await served.call(None, "workflow_start", {"type": "greenfield-service"}))
    found = await scrape(served.client)
    expected = {
        "tasks_completed": 2,
        "task_completion_ratio": 1,
        "quality_points": 80,
        "agents_active": 1,
        "agents_in_session": 1,
        "agent_activations": 1,
        "active_days": 1,
        "principals_active": 1,
        "workflows_running": 1,
        "memories": 2,
        "memories_stored": 1,
    }
    assert {name: found.value(f"bmad_project_{name}", **project) for name in expected} == expected
    assert found.value("bmad_project_memory_lookups", **project) >= 1
    assert 0 < found.value("bmad_project_memory_hit_ratio", **project) <= 1
    assert found.value("bmad_project_agent_tasks_completed", agent="dev", **project) == 2
    assert found.value("bmad_project_agent_quality_points", agent="dev", **project) == 80
    assert found.value("bmad_project_task_cycle_seconds", quantile="0.5", **project) >= 0
    # The window has no closed workflow run: there is no share, rather than one of zero.
    assert not found.families["bmad_project_workflow_completion_ratio"].samples


async def test_projects_are_bounded_and_the_served_one_comes_first(pool, workspace):
    for _ in range(3):
        await new_project(pool)
    metrics = MetricsPage(workspace, most_projects=2, interval=0.0)
    async with guarded_server(workspace, is_authenticated=False, metrics=metrics) as served:
        found = await scrape(served.client)
    shown = found.labels("bmad_project_tasks_completed", "project")
    assert len(shown) == 2
    assert workspace.opened.key in shown
    assert found.value("bmad_projects") >= 4
    async with guarded_server(
        workspace, is_authenticated=False, metrics=MetricsPage(workspace, most_projects=0)
    ) as served:
        found = await scrape(served.client)
    assert not found.families["bmad_project_tasks_completed"].samples
    assert found.value("bmad_projects") >= 4


async def test_the_figures_are_read_once_in_an_interval_however_often_they_are_scraped(workspace):
    metrics = MetricsPage(workspace, most_projects=1, interval=3600.0)
    async with guarded_server(workspace, is_authenticated=False, metrics=metrics) as served:
        first = await scrape(served.client)
        result_of(await served.call(None, "memory_store", {"text": "Later"}))
        again = await asyncio.gather(*(scrape(served.client) for _ in range(5)))
        stamp = "bmad_figures_timestamp_seconds"
        assert {one.value(stamp) for one in again} == {first.value(stamp)}
        assert {one.value("bmad_project_memories") for one in again} == {0}


async def test_without_its_database_the_page_is_there_and_tells_so(workspace):
    class Away:
        async def project(self):
            from bmad_mcp.errors import Unavailable

            raise Unavailable("Away.")

        async def mend(self):
            return False

    async with guarded_server(Away(), is_authenticated=False, metrics=MetricsPage(Away())) as served:
        found = await scrape(served.client)
    assert found.value("bmad_ready") == 0
    assert found.value("process_resident_memory_bytes") > 1 << 20
    assert found.value("bmad_build_info") == 1


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_with_authentication_it_is_read_with_its_own_token_only(workspace, token):
    metrics = MetricsPage(workspace, token=token, is_open=False, most_projects=1)
    async with guarded_server(workspace, metrics=metrics) as served:
        admin = await served.token("ann", "admin", role="admin")
        for sent in (None, "Bearer", f"Bearer {admin}", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"):
            answer = await served.client.get("/metrics", headers={"authorization": sent} if sent else {})
            assert answer.status_code == 401, sent
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "BMAD_METRICS_TOKEN" in answer.json()["detail"]
        answer = await served.client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == (200 if token else 401)
        # It opens nothing else.
        elsewhere = await served.client.get("/api/v1/bmad/status", headers={"authorization": f"Bearer {TOKEN}"})
        assert elsewhere.status_code == 401


async def test_who_is_refused_is_counted_by_reason(workspace):
    metrics = MetricsPage(workspace, token=TOKEN, is_open=False, most_projects=1)
    async with guarded_server(workspace, metrics=metrics) as served:
        reader = await served.token("ann", "read", role="member")
        viewer = await served.token("ben", "write", role="viewer")
        await served.call(None, "project_status")
        await served.call("bmad_nonsense", "project_status")
        await served.call(reader, "project_status", x_bmad_project="another")
        await served.call(reader, "task_create", {"title": "x"})
        await served.client.post(
            "/api/v1/bmad/tasks/create", json={"title": "x"}, headers={"authorization": f"Bearer {viewer}"}
        )
        await served.client.get("/metrics")
        found = await scrape(served.client, {"authorization": f"Bearer {TOKEN}"})
        reasons = {
            one.labels["reason"]: one.value for one in found.samples if one.name == "bmad_requests_refused_total"
        }
        assert reasons == {
            "unauthorized": 1,
            "invalid_token": 1,
            "forbidden": 2,
            "insufficient_scope": 1,
            "metrics": 1,
        }


async def test_a_token_that_is_set_is_asked_for_without_authentication_too(workspace):
    metrics = MetricsPage(workspace, token=TOKEN, is_open=True, most_projects=1)
    async with guarded_server(workspace, is_authenticated=False, metrics=metrics) as served:
        assert (await served.client.get("/metrics")).status_code == 401
        await scrape(served.client, {"authorization": f"Bearer {TOKEN}"})
        foreign = {"authorization": f"Bearer {TOKEN}", "host": "evil.example"}
        assert (await served.client.get("/metrics", headers=foreign)).status_code == 421

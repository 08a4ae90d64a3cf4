"""The first memory of a process, before anybody asked whether a memory service is there."""

import time
from dataclasses import replace

import pytest
from harness import TestWorkspace, new_project
from stored_rows import fetch

from bench import faults
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.memory.services.choosing import MemoryServices
from bmad_mcp.operation import perform

KEPT = "SELECT delivery FROM mcp_memories WHERE project_id = bmad_project() ORDER BY created_at"
JOBS = "SELECT count(*)::int AS jobs FROM mcp_pgqueuer WHERE convert_from(payload, 'UTF8') LIKE bmad_project() || '%'"


@pytest.fixture
async def beside(pool):
    """Starts a process's worth of memory services at an address, and gives the calls of a project beside it."""
    started, projects = [], []

    async def begin(url, **settings):
        started.append(MemoryServices(url, user="bmad", **settings))
        workspace = TestWorkspace(replace(await new_project(pool), services=started[-1]))
        projects.append(workspace.opened)

        async def run(name, /, **arguments):
            return await perform(BY_NAME[name], arguments, Caller(), workspace)

        return run

    async def kept():
        (jobs,) = await fetch(projects[-1], JOBS)
        return [row["delivery"] for row in await fetch(projects[-1], KEPT)], jobs["jobs"]

    begin.kept = kept
    yield begin
    for one in started:
        await one.aclose()


async def completed(run):
    task = (await run("task_create", title="one")).task.key
    lease = (await run("task_claim", agent="dev", task=task)).lease
    return (await run("task_complete", task=task, lease=lease, summary="Done")).memory.delivery


async def test_without_a_service_it_is_stored_here_and_never_sent(beside):
    run = await beside("http://127.0.0.1:9")
    assert await completed(run) == "stored"
    assert (await run("memory_store", text="The harbour has two gates")).memory.delivery == "stored"
    assert await beside.kept() == (["stored", "stored"], 0)


async def test_with_a_service_it_is_queued_for_that(beside, service):
    run = await beside(service.url)
    assert await completed(run) == "queued"
    states, jobs = await beside.kept()
    assert states == ["queued"]
    assert jobs == 1


@pytest.mark.parametrize("read_seconds", [0.2, 1.5])
async def test_a_service_that_hangs_is_waited_for_once_and_gets_nothing(beside, service, read_seconds):
    service.fault = faults.hang_before_headers
    run = await beside(service.url, read_seconds=read_seconds)
    began = time.monotonic()
    assert (await run("memory_store", text="The harbour has two gates")).memory.delivery == "stored"
    assert time.monotonic() - began < min(read_seconds, 1.0) + 0.8
    while time.monotonic() - began < 1.5:
        assert (await run("memory_store", text="The harbour has three gates")).memory.delivery == "stored"
    asked, began = len(service.asked), time.monotonic()
    assert (await run("memory_store", text="The harbour has four gates")).memory.delivery == "stored"
    assert time.monotonic() - began < 0.2
    assert len(service.asked) == asked
    states, jobs = await beside.kept()
    assert set(states) == {"stored"}
    assert jobs == 0

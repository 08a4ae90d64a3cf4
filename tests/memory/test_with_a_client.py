"""What a real client sees of a memory service: a server process over stdio beside a service over HTTP."""

import pytest
from memory.services.fake_service import FakeOpenMemory
from memory.test_delivery import until
from memory.test_look_up import of_another_database
from processes import assistant, fresh_key


@pytest.fixture
async def service():
    async with FakeOpenMemory("bmad") as server:
        yield server


def beside(server_env, service):
    return {**server_env, "BMAD_MEMORY_PROVIDER": "openmemory", "BMAD_MEMORY_URL": service.url}


async def test_a_second_activation_makes_no_request_in_this_process_or_another(server_env, service):
    project = fresh_key()
    of_another_database(service, project, "The payments gateway times out after 30 s")

    def look_ups():
        # What other tests left waiting in the database may be delivered meanwhile.
        return [what for what in service.whats() if what != "POST /api/v1/memories/"]

    async def activated(client):
        return (await client("agent_activate", agent="dev", focus="payments gateway"))["memory"]

    async with assistant(beside(server_env, service), project) as one:
        first = await activated(one)
        assert (first["source"], first["freshness"]) == ("openmemory", "fresh")
        asked = look_ups()
        assert asked
        again = await activated(one)
        async with assistant(beside(server_env, service), project) as other:
            elsewhere = await activated(other)
        assert look_ups() == asked
    for memory in (again, elsewhere):
        assert (memory["source"], memory["freshness"]) == ("openmemory", "cached")
        assert memory["items"] == first["items"]


async def test_work_goes_on_when_the_service_goes(server_env, service):
    async with assistant(beside(server_env, service), fresh_key()) as client:
        await client("agent_activate", agent="dev", focus="tides")
        task = (await client("task_create", title="Parse the tides"))["task"]["key"]
        lease = (await client("task_claim", agent="dev", task=task))["lease"]
        done = await client("task_complete", task=task, lease=lease, summary="The tide table is in UTC")
        assert done["memory"]["delivery"] == "queued"
        (row,) = await until(lambda: service.rows)
        assert row["content"].startswith("The tide table is in UTC\n")
        assert row["metadata_"]["category"] == "TASK_COMPLETION"
        await service.__aexit__()
        found = await client("memory_context", focus="tide table in UTC", agent="dev")
        assert [one["text"].splitlines()[0] for one in found["items"]] == ["The tide table is in UTC"]
        assert "from the project's database only" in found["note"]
        assert (await client("memory_store", text="The harbour has two gates"))["memory"]["delivery"] == "queued"

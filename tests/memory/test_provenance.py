"""Where memories come from, as the dashboard's memory explorer asks it."""

import uuid

from harness import TestWorkspace
from stored_rows import change

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.operation import perform

pytest_plugins = ("stories.fixtures",)


async def test_a_memory_tells_who_stored_it_and_how_far_it_is_on_its_way(workspace, run):
    by = Caller("alice", "tab", "human")
    there = TestWorkspace(workspace.opened, {})
    kept = await perform(BY_NAME["memory_store"], {"text": "Tides repeat.", "agent": "dev"}, by, there)
    sent = (await run("memory_store", text="The moon pulls.")).memory.id
    await change(
        workspace.opened,
        "UPDATE mcp_memories SET delivery = 'delivered', provider = 'openmemory', service_ref = 'om-7', attempts = 2"
        " WHERE project_id = bmad_project() AND id = $1::uuid",
        sent,
    )
    found = await run("memory_provenance", memories=[kept.memory.id, "om-7", "no such", str(uuid.uuid4())])
    assert found.project == workspace.opened.key
    one, other = found.items
    assert (one.id, one.principal, one.author, one.agent, one.delivery, one.attempts) == (
        kept.memory.id, "alice", "human", "dev", "stored", 0,
    )  # fmt: skip
    assert (other.id, other.delivery, other.provider, other.attempts) == ("om-7", "delivered", "openmemory", 2)


async def test_another_projects_memories_are_not_told(run, elsewhere):
    kept = (await run("memory_store", text="Tides repeat.")).memory.id
    found = await perform(BY_NAME["memory_provenance"], {"memories": [kept]}, Caller(), elsewhere)
    assert found.items == []

"""The ledger of the kills finds what it looks for: changes that are lost, there by half, or let in too late."""

import asyncpg
import pytest
from faults.ledger import Ledger

LOSSES = {
    "completed without its line": "DELETE FROM bmad_agent_activity WHERE project_id = $1 AND operation = 'task_complete'",
    "a counter": "UPDATE mcp_counters SET value = value + 1 WHERE project_id = $1 AND kind = 'task'",
    "a version": "UPDATE bmad_tasks SET version = version + 1 WHERE project_id = $1",
    "remembered once": "DELETE FROM mcp_memories WHERE project_id = $1",
    "acknowledged and lost": "DELETE FROM bmad_tasks WHERE project_id = $1",
    "completed under lease": "UPDATE bmad_tasks SET lease = 9 WHERE project_id = $1",
    "a lease that was over": "INSERT INTO bmad_tasks (project_id, number, title, summary) VALUES ($1, 99, 'x', 'late 1')",
    "two": None,
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_what_is_lost_is_found(run, workspace, database, loss):
    ledger = Ledger()
    made = (await run("task_create", title="kept", idempotency_key="once")).task
    ledger.made["kept"] = made.key
    claim = await run("task_claim", agent="dev")
    ledger.took(made.key, claim.lease, "one")
    done = await run("task_complete", task=made.key, lease=claim.lease, summary="did it")
    ledger.completed[made.key] = (claim.lease, "did it")
    ledger.saw(done.task.model_dump() | {"version": 3})
    connection = await asyncpg.connect(**database.admin)
    try:
        await ledger.check(connection, workspace.opened.key)
        if (sql := LOSSES[loss]) is None:
            ledger.took(made.key, claim.lease, "two")
        else:
            # As a crash would lose it: past the triggers that keep the trail.
            await connection.execute("SET session_replication_role = replica")
            await connection.execute(sql, workspace.opened.id)
        with pytest.raises(AssertionError, match=loss):
            await ledger.check(connection, workspace.opened.key)
    finally:
        await connection.close()

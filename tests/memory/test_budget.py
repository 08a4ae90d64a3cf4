"""A session opens without the memory when the memory does not answer."""

import time

import asyncpg

from bmad_mcp.memory import recall

pytest_plugins = ("stories.fixtures",)


async def test_a_memory_that_hangs_is_left_alone_after_its_budget(run, database, sql, monkeypatch):
    monkeypatch.setattr(recall, "BEGIN_LOOK", recall.BEGIN_LOOK.replace(str(recall.BUDGET_MS), "200"))
    await run("memory_store", text="Out of reach")
    owner = await asyncpg.connect(**database.owner)
    try:
        async with owner.transaction():
            await owner.execute("LOCK TABLE mcp_memories IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            found = await run("agent_activate", agent="dev", focus="reach")
            assert time.monotonic() - began < 2
    finally:
        await owner.close()
    assert (found.memory.source, found.memory.items) == ("unavailable", [])
    assert found.agent.status == "active"
    (row,) = await sql("SELECT outcome, items, latency_ms FROM bmad_memory_integrations WHERE direction = 'recall'")
    assert (row["outcome"], row["items"]) == ("unavailable", 0)
    assert row["latency_ms"] >= 200
    assert (await run("agent_activate", agent="dev", focus="reach")).memory.items[0].text == "Out of reach"


async def test_the_budget_does_not_outlive_the_look(call):
    before = await call.db.fetchval("SELECT current_setting('statement_timeout') || current_setting('lock_timeout')")
    await recall.recall_within_budget(call, recall.Question("anything"))
    after = await call.db.fetchval("SELECT current_setting('statement_timeout') || current_setting('lock_timeout')")
    assert before == after

"""Many callers after one task, over real connections to two servers: exactly one gets it, each time."""

import asyncio
import json
import os
import time
from collections import Counter
from pathlib import Path

import asyncpg
import pytest
from commands.command import CLEAN
from faults.raw_caller import RawCaller
from processes import fresh_key
from server.http_process import HttpServer

from bmad_mcp.embedded.endpoints import DATABASE

CALLERS, SERVERS = 64, 2
# A busy machine may let calls wait: none is to be shed, each caller has to be told who got it.
CALM = {"BMAD_MEMORY_PROVIDER": "builtin", "BMAD_POOL_WAIT_SECONDS": "60"}
RACES = int(os.environ.get("BMAD_SOAK_RACES", "10000"))
# One line for each slice that was raced; a run that was stopped goes on after the last one.
KEPT = Path(os.environ.get("BMAD_SOAK_RACES_KEPT", "dist/claim-races.jsonl"))
SLICE = 250
# Every task of the slice: how often it was claimed by the row's own count, and how many claims the trail has of them.
CLAIMED = """
SELECT count(*) FILTER (WHERE lease = 1 AND status = 'completed') AS once,
    (SELECT count(*) FROM bmad_agent_activity a WHERE a.project_id = p.id AND a.operation = 'task_claim'
        AND substr(a.subject, 8)::int BETWEEN $1 AND $2) AS told
FROM bmad_tasks t JOIN bmad_projects p ON p.id = t.project_id
WHERE p.key = $3 AND t.number BETWEEN $1 AND $2 GROUP BY p.id
"""


async def race(callers: list[RawCaller]) -> tuple[int, Counter[str]]:
    """All callers after a new task; its number, and how often a refusal had which code. Fails for two who got it."""
    made = await callers[0]("task_create", title="wanted")
    task = made["structuredContent"]["task"]["key"]
    answers = await asyncio.gather(*(one("task_claim", agent="dev", task=task) for one in callers))
    won = [one["structuredContent"] for one in answers if not one.get("isError")]
    assert [(one["task"]["key"], one["lease"]) for one in won] == [(task, 1)], won
    refused = Counter(one["_meta"]["bmad/code"] for one in answers if one.get("isError"))
    told = {one["content"][0]["text"].split(" until ")[0] for one in answers if one.get("isError")}
    assert told == {f"{task} is held by dev"}
    done = await callers[-1]("task_complete", task=task, lease=won[0]["lease"])
    assert not done.get("isError"), done
    return int(task.removeprefix("T-")), refused


async def raced(callers: list[RawCaller], admin: asyncpg.Connection, project: str, races: int) -> dict:
    """So many races, checked with the database itself at the end."""
    began, refused, numbers = time.monotonic(), Counter(), []
    for _ in range(races):
        number, codes = await race(callers)
        numbers.append(number)
        refused += codes
    rows = await admin.fetchrow(CLAIMED, min(numbers), max(numbers), project)
    assert (rows["once"], rows["told"]) == (races, races)
    assert refused == {"conflict": races * (CALLERS - 1)}
    return {
        "races": races,
        "claims": races * CALLERS,
        "won": rows["told"],
        "refused": dict(refused),
        "seconds": round(time.monotonic() - began, 1),
    }


@pytest.fixture
async def arena(cluster, server_env):
    """Callers spread over two servers on one database, their project, and a superuser's connection to that database."""
    project = fresh_key("races")
    servers: list[HttpServer] = []
    try:
        for _ in range(SERVERS):
            servers.append(HttpServer({**CLEAN, **CALM, **server_env}, "--project", project, "--port", "0"))
        # Begun beside other work, it may be long until they are up.
        addresses = [server.wait_for(r"^ready: (https?://\S+)$", 300)[1] for server in servers]
        callers = [RawCaller(addresses[number % SERVERS]) for number in range(CALLERS)]
        url = server_env.get("BMAD_DATABASE_URL")
        admin = await asyncpg.connect(**({"dsn": url} if url else cluster.admin | {"database": DATABASE}))
        yield callers, admin, project
        await admin.close()
        for one in callers:
            await one.close()
    finally:
        for server in servers:
            server.kill()


async def test_one_of_64_gets_the_task_and_nobody_else(arena):
    assert (await raced(*arena, 5))["won"] == 5


@pytest.mark.soak
async def test_ten_thousand_races_have_ten_thousand_winners(arena):
    KEPT.parent.mkdir(exist_ok=True, parents=True)
    done = sum(json.loads(line)["races"] for line in KEPT.read_text().splitlines()) if KEPT.exists() else 0
    while done < RACES:
        found = await raced(*arena, min(SLICE, RACES - done))
        with KEPT.open("a") as kept:
            kept.write(json.dumps(found) + "\n")
        done += found["races"]
    slices = [json.loads(line) for line in KEPT.read_text().splitlines()]
    print(f"{done:,} races × {CALLERS}: {sum(one['won'] for one in slices):,} won, 0 doubles")
    assert sum(one["won"] for one in slices) == done

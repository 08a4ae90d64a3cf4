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
# In turn: a new task by its key, the best there is without one, and one whose holder let the lease pass, either way.
KINDS = ("by key", "the best", "left behind, by key", "left behind, the best")
# Every task of the slice: how often it was claimed by the row's own count, and how many claims the trail has of them.
CLAIMED = """
SELECT count(*) FILTER (WHERE status = 'completed') AS once, sum(lease) AS leases,
    (SELECT count(*) FROM bmad_agent_activity a WHERE a.project_id = p.id AND a.operation = 'task_claim'
        AND substr(a.subject, 8)::int BETWEEN $1 AND $2) AS told
FROM bmad_tasks t JOIN bmad_projects p ON p.id = t.project_id
WHERE p.key = $3 AND t.number BETWEEN $1 AND $2 GROUP BY p.id
"""
LEFT_BEHIND = """
UPDATE bmad_tasks SET lease_until = clock_timestamp() - interval '1 second'
WHERE number = $1 AND project_id = (SELECT id FROM bmad_projects WHERE key = $2)
"""


class Arena:
    """Callers spread over two servers on one database, their project, and a superuser's connection to that database."""

    def __init__(self, callers: list[RawCaller], admin: asyncpg.Connection, project: str) -> None:
        self._callers, self._admin, self._project = callers, admin, project

    async def race(self, kind: str) -> tuple[int, Counter[str]]:
        """All callers after one task; its number, and what the others were told. Fails for two who got it."""
        made = await self._callers[0]("task_create", title="wanted")
        task, lease = made["structuredContent"]["task"]["key"], 1
        number = int(task.removeprefix("T-"))
        if kind.startswith("left behind"):
            held = await self._callers[0]("task_claim", agent="qa", task=task)
            assert not held.get("isError"), held
            await self._admin.execute(LEFT_BEHIND, number, self._project)
            lease = 2
        named = {"task": task} if kind.endswith("by key") else {}
        answers = await asyncio.gather(*(one("task_claim", agent="dev", **named) for one in self._callers))
        given = [one["structuredContent"] for one in answers if not one.get("isError")]
        won = [one for one in given if one["task"] is not None]
        assert [(one["task"]["key"], one["lease"]) for one in won] == [(task, lease)], won
        refused = Counter(one["_meta"]["bmad/code"] for one in answers if one.get("isError"))
        refused["nothing is ready"] += sum(one["task"] is None and bool(one["why"]) for one in given)
        told = {one["content"][0]["text"].split(" until ")[0] for one in answers if one.get("isError")}
        assert told == ({f"{task} is held by dev"} if named else set())
        done = await self._callers[-1]("task_complete", task=task, lease=lease)
        assert not done.get("isError"), done
        return number, +refused

    async def raced(self, races: int) -> dict:
        """So many races, checked with the database itself at the end."""
        began, refused, numbers, taken_over = time.monotonic(), Counter(), [], 0
        for at in range(races):
            kind = KINDS[at % len(KINDS)]
            number, codes = await self.race(kind)
            taken_over += kind.startswith("left behind")
            numbers.append(number)
            refused += codes
        rows = await self._admin.fetchrow(CLAIMED, min(numbers), max(numbers), self._project)
        assert (rows["once"], rows["told"], rows["leases"]) == (races, races + taken_over, races + taken_over)
        assert set(refused) <= {"conflict", "nothing is ready"}
        assert refused.total() == races * (CALLERS - 1)
        return {
            "races": races,
            "claims": races * CALLERS,
            "won": rows["told"] - taken_over,
            "refused": dict(refused),
            "seconds": round(time.monotonic() - began, 1),
        }


@pytest.fixture
async def arena(cluster, server_env):
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
        yield Arena(callers, admin, project)
        await admin.close()
        for one in callers:
            await one.close()
    finally:
        for server in servers:
            server.kill()


async def test_one_of_64_gets_the_task_and_nobody_else(arena):
    assert (await arena.raced(2 * len(KINDS)))["won"] == 2 * len(KINDS)


@pytest.mark.soak
async def test_ten_thousand_races_have_ten_thousand_winners(arena):
    KEPT.parent.mkdir(exist_ok=True, parents=True)
    done = sum(json.loads(line)["races"] for line in KEPT.read_text().splitlines()) if KEPT.exists() else 0
    while done < RACES:
        found = await arena.raced(min(SLICE, RACES - done))
        with KEPT.open("a") as kept:
            kept.write(json.dumps(found) + "\n")
        done += found["races"]
    slices = [json.loads(line) for line in KEPT.read_text().splitlines()]
    print(f"{done:,} races × {CALLERS}: {sum(one['won'] for one in slices):,} won, 0 doubles")
    assert sum(one["won"] for one in slices) == done

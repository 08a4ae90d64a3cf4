"""Client processes on two servers of one database: their claims and versions can be told as if one came after another."""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain, combinations, permutations
from pathlib import Path
from typing import NamedTuple

import pytest
from data_dirs import data_dir
from faults.two_servers import TwoServers
from harness import EXTERNAL
from model.linearizable import Event, is_linearizable
from processes import fresh_key
from server.http_process import HttpServer

from bench.wire import Posted

__all__ = ["data_dir"]

ROOT = Path(__file__).parents[2]
TASKS = 4


class Row(NamedTuple):
    """What a history tells of a task; `holder` None: it is free."""

    version: int = 1
    lease: int = 0
    holder: str | None = None
    note: str | None = None
    title: str = "Wanted"


def changed(row: Row, asked) -> Row | None:
    """The task after a claim or an update; None where it is refused."""
    if "agent" in asked:
        return None if row.holder else row._replace(lease=row.lease + 1, holder=asked["agent"], version=row.version + 1)
    if "lease" in asked and (row.holder is None or asked["lease"] != row.lease):
        return None
    if "lease" not in asked and row.holder is not None:
        return None
    if asked.get("expected_version", row.version) != row.version:
        return None
    after = row._replace(version=row.version + 1, **{one: asked[one] for one in ("note", "title") if one in asked})
    return after._replace(holder=None) if asked.get("status") == "pending" else after


def told(row: Row) -> dict:
    status = "active" if row.holder else "pending"
    lease = row.lease if row.holder else None
    return {"version": row.version, "lease": lease, "status": status, "note": row.note, "title": row.title}


def step(row: Row, event: Event) -> Row | None:
    if event.answer is not None and "nothing" in event.answer:
        return row
    if event.name == "task_get":
        return row if event.answer is None or event.answer == told(row) else None
    after = changed(row, event.asked)
    if event.answer is None:
        return after or row
    if "refused" in event.answer:
        return row if after is None else None
    return after if after is not None and event.answer == told(after) else None


CLAIMED = {"version": 2, "lease": 1, "status": "active", "note": None, "title": "Wanted"}
CLAIM = Event("task_claim", {"agent": "dev"}, CLAIMED, 0, 10)
READ = Event("task_get", {}, CLAIMED, 20, 30)


@pytest.mark.parametrize(
    ("history", "is_good"),
    [
        ([CLAIM, READ], True),
        ([CLAIM, replace(CLAIM, began=5, answer={"refused": "held"})], True),
        # Both got it; one was refused before anybody had it; a read from before a claim that had ended; a lost update.
        ([CLAIM, replace(CLAIM, began=5)], False),
        ([replace(CLAIM, answer={"refused": "held"}), replace(CLAIM, began=20, ended=30)], False),
        ([CLAIM, replace(READ, answer=told(Row()))], False),
        ([replace(CLAIM, asked={"expected_version": 1, "note": n}, answer=told(Row(2, note=n))) for n in "ab"], False),
        # Nobody heard the claim's answer: it was done, or it was not, or it is done late.
        ([replace(CLAIM, answer=None, ended=None), READ], True),
        ([replace(CLAIM, answer=None, ended=None), replace(READ, answer=told(Row()))], True),
        ([replace(CLAIM, answer=None, ended=None), replace(READ, answer=told(Row())), replace(READ, began=40, ended=50)], True),
        ([replace(CLAIM, answer=None, ended=None), READ, replace(READ, answer=told(Row()), began=40, ended=50)], False),
    ],
)  # fmt: skip
def test_the_checker_tells_good_histories_from_bad_ones(history, is_good):
    assert is_linearizable(history, Row(), step) == is_good


def naive(history: list[Event]) -> bool:
    """The same by trying every order of every choice of the unheard."""
    unheard = [event for event in history if event.answer is None]
    for kept in chain.from_iterable(combinations(unheard, count) for count in range(len(unheard) + 1)):
        chosen = [event for event in history if event.answer is not None or event in kept]
        for order in permutations(chosen):
            if any(
                later.ended is not None and later.ended < earlier.began
                for at, earlier in enumerate(order)
                for later in order[at + 1 :]
            ):
                continue
            row: Row | None = Row()
            for event in order:
                row = row and step(row, event)
            if row is not None:
                return True
    return False


def made_up(chance: random.Random) -> list[Event]:
    """Calls that overlap, answered as if one came after another; now and then one answer is another's, or unheard."""
    row, history = Row(), []
    for at in range(chance.randint(2, 5)):
        name, asked = chance.choice(
            [
                ("task_claim", {"agent": chance.choice("ab")}),
                ("task_get", {}),
                ("task_update", {"note": chance.choice("xy")}),
                ("task_update", {"lease": chance.randint(1, 2), "status": "pending"}),
            ]
        )
        after = row if name == "task_get" else changed(row, asked)
        answer = {"refused": "so"} if after is None else told(after)
        row = after or row
        history.append(Event(name, asked, answer, 10 * at - chance.randint(0, 15), 10 * at + chance.randint(0, 15)))
    at, other = chance.randrange(len(history)), chance.choice(history)
    match chance.randrange(3):
        case 0:
            history[at] = replace(history[at], answer=other.answer)
        case 1:
            history[at] = replace(history[at], answer=None, ended=None)
    return history


def test_the_checker_says_what_trying_everything_says():
    chance, said = random.Random(8), Counter()
    for _ in range(2_000):
        history = made_up(chance)
        is_good = naive(history)
        said[is_good] += 1
        assert is_linearizable(history, Row(), step) == is_good, history
    assert min(said.values()) > 100, said


@pytest.fixture
def servers(server_env):
    project = fresh_key("history")
    env = {**server_env, "BMAD_MEMORY_PROVIDER": "builtin"}
    both = [HttpServer(env, "--project", project, "--port", "0") for _ in range(2)]
    yield [int(one.ready().rpartition(":")[2]) for one in both]
    for one in both:
        one.kill()


async def history_of(ports: list[int], seed: int, calls: int) -> list[Event]:
    """What a client process of its own asked and heard."""
    command = [sys.executable, str(Path(__file__).with_name("history_client.py")), str(seed), str(calls), str(TASKS)]
    client = await asyncio.create_subprocess_exec(
        *command, *map(str, ports), stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    lines, _ = await client.communicate()
    assert client.returncode == 0, f"client {seed} ended with {client.returncode}"
    found = [json.loads(line) for line in lines.splitlines()]
    assert len(found) == calls
    return [Event(one["name"], one["asked"], one.get("answer"), one["began"], one["ended"]) for one in found]


async def checked(servers: list[int], clients: int, calls: int, seed: int, during=None) -> str:
    """Let clients call, and `during` go on meanwhile; fails when a task's history cannot be told in an order."""
    asking = Posted(servers[0])
    for _ in range(TASKS):
        asking.call("task_create", title="Wanted")
    asking.close()
    beside = asyncio.create_task(during()) if during is not None else None
    working = asyncio.gather(*(history_of(servers, 100 * seed + one, calls) for one in range(clients)))
    await asyncio.wait({working, beside} if beside is not None else {working}, return_when=asyncio.FIRST_COMPLETED)
    if beside is not None and beside.done():
        working.cancel()
        await beside
    histories = await working
    if beside is not None:
        beside.cancel()
        with suppress(asyncio.CancelledError):
            await beside
    events = [event for history in histories for event in history]
    heard = [event for event in events if event.answer is not None]
    # About one client's worth was done, and some was refused: it is no history of one answer.
    assert sum(not {"refused", "nothing"} & event.answer.keys() for event in heard) > calls * 0.9
    assert sum("refused" in event.answer for event in heard) > calls / 10
    for number in range(1, TASKS + 1):
        theirs = [event for event in events if event.asked["task"] == f"T-{number}"]
        assert is_linearizable(theirs, Row(), step), f"T-{number}"
    undone = sum("nothing" in event.answer for event in heard)
    return f"{clients} clients, {len(events)} calls, {len(events) - len(heard)} unheard, {undone} told as not done"


@pytest.mark.parametrize(
    ("clients", "calls", "seed"),
    [(2, 80, 0), *(pytest.param(clients, 1500, clients, marks=pytest.mark.soak) for clients in range(2, 9))],
)
async def test_every_history_of_a_task_is_linearizable(servers, clients, calls, seed):
    print(await checked(servers, clients, calls, seed))


async def kill_on(servers: TwoServers, kills: Counter[str]) -> None:
    """kill -9 of one after the other, until it is cancelled."""
    generator, coming = random.Random(1), list[str]()
    while True:
        await asyncio.sleep(generator.uniform(0.3, 1.5))
        # Each three kills in a row hit PostgreSQL once.
        coming = coming or generator.sample(("server", "server", "postmaster"), 3)
        if coming[-1] == "server":
            await servers.kill_server(generator.randrange(2))
        elif not servers.kill_postgresql():
            continue
        kills[coming.pop()] += 1


@pytest.mark.soak
@pytest.mark.skipif(bool(EXTERNAL), reason="it kills the PostgreSQL that it starts")
async def test_a_history_stays_linearizable_while_servers_and_postgresql_are_killed(data_dir):
    servers, kills = TwoServers(data_dir, "history"), Counter()
    try:
        await servers.begin()
        print(await checked(servers.ports, 3, 600, 11, partial(kill_on, servers, kills)), dict(kills))
        assert min(kills[one] for one in ("server", "postmaster")) >= 3
    finally:
        servers.end()

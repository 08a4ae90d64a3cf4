"""Eight server processes on one project: nothing lost, nothing held twice, no errors."""

import asyncio
import os
import random
import signal
from contextlib import AsyncExitStack

import pytest
from processes import COMMAND, Refused, assistant, fresh_key, held

from bench.wire import Child

PROCESSES = 8
CREATES = 50


@pytest.fixture
async def crowd(server_env):
    """Eight assistants, each with a server process of its own."""
    project = fresh_key("race")
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(held(assistant(server_env, project))) for _ in range(PROCESSES)]


async def all_tasks(call, **filters):
    found, cursor = [], None
    while True:
        page = await call("task_list", limit=100, **filters, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def test_eight_processes_lose_no_create_and_hold_no_task_twice(crowd):
    async def create(number, call):
        return [
            (await call("task_create", title=f"Task {number}.{one}", agent="dev"))["task"]["key"]
            for one in range(CREATES)
        ]

    made = [key for keys in await asyncio.gather(*(create(*one) for one in enumerate(crowd))) for key in keys]
    assert len(made) == len(set(made)) == PROCESSES * CREATES
    assert {item["key"] for item in await all_tasks(crowd[0])} == set(made)

    holders: dict[str, list[int]] = {}

    async def work(number, call):
        done = 0
        while True:
            claim = await call("task_claim", agent="dev")
            if claim["task"] is None:
                return done
            key = claim["task"]["key"]
            holders.setdefault(key, []).append(number)
            finished = await call("task_complete", task=key, lease=claim["lease"])
            assert finished["task"]["status"] == "completed"
            done += 1

    done = await asyncio.gather(*(work(*one) for one in enumerate(crowd)))
    assert sum(done) == PROCESSES * CREATES
    assert {len(one) for one in holders.values()} == {1}
    assert {item["status"] for item in await all_tasks(crowd[-1])} == {"completed"}
    assert min(done) > 0


async def test_a_stale_holders_write_is_refused_in_another_process_too(crowd):
    first, second = crowd[:2]
    await first("task_create", title="One")
    stale = await first("task_claim", agent="dev", lease_seconds=5)
    await asyncio.sleep(5.1)
    taken = await second("task_claim", agent="dev")
    assert taken["task"]["key"] == stale["task"]["key"]
    for tool, more in (("task_complete", {}), ("task_heartbeat", {}), ("task_update", {"note": "late"})):
        with pytest.raises(Refused, match="not the current lease"):
            await first(tool, task="T-1", lease=stale["lease"], **more)
    await second("task_complete", task="T-1", lease=taken["lease"])


def one_call(child: Child, generator: random.Random, known: list[str]) -> tuple[str, dict]:
    """A random change; returns what the server acknowledged."""
    if not known or generator.random() < 0.5:
        made = child.call("task_create", title=f"T{generator.random()}", description="x" * generator.randint(0, 2000))
        known.append(made["task"]["key"])
        return "created", made["task"]
    key = generator.choice(known)
    return "noted", child.call("task_update", task=key, note=f"note {generator.random()}")["task"]


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 12))])
def test_what_was_acknowledged_before_a_kill_is_there_and_nothing_else_is_half_there(server_env, seed):
    generator = random.Random(seed)
    env = {**os.environ, **server_env}
    command = [*COMMAND, "serve", "--project", fresh_key("kill")]
    child = Child(command, env)
    child.hello()
    known: list[str] = []
    acknowledged: dict[str, dict] = {}
    stop_at = generator.randint(20, 200)
    for number in range(200):
        if number == stop_at:
            # The request is on its way when the process dies.
            child._send(
                {"jsonrpc": "2.0", "id": 9999, "method": "tools/call",
                 "params": {"name": "task_create", "arguments": {"title": "Unanswered"}}}
            )  # fmt: skip
            child.process.send_signal(signal.SIGKILL)
            child.process.wait()
            break
        _, told = one_call(child, generator, known)
        acknowledged[told["key"]] = acknowledged.get(told["key"], {}) | told
    again = Child(command, env)
    again.hello()
    for key, told in acknowledged.items():
        found = again.call("task_get", task=key)["task"]
        assert found["title"] == told["title"]
        assert found.get("note") == told.get("note")
        assert found["version"] == told["version"]
        operations = [event["operation"] for event in found["history"]]
        assert len(operations) == min(10, found["version"]), "every change has its line in the trail, and none has two"
    rest = again.call("task_list", limit=100)["items"]
    unknown = [item for item in rest if item["key"] not in acknowledged]
    assert [item["title"] for item in unknown] in ([], ["Unanswered"])
    for item in unknown:
        assert [event["operation"] for event in again.call("task_get", task=item["key"])["task"]["history"]] == [
            "task_create"
        ]
    again.close()

"""New keys while servers work: nothing is lost or unreadable on the way, and whatever breaks it off can go on."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID

import asyncpg
import pytest
from encryption_keys import encrypted_project, with_keys
from harness import TestWorkspace
from stored_rows import change, fetch

from bmad_mcp.activity.record import RECORD
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import Transaction, project_transaction, uuid7
from bmad_mcp.encryption.master_keys import new_key
from bmad_mcp.encryption.vault import FRESH_SECONDS, UNREADABLE
from bmad_mcp.errors import Unavailable
from bmad_mcp.jobs.archive import archive_memories, pages
from bmad_mcp.memory.marking import as_kept
from bmad_mcp.operation import perform
from bmad_mcp.rekeying.naming import still_naming
from bmad_mcp.rekeying.rotating import Rekeyed, rotate, state_of

CALLER = Caller()
OLD, NEW = new_key("old"), new_key("new")


async def do(workspace: TestWorkspace, name: str, **arguments):
    return await perform(BY_NAME[name], arguments, CALLER, workspace)


async def rotated(workspace: TestWorkspace, wait_seconds: float = 0.0, owner: asyncpg.Pool | None = None) -> Rekeyed:
    return await rotate(workspace.opened, CALLER, at_once=200, wait_seconds=wait_seconds, owner=owner)


async def keys_of(workspace: TestWorkspace) -> list[tuple[str, bool, int]]:
    db = Transaction(workspace.opened.pool, workspace.opened.id)
    try:
        state = await state_of(db)
    finally:
        await db.end("ROLLBACK")
    assert state.in_the_clear == 0
    return [(one.master, one.is_retired, one.texts) for one in state.keys]


PUT = """
INSERT INTO mcp_memories (project_id, id, text, category, author_kind, principal, identifiers, search, text_mark)
VALUES (bmad_project(), $1, $2, 'AGENT_CONTEXT', 'agent', $6, $3::text[], $4::text::tsvector, $5)
"""


def name_of(number: int) -> str:
    """Who stored a lesson: one of PEOPLE, in the clear as before there were pseudonyms."""
    return f"person{number % PEOPLE}@example.com"


async def fill(workspace: TestWorkspace, count: int, who: Callable[[int], str] = lambda _: "local") -> None:
    opened = workspace.opened
    db = Transaction(opened.pool, opened.id, opened.vault)
    for start in range(0, count, 1_000):
        numbers = range(start, min(start + 1_000, count))
        texts = {str(uuid7()): f"Lesson {at}: the deploy of service{at} waits" for at in numbers}
        kept = await as_kept(db, texts)
        rows = [
            (UUID(ref), one.text, one.identifiers, one.search, one.mark, who(at))
            for at, ref, one in zip(numbers, texts, kept, strict=True)
        ]
        await db.executemany(PUT, rows)
        trail = [("memory_store", "memory", None, who(at), uuid7().hex, {}, None) for at in numbers]
        await db.executemany(RECORD, trail)
    await db.end("COMMIT")


class Server:
    """A process with its own view of the keys that asks and stores until it is told to stop."""

    def __init__(self, workspace: TestWorkspace, name: str, rows: int) -> None:
        self.workspace, self.name, self.rows = workspace, name, rows
        self.asked, self.stored, self.failures = 0, 0, list[str]()

    async def run(self, stop: asyncio.Event) -> None:
        await asyncio.gather(self._ask(stop), self._store(stop))

    async def _ask(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            at = (self.asked * 37) % self.rows
            found = (await do(self.workspace, "memory_search", query=f"service{at}", limit=3)).items
            if not found or found[0].text != f"Lesson {at}: the deploy of service{at} waits":
                self.failures.append(f"{at}: {[one.text for one in found]}")
            self.asked += 1

    async def _store(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await do(self.workspace, "memory_store", text=f"{self.name} wrote {self.stored}")
            self.stored += 1


PEOPLE = 100


async def keys_named(workspace: TestWorkspace) -> int:
    async with project_transaction(workspace.opened.pool, workspace.opened.id) as db:
        return sum(await still_naming(db))


async def rotate_under_load(pool, owner, rows: int, servers: int) -> Counter[str]:
    first = await encrypted_project(pool, OLD)
    await fill(first, rows, name_of)
    working = [Server(await with_keys(first.opened, OLD, NEW), f"writer{number}", rows) for number in range(servers)]
    stop = asyncio.Event()
    running = [asyncio.create_task(one.run(stop)) for one in working]
    began = time.monotonic()
    try:
        done = await rotated(await with_keys(first.opened, NEW, OLD), FRESH_SECONDS * 0.6, owner)
    finally:
        seconds = round(time.monotonic() - began)
        stop.set()
        await asyncio.gather(*running)
    assert [one.failures for one in working] == [[] for _ in working]
    stored = sum(one.stored for one in working)
    assert (done.unreadable, done.kept, len(done.dropped)) == (0, [], 1)
    assert done.changed >= rows
    assert await keys_of(first) == [("new", False, rows + stored + PEOPLE)]
    # Every name gave way, in memories and in the trail, and is still who it was.
    assert (done.named, done.in_trail) == (2 * rows, 0)
    assert await keys_named(first) == 0
    # With the new key alone everything is there, and what was written on the way.
    alone = await with_keys(first.opened, NEW)
    for one in working:
        assert one.stored
        assert one.asked
        last = f"{one.name} wrote {one.stored - 1}"
        assert last in [item.text for item in (await do(alone, "memory_search", query=last)).items]
    return Counter(rows=rows, asked=sum(one.asked for one in working), stored=stored, failed=0, seconds=seconds)


async def test_servers_read_and_write_while_keys_change(pool, owner):
    await rotate_under_load(pool, owner, rows=1_000, servers=2)


@pytest.mark.soak
async def test_a_hundred_thousand_texts_get_a_new_key_under_load(pool, owner):
    figures = await rotate_under_load(pool, owner, rows=100_000, servers=2)
    print(dict(figures))


async def test_everything_that_is_sealed_gets_the_new_key(pool):
    project = await encrypted_project(pool, OLD)
    await do(project, "agent_activate", agent="dev", focus="A focus", idempotency_key="1")
    await do(project, "task_create", title="x")
    claim = await do(project, "task_claim", agent="dev")
    await do(project, "task_complete", task="T-1", lease=claim.lease, summary="A summary", idempotency_key="2")
    await do(project, "handoff_offer", to="qa", note="A note")
    stored = await do(project, "agent_deactivate", agent="dev", summary="A session")
    await archive_memories(project.opened, [UUID(stored.session.memory.id)])
    before = await keys_of(project)
    assert before == [("old", False, 9)]
    assert (await rotated(await with_keys(project.opened, NEW, OLD))).changed == 9
    assert await keys_of(project) == [("new", False, 9)]
    now = await with_keys(project.opened, NEW)
    assert (await do(now, "task_get", task="T-1")).task.summary == "A summary"
    assert (await do(now, "handoff_accept", handoff="H-1")).handoff.note == "A note"
    again = await do(now, "task_complete", task="T-1", lease=claim.lease, summary="A summary", idempotency_key="2")
    assert again.task.status == "completed"
    # The archive still fits its checksums.
    assert [len(page.keys) async for page in pages(now.opened, CALLER)] == [1]


async def test_a_key_is_not_dropped_while_a_text_needs_it(pool):
    project = await encrypted_project(pool, OLD)
    await do(project, "memory_store", text="Mangoes are ripe")
    damaged = await do(project, "memory_store", text="Mangoes are blue")
    await change(
        project.opened,
        "UPDATE mcp_memories SET text = overlay(text PLACING 'AAAA' FROM length(text) - 8) WHERE id = $1::uuid",
        UUID(damaged.memory.id),
    )
    both = await with_keys(project.opened, NEW, OLD)
    done = await rotated(both)
    assert (done.changed, done.unreadable, done.dropped, len(done.kept)) == (1, 1, [], 1)
    assert await keys_of(project) == [("new", True, 1), ("new", False, 1)]
    # Only the key that wraps is needed from now on, and the next rotation is not held up by that row.
    alone = await with_keys(project.opened, NEW)
    assert {one.text for one in (await do(alone, "memory_search", query="mangoes")).items} == {
        "Mangoes are ripe",
        UNREADABLE,
    }
    assert (await rotated(alone)).changed == 1
    await change(project.opened, "DELETE FROM mcp_memories WHERE id = $1::uuid", UUID(damaged.memory.id))
    assert len((await rotated(alone)).dropped) == 1
    assert await keys_of(project) == [("new", False, 1)]


async def test_what_was_broken_off_goes_on(pool):
    project = await encrypted_project(pool, OLD)
    await fill(project, 500)
    rotating = await with_keys(project.opened, NEW, OLD)
    seen = asyncio.Event()
    task = asyncio.create_task(
        rotate(rotating.opened, CALLER, at_once=50, wait_seconds=0, progress=lambda _: seen.set())
    )
    await asyncio.wait_for(seen.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (_, retired, left), (_, _, moved) = await keys_of(project)
    assert retired
    assert left
    assert moved
    assert left + moved == 500
    # Whoever has both keys reads all of it meanwhile.
    found = (await do(await with_keys(project.opened, NEW, OLD), "memory_search", query="service499")).items
    assert found[0].text.startswith("Lesson 499")
    done = await rotated(await with_keys(project.opened, NEW, OLD))
    assert (done.changed, len(done.dropped)) == (left, 1)
    assert await keys_of(project) == [("new", False, 500)]


async def test_nothing_is_sealed_with_a_key_that_is_retired(pool):
    project = await encrypted_project(pool, OLD)
    vault = project.opened.vault
    assert vault is not None
    old = vault.in_use
    await rotated(await with_keys(project.opened, OLD))
    # As a process that does not know it yet would write.
    db = Transaction(pool, project.opened.id)
    with pytest.raises(asyncpg.SerializationError, match="is not in use"):
        await db.execute(
            "INSERT INTO mcp_memories (project_id, text, category, author_kind, principal)"
            " VALUES (bmad_project(), $1, 'AGENT_CONTEXT', 'agent', 'local')",
            old.seal("mcp_memories.text", "x", b"late"),
        )
    await db.end("ROLLBACK")
    # A call reads the keys again and repeats the write.
    assert (await do(project, "memory_store", text="In time")).memory.delivery == "stored"
    assert await keys_of(project) == [("old", False, 1)]


async def test_a_process_without_the_new_key_is_told_so_and_writes_nothing(pool):
    project = await encrypted_project(pool, OLD)
    await do(project, "memory_store", text="Mangoes are ripe")
    await rotated(await with_keys(project.opened, NEW, OLD))
    project.opened.vault.forget_freshness()
    with pytest.raises(Unavailable, match="encrypted with the key new, which is not among the keys of this process"):
        await do(project, "memory_store", text="Lost")
    assert len(await fetch(project.opened, "SELECT id FROM mcp_memories WHERE project_id = bmad_project()")) == 1

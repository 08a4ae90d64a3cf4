"""A project with keys: everything works as without, nothing readable is stored, and one damaged row stays one."""

import csv
import io
import json
from dataclasses import replace
from uuid import UUID

import pytest
from encryption_keys import encrypted_project, vaults_of, with_keys
from harness import TestWorkspace, new_project
from stored_rows import change, fetch

from bench import remembering
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import Transaction, open_pool
from bmad_mcp.encryption.master_keys import new_key
from bmad_mcp.encryption.sealing import key_of
from bmad_mcp.encryption.vault import UNREADABLE
from bmad_mcp.errors import KeyMissing, Unavailable
from bmad_mcp.interchange.exporting import export_as
from bmad_mcp.memory.builtin import BuiltinMemory
from bmad_mcp.memory.exporting import export_memories
from bmad_mcp.memory.forget_plan import plan_to_forget
from bmad_mcp.memory.forgetting import forget
from bmad_mcp.memory.keeping import Selection
from bmad_mcp.memory.provider import NewMemory, Question
from bmad_mcp.operation import perform
from bmad_mcp.rekeying.rotating import encrypt

SECRET = "Zanzibar tokens in login.ts expire after 15 minutes"


@pytest.fixture
async def sealed(pool):
    return await encrypted_project(pool)


def doing(workspace: TestWorkspace):
    async def run(name, /, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), workspace)

    return run


@pytest.fixture
def do(sealed):
    return doing(sealed)


async def everything(workspace: TestWorkspace) -> str:
    """All rows of the project that could hold a text, as one text."""
    tables = (
        "mcp_memories",
        "bmad_tasks",
        "bmad_agent_sessions",
        "bmad_agent_collaborations",
        "mcp_idempotency",
        "bmad_agent_activity",
    )
    rows = [
        await fetch(
            workspace.opened, f"SELECT to_jsonb(t)::text AS row FROM {table} t WHERE project_id = bmad_project()"
        )
        for table in tables
    ]
    return "\n".join(row["row"] for found in rows for row in found)


async def test_summaries_are_read_by_who_asks_and_by_nobody_else(sealed, do):
    await do("agent_activate", agent="dev", focus="the Zanzibar login", idempotency_key="1")
    await do("task_create", title="Mend it")
    claim = await do("task_claim", agent="dev")
    done = await do("task_complete", task="T-1", lease=claim.lease, summary=SECRET, idempotency_key="2")
    assert (await do("task_get", task="T-1")).task.summary == SECRET
    again = await do("task_complete", task="T-1", lease=claim.lease, summary=SECRET, idempotency_key="2")
    assert again.memory.id == done.memory.id
    ended = await do("agent_deactivate", agent="dev", summary=f"Session: {SECRET}")
    found = (await do("memory_search", query="zanzibar")).items
    assert {item.id for item in found} == {done.memory.id, ended.session.memory.id}
    assert all(SECRET in item.text for item in found)
    stored = (await everything(sealed)).lower()
    assert [word for word in ("zanzibar", "expire", "login.ts") if word in stored] == []
    # The same without keys is found, so this test can fail.
    open_project = TestWorkspace(await new_project(sealed.opened.pool))
    await doing(open_project)("memory_store", text=SECRET)
    assert "zanzibar" in (await everything(open_project)).lower()


async def test_a_note_of_a_handoff_is_read_where_it_is_shown(sealed, do):
    note = f"{SECRET}. " * 9
    offered = await do("handoff_offer", to="qa", note=note)
    assert offered.handoff.note == note
    assert (await do("handoff_list")).items[0].note == note[:120]
    (waiting,) = (await do("agent_activate", agent="qa")).work.handoffs
    assert waiting.note == note[:300]
    taken = await do("handoff_accept", handoff="H-1")
    assert taken.handoff.note == note
    assert "zanzibar" not in (await everything(sealed)).lower()


async def test_search_says_which_words_matched(do):
    await do("memory_store", text=SECRET)
    again = await do("memory_store", text=SECRET)
    other = await do("memory_store", text="login.ts also holds the refresh of Zanzibar tokens")
    (first, *_) = (await do("memory_search", query="when do zanzibar tokens of login.ts expire")).items
    assert (first.text, first.why) == (SECRET, "names login.ts; words zanzibar, tokens, expire; stored 2 times")
    found = (await do("memory_related", memory=other.memory.id)).items
    # Of two that say the same the later one is told.
    assert [item.id for item in found] == [again.memory.id]
    assert found[0].why.startswith("names login.ts; words zanzibar, token")


async def test_it_finds_what_it_finds_in_the_clear(pool, sealed):
    plain, hidden = await new_project(pool), sealed.opened
    texts = [text for text, _ in remembering.corpus(400)] + [case.answer for case in remembering.CASES]
    answers = []
    for opened in (plain, hidden):
        db = Transaction(pool, opened.id, opened.vault)
        memory = BuiltinMemory(db)
        await memory.remember([NewMemory(text, "AGENT_CONTEXT", "agent", "local") for text in texts])
        answers.append(
            {
                case.question: [
                    (one.text, one.score, one.why) for one in await memory.recall(Question(case.question, limit=5))
                ]
                for case in remembering.CASES
                if case.kind != "typos"
            }
        )
        await db.end("ROLLBACK")
    assert len(answers[0]) >= 40
    for question, found in answers[0].items():
        scores = [score for _, score, _ in found]
        assert [score for _, score, _ in answers[1][question]] == scores, question
        # Of equal ones any may be the last.
        clear, hidden_found = ({one for one in told if one[1] > scores[-1]} for told in (found, answers[1][question]))
        assert hidden_found == clear, question


async def test_a_text_that_looks_sealed_is_only_a_text_where_nothing_is_encrypted(run):
    look_alike = "v1.k1.AAAAAAAAAAAAAAAA." + "A" * 40
    await run("memory_store", text=look_alike)
    assert (await run("memory_search", query="k1")).items[0].text == look_alike


async def test_a_text_in_another_row_does_not_open_there(sealed, do):
    one = await do("memory_store", text="Mangoes are ripe")
    other = await do("memory_store", text="Papayas are green")
    await change(
        sealed.opened,
        "UPDATE mcp_memories SET text = (SELECT text FROM mcp_memories WHERE id = $1::uuid) WHERE id = $2::uuid",
        UUID(one.memory.id),
        UUID(other.memory.id),
    )
    texts = {item.id: item.text for item in (await do("memory_search", query="mangoes papayas")).items}
    assert texts == {one.memory.id: "Mangoes are ripe", other.memory.id: UNREADABLE}


async def test_a_damaged_row_stays_alone(sealed, do):
    kept = await do("memory_store", text="Mangoes are ripe")
    damaged = await do("memory_store", text="Mangoes are blue")
    await change(
        sealed.opened,
        "UPDATE mcp_memories SET text = overlay(text PLACING 'AAAA' FROM length(text) - 8) WHERE id = $1::uuid",
        UUID(damaged.memory.id),
    )
    assert {item.text for item in (await do("memory_search", query="mangoes")).items} == {
        "Mangoes are ripe",
        UNREADABLE,
    }
    file = io.StringIO()
    assert await export_memories(sealed.opened, file, "jsonl", Caller()) == (2, 0)
    exported = {one["id"]: one for one in map(json.loads, file.getvalue().splitlines())}
    assert exported[kept.memory.id]["text"] == "Mangoes are ripe"
    assert exported[damaged.memory.id]["text"] == UNREADABLE
    assert (await do("agent_activate", agent="dev", focus="mangoes")).memory.items


async def test_a_damaged_first_answer_is_not_given_again(sealed, do):
    await do("memory_store", text="once", idempotency_key="k")
    await change(
        sealed.opened, "UPDATE mcp_idempotency SET result = to_jsonb(overlay(result #>> '{}' PLACING 'AAAA' FROM 60))"
    )
    with pytest.raises(Unavailable, match="cannot be decrypted"):
        await do("memory_store", text="once", idempotency_key="k")


async def test_what_is_forgotten_leaves_sealed_answers_too(sealed, do):
    stored = await do("memory_store", text=SECRET)
    for name, arguments in (
        ("memory_context", {"focus": "zanzibar"}),
        ("agent_activate", {"agent": "dev", "focus": "zanzibar"}),
    ):
        first = await do(name, **arguments, idempotency_key="k")
        assert SECRET in first.model_dump_json()
    plan = await plan_to_forget(sealed.opened, [Selection(refs=(stored.memory.id,))], Caller())
    assert (await forget(sealed.opened, plan, Caller())).count == 1
    for name, arguments in (
        ("memory_context", {"focus": "zanzibar"}),
        ("agent_activate", {"agent": "dev", "focus": "zanzibar"}),
    ):
        assert SECRET not in (await do(name, **arguments, idempotency_key="k")).model_dump_json()


async def test_without_its_key_a_project_is_not_opened(sealed):
    opened = sealed.opened
    for keys, why in (
        ((), "no key is set"),
        ((new_key("other"),), "with the key k1, which is not among the keys of this process .other."),
        ((new_key("k1"),), "k1 of BMAD_ENCRYPTION_KEYS is not the one"),
    ):
        with pytest.raises(KeyMissing, match=why) as refused:
            await vaults_of(*keys).of_project(opened.pool, opened.id)
        assert refused.value.retry_after is None
        assert "Calling again does not help: whoever runs this server has to" in refused.value.message
    # Nobody made a second key on the way.
    assert len(await fetch(opened, "SELECT id FROM mcp_data_keys WHERE project_id = bmad_project()")) == 1


async def test_what_was_stored_before_is_found_and_can_be_encrypted(pool):
    before = TestWorkspace(await new_project(pool))
    stored = await doing(before)("memory_store", text=SECRET)
    await doing(before)("agent_activate", agent="dev", focus="Zanzibar")
    await doing(before)("agent_deactivate", agent="dev", summary="Zanzibar is done", idempotency_key="k")
    now = await with_keys(before.opened, new_key("k1"))
    assert stored.memory.id in [item.id for item in (await doing(now)("memory_search", query="zanzibar tokens")).items]
    done = await encrypt(now.opened, Caller())
    assert (done.changed, done.unreadable) == (5, 0)
    # The trail never changes: its notes of that time stay.
    stored_now = await everything(now)
    assert "Zanzibar" in stored_now
    assert "zanzibar" not in "".join(row for row in stored_now.splitlines() if '"call_id"' not in row).lower()
    found = (await doing(now)("memory_search", query="zanzibar tokens")).items
    assert found[0].text == SECRET
    assert (await encrypt(now.opened, Caller())).changed == 0


async def test_a_server_that_may_only_read_makes_no_key(pool, database):
    opened = await new_project(pool)
    settings = {"default_transaction_read_only": "on"} | database.app.get("server_settings", {})
    reading = await open_pool(**{**database.app, "server_settings": settings})
    try:
        vault = await vaults_of(new_key("k1")).of_project(reading, opened.id)
        workspace = TestWorkspace(replace(opened, pool=reading, vault=vault))
        assert (await doing(workspace)("memory_search", query="anything")).items == []
    finally:
        await reading.close()
    assert await fetch(opened, "SELECT id FROM mcp_data_keys WHERE project_id = bmad_project()") == []


@pytest.mark.parametrize("form", ["json", "csv", "markdown"])
async def test_a_project_leaves_in_the_clear(sealed, do, tmp_path, form):
    await do("agent_activate", agent="dev", focus="FOCUS of it")
    await do("task_create", title="x")
    claim = await do("task_claim", agent="dev")
    await do("task_complete", task="T-1", lease=claim.lease, summary="SUMMARY", idempotency_key="k")
    await do("handoff_offer", to="qa", note="NOTE for qa")
    await do("agent_deactivate", agent="dev", summary='SESSION, "quoted"')
    await do("memory_store", text="MEMORY of login.ts")
    await export_as(sealed.opened, form, tmp_path / "out")
    files = [tmp_path / "out"] if form == "json" else sorted((tmp_path / "out").rglob("*.*"))
    told = "\n".join(file.read_text() for file in files)
    assert [word for word in ("SUMMARY", "SESSION", "NOTE for qa", "MEMORY of login.ts") if word not in told] == []
    assert "v1." not in told
    if form == "csv":
        for table in ("mcp_memories", "bmad_tasks", "bmad_agent_sessions", "mcp_idempotency"):
            rows = list(csv.DictReader((tmp_path / "out" / f"{table}.csv").open(newline="")))
            assert rows
            assert None not in rows[0]
        (session,) = csv.DictReader((tmp_path / "out" / "bmad_agent_sessions.csv").open(newline=""))
        assert (session["focus"], session["summary"]) == ("FOCUS of it", 'SESSION, "quoted"')
        (first, *_) = csv.DictReader((tmp_path / "out" / "mcp_idempotency.csv").open(newline=""))
        assert json.loads(first["result"])["task"]["key"] == "T-1"


async def test_a_server_for_several_projects_seals_each_with_its_own_key(pool):
    home = await encrypted_project(pool)
    other = TestWorkspace(await home.opened.beside((made := await new_project(pool)).id, made.key))
    for workspace in (home, other):
        await doing(workspace)("memory_store", text=SECRET)
        assert (await doing(workspace)("memory_search", query="zanzibar")).items[0].text == SECRET
        assert len(await fetch(workspace.opened, "SELECT id FROM mcp_data_keys WHERE project_id = bmad_project()")) == 1
    stored = [
        (await fetch(workspace.opened, "SELECT text FROM mcp_memories WHERE project_id = bmad_project()"))[0]["text"]
        for workspace in (home, other)
    ]
    assert key_of(stored[0]) != key_of(stored[1])
    with pytest.raises(Unavailable, match="no key is set"):
        await replace(home.opened, vaults=vaults_of()).beside(made.id, made.key)

"""People in an encrypted project: rows have a pseudonym, people read the name, and who is erased is nobody any more."""

import io
import json
from contextlib import asynccontextmanager

import asyncpg
import pytest
from auth_server import OPERATOR, Issuer, guarded_server, result_of
from encryption_keys import encrypted_project, with_keys
from harness import TestWorkspace, new_project
from stored_rows import fetch

from bmad_mcp.call import Caller, open_call
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import project_transaction
from bmad_mcp.encryption.master_keys import new_key
from bmad_mcp.encryption.people import is_pseudonym
from bmad_mcp.errors import Conflict, Invalid, NotFound, VersionConflict
from bmad_mcp.identity.issuing import create_token, list_tokens, revoke_token
from bmad_mcp.identity.members import forget_person, list_members, remove_member, set_role
from bmad_mcp.identity.principals import Principal
from bmad_mcp.identity.verifying import find_role
from bmad_mcp.interchange.exporting import export_as
from bmad_mcp.jobs import archive_queries
from bmad_mcp.jobs.archive import archive_memories
from bmad_mcp.jobs.audit import export_trail
from bmad_mcp.memory.exporting import export_memories
from bmad_mcp.memory.keeping import Selection, latest, of_person
from bmad_mcp.operation import perform
from bmad_mcp.rekeying.naming import still_naming
from bmad_mcp.rekeying.rotating import encrypt, rotate
from bmad_mcp.telemetry.events import recorded_call

# What may hold a name; secrets and what is computed apart.
TABLES = (
    "bmad_agent_activity", "bmad_agent_sessions", "bmad_checklists", "bmad_stories", "mcp_archive", "mcp_daily_metrics",
    "mcp_idempotency", "mcp_members", "mcp_memories", "mcp_people", "mcp_tokens",
)  # fmt: skip
ALICE, SUBJECT = "alice.kowalski@example.com", "https://id.example.com/realms/x#bob.moreau-248289"
OLD, NEW = new_key("old"), new_key("new")


async def stored(workspace: TestWorkspace) -> str:
    """All rows of the project that may hold a name, as one text."""
    sql = "SELECT to_jsonb(t)::text AS row FROM {} t WHERE project_id = bmad_project()"
    return "\n".join([row["row"] for table in TABLES for row in await fetch(workspace.opened, sql.format(table))])


@asynccontextmanager
async def command(workspace: TestWorkspace, operation: str):
    async with open_call(workspace, OPERATOR, operation) as call:
        yield call


async def member(workspace: TestWorkspace, name: str, role: str = "member") -> None:
    async with command(workspace, "member_add") as call:
        await set_role(call, name, role)


async def found(workspace: TestWorkspace, name: str) -> str | None:
    """How the project's rows name somebody who comes in."""
    seen = await find_role(workspace, None, Principal(name, frozenset({"write"})))
    return None if seen is None else seen.member.principal


async def work(workspace: TestWorkspace, principal: str) -> None:
    """Something in every place that keeps who did it."""
    caller = Caller(principal, f"http:{principal} window")

    async def do(name: str, **arguments: object):
        return await perform(BY_NAME[name], arguments, caller, workspace)

    await do("agent_activate", agent="dev")
    await do("epic_create", title="Accounts", idempotency_key="e")
    await do("story_create", epic="1", title="Sign in")
    await do("memory_store", text="The token ends after an hour", idempotency_key="m")
    kept = await do("memory_store", text="The log is on disk two")
    await do("agent_deactivate", agent="dev")
    await do("story_create", epic="1", title="Sign out")
    name = (await do("checklist_list")).items[0].name
    texts = [item for one in (await do("checklist_get", checklist=name)).sections for item in one.items]
    results = [{"item": number, "mark": "pass"} for number in range(1, len(texts) + 1)]
    await do("checklist_run", checklist=name, subject="1.1", results=results)
    await archive_memories(workspace.opened, [kept.memory.id])


async def test_no_row_names_who_comes_in_over_http(pool, database):
    workspace = await encrypted_project(pool)
    issuer = Issuer()
    async with issuer.serving(), guarded_server(workspace, issuer) as server:
        mine = await server.token(ALICE, "write")
        subject = f"{issuer.url}#bob.moreau"
        await server.role(subject, "member")
        his = issuer.token(server.resource, sub="bob.moreau")
        for token in (mine, his):
            for tool in ("epic_create", "memory_store"):
                arguments = {"title": "Accounts"} if tool == "epic_create" else {"text": "The token ends in an hour"}
                answer = await server.call(token, tool, {**arguments, "idempotency_key": tool})
                assert not result_of(answer).get("isError"), answer.text
            assert not result_of(await server.call(token, "agent_activate", {"agent": "dev"})).get("isError")
        # Somebody with a good token of another project is told the name, as it is known to them.
        other = TestWorkspace(await new_project(pool))
        answer = await server.call(mine, "task_list", x_bmad_project=other.opened.key)
        assert answer.status_code == 403
        assert f"You are {ALICE}, and no member" in answer.text
    kept = await stored(workspace)
    assert "alice" not in kept
    assert "bob" not in kept
    rows = await fetch(
        workspace.opened,
        "SELECT DISTINCT principal FROM bmad_agent_activity WHERE project_id = bmad_project() AND principal <> 'local'",
    )
    assert len(rows) == 2
    assert all(is_pseudonym(row["principal"]) for row in rows)
    async with command(workspace, "member_list") as call:
        assert [one["principal"] for one in await list_members(call)] == [ALICE, subject]
        assert [one["name"] for one in await list_tokens(call)] == [ALICE]


async def test_people_read_names_where_rows_have_pseudonyms(pool, tmp_path):
    workspace = await encrypted_project(pool)
    await member(workspace, SUBJECT)
    async with command(workspace, "token_create") as call:
        token = (await create_token(call, ALICE, ["write"])).token
    await work(workspace, await found(workspace, SUBJECT))
    assert "moreau" not in await stored(workspace)
    run = {"principal": SUBJECT, "source": "here"}
    (one, *_) = await latest(workspace.opened, Selection(), 5, OPERATOR)
    assert one["principal"] == SUBJECT
    assert one == one | run
    chosen = await of_person(workspace.opened, Selection(principal=SUBJECT), OPERATOR)
    assert len(await latest(workspace.opened, chosen, 5, OPERATOR)) == 3
    assert (
        await latest(
            workspace.opened, await of_person(workspace.opened, Selection(principal=ALICE), OPERATOR), 5, OPERATOR
        )
        == []
    )
    shown = await perform(BY_NAME["memory_provenance"], {"memories": [one["id"]]}, Caller(), workspace)
    assert shown.items[0].principal == SUBJECT
    text = io.StringIO()
    assert await export_memories(workspace.opened, text, "jsonl", OPERATOR, principal=SUBJECT) == (3, 0)
    assert text.getvalue().count(SUBJECT) == 3
    events = (await perform(BY_NAME["activity_list"], {"limit": 50}, Caller(), workspace)).items
    assert {f"member {SUBJECT}", f"member {ALICE}"} <= {event.subject for event in events}
    assert [event.note for event in events if event.subject == f"token {token.id}"] == [ALICE]
    with pytest.raises(VersionConflict, match="changed it") as told:
        await perform(
            BY_NAME["story_update"], {"story": "1.2", "expected_version": 0, "status": "ready"}, Caller(), workspace
        )
    assert SUBJECT in told.value.message
    trail = io.BytesIO()
    await export_trail(workspace.opened, trail, "jsonl", archived=True)
    rows = [json.loads(line) for line in trail.getvalue().splitlines()]
    assert {row["principal"] for row in rows} == {SUBJECT, "local"}
    assert {f"member {SUBJECT}", f"member {ALICE}"} <= {row["subject"] for row in rows}
    assert "~" not in trail.getvalue().decode()
    for form in ("json", "csv", "markdown"):
        await export_as(workspace.opened, form, tmp_path / form)
        files = [tmp_path / form] if form == "json" else [one for one in (tmp_path / form).rglob("*") if one.is_file()]
        written = "\n".join(file.read_text() for file in files)
        assert SUBJECT in written
        assert not [word for word in written.split('"') if is_pseudonym(word)]
    async with command(workspace, "token_revoke") as call:
        assert await revoke_token(call, token.id) == ALICE


async def test_a_sign_in_costs_no_more_statements(pool):
    plain, sealed = TestWorkspace(await new_project(pool)), await encrypted_project(pool)
    counts = []
    for workspace in (plain, sealed):
        await member(workspace, SUBJECT)
        await found(workspace, SUBJECT)
        with recorded_call("sign_in", "test") as record:
            assert await found(workspace, SUBJECT) is not None
        counts.append(record.statements)
    assert counts == [3, 3]


async def test_a_name_cannot_be_that_of_a_pseudonym(pool):
    workspace = await encrypted_project(pool)
    await member(workspace, ALICE, "admin")
    known_as = await found(workspace, ALICE)
    with pytest.raises(Invalid):
        await member(workspace, known_as)
    async with command(workspace, "token_create") as call:
        with pytest.raises(Invalid):
            await create_token(call, known_as, ["read"])


async def test_one_person_has_one_pseudonym_of_each_project(pool):
    first = await encrypted_project(pool, OLD)
    second = await with_keys(await new_project(pool), OLD)
    async with command(first, "token_create") as call:
        token = (await create_token(call, ALICE, ["write"], also=[second.opened.id])).token
    await member(first, ALICE, "admin")
    known_as = [await found(one, ALICE) for one in (first, second)]
    assert len(set(known_as)) == 2
    for one in (first, second):
        assert await rows_of_people(one) == 1
        assert ALICE not in await stored(one)
    async with command(first, "token_revoke") as call:
        assert await revoke_token(call, token.id) == ALICE


async def test_who_is_erased_is_nobody_and_what_they_did_stays(pool):
    workspace = await encrypted_project(pool)
    await member(workspace, SUBJECT)
    known_as = await found(workspace, SUBJECT)
    await work(workspace, known_as)
    before = await fetch(
        workspace.opened, "SELECT count(*) AS n FROM bmad_agent_activity WHERE project_id = bmad_project()"
    )

    async def forget(name: str) -> str:
        async with command(workspace, "member_forget") as call:
            return await forget_person(call, name)

    with pytest.raises(Conflict, match="is a member"):
        await forget(SUBJECT)
    async with command(workspace, "member_remove") as call:
        await remove_member(call, SUBJECT)
    assert await forget(SUBJECT) == known_as
    with pytest.raises(NotFound):
        await forget(SUBJECT)
    (one, *_) = await latest(workspace.opened, Selection(), 5, OPERATOR)
    assert one["principal"] == known_as
    trail = io.BytesIO()
    done = await export_trail(workspace.opened, trail, "jsonl")
    assert SUBJECT.encode() not in trail.getvalue()
    assert done.rows == before[0]["n"] + 2
    # Who comes back is somebody new.
    await member(workspace, SUBJECT)
    assert await found(workspace, SUBJECT) not in (None, known_as)
    async with command(TestWorkspace(await new_project(pool)), "member_forget") as call:
        with pytest.raises(Invalid, match="not encrypted"):
            await forget_person(call, SUBJECT)


async def test_names_from_before_there_were_keys_give_way(pool, owner):
    plain = TestWorkspace(await new_project(pool))
    await member(plain, SUBJECT)
    await member(plain, ALICE, "admin")
    async with command(plain, "token_create") as call:
        await create_token(call, ALICE, ["write"])
    await work(plain, SUBJECT)
    async with project_transaction(pool, plain.opened.id) as db:
        rows = await db.fetch("SELECT id FROM bmad_agent_activity WHERE project_id = bmad_project()")
        # As retention does before it deletes them.
        await db.execute(archive_queries.COPY_ACTIVITY, [row["id"] for row in rows])
    trail = io.BytesIO()
    await export_trail(plain.opened, trail, "jsonl", archived=True)
    assert SUBJECT in await stored(plain)

    sealed = await with_keys(plain.opened, OLD)
    # Until they are moved, people come in by the name that their rows have.
    assert await found(sealed, SUBJECT) == SUBJECT
    done = await encrypt(sealed.opened, OPERATOR, at_once=2)
    assert done.in_trail > 0
    known_as = await found(sealed, SUBJECT)
    assert is_pseudonym(known_as)
    done = await encrypt(sealed.opened, OPERATOR, at_once=2, owner=owner)
    assert (done.in_trail, done.unreadable) == (0, 0)
    kept = await stored(sealed)
    assert "moreau" not in kept
    assert "kowalski" not in kept
    # A repeated call is given its first answer, and no second epic.
    caller = Caller(known_as, "http:x")
    again = await perform(BY_NAME["epic_create"], {"title": "Accounts", "idempotency_key": "e"}, caller, sealed)
    assert again.epic.key == "1"
    # The trail reads as before, but for the rows that came since.
    after = io.BytesIO()
    await export_trail(sealed.opened, after, "jsonl", archived=True)
    assert after.getvalue().startswith(trail.getvalue())
    # What was archived is what its checksum says, and what the trail says.
    async with project_transaction(pool, plain.opened.id) as db:
        assert await db.fetchval(archive_queries.SAME_ACTIVITY, [row["id"] for row in rows]) == len(rows)
    assert (await encrypt(sealed.opened, OPERATOR, owner=owner)).named == 0


async def test_a_change_of_names_that_was_broken_off_goes_on(pool, owner):
    plain = TestWorkspace(await new_project(pool))
    for number in range(8):
        await member(plain, f"{number}.{ALICE}")
        await perform(BY_NAME["memory_store"], {"text": f"Lesson {number}"}, Caller(f"{number}.{ALICE}"), plain)
    sealed = await with_keys(plain.opened, OLD)

    class Enough(Exception):
        pass

    def told(_: str) -> None:
        told.times += 1
        if told.times % 3 == 0:
            raise Enough

    told.times = 0
    broken = 0
    while True:
        try:
            await encrypt(sealed.opened, OPERATOR, at_once=1, owner=owner, progress=told)
            break
        except Enough:
            broken += 1
    assert broken > 4
    assert "kowalski" not in await stored(sealed)
    async with project_transaction(pool, sealed.opened.id) as db:
        assert await still_naming(db) == (0, 0)
    assert await rows_of_people(sealed) == 8


async def test_a_new_key_seals_and_marks_people_again(pool):
    old = await encrypted_project(pool, OLD)
    await member(old, SUBJECT)
    known_as = await found(old, SUBJECT)
    before = await fetch(old.opened, "SELECT name, mark FROM mcp_people WHERE project_id = bmad_project()")
    both = await with_keys(old.opened, NEW, OLD)
    assert len((await rotate(both.opened, OPERATOR, wait_seconds=0)).dropped) == 1
    after = await fetch(old.opened, "SELECT name, mark FROM mcp_people WHERE project_id = bmad_project()")
    assert before[0]["name"] != after[0]["name"]
    assert before[0]["mark"] != after[0]["mark"]
    alone = await with_keys(old.opened, NEW)
    assert await found(alone, SUBJECT) == known_as
    async with command(alone, "member_list") as call:
        assert [one["principal"] for one in await list_members(call)] == [SUBJECT]


CHANGES = {
    "the operation": "operation = 'x'",
    "another's pseudonym": "principal = (SELECT id FROM mcp_people p WHERE p.project_id = a.project_id AND p.id <> a.principal)",
    "a name": "principal = 'mallory'",
    "the subject": "subject = 'member mallory'",
    "the detail": 'detail = \'{"status": "x"}\'',
    "the agent": "agent = 'qa'",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_the_trail_lets_nothing_but_names_give_way(pool, owner, change):
    workspace = await encrypted_project(pool)
    await member(workspace, SUBJECT)
    await member(workspace, ALICE)
    await work(workspace, await found(workspace, ALICE))
    sql = f"UPDATE bmad_agent_activity a SET {change} WHERE project_id = bmad_project() AND starts_with(principal, '~')"
    async with project_transaction(owner, workspace.opened.id) as db:
        await db.execute("SELECT set_config('app.people', 'on', true)")
        await db.execute("SAVEPOINT s")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await db.execute(sql)
        await db.execute("ROLLBACK TO SAVEPOINT s")
    async with project_transaction(pool, workspace.opened.id) as db:
        await db.execute("SELECT set_config('app.people', 'on', true)")
        await db.execute("SAVEPOINT s")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.execute(sql)
        await db.execute("ROLLBACK TO SAVEPOINT s")


async def test_without_keys_nothing_changes(pool):
    workspace = TestWorkspace(await new_project(pool))
    await member(workspace, SUBJECT)
    assert await found(workspace, SUBJECT) == SUBJECT
    assert await rows_of_people(workspace) == 0


async def rows_of_people(workspace: TestWorkspace) -> int:
    rows = await fetch(workspace.opened, "SELECT count(*) AS n FROM mcp_people WHERE project_id = bmad_project()")
    return rows[0]["n"]

"""Making, listing, using and revoking tokens on the real database."""

import asyncio
import hmac
from dataclasses import replace

import asyncpg
import pytest
from auth_server import OPERATOR, rows_of
from harness import TestWorkspace, new_project

from bmad_mcp.call import open_call
from bmad_mcp.db import open_pool
from bmad_mcp.errors import Invalid, NotFound, Overloaded
from bmad_mcp.identity import verifying
from bmad_mcp.identity.issuing import create_token, list_tokens, revoke_token
from bmad_mcp.identity.token_form import new_token, read_token
from bmad_mcp.identity.verifying import CACHE_SECONDS, STRANGERS_AT_ONCE, STRANGERS_WAITING, StaticTokens


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def make(workspace, name="alice", scopes=("write",), **more):
    async with open_call(workspace, OPERATOR, "token_create") as call:
        return await create_token(call, name, scopes, **more)


async def revoke(workspace, token_id):
    async with open_call(workspace, OPERATOR, "token_revoke") as call:
        return await revoke_token(call, token_id)


async def tokens(workspace):
    async with open_call(workspace, OPERATOR, "token_list") as call:
        return await list_tokens(call)


async def test_a_token_is_its_holders_in_its_project(workspace):
    issued = await make(workspace, scopes=("write", "read"))
    found = await StaticTokens(workspace).principal(issued.token.text)
    assert (found.name, found.scopes, found.projects) == ("alice", {"read", "write"}, {workspace.opened.id})
    assert issued.roles == ("member",)


@pytest.mark.parametrize(("scope", "role"), [("read", "viewer"), ("write", "member"), ("admin", "admin")])
async def test_who_is_no_member_gets_the_role_that_the_scopes_need(workspace, scope, role):
    assert (await make(workspace, scopes=(scope,))).roles == (role,)


async def test_a_further_token_raises_nobodys_role(workspace):
    await make(workspace, scopes=("read",))
    assert (await make(workspace, scopes=("admin",))).roles == ("viewer",)


async def test_a_token_with_another_secret_or_an_unknown_id_is_refused(workspace):
    first, second = (await make(workspace)).token, (await make(workspace)).token
    known = StaticTokens(workspace)
    crossed = read_token(second.text)
    assert await verifying._find(workspace.opened, type(crossed)(first.id, crossed.secret_hash)) is None
    assert await verifying._find(workspace.opened, type(crossed)("0" * 16, crossed.secret_hash)) is None
    assert await known.principal(first.text) is not None


async def held_look_ups(monkeypatch, free: asyncio.Event) -> list[int]:
    """Real look-ups that wait until `free`; the numbers of those under way, one for each that began."""
    look_up, under_way = verifying._find, []
    now = 0

    async def held(opened, presented):
        nonlocal now
        now += 1
        under_way.append(now)
        try:
            await free.wait()
            return await look_up(opened, presented)
        finally:
            now -= 1

    monkeypatch.setattr(verifying, "_find", held)
    return under_way


async def test_made_up_tokens_take_no_connection_from_a_known_one(workspace, monkeypatch):
    issued, clock, free = await make(workspace), Clock(), asyncio.Event()
    known = StaticTokens(workspace, clock)
    assert await known.principal(issued.token.text) is not None
    under_way = await held_look_ups(monkeypatch, free)
    made_up = [asyncio.create_task(known.principal(new_token().text)) for _ in range(STRANGERS_WAITING)]
    await asyncio.sleep(0.05)
    assert len(under_way) == STRANGERS_AT_ONCE
    clock.now += CACHE_SECONDS
    again = asyncio.create_task(known.principal(issued.token.text))
    await asyncio.sleep(0.05)
    # It is no longer remembered, and is looked up at once all the same.
    assert len(under_way) == STRANGERS_AT_ONCE + 1
    free.set()
    assert (await again).name == "alice"
    assert await asyncio.gather(*made_up) == [None] * STRANGERS_WAITING
    assert max(under_way) == STRANGERS_AT_ONCE + 1


async def test_too_many_made_up_tokens_are_told_to_wait_and_a_new_one_gets_its_turn_later(workspace, monkeypatch):
    issued, free = await make(workspace), asyncio.Event()
    known = StaticTokens(workspace)
    await held_look_ups(monkeypatch, free)
    made_up = [
        asyncio.create_task(known.principal(new_token().text)) for _ in range(STRANGERS_AT_ONCE + STRANGERS_WAITING)
    ]
    await asyncio.sleep(0.05)
    with pytest.raises(Overloaded, match="Try again"):
        await known.principal(issued.token.text)
    for one in made_up[::2]:
        one.cancel()
    free.set()
    told = await asyncio.gather(*made_up, return_exceptions=True)
    assert {type(one) for one in told} == {asyncio.CancelledError, type(None)}
    assert (await known.principal(issued.token.text)).name == "alice"


async def test_many_who_bring_one_new_token_at_once_ask_once(workspace, monkeypatch):
    issued, free = await make(workspace), asyncio.Event()
    known = StaticTokens(workspace)
    under_way = await held_look_ups(monkeypatch, free)
    asking = [asyncio.create_task(known.principal(issued.token.text)) for _ in range(3 * STRANGERS_WAITING)]
    await asyncio.sleep(0.05)
    # Who asked first goes away; the others get their answer all the same.
    asking[0].cancel()
    free.set()
    told = await asyncio.gather(*asking[1:])
    assert {one.name for one in told} == {"alice"}
    assert under_way == [1]


async def test_a_made_up_token_waits_for_its_turn_only_so_long(workspace, monkeypatch):
    free = asyncio.Event()
    monkeypatch.setattr(verifying, "STRANGERS_WAIT_SECONDS", 0.05)
    known = StaticTokens(workspace)
    await held_look_ups(monkeypatch, free)
    first = [asyncio.create_task(known.principal(new_token().text)) for _ in range(STRANGERS_AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="Try again"):
        await known.principal(new_token().text)
    free.set()
    assert await asyncio.gather(*first) == [None] * STRANGERS_AT_ONCE


async def test_an_expired_token_is_refused(workspace, database):
    issued = await make(workspace)
    await rows_of(database.admin, "UPDATE mcp_tokens SET expires_at = now() WHERE id = $1", issued.token.id)
    assert await StaticTokens(workspace).principal(issued.token.text) is None
    assert [one["state"] for one in await tokens(workspace)] == ["expired"]


async def test_a_revoked_token_is_refused_by_every_process_within_five_seconds(workspace):
    issued, clock = await make(workspace), Clock()
    replicas = [StaticTokens(workspace, clock) for _ in range(3)]
    for replica in replicas:
        assert await replica.principal(issued.token.text) is not None
    assert await revoke(workspace, issued.token.id) == "alice"
    # Without asking the database again, a replica would say yes for ever.
    assert await replicas[0].principal(issued.token.text) is not None
    assert CACHE_SECONDS <= 5
    clock.now += CACHE_SECONDS
    for replica in replicas:
        assert await replica.principal(issued.token.text) is None
    assert await StaticTokens(workspace).principal(issued.token.text) is None
    assert [one["state"] for one in await tokens(workspace)] == ["revoked"]


async def test_an_unknown_id_cannot_be_revoked(workspace):
    with pytest.raises(NotFound, match="token list"):
        await revoke(workspace, "nothing")


async def test_its_use_is_noted_once_a_minute(workspace, database):
    issued, clock = await make(workspace), Clock()
    used = "SELECT last_used_at FROM mcp_tokens WHERE id = $1"
    known = StaticTokens(workspace, clock)
    assert (await rows_of(database.admin, used, issued.token.id))[0][0] is None
    await known.principal(issued.token.text)
    (first,) = await rows_of(database.admin, used, issued.token.id)
    assert first[0] is not None
    clock.now += 10
    await known.principal(issued.token.text)
    assert (await rows_of(database.admin, used, issued.token.id))[0] == first
    await rows_of(database.admin, "UPDATE mcp_tokens SET last_used_at = now() - interval '61 seconds'")
    clock.now += 10
    await known.principal(issued.token.text)
    (later,) = await rows_of(database.admin, used, issued.token.id)
    assert later[0] > first[0]


async def test_a_database_that_may_only_be_read_still_lets_people_in(workspace, database):
    issued = await make(workspace)
    pool = await open_pool(**database.app, read_only=True)
    try:
        assert (
            await verifying._find(replace(workspace.opened, pool=pool), read_token(issued.token.text))
        ).name == "alice"
    finally:
        await pool.close()


async def test_one_token_may_be_for_several_projects_and_is_revoked_in_all(workspace, pool):
    other = TestWorkspace(await new_project(pool))
    issued = await make(workspace, also=[other.opened.id])
    found = await StaticTokens(workspace).principal(issued.token.text)
    assert found.projects == {workspace.opened.id, other.opened.id}
    assert [one["id"] for one in await tokens(other)] == [issued.token.id]
    await revoke(other, issued.token.id)
    assert [one["state"] for one in await tokens(workspace)] == ["revoked"]


async def test_another_project_does_not_see_the_token(workspace, pool):
    await make(workspace)
    assert await tokens(TestWorkspace(await new_project(pool))) == []


async def test_what_is_done_with_tokens_stands_in_the_trail(workspace, database):
    issued = await make(workspace)
    await revoke(workspace, issued.token.id)
    found = await rows_of(
        database.admin,
        "SELECT operation, subject, principal, detail::text AS detail FROM bmad_agent_activity"
        " WHERE project_id = $1 AND operation ~ 'token' ORDER BY id",
        workspace.opened.id,
    )
    assert [(row["operation"], row["subject"]) for row in found] == [
        ("token_create", f"token {issued.token.id}"),
        ("token_create", "member alice"),
        ("token_revoke", f"token {issued.token.id}"),
    ]
    assert {row["principal"] for row in found} == {"local"}
    assert issued.token.text not in str(found)


@pytest.mark.parametrize("name", ["", "local", "two words", "https://x#y", "a#b", "-a", "a" * 65, "ä", "a\n"])
async def test_a_name_that_could_be_taken_for_somebody_else_is_refused(workspace, name):
    with pytest.raises(Invalid, match="NAME"):
        await make(workspace, name)
    assert await tokens(workspace) == []


@pytest.mark.parametrize("more", [{"days": 0}, {"days": 367}, {"scopes": ()}])
async def test_a_token_without_an_end_or_a_scope_is_not_made(workspace, more):
    with pytest.raises(Invalid):
        await make(workspace, **more)


async def test_the_schema_itself_refuses_other_scopes_and_short_hashes(call):
    insert = (
        "INSERT INTO mcp_tokens (project_id, id, name, secret_hash, scopes, expires_at)"
        " VALUES (bmad_project(), 'x', 'x', $1, $2, now())"
    )
    for secret_hash, scopes in ((b"x" * 31, ["read"]), (b"x" * 32, ["root"]), (b"x" * 32, [])):
        await call.db.execute("SAVEPOINT before")
        with pytest.raises(asyncpg.CheckViolationError):
            await call.db.execute(insert, secret_hash, scopes)
        await call.db.execute("ROLLBACK TO before")


async def test_hashes_are_compared_in_constant_time(workspace, monkeypatch):
    issued, seen = await make(workspace), []
    real = hmac.compare_digest
    monkeypatch.setattr(verifying.hmac, "compare_digest", lambda a, b: seen.append((a, b)) or real(a, b))
    await StaticTokens(workspace).principal(issued.token.text)
    assert seen == [(issued.token.secret_hash, issued.token.secret_hash)]

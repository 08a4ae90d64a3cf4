"""A server whose caches never age: only the word of the database makes it refuse a token that was revoked."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from auth_server import OPERATOR, guarded_server
from harness import run_sql
from processes import fresh_key

from bmad_mcp.app import open_workspace
from bmad_mcp.call import open_call
from bmad_mcp.commands.hearing import hearing_of_access
from bmad_mcp.identity.access_changes import AccessChanges
from bmad_mcp.identity.issuing import revoke_token
from bmad_mcp.identity.members import remove_member
from bmad_mcp.identity.token_form import read_token
from bmad_mcp.settings import Settings

SECONDS = 20


@pytest.fixture
def settings(server_env, monkeypatch):
    for name, value in server_env.items():
        monkeypatch.setenv(name, value)
    return Settings(project=fresh_key("hearing"))


@asynccontextmanager
async def hearing_server(settings):
    """A served application with authentication, for which time stands still, and the changes that it hears of."""
    changes = AccessChanges()
    async with open_workspace(settings) as workspace:
        await workspace.project()
        async with (
            hearing_of_access(workspace, changes),
            guarded_server(
                workspace, clock=lambda: 0.0, changes=changes, open_listener=workspace.database.open_listener
            ) as guarded,
        ):
            await told_again(changes, 0)
            yield guarded, changes


async def told_again(changes: AccessChanges, count: int) -> None:
    """Wait until changes were told more often than this."""
    async with asyncio.timeout(SECONDS):
        while changes.count <= count:
            await changes.wait(SECONDS)


async def test_a_token_that_is_revoked_elsewhere_is_refused_with_the_word_of_it(settings):
    async with hearing_server(settings) as (guarded, changes), open_workspace(settings) as elsewhere:
        alice, bob = await guarded.token("alice"), await guarded.token("bob")
        for token in (alice, bob):
            assert (await guarded.call(token, "task_list")).status_code == 200
        count = changes.count
        async with open_call(elsewhere, OPERATOR, "token_revoke") as call:
            await revoke_token(call, read_token(alice).id)
        await told_again(changes, count)
        assert (await guarded.call(alice, "task_list")).status_code == 401
        assert (await guarded.call(bob, "task_list")).status_code == 200


async def test_a_stream_ends_with_the_word_that_its_sender_is_no_member_any_more(settings, monkeypatch):
    from bmad_mcp.server import auth

    monkeypatch.setattr(auth.Authentication.__init__, "__defaults__", (None, 3600.0))
    async with hearing_server(settings) as (guarded, _), guarded.listener(await guarded.token("alice")) as listening:
        async with open_call(guarded.workspace, OPERATOR, "member_remove") as call:
            await remove_member(call, "alice")
        done, _ = await asyncio.wait({listening}, timeout=SECONDS)
        assert done, "the stream goes on"


async def test_a_listener_that_is_lost_is_opened_again_and_takes_nothing_for_granted(settings, cluster, monkeypatch):
    monkeypatch.setattr("bmad_mcp.commands.hearing.AGAIN_SECONDS", 0.05)
    async with hearing_server(settings) as (guarded, changes):
        token = await guarded.token("alice")
        assert (await guarded.call(token, "task_list")).status_code == 200
        count = changes.count
        opened = await guarded.workspace.project()
        database = await opened.pool.fetchval("SELECT current_database()")
        await run_sql(
            cluster.named(database).admin,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            " AND datname = current_database()",
        )
        await told_again(changes, count)
        count = changes.count
        async with open_call(guarded.workspace, OPERATOR, "token_revoke") as call:
            await revoke_token(call, read_token(token).id)
        await told_again(changes, count)
        assert (await guarded.call(token, "task_list")).status_code == 401

"""Roles in a project: given, changed, taken away, and the last admin who stays."""

import asyncio

import pytest
from auth_server import OPERATOR, rows_of
from harness import TestWorkspace, new_project

from bmad_mcp.call import open_call
from bmad_mcp.errors import Conflict, Invalid, NotFound
from bmad_mcp.identity.members import list_members, remove_member, set_role


async def give(workspace, principal, role):
    async with open_call(workspace, OPERATOR, "member_add") as call:
        return await set_role(call, principal, role)


async def take(workspace, principal):
    async with open_call(workspace, OPERATOR, "member_remove") as call:
        await remove_member(call, principal)


async def members(workspace):
    async with open_call(workspace, OPERATOR, "member_list") as call:
        return {one["principal"]: one["role"] for one in await list_members(call)}


SUBJECT = "https://id.example.com/realms/x#248289761001"


async def test_roles_are_given_changed_and_taken_away(workspace):
    assert await give(workspace, "alice", "admin") is None
    assert await give(workspace, SUBJECT, "viewer") is None
    assert await give(workspace, SUBJECT, "member") == "viewer"
    assert await members(workspace) == {"alice": "admin", SUBJECT: "member"}
    await take(workspace, SUBJECT)
    assert await members(workspace) == {"alice": "admin"}


async def test_the_last_admin_can_neither_be_removed_nor_become_less(workspace):
    await give(workspace, "alice", "admin")
    await give(workspace, "bob", "member")
    with pytest.raises(Conflict, match="last admin"):
        await take(workspace, "alice")
    with pytest.raises(Conflict, match="last admin"):
        await give(workspace, "alice", "viewer")
    await give(workspace, "bob", "admin")
    await take(workspace, "alice")
    assert await members(workspace) == {"bob": "admin"}


@pytest.mark.parametrize("leave", [take, lambda workspace, name: give(workspace, name, "viewer")])
async def test_two_admins_who_leave_at_once_leave_one(pool, leave):
    for _ in range(10):
        workspace = TestWorkspace(await new_project(pool))
        await give(workspace, "alice", "admin")
        await give(workspace, "bob", "admin")
        done = await asyncio.gather(leave(workspace, "alice"), leave(workspace, "bob"), return_exceptions=True)
        assert [type(one) for one in done].count(Conflict) == 1, done
        assert list((await members(workspace)).values()).count("admin") == 1


async def test_a_member_of_another_project_is_not_touched(workspace, pool):
    other = TestWorkspace(await new_project(pool))
    await give(workspace, "alice", "admin")
    with pytest.raises(NotFound, match="member list"):
        await take(other, "alice")
    assert await members(other) == {}
    assert await members(workspace) == {"alice": "admin"}


@pytest.mark.parametrize(
    "principal", ["", "local", "two words", "a b#c", "ftp://x#y", "https://x#", "https://x#a b", "\n"]
)
async def test_what_is_no_principal_is_refused(workspace, principal):
    with pytest.raises(Invalid, match="PRINCIPAL"):
        await give(workspace, principal, "viewer")


async def test_every_change_of_a_role_stands_in_the_trail(workspace, database):
    await give(workspace, "alice", "admin")
    await give(workspace, "bob", "viewer")
    await give(workspace, "bob", "viewer")
    await take(workspace, "bob")
    found = await rows_of(
        database.admin,
        "SELECT subject, detail ->> 'status' AS status, detail ->> 'before' AS before FROM bmad_agent_activity"
        " WHERE project_id = $1 AND subject ~ '^member' ORDER BY id",
        workspace.opened.id,
    )
    assert [tuple(row) for row in found] == [
        ("member alice", "admin", None),
        ("member bob", "viewer", None),
        ("member bob", "removed", "viewer"),
    ]

"""The roles of principals in a project; the last admin stays."""

from typing import Any

from bmad_mcp.activity.record import record
from bmad_mcp.call import Call
from bmad_mcp.errors import Conflict, NotFound
from bmad_mcp.identity import queries
from bmad_mcp.identity.principals import member_name
from bmad_mcp.identity.rights import Role


async def role_of(call: Call, principal: str) -> Role | None:
    """The principal's role in the call's project."""
    role: Role | None = await call.db.fetchval(queries.ROLE, principal)
    return role


async def set_role(call: Call, principal: str, role: Role) -> Role | None:
    """Make the principal a member with this role; returns the role it had. Raises Conflict for the last admin."""
    name = member_name(principal)
    if role != "admin":
        await _keep_an_admin(call, name)
    before = await role_of(call, name)
    await call.db.execute(queries.SET_ROLE, name, role)
    if before != role:
        await record(call, f"member {name}", status=role, before=before)
        await call.db.execute(queries.TELL_CHANGE)
    return before


async def remove_member(call: Call, principal: str) -> None:
    """Take the principal's role away; raises NotFound, or Conflict for the last admin."""
    await _keep_an_admin(call, principal)
    role = await call.db.fetchval(queries.REMOVE_MEMBER, principal)
    if role is None:
        raise NotFound(
            f"{principal!r} is no member of {call.project_key}. `bmad-mcp member list` shows who is.", field="principal"
        )
    await record(call, f"member {principal}", status="removed", before=role)
    await call.db.execute(queries.TELL_CHANGE)


async def list_members(call: Call) -> list[dict[str, Any]]:
    """The members of the call's project, by name."""
    return [dict(row) for row in await call.db.fetch(queries.LIST_MEMBERS)]


async def _keep_an_admin(call: Call, leaving: str) -> None:
    admins = [row["principal"] for row in await call.db.fetch(queries.LOCK_ADMINS)]
    if admins == [leaving]:
        raise Conflict(
            f"{leaving} is the last admin of {call.project_key}. Make another member admin first:"
            " `bmad-mcp member add PRINCIPAL --role admin`.",
            field="principal",
        )

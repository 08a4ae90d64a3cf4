"""The roles of principals in a project; the last admin stays."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bmad_mcp.activity.record import record
from bmad_mcp.call import Call
from bmad_mcp.db import Transaction
from bmad_mcp.encryption.queries import FORGET_PERSON
from bmad_mcp.errors import Conflict, Invalid, NotFound
from bmad_mcp.identity import queries
from bmad_mcp.identity.principals import member_name
from bmad_mcp.identity.rights import Role
from bmad_mcp.told_commands import in_project

if TYPE_CHECKING:
    from bmad_mcp.encryption.vault import Vault


@dataclass(frozen=True, slots=True)
class Member:
    """A role, and the principal as the rows of the project name it: in an encrypted one that is a pseudonym."""

    role: Role
    principal: str


async def find_member(db: Transaction, vault: Vault | None, principal: str) -> Member | None:
    """The member of the project that the transaction is in, by its name or pseudonym."""
    marks = [] if vault is None else await vault.marks_of_person(db, principal)
    row = await db.fetchrow(queries.MEMBER, principal, marks)
    return None if row is None else Member(row["role"], row["principal"])


async def known_to(db: Transaction, vault: Vault | None, name: str) -> str:
    """How the project's rows are to name a principal: as those of the member do, else by a pseudonym if they can."""
    if vault is None:
        return name
    found = await find_member(db, vault, name)
    return await vault.pseudonym(db, name) if found is None else found.principal


async def set_role(call: Call, principal: str, role: Role) -> Role | None:
    """Make the principal a member with this role; returns the role it had. Raises Conflict for the last admin."""
    name, vault = member_name(principal), call.db.vault
    before = await find_member(call.db, vault, name)
    known_as = await known_to(call.db, vault, name)
    if role != "admin":
        await _keep_an_admin(call, known_as, name)
    await call.db.execute(queries.SET_ROLE, known_as, role)
    was = None if before is None else before.role
    if was != role:
        await record(call, f"member {known_as}", status=role, before=was)
        await call.db.execute(queries.TELL_CHANGE)
    return was


async def remove_member(call: Call, principal: str) -> None:
    """Take the principal's role away; raises NotFound, or Conflict for the last admin."""
    found = await find_member(call.db, call.db.vault, principal)
    known_as = principal if found is None else found.principal
    await _keep_an_admin(call, known_as, principal)
    role = await call.db.fetchval(queries.REMOVE_MEMBER, known_as)
    if role is None:
        raise NotFound(
            f"{principal!r} is no member of {call.project_key}. `{in_project('member list', call.project_key)}` shows who is.",
            field="principal",
        )
    await record(call, f"member {known_as}", status="removed", before=role)
    await call.db.execute(queries.TELL_CHANGE)


async def forget_person(call: Call, principal: str) -> str:
    """Erase who a pseudonym of the project is, and return it: what was done under it stays, by nobody that is known.

    Raises Conflict for who may still come in, NotFound for who is not known, Invalid where nothing is encrypted.
    """
    vault = call.db.vault
    if vault is None:
        raise Invalid(
            f"{call.project_key} is not encrypted, so names stand in its rows. `bmad-mcp keys encrypt` puts pseudonyms"
            " in their place.",
            field="principal",
        )
    name = member_name(principal)
    if await find_member(call.db, vault, name) is not None:
        raise Conflict(
            f"{name} is a member of {call.project_key}. Run `{in_project(f'member remove {shlex.quote(name)}', call.project_key)}` first.",
            field="principal",
        )
    known_as = await vault.find_person(call.db, name)
    if known_as is None:
        raise NotFound(f"{name!r} is not known in {call.project_key}; nothing was erased.", field="principal")
    if await call.db.fetchval(queries.MAY_COME_IN, known_as):
        listed = in_project("token list", call.project_key)
        raise Conflict(
            f"{name} has tokens that are good. `{listed}` shows their ids; run `bmad-mcp token revoke ID` first.",
            field="principal",
        )
    await call.db.execute(FORGET_PERSON, known_as)
    await record(call, f"member {known_as}", status="forgotten")
    return known_as


async def list_members(call: Call) -> list[dict[str, Any]]:
    """The members of the call's project, by name."""
    rows = await call.db.fetch(queries.LIST_MEMBERS)
    found = [{**row, "principal": await call.db.person(row["principal"])} for row in rows]
    return sorted(found, key=lambda one: str(one["principal"]))


async def _keep_an_admin(call: Call, leaving: str, name: str) -> None:
    admins = [row["principal"] for row in await call.db.fetch(queries.LOCK_ADMINS)]
    if admins == [leaving]:
        raise Conflict(
            f"{name} is the last admin of {call.project_key}. Make another member admin first:"
            f" `{in_project('member add PRINCIPAL --role admin', call.project_key)}`.",
            field="principal",
        )

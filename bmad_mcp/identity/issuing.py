"""Making, listing and revoking access tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from bmad_mcp.activity.record import record
from bmad_mcp.call import Call
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.identity import queries
from bmad_mcp.identity.members import find_member, known_to
from bmad_mcp.identity.principals import token_name
from bmad_mcp.identity.rights import LEAST_ROLE, SCOPES, Role
from bmad_mcp.identity.token_form import NewToken, new_token
from bmad_mcp.operation import Scope

if TYPE_CHECKING:
    from bmad_mcp.encryption.vault import Vault

DEFAULT_DAYS = 90
MOST_DAYS = 366


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was made: its text is shown once. `roles` are the holder's, by the order of the projects."""

    token: NewToken
    expires_at: datetime
    roles: tuple[Role, ...]


async def create_token(
    call: Call, name: str, scopes: Sequence[Scope], *, days: int = DEFAULT_DAYS, also: Sequence[UUID] = ()
) -> Issued:
    """A token for the call's project and for `also`; who is no member yet becomes one, with the role the scopes need.

    Raises Invalid for a name, scopes or days that cannot be.
    """
    holder = token_name(name)
    if not scopes:
        raise Invalid("A token needs at least one --scope: read, write or admin.", field="scope")
    if not 1 <= days <= MOST_DAYS:
        raise Invalid(f"--days is between 1 and {MOST_DAYS}.", field="days")
    token = new_token()
    wanted = [scope for scope in SCOPES if scope in scopes]
    projects = list(dict.fromkeys([call.project_id, *also]))
    roles = []
    for project_id in projects:
        await call.db.execute(queries.ENTER_PROJECT, str(project_id))
        vault = await _vault_of(call, project_id)
        known_as = await known_to(call.db, vault, holder)
        expires_at = await call.db.fetchval(queries.CREATE, token.id, known_as, token.secret_hash, wanted, days)
        await record(call, f"token {token.id}", title=known_as, status="created", scopes=wanted)
        roles.append(await _member(call, known_as, LEAST_ROLE[wanted[-1]]))
    return Issued(token, expires_at, tuple(roles))


async def _member(call: Call, known_as: str, role: Role) -> Role:
    if (await call.db.execute(queries.ADD_IF_ABSENT, known_as, role)).endswith(" 1"):
        await record(call, f"member {known_as}", status=role)
        return role
    found = await find_member(call.db, None, known_as)
    assert found is not None
    return found.role


async def _vault_of(call: Call, project_id: UUID) -> Vault | None:
    """The vault of a project whose scope the call has entered."""
    vault = call.db.vault
    return vault if vault is None or project_id == call.project_id else await vault.beside(call.db, project_id)


async def list_tokens(call: Call) -> list[dict[str, Any]]:
    """The tokens of the call's project, oldest first; nothing that would let anybody in."""
    rows = await call.db.fetch(queries.LIST)
    return [{**row, "name": await call.db.person(row["name"])} for row in rows]


async def revoke_token(call: Call, token_id: str) -> str:
    """Revoke a token in all of its projects; returns its holder. Raises NotFound."""
    await call.db.execute(queries.SEEK, token_id)
    rows = await call.db.fetch(queries.REVOKE, token_id)
    if not rows:
        raise NotFound(f"There is no token {token_id!r}. `bmad-mcp token list` shows their ids.", field="id")
    for row in rows:
        await call.db.execute(queries.ENTER_PROJECT, str(row["project_id"]))
        await record(call, f"token {token_id}", title=row["name"], status="revoked")
    await call.db.execute(queries.TELL_CHANGE)
    # The scope is still that of the last one.
    told = await call.db.fetchval(queries.PERSON, rows[-1]["name"])
    vault = await _vault_of(call, rows[-1]["project_id"])
    return str(told if vault is None else await vault.person(call.db, told))

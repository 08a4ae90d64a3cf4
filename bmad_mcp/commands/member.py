"""`member`: which principals have which role in a project."""

import asyncio
import json
from datetime import datetime
from typing import Any

import click

from bmad_mcp.commands.options import CommandGroup, with_settings
from bmad_mcp.commands.project_call import project_call
from bmad_mcp.commands.tables import lines
from bmad_mcp.identity.members import forget_person, list_members, remove_member, set_role
from bmad_mcp.identity.rights import ROLES, Role
from bmad_mcp.settings import Settings


@click.group("member", cls=CommandGroup)
def command() -> None:
    """Give, list and take away the roles of principals in a project."""


@command.command("add")
@click.argument("principal")
@click.option("--role", type=click.Choice(ROLES), required=True, help="viewer reads, member also writes, admin all.")
@with_settings
def add_command(settings: Settings, principal: str, role: Role) -> None:
    """Make PRINCIPAL a member, or give it another role; its next call is bound by it.

    PRINCIPAL is the NAME of a token, or ISSUER#SUBJECT of the identity provider.
    """
    before = asyncio.run(_add(settings, principal, role))
    was = f" (was {before})" if before not in (None, role) else ""
    click.echo(f"{principal} is {role} of {settings.project}{was}.")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@with_settings
def list_command(settings: Settings, as_json: bool) -> None:
    """List the project's members."""
    found = asyncio.run(_list(settings))
    if as_json:
        click.echo(json.dumps(found, indent=2, default=datetime.isoformat))
        return
    rows = [(one["principal"], one["role"], one["updated_at"].strftime("%Y-%m-%d")) for one in found]
    for line in lines(("PRINCIPAL", "ROLE", "SINCE"), rows, empty="There are no members; only this machine comes in."):
        click.echo(line)


@command.command("remove")
@click.argument("principal")
@with_settings
def remove_command(settings: Settings, principal: str) -> None:
    """Take PRINCIPAL's role away; its tokens let nobody into this project any more. The last admin stays."""
    asyncio.run(_remove(settings, principal))
    click.echo(f"{principal} is no member of {settings.project} any more.")


@command.command("forget")
@click.argument("principal")
@with_settings
def forget_command(settings: Settings, principal: str) -> None:
    """Erase who PRINCIPAL is, in a project that is encrypted. What they did stays in the trail, under a pseudonym.

    Who is a member or has a good token is not forgotten. Backups from before still know the name.
    """
    known_as = asyncio.run(_forget(settings, principal))
    click.echo(f"{principal} is forgotten in {settings.project}; what they did stays under {known_as}.")


async def _add(settings: Settings, principal: str, role: Role) -> Role | None:
    async with project_call(settings, "member_add") as call:
        return await set_role(call, principal, role)


async def _list(settings: Settings) -> list[dict[str, Any]]:
    async with project_call(settings, "member_list") as call:
        return await list_members(call)


async def _forget(settings: Settings, principal: str) -> str:
    async with project_call(settings, "member_forget") as call:
        return await forget_person(call, principal)


async def _remove(settings: Settings, principal: str) -> None:
    async with project_call(settings, "member_remove") as call:
        await remove_member(call, principal)

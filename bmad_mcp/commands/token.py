"""`token`: the access tokens with which assistants and people come in over HTTP."""

import asyncio
import json
import shlex
from datetime import datetime
from typing import Any
from uuid import UUID

import click

from bmad_mcp.commands.options import CommandGroup, with_settings
from bmad_mcp.commands.project_call import project_call
from bmad_mcp.commands.tables import lines
from bmad_mcp.errors import NotFound
from bmad_mcp.identity.issuing import DEFAULT_DAYS, MOST_DAYS, Issued, create_token, list_tokens, revoke_token
from bmad_mcp.identity.rights import HIGHEST, SCOPES, up_to
from bmad_mcp.operation import Scope
from bmad_mcp.projects.open import FIND, SEEK
from bmad_mcp.settings import Settings
from bmad_mcp.told_commands import in_project, slug


@click.group("token", cls=CommandGroup)
def command() -> None:
    """Make, list and revoke access tokens for HTTP."""


@command.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(SCOPES),
    help="What it allows at most; write contains read, admin both. May be given again.",
)
@click.option(
    "--days",
    type=click.IntRange(1, MOST_DAYS),
    default=DEFAULT_DAYS,
    show_default=True,
    help="How long it is good.",
)
@click.option("--also-project", "also", metavar="KEY", multiple=True, help="A further project it is for.")
@with_settings
def create_command(settings: Settings, name: str, scopes: tuple[Scope, ...], days: int, also: tuple[str, ...]) -> None:
    """Make a token for NAME and print it, once; only its hash is kept.

    NAME is who uses it. Several tokens of one NAME are one principal. Who is no member of the project yet becomes
    viewer, member or admin, as the scopes need.
    """
    keys = [settings.project, *(key for key in map(slug, also) if key != settings.project)]
    issued = asyncio.run(_create(settings, name, scopes, days, keys[1:]))
    # Only the token stands on stdout, so that it can be piped into a secret store.
    click.echo(issued.token.text)
    click.echo(f"Token {issued.token.id} of {name}, good until {_day(issued.expires_at)}.", err=True)
    for key, role in zip(keys, issued.roles, strict=True):
        click.echo(f"{name} is {role} of {key}.", err=True)
        if unused := [scope for scope in scopes if scope not in up_to(HIGHEST[role])]:
            click.echo(
                f"That role allows no {' and '.join(unused)}: `{in_project(f'member add {shlex.quote(name)} --role …', key)}` changes it.",
                err=True,
            )
    click.echo("Store it now: it is not shown again.", err=True)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@with_settings
def list_command(settings: Settings, as_json: bool) -> None:
    """List the project's tokens; nothing of it lets anybody in."""
    found = asyncio.run(_list(settings))
    if as_json:
        click.echo(json.dumps(found, indent=2, default=datetime.isoformat))
        return
    head = ("ID", "NAME", "SCOPES", "STATE", "EXPIRES", "LAST USED")
    rows = [
        (
            one["id"],
            one["name"],
            ",".join(one["scopes"]),
            one["state"],
            _day(one["expires_at"]),
            _minute(one["last_used_at"]),
        )
        for one in found
    ]
    made = in_project("token create NAME --scope read", settings.project)
    for line in lines(head, rows, empty=f"There are no tokens. `{made}` makes one."):
        click.echo(line)


@command.command("revoke")
@click.argument("token_id", metavar="ID")
@with_settings
def revoke_command(settings: Settings, token_id: str) -> None:
    """Revoke the token ID in all of its projects; every server refuses it within five seconds."""
    name = asyncio.run(_revoke(settings, token_id))
    click.echo(f"Revoked token {token_id} of {name}.")


async def _create(settings: Settings, name: str, scopes: tuple[Scope, ...], days: int, also: list[str]) -> Issued:
    async with project_call(settings, "token_create") as call:
        others: list[UUID] = []
        for key in also:
            await call.db.execute(SEEK, key)
            found = await call.db.fetchval(FIND, key)
            if found is None:
                raise NotFound(f"There is no project {key!r}; no token was made.", field="also-project")
            others.append(found)
        return await create_token(call, name, scopes, days=days, also=others)


async def _list(settings: Settings) -> list[dict[str, Any]]:
    async with project_call(settings, "token_list") as call:
        return await list_tokens(call)


async def _revoke(settings: Settings, token_id: str) -> str:
    async with project_call(settings, "token_revoke") as call:
        return await revoke_token(call, token_id)


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def _minute(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC") if moment else "never"

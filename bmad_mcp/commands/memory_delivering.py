"""`memory retry`, `memory deliver` and `memory introduce`: bring memories to the service, and its user to be known."""

import asyncio
import contextlib
from importlib import import_module

import click

from bmad_mcp.activity.record import record
from bmad_mcp.app import memory_services
from bmad_mcp.call import OpenProject
from bmad_mcp.commands.failures import Failure
from bmad_mcp.commands.memory_project import confirm, memory_project, tell
from bmad_mcp.commands.options import with_settings
from bmad_mcp.commands.project_call import CALLER
from bmad_mcp.database import Database
from bmad_mcp.memory import keeping_queries, service_queries
from bmad_mcp.memory.forget_plan import memories
from bmad_mcp.memory.keeping import call_on
from bmad_mcp.memory.outbox import queue_again
from bmad_mcp.memory.service_pages import Reached, failed, knows_user, reach
from bmad_mcp.settings import Settings
from bmad_mcp.told_commands import in_project

LOOK_SECONDS = 0.3
# A try that failed is repeated after half a minute; whatever takes longer than this is not for somebody who waits.
PATIENCE_SECONDS = 90.0
NOW = click.option("--now", is_flag=True, help="Deliver in this process, until nothing of the project waits.")


@click.command("retry", short_help="Queue what was given up again.")
@NOW
@with_settings
def retry_command(settings: Settings, now: bool) -> None:
    """Queue what was given up (dead) for the memory service again; a running server delivers it."""
    asyncio.run(_retry(settings, now))


async def _retry(settings: Settings, now: bool) -> None:
    async with memory_project(settings) as opened:
        reached = await reach(opened.services, opened.key)
        if opened.services is None:
            raise Failure(f"{reached.why}, so there is nowhere to deliver to. Nothing was queued.")
        async with call_on(opened, CALLER, "memory_retry") as call:
            count = await queue_again(call.db, "dead")
            if count:
                await record(call, memories(count), count=count)
        click.echo(f"{memories(count)} queued again." if count else "Nothing was given up.")
        await _go_on(settings, opened, reached, now)


@click.command("deliver", short_help="Queue what was only stored here.")
@NOW
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_settings
def deliver_command(settings: Settings, now: bool, yes: bool) -> None:
    """Queue what was only stored here for the memory service; a running server delivers it.

    Use it once after you have begun to use a service. It asks first, as the texts leave this database.
    """
    asyncio.run(_deliver(settings, now, yes))


async def _deliver(settings: Settings, now: bool, yes: bool) -> None:
    async with memory_project(settings) as opened:
        reached = await reach(opened.services, opened.key)
        if reached.service is None:
            raise Failure(f"{reached.why}. Nothing was queued.")
        async with call_on(opened, CALLER, "memory_deliver") as call:
            found: int = await call.db.fetchval(keeping_queries.IN_STATE, ["stored"])
        if found:
            where = f"{reached.name} at {settings.memory_url}"
            confirm(
                f"Send the texts of {memories(found)} of {opened.key} to {where}, for its user"
                f" {settings.memory_user!r}?",
                yes=yes,
                undone="nothing was queued",
            )
            async with call_on(opened, CALLER, "memory_deliver") as call:
                found = await queue_again(call.db, "stored")
                await record(call, memories(found), count=found, provider=reached.provider)
        click.echo(f"{memories(found)} queued." if found else "Nothing is stored here only.")
        await _go_on(settings, opened, reached, now)


async def _go_on(settings: Settings, opened: OpenProject, reached: Reached, now: bool) -> None:
    """Deliver what waits, or say who will."""
    queued, _ = await _waiting(opened)
    if not queued:
        return
    if reached.service is None:
        text = f"{reached.why}. {memories(queued)} {_wait(queued)} until it is back."
        if now:
            raise Failure(text)
        click.echo(text)
    elif now:
        await _deliver_now(settings, opened, reached)
    else:
        click.echo(
            f"{memories(queued)} {_wait(queued)} for {reached.name}: a running server delivers them, or --now does."
        )


async def _waiting(opened: OpenProject) -> tuple[int, int]:
    async with call_on(opened, CALLER, "memory_deliver") as call:
        row = await call.db.fetchrow(service_queries.WAITING)
    return row["queued"], row["dead"]


async def _deliver_now(settings: Settings, opened: OpenProject, reached: Reached) -> None:
    """Take jobs of the queue like a server does, so that both together never send anything twice."""
    worker = import_module("bmad_mcp.memory.delivery_worker")
    began, given_up = await _waiting(opened)
    database = Database(settings)
    task = asyncio.create_task(worker.deliver_for(opened, database.open_listener))
    try:
        left, dead, since = began, given_up, asyncio.get_running_loop().time()
        while left:
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
            if task.done():
                await task
            before = left
            left, dead = await _waiting(opened)
            if left != before:
                since = asyncio.get_running_loop().time()
                tell(f"{left:,} of {began:,} wait")
            elif asyncio.get_running_loop().time() - since > PATIENCE_SECONDS:
                raise Failure(
                    f"{reached.name} takes nothing: {memories(left)} still {_wait(left)}. `bmad-mcp doctor` looks at it;"
                    " a running server goes on."
                )
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
        await database.close()
    click.echo(f"Nothing waits any more: {memories(began - (dead - given_up))} delivered to {reached.name}.")
    if dead > given_up:
        raise Failure(
            f"It refused {memories(dead - given_up)}. `{in_project('memory list', settings.project)}` says why."
        )


@click.command("introduce", short_help="Make the user known to OpenMemory.")
@with_settings
def introduce_command(settings: Settings) -> None:
    """Make the user of BMAD_MEMORY_USER known to OpenMemory, by a memory that is deleted at once.

    OpenMemory refuses users that it has never seen. `doctor` says when that is so.
    """
    asyncio.run(_introduce(settings))


async def _introduce(settings: Settings) -> None:
    # Of no project: whoever sets a service up has none yet.
    services = memory_services(settings)
    try:
        click.echo(await _made_known(settings, await reach(services, settings.project)))
    finally:
        if services is not None:
            await services.aclose()


async def _made_known(settings: Settings, reached: Reached) -> str:
    if reached.service is None:
        raise Failure(f"{reached.why}. Nobody was introduced.")
    openmemory = import_module("bmad_mcp.memory.services.openmemory")
    errors = import_module("bmad_mcp.memory.services.http")
    if not isinstance(reached.service, openmemory.OpenMemory):
        return f"{reached.name} takes every user: there is nothing to do."
    health = await reached.service.health()
    if not health.ok:
        raise Failure(f"{health.detail.rstrip('.')}. Nobody was introduced.")
    if knows_user(health.detail):
        return f"OpenMemory knows {settings.memory_user!r} already: there is nothing to do."
    try:
        await reached.service.introduce()
    except errors.ServiceError as error:
        raise failed(reached, error, "Whether the user is known now, `bmad-mcp doctor` says.") from error
    return f"OpenMemory knows {settings.memory_user!r} now."


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"

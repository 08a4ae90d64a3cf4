"""`memory forget` and `memory retention`: erase memories here and in the service, chosen by people or by age."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import click

from bmad_mcp.call import OpenProject
from bmad_mcp.commands.memory_project import CATEGORY, Moment, confirm, memory_project, tell
from bmad_mcp.commands.options import with_settings
from bmad_mcp.commands.project_call import CALLER
from bmad_mcp.commands.tables import lines
from bmad_mcp.counts import counted
from bmad_mcp.jobs.archive import archived_memories, forget_archived
from bmad_mcp.memory.categories import MemoryCategory
from bmad_mcp.memory.forget_plan import Plan, memories, plan_to_forget
from bmad_mcp.memory.forgetting import Erased, forget
from bmad_mcp.memory.keeping import Selection, of_person
from bmad_mcp.memory.retention import (
    LONGEST_DAYS,
    Retained,
    change_retention,
    changed,
    over_age,
    plan_retention,
    read_retention,
)
from bmad_mcp.settings import Settings
from bmad_mcp.told_commands import in_project

# What a service does when it is told to delete; nothing that it offers goes further.
REMAINS = {
    "openmemory": "OpenMemory shows them to nobody any more; its own database keeps the rows, marked as deleted.",
    "mem0": "mem0 finds them no more; its own history of changes keeps the texts.",
}
ONLY_HERE = click.option(
    "--here-only", "only_here", is_flag=True, help="Leave the memory service alone; it keeps what it has."
)


@click.command("forget", short_help="Erase memories here and in the service.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--by", "principal", metavar="PRINCIPAL", help="What this principal stored.")
@click.option("--category", type=CATEGORY, metavar="CATEGORY", help="This category, such as TASK_COMPLETION.")
@click.option("--agent", metavar="AGENT", help="What this agent stored.")
@click.option("--before", type=Moment(), help="What was stored before: 2026-11-20, or longer ago than 90d.")
@click.option("--all", "is_all", is_flag=True, help="The whole project, also what other databases sent to the service.")
@ONLY_HERE
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_settings
def forget_command(
    settings: Settings,
    ids: tuple[str, ...],
    principal: str | None,
    category: str | None,
    agent: str | None,
    before: datetime | None,
    is_all: bool,
    only_here: bool,
    yes: bool,
) -> None:
    """Erase memories here and in the memory service, by ID or by what fits all of the options.

    ID is the one here or the service's. It shows what will go and asks. Nothing is erased here that could not be
    erased in the service; when it is away, run the command again later, or add --here-only.
    """
    chosen = [principal, category, agent, before]
    ways = [bool(ids), any(one is not None for one in chosen), is_all]
    if sum(ways) != 1:
        raise click.UsageError(
            "Say what to forget in one way: by ID, by --by, --category, --agent and --before, or --all."
        )
    selection = Selection(ids or None, principal, category, agent, before)
    asyncio.run(_forget(settings, selection, only_here, yes))


async def _forget(settings: Settings, selection: Selection, only_here: bool, yes: bool) -> None:
    async with memory_project(settings) as opened:
        selection = await of_person(opened, selection, CALLER)
        archived = await archived_memories(opened, selection, CALLER)
        plan = await plan_to_forget(
            opened, [selection], CALLER, only_here=only_here, archived=archived.refs, progress=tell
        )
        is_any = _show(plan, opened, archived.count)
        if not is_any and not archived.count:
            return
        confirm(_question(plan, archived.count), yes=yes, undone="nothing was erased")
        if is_any:
            _tell_erased(await forget(opened, plan, CALLER, progress=tell), plan)
        if archived.count:
            erased = await forget_archived(opened, selection, CALLER)
            click.echo(f"Erased {memories(erased)} that retention had archived.")


def _show(plan: Plan, opened: OpenProject, archived: int = 0) -> bool:
    """Print what will go; whether any of it is here or in the service."""
    if archived:
        click.echo(f"The archive of retention has {memories(archived)} that fit.")
    if not plan.here and not plan.there:
        if not archived:
            click.echo("No memory fits; there is nothing to erase.")
    else:
        rows = [(name, f"{here:,}", f"{there:,}") for name, (here, there) in plan.categories.items()]
        for line in lines(("CATEGORY", "HERE", "IN THE SERVICE"), rows, empty=""):
            click.echo(line)
    if plan.others:
        click.echo(
            f"{plan.reached.name} also keeps {memories(plan.others)} of {opened.key} that this database does not have;"
            f" they stay. `{in_project('memory export --service', opened.key)}` shows them."
        )
    if plan.stays_there:
        click.echo(f"The memory service may keep up to {memories(plan.stays_there)} of these: they stay there.")
    elif not plan.only_here and plan.reached.service is None and opened.services is not None:
        click.echo(f"{plan.reached.why}.")
    return bool(plan.here or plan.there)


def _question(plan: Plan, archived: int) -> str:
    if not plan.here and not plan.there:
        return f"Erase {memories(archived)} from the archive for good?"
    where = f" and {memories(len(plan.there))} in {plan.reached.name}" if plan.there else ""
    old = f", and {memories(archived)} from the archive," if archived else ""
    return f"Erase {memories(len(plan.here))} here{where}{old} for good?"


def _tell_erased(erased: Erased, plan: Plan) -> None:
    where = f" and {memories(erased.there)} in {plan.reached.name}" if plan.there or erased.there else ""
    click.echo(f"Erased {memories(erased.count)} here{where}.")
    if erased.there and plan.reached.provider in REMAINS:
        click.echo(REMAINS[plan.reached.provider])
    if plan.stays_there:
        click.echo("What the memory service has of them is still there.")


@click.command("retention", short_help="How long each category stays.")
@click.option("--set", "limits", metavar="CATEGORY=DAYS", multiple=True, help="How many days a category stays.")
@click.option("--clear", multiple=True, type=CATEGORY, metavar="CATEGORY", help="Keep this category for ever.")
@click.option("--apply", "is_applied", is_flag=True, help="Erase what is over age, here and in the service.")
@click.option("--dry-run", is_flag=True, help="Change and erase nothing; show what would be.")
@ONLY_HERE
@with_settings
def retention_command(
    settings: Settings,
    limits: tuple[str, ...],
    clear: tuple[str, ...],
    is_applied: bool,
    dry_run: bool,
    only_here: bool,
) -> None:
    """Show and set how many days the memories of each category stay, and erase those that are older.

    Without a number they stay for ever. A server archives and erases what is over age once a day (see `bmad-mcp
    jobs`); --apply erases it now, without an archive.
    """
    if only_here and not is_applied:
        raise click.UsageError("--here-only belongs to --apply.")
    days = dict(_limit(one) for one in limits)
    if both := sorted(set(days) & set(clear)):
        raise click.UsageError(f"{both[0]} is in --set and in --clear.")
    asyncio.run(_retention(settings, days, frozenset(clear), is_applied, dry_run, only_here))


def _limit(text: str) -> tuple[str, int]:
    name, _, days = text.partition("=")
    category = name.strip().upper()
    if category not in set(MemoryCategory):
        raise click.BadParameter(f"{name!r} is no category; there are {', '.join(MemoryCategory)}.", param_hint="--set")
    if not (days.isascii() and days.isdecimal() and len(days) < 9 and 1 <= int(days) <= LONGEST_DAYS):
        raise click.BadParameter(
            f"{text!r} needs whole days from 1 to {LONGEST_DAYS:,}, such as {category}=90.", param_hint="--set"
        )
    return category, int(days)


async def _retention(
    settings: Settings, days: dict[str, int], clear: frozenset[str], is_applied: bool, dry_run: bool, only_here: bool
) -> None:
    async with memory_project(settings) as opened:
        # One moment for the table and for what goes, by the clock that made the rows.
        now = await opened.pool.fetchval("SELECT now()")
        if dry_run:
            limits = changed(await read_retention(opened, CALLER), days, clear)
        else:
            limits = await change_retention(opened, CALLER, limits=days, cleared=clear)
        table = await over_age(opened, CALLER, limits, now=now)
        _show_retention(table)
        over = sum(one.over_age for one in table)
        if not is_applied:
            if over:
                erase = in_project("memory retention --apply", opened.key)
                click.echo(f"{memories(over)} over age: `{erase}` erases them.")
            return
        if not over:
            click.echo("Nothing is over age.")
            return
        plan = await plan_retention(opened, CALLER, limits, now=now, only_here=only_here, progress=tell)
        _show(plan, opened)
        if dry_run:
            click.echo("Nothing was erased: this was a dry run.")
            return
        _tell_erased(await forget(opened, plan, CALLER, operation="memory_retention", progress=tell), plan)


def _show_retention(table: Sequence[Retained]) -> None:
    rows = [
        (
            one.category,
            counted(one.days, "day") if one.days else "for ever",
            f"{one.memories:,}",
            one.oldest.strftime("%Y-%m-%d") if one.oldest else "",
            f"{one.over_age:,}" if one.days else "",
        )
        for one in table
    ]
    for line in lines(("CATEGORY", "STAYS", "MEMORIES", "OLDEST", "OVER AGE"), rows, empty=""):
        click.echo(line)

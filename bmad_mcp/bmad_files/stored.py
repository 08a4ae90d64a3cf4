"""Reads what the database holds of a project, as far as a plan needs it."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from bmad_mcp.bmad_files import queries
from bmad_mcp.bmad_files.plan import Stored
from bmad_mcp.bmad_files.rows import Wanted
from bmad_mcp.db import Transaction


async def read_stored(db: Transaction, wanted: Wanted) -> Stored:
    """What is stored of the kinds that the folder has rows for."""
    agents = _by(await db.fetch(queries.STORED_AGENTS), "name")
    templates = {f"{row['kind']} {row['name']}": row for row in await db.fetch(queries.STORED_TEMPLATES)}
    checklists = _by(await db.fetch(queries.STORED_CHECKLISTS), "name")
    if wanted.source == "builtin":
        return Stored(agents, templates, checklists)
    stories = await db.fetch(
        queries.STORED_STORIES, [row.key for row in wanted.stories], [row.fingerprint for row in wanted.stories]
    )
    fresh = [row["id"] for row in stories if row["fresh"]]
    notes = [row.values["id"] for row in wanted.memories]
    project = await db.fetchrow(queries.STORED_PROJECT)
    return Stored(
        agents,
        templates,
        checklists,
        epics=_by(await db.fetch(queries.STORED_EPICS), "key"),
        stories=_by(stories, "key"),
        tasks=_grouped(await db.fetch(queries.STORED_TASKS, fresh) if fresh else ()),
        artifacts=_by(await db.fetch(queries.STORED_ARTIFACTS), "path"),
        memories=frozenset(row["id"] for row in await db.fetch(queries.STORED_MEMORIES, notes)),
        settings=project["settings"],
        is_imported=project["imported"],
    )


def _by(rows: Iterable[Any], name: str) -> dict[str, Mapping[str, Any]]:
    return {row[name]: row for row in rows}


def _grouped(rows: Iterable[Any]) -> dict[UUID, tuple[Mapping[str, Any], ...]]:
    found: dict[UUID, tuple[Mapping[str, Any], ...]] = {}
    for row in rows:
        found[row["story_id"]] = (*found.get(row["story_id"], ()), row)
    return found

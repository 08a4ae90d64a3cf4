"""Settles by rule what both sides changed: section owners win their sections, a status never goes down silently."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bmad_mcp.bmad_files import queries
from bmad_mcp.bmad_files.merging import group_hash, grouped
from bmad_mcp.bmad_files.plan import Stored
from bmad_mcp.bmad_files.rows import Wanted
from bmad_mcp.bmad_files.statuses import RANK
from bmad_mcp.bmad_files.steps import Conflict
from bmad_mcp.call import OpenProject
from bmad_mcp.db import Transaction
from bmad_mcp.lifecycles import StoryStatus
from bmad_mcp.stories.rights import PLANNERS, SECTION_EDITORS
from bmad_mcp.stories.sections import canonical

SECTION = "section "


@dataclass(frozen=True, slots=True)
class Settled:
    """A conflict that a rule decides for the database; `copy` is the file's text where one gives way."""

    conflict: Conflict
    why: str
    copy: str | None = None


def owners_of(section: str) -> frozenset[str]:
    """Whose section it is: the one who may edit it, or the planners where others may too."""
    known = canonical(section)
    editors = SECTION_EDITORS[known.name] if known else PLANNERS
    return editors & PLANNERS or editors


async def settle(opened: OpenProject, wanted: Wanted, conflicts: Sequence[Conflict]) -> list[Settled]:
    """The conflicts that a rule decides; the texts of files that give way are kept as documents first.

    Status: the further one counts, unless one side cancelled. Section: the text of its owner counts, when it was the
    owner who changed it through a tool. Everything else is left to people.
    """
    settled = [one for one in map(_status_rule, conflicts) if one is not None]
    rows = {row.key: row for row in wanted.stories}
    sections = [one for one in conflicts if one.kind == "story" and one.field.startswith(SECTION) and one.key in rows]
    if not sections:
        return settled
    db = Transaction(opened.pool, opened.id)
    try:
        for conflict in sections:
            name = conflict.field.removeprefix(SECTION)
            editor = await db.fetchval(queries.LAST_EDITOR, conflict.key, name)
            if editor not in owners_of(name):
                continue
            group = grouped(rows[conflict.key].sections).get(name, ())
            copy = "\n\n".join(str(one["text"]).strip() for one in group)
            await _keep(db, conflict, name, copy)
            settled.append(Settled(conflict, f"{editor} owns the section", copy))
        await db.end("COMMIT")
    finally:
        await db.end("ROLLBACK")
    return settled


def _status_rule(conflict: Conflict) -> Settled | None:
    if conflict.kind != "story" or conflict.field != "status":
        return None
    file, database = StoryStatus(conflict.file), StoryStatus(conflict.database)
    if StoryStatus.CANCELLED in (file, database) or RANK[file] >= RANK[database]:
        return None
    return Settled(conflict, f"{database.value} is further than {file.value}")


async def _keep(db: Transaction, conflict: Conflict, name: str, text: str) -> None:
    number = await db.fetchval(queries.NEXT_NUMBERS, "artifact", 1)
    title = f"Story {conflict.key}, section {name}: the text of the file that gave way"[:300]
    await db.execute(queries.KEEP_COPY, number, title, text, hashlib.sha256(text.encode()).hexdigest(), conflict.key)


def decided(settled: Sequence[Settled], wanted: Wanted) -> Callable[[Stored], Stored]:
    """What an import takes as agreed: for the settled conflicts the file's value is the old one."""
    rows = {row.key: row for row in wanted.stories}
    by_story: dict[str, list[str]] = {}
    for one in settled:
        by_story.setdefault(one.conflict.key, []).append(one.conflict.field)

    def agreed(stored: Stored) -> Stored:
        stories: dict[str, Mapping[str, Any]] = dict(stored.stories)
        for key, fields in by_story.items():
            if key not in stories or key not in rows:
                continue
            imported = dict(stories[key]["imported"] or {})
            theirs = grouped(rows[key].sections)
            sections = dict(imported.get("sections", {}))
            for field in fields:
                if field == "status":
                    imported["status"] = rows[key].status.value
                elif (now := group_hash(theirs.get(field.removeprefix(SECTION)))) is not None:
                    sections[field.removeprefix(SECTION)] = now
                else:
                    sections.pop(field.removeprefix(SECTION), None)
            stories[key] = {**stories[key], "imported": {**imported, "sections": sections}}
        return replace(stored, stories=stories)

    return agreed

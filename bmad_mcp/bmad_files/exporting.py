"""Writes what changed in the database into a folder of BMad files, and remembers what the files say from then on."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from bmad_mcp.bmad_files import queries
from bmad_mcp.bmad_files.belonging import other_folder, refuse_to_mix
from bmad_mcp.bmad_files.boxes import WrittenBoxes
from bmad_mcp.bmad_files.importing import carry_out, keep_conflicts
from bmad_mcp.bmad_files.merging import group_hash, grouped
from bmad_mcp.bmad_files.plan import Stored
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.rows import Wanted, Written, wanted_rows
from bmad_mcp.bmad_files.steps import Conflict
from bmad_mcp.bmad_files.storable import fingerprint
from bmad_mcp.bmad_files.story_rows import EpicRow, StoryRow
from bmad_mcp.bmad_files.values import BmadProject
from bmad_mcp.bmad_files.writing.draft import ExportPlan, FileChange, Held, Told
from bmad_mcp.bmad_files.writing.folder_writer import FolderWriter, NotWritten
from bmad_mcp.bmad_files.writing.plan import plan_export
from bmad_mcp.bmad_files.writing.report import ExportReport, Refused
from bmad_mcp.bmad_files.writing.stories import Mend
from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.counts import counted
from bmad_mcp.db import DATABASE_FAILURES, Transaction
from bmad_mcp.errors import Unavailable
from bmad_mcp.progress import Progress, untold

EXPORT = "project_export"


async def export_folder(
    opened: OpenProject,
    folder: Path,
    *,
    dry_run: bool = False,
    mend: Mend = "none",
    progress: Progress | None = None,
    caller: Caller | None = None,
    now: Callable[[], datetime] = datetime.now,
) -> ExportReport:
    """Write what tools changed since the last import into the project's files; with `dry_run` only show the diffs.

    Only the changed section or key of a file is touched. What was edited in a file meanwhile stays; what both sides
    changed is a conflict in the report, and stays too. `mend` also sets trackers that differ from their stories:
    `all`, or only those that are `behind`.
    Raises NotFound when there is no such folder, Conflict when it holds the files of another project, Unavailable when the
    database does not answer.
    """
    tell = progress or untold
    project = await asyncio.to_thread(read_project, folder, progress=tell)
    tell(f"{counted(len(project.files), 'file')} read")
    return await export_read(
        opened, folder, project, dry_run=dry_run, mend=mend, progress=tell, caller=caller or Caller(), now=now
    )


async def export_read(
    opened: OpenProject,
    folder: Path,
    project: BmadProject,
    *,
    dry_run: bool,
    mend: Mend,
    progress: Progress,
    caller: Caller,
    now: Callable[[], datetime] = datetime.now,
    unsettled: Sequence[Conflict] = (),
) -> ExportReport:
    """The same for a folder that was read just now; `unsettled` are the conflicts of an import just before."""
    wanted = await asyncio.to_thread(wanted_rows, project, opened.id, "import")
    held = await read_held(opened)
    other = await other_folder(opened, folder, project)
    if other is not None:
        refuse_to_mix(opened.key, folder, other, project)
    plan = await asyncio.to_thread(plan_export, project, wanted, held, now(), mend=mend)
    unread = _unread(project, held, plan)
    # An export does not see all that an import cannot settle, such as a task that was done here and opened there.
    known = {(one.kind, one.key, one.field) for one in plan.conflicts}
    plan.conflicts += [one for one in unsettled if (one.kind, one.key, one.field) not in known]
    refused: dict[str, Refused] = {}
    if not dry_run and plan.changes:
        progress(f"writing {counted(len(plan.changes), 'file')}")
        refused = await asyncio.to_thread(_write, folder, plan)
    if not dry_run:
        if plan.stories or plan.epics or plan.documents:
            await _remember(opened, folder, _Before(wanted, held), plan, refused, progress, caller)
        await _keep_conflicts(opened, {"folder": str(folder)} if other is None else {}, plan, unread | refused)
    return ExportReport.of(plan, unread | refused, project=opened.key, folder=str(folder), dry_run=dry_run)


def _unread(project: BmadProject, held: Held, plan: ExportPlan) -> dict[str, Refused]:
    """Files that are there and are not understood: nothing can be written into them, and they are not gone either."""
    why = {one.path: one for one in reversed(project.deviations)}
    understood = {file.path for file in project.files if file.text is not None}
    trackers = {one.path for one in project.trackers}
    unread: dict[str, Refused] = {}
    for key, story in held.stories.items():
        path = story["row"]["source_path"]
        listed = f"story {key} ({path})"
        if path in why and path not in understood and listed in plan.gone:
            plan.gone.remove(listed)
            unread[path] = Refused(path, why[path].message, why[path].mend)
    for file in project.files:
        if file.kind == "tracker" and file.path not in trackers and file.path in why and held.stories:
            unread[file.path] = Refused(file.path, why[file.path].message, why[file.path].mend)
    return unread


async def read_held(opened: OpenProject) -> Held:
    """What the database holds that files can tell."""
    db = Transaction(opened.pool, opened.id)
    try:
        stories = await db.fetch(queries.HELD_STORIES)
        tasks: dict[UUID, list[Mapping[str, Any]]] = {}
        for task in await db.fetch(queries.HELD_TASKS):
            tasks.setdefault(task["story_id"], []).append(task)
        held = Held(
            stories={row["key"]: row for row in stories},
            tasks=tasks,
            epics={row["key"]: row for row in await db.fetch(queries.STORED_EPICS)},
            artifacts={row["path"]: row for row in await db.fetch(queries.HELD_ARTIFACTS)},
            checklists=await db.fetch(queries.HELD_RUNS),
        )
        await db.end("COMMIT")
        return held
    except DATABASE_FAILURES as error:
        raise Unavailable(
            "The database did not answer, and no file was written. `bmad-mcp doctor` checks the database."
        ) from error
    finally:
        await db.end("ROLLBACK")


def _write(folder: Path, plan: ExportPlan) -> dict[str, Refused]:
    """Write the files one by one; what could not be written, with the reason."""
    refused: dict[str, Refused] = {}
    with FolderWriter(folder) as writer:
        # Stories before trackers: whoever reads in between finds the tracker behind and not ahead.
        for change in sorted(plan.changes.values(), key=lambda one: one.path.endswith((".yaml", ".yml"))):
            try:
                writer.write(change.path, change.text.encode(), change.before.sha256 if change.before else None)
            except NotWritten as error:
                refused[change.path] = Refused(change.path, error.message, error.mend)
    return refused


async def _keep_conflicts(
    opened: OpenProject, place: Mapping[str, str], plan: ExportPlan, refused: Mapping[str, Refused]
) -> None:
    """Remember what could not be written beside what is not settled."""
    unwritten = []
    for one in refused.values():
        reasons = ", ".join(plan.changes[one.path].reasons) if one.path in plan.changes else ""
        unwritten.append(Conflict("file", one.path, "writing", one.message, reasons, one.path, one.mend))
    db = Transaction(opened.pool, opened.id)
    try:
        await keep_conflicts(db, [*plan.conflicts, *unwritten], place)
        await db.end("COMMIT")
    finally:
        await db.end("ROLLBACK")


# ── what the files say from now on ──


@dataclass(frozen=True, slots=True)
class _Before:
    """What the files and the database said before the writing."""

    wanted: Wanted
    held: Held

    def story(self, key: str) -> StoryRow | None:
        return next((row for row in self.wanted.stories if row.key == key), None)

    def has_news_of_story(self, key: str) -> bool:
        """Whether the files said something of a story that the database has not taken in."""
        row, held = self.story(key), self.held.stories.get(key)
        return row is not None and held is not None and (held["imported"] or {}).get("whole") != row.fingerprint

    def epic(self, key: str) -> EpicRow | None:
        return next((row for row in self.wanted.epics if row.key == key), None)

    def has_news_of_epic(self, key: str) -> bool:
        """The same for an epic."""
        row, held = self.epic(key), self.held.epics.get(key)
        if row is None or held is None:
            return False
        was = held["extra"].get("imported") or {}
        told = {name: fingerprint(value) for name, value in row.merged.items()}
        return told != was.get("fields") or row.status.value != was.get("status")


async def _remember(
    opened: OpenProject,
    folder: Path,
    before: _Before,
    plan: ExportPlan,
    refused: Mapping[str, Refused],
    progress: Progress,
    caller: Caller,
) -> None:
    """Take what was written as the state that both sides agree on, by an import of just that."""
    project = await asyncio.to_thread(read_project, folder)
    wanted = await asyncio.to_thread(wanted_rows, project, opened.id, "import")
    as_written = _as_written(project, plan, refused)
    stories = {key: told for key, told in plan.stories.items() if told.paths <= as_written}
    epics = {key: told for key, told in plan.epics.items() if told.paths <= as_written}
    narrowed = replace(
        wanted,
        agents=(),
        templates=(),
        checklists=(),
        memories=(),
        # What an epics document tells of others moved with what was written into it.
        stories=tuple(
            row
            for row in wanted.stories
            if row.key in stories
            or (
                row.path is None
                and row.extra.get("epic_file") in plan.changes
                and not before.has_news_of_story(row.key)
            )
        ),
        epics=tuple(
            row
            for row in wanted.epics
            if row.key in epics or (row.path in plan.changes and not before.has_news_of_epic(row.key))
        ),
        artifacts=tuple(row for row in wanted.artifacts if row.key in as_written & plan.changes.keys()),
        written_stories={
            row.key: _written_of_story(before, row, stories[row.key]) for row in wanted.stories if row.key in stories
        },
        written_epics={
            row.key: _written_of_epic(before, row, epics[row.key]) for row in wanted.epics if row.key in epics
        },
        is_export=True,
    )
    if not (narrowed.stories or narrowed.epics or narrowed.artifacts):
        return

    def agreed(stored: Stored) -> Stored:
        seen = _agreed(stored, narrowed, stories, epics, plan.documents)
        # What the trackers and settings said that was not taken in waits for an import as well.
        is_known = not stored.is_imported or stored.settings == before.wanted.settings
        return seen if is_known else replace(seen, settings=narrowed.settings)

    await carry_out(opened, narrowed, dry_run=False, progress=progress, caller=caller, agreed=agreed, operation=EXPORT)


def _written_of_story(before: _Before, row: StoryRow, told: Told) -> Written:
    """What differs in the file since it was read: that, and no more, is the export's."""
    was = before.story(row.key)
    boxes = WrittenBoxes(told.tasks, frozenset(told.marks), frozenset(told.words))
    if was is None or not before.has_news_of_story(row.key):
        return Written(is_part=False, boxes=boxes)
    theirs, now = grouped(was.sections), grouped(row.sections)
    changed = {name for name in theirs.keys() | now.keys() if group_hash(theirs.get(name)) != group_hash(now.get(name))}
    agreed = (before.held.stories[row.key]["imported"] or {}).get("sections", {})
    # Where somebody edited a section that got a tick, the whole of it waits.
    edited = {name for name in changed if name not in told.wholly and group_hash(theirs.get(name)) != agreed.get(name)}
    return Written(
        is_part=True,
        fields=frozenset(name for name, value in row.merged.items() if value != was.merged[name]),
        sections=frozenset(changed | told.wholly) - edited,
        status=told.status is not None,
        boxes=boxes,
    )


def _written_of_epic(before: _Before, row: EpicRow, told: Told) -> Written:
    was = before.epic(row.key)
    if was is None or not before.has_news_of_epic(row.key):
        return Written(is_part=False)
    fields = frozenset(name for name, value in row.merged.items() if value != was.merged[name])
    return Written(is_part=True, fields=fields, status=told.status is not None)


def _as_written(project: BmadProject, plan: ExportPlan, refused: Mapping[str, Refused]) -> set[str]:
    """The files that say what the plan meant them to say: nobody has edited them since."""
    hashes = {file.path: file.sha256 for file in project.files}

    def is_meant(path: str, change: FileChange | None) -> bool:
        if change is None or path in refused:
            return path not in refused
        return hashes.get(path) == hashlib.sha256(change.text.encode()).hexdigest()

    paths = {path for told in [*plan.stories.values(), *plan.epics.values()] for path in told.paths}
    return {path for path in paths | plan.changes.keys() if is_meant(path, plan.changes.get(path))}


def _agreed(
    stored: Stored,
    wanted: Wanted,
    stories: Mapping[str, Told],
    epics: Mapping[str, Told],
    documents: set[str],
) -> Stored:
    """The stored rows as if the last import had seen the written values.

    Where the database still holds what was written, it gives way to the file's form of it; where tools went on
    meanwhile, theirs is the newer value.
    """
    rows = {row.key: row for row in wanted.stories}
    known: dict[str, Mapping[str, Any]] = dict(stored.stories)
    for key, told in stories.items():
        if key not in rows or key not in known or known[key]["row"] is None:
            continue
        row, record = rows[key], dict(known[key])
        ours, theirs = grouped(record["row"]["sections"]), grouped(row.sections)
        imported = dict(record["imported"] or {})
        imported["sections"] = dict(imported.get("sections", {})) | {
            name: written if group_hash(ours.get(name)) == written else group_hash(theirs.get(name))
            for name, written in told.sections.items()
            if _is_of(wanted.written_stories[key], name, "section")
        }
        imported["fields"] = dict(imported.get("fields", {})) | {
            name: written if fingerprint(record["row"][name]) == written else fingerprint(row.merged[name])
            for name, written in told.fields.items()
            if _is_of(wanted.written_stories[key], name, "field")
        }
        if told.status is not None:
            imported["status"] = told.status if record["status"] == told.status else row.status.value
        known[key] = {**record, "imported": imported}
    held_epics: dict[str, Mapping[str, Any]] = dict(stored.epics)
    epic_rows = {row.key: row for row in wanted.epics}
    for key, told in epics.items():
        if key in epic_rows and key in held_epics:
            record, file = dict(held_epics[key]), epic_rows[key]
            imported = dict(record["extra"].get("imported", {}))
            imported["fields"] = dict(imported.get("fields", {})) | {
                name: written if fingerprint(record[name]) == written else fingerprint(file.merged[name])
                for name, written in told.fields.items()
            }
            if told.status is not None:
                imported["status"] = told.status if record["status"] == told.status else file.status.value
            held_epics[key] = {**record, "extra": {**record["extra"], "imported": imported}}
    hashes = {row.key: row.values["content_hash"] for row in wanted.artifacts}
    artifacts: dict[str, Mapping[str, Any]] = dict(stored.artifacts)
    for path in documents & artifacts.keys() & hashes.keys():
        artifacts[path] = {**dict(artifacts[path]), "file_hash": hashes[path]}
    return replace(stored, stories=known, epics=held_epics, artifacts=artifacts)


def _is_of(written: Written, name: str, kind: Literal["section", "field"]) -> bool:
    return not written.is_part or name in (written.sections if kind == "section" else written.fields)

"""Compares what a folder asks for with what is stored, and says step by step what to do; pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from bmad_mcp.bmad_files.boxes import NOTHING_SURE, pair_boxes, plan_tasks, plan_written
from bmad_mcp.bmad_files.merging import Merge, first_import, merge_fields, merge_sections, merge_status
from bmad_mcp.bmad_files.rows import TEMPLATE_KINDS, Row, Wanted
from bmad_mcp.bmad_files.statuses import RANK
from bmad_mcp.bmad_files.steps import Conflict, Create, Gone, Keep, Kind, Step, Update
from bmad_mcp.bmad_files.storable import fingerprint
from bmad_mcp.bmad_files.story_rows import EpicRow, StoryRow
from bmad_mcp.bmad_files.written import written_epic, written_story
from bmad_mcp.lifecycles import StoryStatus
from bmad_mcp.progress import Progress, untold

Record = Mapping[str, Any]
# So many stories take about a quarter of a second.
TOLD_EACH = 512
STAYS = "It stays in the database; nothing to do if that is right."


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds of a project; stories that the files say nothing new about come without their texts."""

    agents: Mapping[str, Record] = field(default_factory=dict)
    templates: Mapping[str, Record] = field(default_factory=dict)
    checklists: Mapping[str, Record] = field(default_factory=dict)
    epics: Mapping[str, Record] = field(default_factory=dict)
    stories: Mapping[str, Record] = field(default_factory=dict)
    tasks: Mapping[UUID, tuple[Record, ...]] = field(default_factory=dict)
    artifacts: Mapping[str, Record] = field(default_factory=dict)
    memories: Collection[UUID] = ()
    settings: Mapping[str, Any] | None = None
    is_imported: bool = False


def plan(wanted: Wanted, stored: Stored, progress: Progress = untold) -> list[Step]:
    """The steps that make the database say what the folder says, in a stable order.

    `progress` is told how far it is with many stories.
    """
    steps: list[Step] = []
    steps += _definitions(_with_aliases(wanted.agents, stored.agents), stored.agents, wanted)
    steps += _definitions(wanted.templates, stored.templates, wanted)
    steps += _definitions(wanted.checklists, stored.checklists, wanted)
    if wanted.source == "builtin":
        return steps
    steps += _epics(wanted, stored)
    steps += _stories(wanted, stored, progress)
    steps += _files(wanted.artifacts, stored.artifacts, {step.path for step in steps if isinstance(step, Gone)})
    for row in wanted.memories:
        is_known = row.values["id"] in stored.memories
        steps.append(Keep("memory", row.key) if is_known else Create("memory", row.key, row.title, row.values))
    if not stored.is_imported or wanted.settings != stored.settings:
        steps.append(Create("project", "project", wanted.name, {"settings": wanted.settings}))
    else:
        steps.append(Keep("project", "project"))
    return steps


def _with_aliases(rows: Iterable[Row], stored: Mapping[str, Record]) -> Iterator[Row]:
    """Each agent also keeps the names it answered to; a name that is an agent's own leads to that agent only."""
    listed = list(rows)
    names = {row.key for row in listed} | set(stored)
    for row in listed:
        elsewhere = {alias for other in listed if other is not row for alias in other.values["aliases"]}
        earlier = set(stored[row.key]["aliases"]) - elsewhere if row.key in stored else set()
        aliases = sorted((earlier | set(row.values["aliases"])) - names)
        yield Row(row.kind, row.key, row.title, {**row.values, "aliases": aliases})


def _definitions(rows: Iterable[Row], stored: Mapping[str, Record], wanted: Wanted) -> Iterator[Step]:
    seen: set[str] = set()
    for row in rows:
        seen.add(row.key)
        known = stored.get(row.key)
        is_imported = known is not None and known["source"] != "builtin"
        if is_imported and (wanted.source == "builtin" or row.values["source_path"] in wanted.unreadable):
            yield Keep(row.kind, row.key)
        else:
            yield _compared(row, known)
    if wanted.source == "import":
        for key, known in stored.items():
            if key not in seen and known["source"] == "import":
                kind = _stored_kind(known)
                yield Gone(kind, key, known["source_path"] or "", STAYS)


def _stored_kind(known: Record) -> Kind:
    if "kind" in known:
        return TEMPLATE_KINDS[known["kind"]]
    return "checklist" if "items" in known else "agent"


def _compared(row: Row, known: Record | None) -> Step:
    if known is None:
        return Create(row.kind, row.key, row.title, row.values)
    # The content is known by its hash and not read back.
    changed = tuple(name for name in row.values if name != "content" and row.values[name] != known[name])
    if not changed:
        return Keep(row.kind, row.key)
    return Update(row.kind, row.key, row.title, known["id"], known["version"], row.values, changed)


def _is_left(known: Record, path: str | None) -> bool:
    """Whether the file that told of a row tells it no more, and no other file took its place."""
    return bool(known["source_path"]) and path is None


def _mirrored(row: EpicRow | StoryRow, known: Record, wanted: Wanted) -> dict[str, Any]:
    """The columns that only files fill; a tracker that cannot be read leaves its words as they were."""
    words = ("tracker_key", "tracker_status") if isinstance(row, StoryRow) else ("raw_status",)
    kept = {name: known[name] for name in words if wanted.has_broken_tracker and row.mirrored[name] is None}
    return {**row.mirrored, **kept}


def _epics(wanted: Wanted, stored: Stored) -> Iterator[Step]:
    seen: set[str] = set()
    for row in wanted.epics:
        seen.add(row.key)
        known = stored.epics.get(row.key)
        if known is None:
            imported = first_import(row.merged, (), row.status.value, None)
            values = {"key": row.key, "number": row.number, "status": row.status.value}
            extra = {**row.extra, "imported": imported}
            yield Create("epic", row.key, row.merged["title"], {**values, **row.merged, **row.mirrored, "extra": extra})
        elif _is_left(known, row.path):
            yield Gone("epic", row.key, known["source_path"], STAYS)
        elif (written := wanted.written_epics.get(row.key)) is not None and written.is_part:
            yield _row_step("epic", row.key, written_epic(row, known, written), known)
        else:
            yield from _known_epic(row, known, wanted)
    for key, known in stored.epics.items():
        if key not in seen and "imported" in known["extra"]:
            yield Gone("epic", key, known["source_path"] or "", STAYS)


def _known_epic(row: EpicRow, known: Record, wanted: Wanted) -> Iterator[Step]:
    was = known["extra"].get("imported", {})
    merge = Merge("epic", row.key, row.path or "")
    merge_fields(merge, row.merged, known, was.get("fields", {}))
    merge_status(merge, row.status, True, known["status"], was.get("status"), is_told=row.has_status)
    extra = {**row.extra, "imported": merge.imported}
    values = {**merge.values, **_mirrored(row, known, wanted), "extra": extra}
    yield from merge.conflicts
    yield _row_step("epic", row.key, values, known)


def _row_step(kind: Kind, key: str, values: Mapping[str, Any], known: Record) -> Update | Keep:
    changed = tuple(name for name in values if values[name] != known[name])
    if not changed:
        return Keep(kind, key)
    back = f"back from {known['status']} to {values['status']}" if _goes_back(values, known) else ""
    return Update(kind, key, str(values["title"]), known["id"], known["version"], values, changed, back)


def _goes_back(values: Mapping[str, Any], known: Record) -> bool:
    return RANK[StoryStatus(values["status"])] < RANK[StoryStatus(known["status"])]


def _stories(wanted: Wanted, stored: Stored, progress: Progress) -> Iterator[Step]:
    seen: set[str] = set()
    for count, row in enumerate(wanted.stories):
        if count and count % TOLD_EACH == 0:
            progress(f"{count} of {len(wanted.stories)} stories planned")
        seen.add(row.key)
        known = stored.stories.get(row.key)
        if known is None:
            yield _new_story(row)
            yield from plan_tasks(row, row.status.value, ())
        elif _is_left(known, row.path):
            yield Gone("story", row.key, known["source_path"], STAYS)
        elif not known["fresh"] or row.path in wanted.unreadable or (row.path is None and _lost(row, known, wanted)):
            yield Keep("story", row.key)
            yield from (Keep("task", f"{row.key} {number}") for number in range(1, known["tasks"] + 1))
        elif (written := wanted.written_stories.get(row.key)) is not None and written.is_part:
            before = _whole_record(known)
            yield _row_step("story", row.key, written_story(row, known["imported"] or {}, before, written), before)
            yield from plan_written(row, stored.tasks.get(known["id"], ()), written.boxes)
        else:
            yield from _known_story(row, known, wanted, stored.tasks.get(known["id"], ()))
    for key, known in stored.stories.items():
        if key not in seen and known["imported"] is not None:
            yield Gone("story", key, known["source_path"] or "", STAYS)


def _whole_record(known: Record) -> dict[str, Any]:
    return {**known["row"], "id": known["id"], "version": known["version"], "status": known["status"]}


def _lost(row: StoryRow, known: Record, wanted: Wanted) -> dict[str, Any]:
    """The epic's document that told of the story and cannot be read now, as the story's `extra` has it; or nothing."""
    path = known["row"]["extra"].get("epic_file")
    return {"epic_file": path} if path in wanted.unreadable and "epic_file" not in row.extra else {}


def _new_story(row: StoryRow) -> Create:
    epic_number, number, suffix = row.numbers
    imported = first_import(row.merged, row.sections, row.status.value, row.fingerprint)
    values = {
        "key": row.key,
        "epic": row.epic_key,
        "epic_number": epic_number,
        "number": number,
        "suffix": suffix,
        "status": row.status.value,
        "sections": list(row.sections),
        **row.merged,
        **row.mirrored,
        "extra": {**row.extra, "imported": imported},
    }
    return Create("story", row.key, row.merged["title"], values)


def _known_story(row: StoryRow, known: Record, wanted: Wanted, tasks: tuple[Record, ...]) -> Iterator[Step]:
    was = known["imported"] or {}
    before = _whole_record(known)
    merge = Merge("story", row.key, row.path or "")
    lost = _lost(row, known, wanted)
    # A gate is never taken back by a file that is missing or cannot be read, nor what an epic's document told.
    kept = [name for name, value in row.merged.items() if (name == "gate" and value is None) or (lost and not value)]
    fields = {name: value for name, value in row.merged.items() if name not in kept}
    merge_fields(merge, fields, before, was.get("fields", {}))
    for name in kept:
        merge.values[name] = before[name]
        merge.imported["fields"][name] = was.get("fields", {}).get(name, fingerprint(row.merged[name]))
    merge_sections(merge, row.sections, before["sections"], was.get("sections", {}))
    merge_status(merge, row.status, row.has_status, known["status"], was.get("status"))
    written = wanted.written_stories.get(row.key)
    sure = written.boxes.tasks if written else NOTHING_SURE
    task_steps = list(plan_tasks(row, merge.values["status"], tasks, sure, makes_tasks=not wanted.is_export))
    has_left_boxes = wanted.is_export and len(pair_boxes(row, tasks, sure)) < len(row.boxes)
    conflicts = [*merge.conflicts, *(step for step in task_steps if isinstance(step, Conflict))]
    imported = {name: value for name, value in merge.imported.items() if value is not None}
    # What is not settled is compared again next time, and so are boxes of which an import makes tasks.
    if not conflicts and not has_left_boxes:
        imported["whole"] = row.fingerprint
    extra = {**row.extra, **lost, "imported": imported}
    values = {**merge.values, **_mirrored(row, before, wanted), "extra": extra}
    yield from merge.conflicts
    yield _row_step("story", row.key, values, before)
    yield from task_steps


def _files(rows: Iterable[Row], stored: Mapping[str, Record], told: Collection[str]) -> Iterator[Step]:
    seen: set[str] = set()
    for row in rows:
        seen.add(row.key)
        known = stored.get(row.key)
        columns = {name: value for name, value in row.values.items() if name not in ("content", "story")}
        if known is None:
            yield Create("file", row.key, row.title, row.values)
        elif _was_rewritten(row, known):
            is_same_file = known["file_hash"] == row.values["content_hash"]
            yield Keep("file", row.key) if is_same_file else _two_documents(row, known)
        else:
            changed = tuple(name for name, value in columns.items() if known[name] != value)
            yield (
                Update("file", row.key, row.title, known["id"], known["version"], row.values, changed)
                if changed
                else Keep("file", row.key)
            )
    for path, known in stored.items():
        if path not in seen and known["source"] == "import" and path not in told:
            yield Gone("file", path, path, STAYS)


def _was_rewritten(row: Row, known: Record) -> bool:
    """Whether a tool has put another text in the place of the file's, or of an earlier one of its."""
    return (
        known["source"] == "tool"
        and not known["is_empty"]
        and known["content_hash"] not in (row.values["content_hash"], known["file_hash"])
    )


def _two_documents(row: Row, known: Record) -> Conflict:
    number = f"A-{known['number']}"
    return Conflict(
        "file",
        row.key,
        "content",
        f"sha256 {row.values['content_hash'][:12]}",
        f"sha256 {known['content_hash'][:12]}, recorded as {number}",
        row.key,
        f"Bring both together: artifact_get artifact={number} shows the one here; write it to the file.",
    )

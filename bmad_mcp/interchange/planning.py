"""Compares what a board asks for with what is stored and what it asked for last time; says what to do; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from bmad_mcp.bmad_files.merging import Merge, first_import, merge_fields, merge_sections, merge_status
from bmad_mcp.bmad_files.steps import Conflict, Create, Gone, Keep, Kind, Step, Update
from bmad_mcp.bmad_files.storable import fingerprint
from bmad_mcp.interchange.dependencies import closes_circle
from bmad_mcp.interchange.shaping import EpicRow, StoryRow, TaskRow, Wanted, is_open
from bmad_mcp.lifecycles import TASK, StoryStatus, TaskStatus

Record = Mapping[str, Any]
Edge = tuple[UUID, UUID]
CLOSED = frozenset({TaskStatus.COMPLETED.value, TaskStatus.CANCELLED.value})
ENDED = frozenset({StoryStatus.DONE.value, StoryStatus.CANCELLED.value})
OWN = "board"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds of a board by the ids of its rows; `was` is what the last import kept of each row."""

    epics: Mapping[UUID, Record] = field(default_factory=dict)
    stories: Mapping[UUID, Record] = field(default_factory=dict)
    tasks: Mapping[UUID, Record] = field(default_factory=dict)
    waiting: Mapping[UUID, frozenset[UUID]] = field(default_factory=dict)
    was: Mapping[str, Record] = field(default_factory=dict)
    ids: Mapping[str, UUID] = field(default_factory=dict)
    last_epic: int = 0
    last_stories: Mapping[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What to do, and what to keep of this import for the next one."""

    steps: list[Step] = field(default_factory=list)
    add: list[Edge] = field(default_factory=list)
    remove: list[Edge] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)


def plan(wanted: Wanted, stored: Stored) -> Plan:
    """The steps that make the database say what the board says, where tools did not change it meanwhile."""
    planning = _Planning(wanted, stored)
    planning.epics()
    planning.stories()
    planning.tasks()
    planning.waiting()
    planning.left_behind()
    return planning.plan


@dataclass(slots=True)
class _Planning:
    wanted: Wanted
    stored: Stored
    plan: Plan = field(default_factory=Plan)
    _numbers: dict[UUID, int] = field(default_factory=dict)
    _open: dict[str, bool] = field(default_factory=dict)
    _closed: dict[UUID, bool] = field(default_factory=dict)
    _creates: dict[UUID, dict[str, Any]] = field(default_factory=dict)

    def epics(self) -> None:
        number = self.stored.last_epic
        for row in self.wanted.epics:
            known = self.stored.epics.get(row.id)
            if known is not None:
                self._numbers[row.id] = known["number"]
                self._known_epic(row, known)
                continue
            number += 1
            self._numbers[row.id] = number
            merged = {"title": row.title, "goal": row.goal}
            values = {"id": row.id, "key": str(number), "number": number, "status": row.status.value, **merged}
            self._add(Create("epic", str(number), row.title, {**values, "extra": {OWN: dict(row.told)}}))
            imported = first_import(merged, (), row.status.value, None)
            self._keep("epic", row.ref, {**imported, "told": fingerprint(row.told)})

    def _known_epic(self, row: EpicRow, known: Record) -> None:
        was = self._was("epic", row.ref)
        merge = Merge("epic", known["key"], row.path)
        merge_fields(merge, {"title": row.title, "goal": row.goal}, known, was.get("fields", {}))
        merge_status(merge, row.status, True, known["status"], was.get("status"), is_told=row.has_status)
        values = {**merge.values, "extra": _extra(merge, known, was, row.told)}
        self._settle(merge, row.ref, known, values)

    def stories(self) -> None:
        last = dict(self.stored.last_stories)
        for row in self.wanted.stories:
            known = self.stored.stories.get(row.id)
            if known is not None:
                self._known_story(row, known)
                continue
            epic = self._numbers[row.epic]
            number = last[epic] = last.get(epic, 0) + 1
            key = f"{epic}.{number}"
            values = {
                "id": row.id,
                "epic_id": row.epic,
                "key": key,
                "epic_number": epic,
                "number": number,
                "status": row.status.value,
                "sections": list(row.sections),
                **row.merged,
                "extra": {OWN: dict(row.told)},
            }
            self._open[str(row.id)] = is_open(row.status)
            self._add(Create("story", key, row.merged["title"], values))
            imported = first_import(row.merged, row.sections, row.status.value, None)
            self._keep("story", row.ref, {**imported, "told": fingerprint(row.told)})

    def _known_story(self, row: StoryRow, known: Record) -> None:
        was = self._was("story", row.ref)
        merge = Merge("story", known["key"], row.path)
        merge_fields(merge, row.merged, known, was.get("fields", {}))
        merge_sections(merge, row.sections, known["sections"], was.get("sections", {}))
        merge_status(merge, row.status, True, known["status"], was.get("status"))
        self._open[str(row.id)] = is_open(merge.values["status"])
        values = {**merge.values, "extra": _extra(merge, known, was, row.told)}
        self._settle(merge, row.ref, known, values)

    def tasks(self) -> None:
        for row in self.wanted.tasks:
            known = self.stored.tasks.get(row.id)
            if known is not None:
                self._known_task(row, known)
                continue
            story = row.merged["story_id"]
            values = {
                "id": row.id,
                **row.merged,
                "story_id": None if story is None else UUID(story),
                "status": row.status.value,
                "raw_status": row.word or None,
                "story_open": story is None or self._open[story],
                "open_dependencies": 0,
                "source": "import",
                "source_ref": f"{self.wanted.source}:{row.ref}",
            }
            self._creates[row.id] = values
            self._closed[row.id] = row.status in CLOSED
            self._add(Create("task", row.ref, row.merged["title"], values))
            imported = first_import(row.merged, (), row.status.value, None)
            self._keep("task", row.ref, {**imported, "word": row.word})

    def _known_task(self, row: TaskRow, known: Record) -> None:
        was = self._was("task", row.ref)
        merge = Merge("task", f"T-{known['number']}", row.path)
        merge_fields(merge, row.merged, known, was.get("fields", {}))
        _merge_task_status(merge, row, known, was.get("status"))
        story = merge.values["story_id"]
        merge.imported["word"] = row.word
        values = {
            **merge.values,
            # Only a new word: the project's own files may tell of the task as well by now.
            "raw_status": known["raw_status"] if was.get("word") == row.word else row.word or None,
            "story_open": story is None or self._open.get(story, known["story_open"]),
        }
        self._closed[row.id] = values["status"] in CLOSED
        self._settle(merge, row.ref, known, values)

    def waiting(self) -> None:
        """What tasks wait for: what the board adds or takes away, and nothing that tools did."""
        ids = {row.ref: row.id for row in self.wanted.tasks}
        told = {(row.id, ids[ref]) for row in self.wanted.tasks for ref in row.waits_for}
        stored = {(task, other) for task, others in self.stored.waiting.items() for other in others}
        agreed = {row.ref: set(self._was("task", row.ref).get("waits_for", ())) for row in self.wanted.tasks}
        for row in self.wanted.tasks:
            before = {self.stored.ids[f"task {ref}"] for ref in agreed[row.ref] if f"task {ref}" in self.stored.ids}
            now = {ids[ref] for ref in row.waits_for}
            self.plan.remove += sorted((row.id, one) for one in before - now if (row.id, one) in stored)
        ahead: dict[UUID, set[UUID]] = {}
        for task, other in stored.difference(self.plan.remove):
            ahead.setdefault(task, set()).add(other)
        # The board alone has no circles; only with what tools added can there be one.
        is_mixed = not stored.difference(self.plan.remove) <= told
        for row in self.wanted.tasks:
            refused = set()
            for ref in row.waits_for:
                edge = (row.id, ids[ref])
                if ref in agreed[row.ref] or edge in stored:
                    continue
                if is_mixed and closes_circle(*edge, ahead):
                    refused.add(ref)
                    self._refuse_edge(row, ref)
                    continue
                ahead.setdefault(row.id, set()).add(ids[ref])
                self.plan.add.append(edge)
            waits_for = [ref for ref in row.waits_for if ref not in refused]
            if waits_for:
                self.plan.kept[f"task {row.ref}"]["waits_for"] = waits_for
        for task_id, values in self._creates.items():
            values["open_dependencies"] = sum(not self._closed[one] for one in ahead.get(task_id, ()))

    def _refuse_edge(self, row: TaskRow, ref: str) -> None:
        known = self.stored.tasks.get(row.id)
        key = f"T-{known['number']}" if known else row.ref
        mend = "Together they would close a circle. Change what the tasks here wait for, or the board."
        self.plan.steps.append(Conflict("task", key, "depends_on", ref, "waits for it", row.path, mend))

    def left_behind(self) -> None:
        """What was imported earlier and is not on the board any more, or is something else there."""
        seen = {f"{kind} {ref}" for kind, ref in self._seen()}
        for name, was in self.stored.was.items():
            if name in seen:
                continue
            self.plan.kept[name] = was
            kind, _, ref = name.partition(" ")
            known = self._known(kind, self.stored.ids[name])
            if known is None or known["status"] in CLOSED | ENDED:
                continue
            if kind == "task" and f"story {ref}" in seen:
                self._gives_way(ref, known)
            elif self.wanted.is_whole:
                yielded, key = _gone(kind, known)
                self.plan.steps.append(Gone(yielded, key, f"{self.wanted.source}:{ref}", _stays(yielded, key)))

    def _gives_way(self, ref: str, known: Record) -> None:
        """A task that has parts by now is a story; nobody needs to do both."""
        key = f"T-{known['number']}"
        if known["status"] == TaskStatus.PENDING and known["lease"] == 0:
            story = None if known["story_id"] is None else UUID(known["story_id"])
            values = {**known, "status": TaskStatus.CANCELLED.value, "story_id": story}
            self._closed[known["id"]] = True
            self._add(Update("task", key, known["title"], known["id"], known["version"], values, ("status",)))
        else:
            mend = f"It has parts there by now. Finish it, or call task_update task={key} status=cancelled."
            self.plan.steps.append(Gone("task", key, f"{self.wanted.source}:{ref}", mend))

    # ── shared ──

    def _seen(self) -> Iterator[tuple[str, str]]:
        yield from (("epic", row.ref) for row in self.wanted.epics)
        yield from (("story", row.ref) for row in self.wanted.stories)
        yield from (("task", row.ref) for row in self.wanted.tasks)

    def _known(self, kind: str, row_id: UUID) -> Record | None:
        tables = {"epic": self.stored.epics, "story": self.stored.stories, "task": self.stored.tasks}
        return tables[kind].get(row_id)

    def _was(self, kind: str, ref: str) -> Record:
        return self.stored.was.get(f"{kind} {ref}", {})

    def _keep(self, kind: str, ref: str, imported: Mapping[str, Any]) -> None:
        self.plan.kept[f"{kind} {ref}"] = {name: value for name, value in imported.items() if value}

    def _add(self, step: Step) -> None:
        self.plan.steps.append(step)

    def _settle(self, merge: Merge, ref: str, known: Record, values: dict[str, Any]) -> None:
        self.plan.steps += merge.conflicts
        changed = tuple(name for name in values if values[name] != known[name])
        if changed:
            if values.get("story_id") is not None:
                values["story_id"] = UUID(values["story_id"])
            step = Update(merge.kind, merge.key, str(values["title"]), known["id"], known["version"], values, changed)
            self._add(step)
        else:
            self._add(Keep(merge.kind, merge.key))
        self._keep(merge.kind, ref, merge.imported)


def _extra(merge: Merge, known: Record, was: Record, told: Record) -> dict[str, Any]:
    """What no column holds. Only news are written: an import of the project's own files has its say there as well."""
    merge.imported["told"] = fingerprint(told)
    extra: dict[str, Any] = known["extra"]
    return extra if was.get("told") == merge.imported["told"] else {**extra, OWN: dict(told)}


def _merge_task_status(merge: Merge, row: TaskRow, known: Record, was: str | None) -> None:
    """The board's status counts when it alone changed, or says that the task is completed; nothing is undone."""
    board, ours = row.status, TaskStatus(known["status"])
    merge.values["status"], merge.imported["status"] = ours.value, was
    if board is ours:
        merge.imported["status"] = board.value
        return
    if board.value == was:
        return
    is_further = board is TaskStatus.COMPLETED and ours.value not in CLOSED
    if not known["held"] and TASK.reaches(ours, board) and (ours.value == was or is_further):
        merge.values["status"] = merge.imported["status"] = board.value
        return
    merge.refuse("status", row.word or board.value, ours.value, _task_advice(merge.key, ours, known))


def _task_advice(key: str, ours: TaskStatus, known: Record) -> str:
    if known["held"]:
        return f"{known['lease_agent']} holds it: let that agent finish, or import again when its lease has passed."
    if ours is TaskStatus.COMPLETED:
        return "A completed task is final here: close it there too, or make a new one with task_create."
    return f"Make both the same: change it there, or call task_update task={key}."


def _gone(kind: str, known: Record) -> tuple[Kind, str]:
    if kind == "task":
        return "task", f"T-{known['number']}"
    return ("story" if kind == "story" else "epic"), known["key"]


def _stays(kind: Kind, key: str) -> str:
    if kind == "task":
        return f"It stays. Cancel it with task_update task={key} status=cancelled, or nothing if that is right."
    return "It stays in the database; nothing to do if that is right."

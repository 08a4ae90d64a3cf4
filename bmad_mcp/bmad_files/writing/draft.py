"""The draft of an export: the texts as they will be, what cannot be settled, and what the files will tell; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from bmad_mcp.bmad_files.merging import shown
from bmad_mcp.bmad_files.rows import Wanted
from bmad_mcp.bmad_files.steps import Conflict, Kind
from bmad_mcp.bmad_files.values import BmadProject, SourceFile, TrackerValue
from bmad_mcp.bmad_files.writing.targets import Targets, Vocabulary, targets_of

Record = Mapping[str, Any]
# In place of a hash: a field that a heading or a sentence may not hold whole stays as the database has it.
NOT_TOLD = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What the database holds of a project, as far as files can tell it; tasks are by story."""

    stories: Mapping[str, Record] = field(default_factory=dict)
    tasks: Mapping[UUID, Sequence[Record]] = field(default_factory=dict)
    epics: Mapping[str, Record] = field(default_factory=dict)
    artifacts: Mapping[str, Record] = field(default_factory=dict)
    checklists: Sequence[Record] = ()


@dataclass(slots=True)
class FileChange:
    """A file that is to be written; `before` is None for a new one, `reasons` say what of the database it tells."""

    path: str
    before: SourceFile | None
    text: str
    reasons: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Told:
    """What of a story or epic the files will tell after the writing: hashes of the database's values by name.

    `wholly` are the sections whose texts are written, the others of `sections` only get check boxes. `tasks` are by the
    number that their check boxes will have; `marks` and `words` say of which boxes those are written.
    """

    fields: dict[str, str] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)
    status: str | None = None
    paths: set[str] = field(default_factory=set)
    wholly: set[str] = field(default_factory=set)
    tasks: dict[int, UUID] = field(default_factory=dict)
    marks: set[int] = field(default_factory=set)
    words: set[int] = field(default_factory=set)


@dataclass(slots=True)
class ExportPlan:
    """The files to write, what cannot be settled, and what the folder has that the database has not taken in yet."""

    changes: dict[str, FileChange] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unwritten: list[str] = field(default_factory=list)
    only_here: list[str] = field(default_factory=list)
    stories: dict[str, Told] = field(default_factory=dict)
    epics: dict[str, Told] = field(default_factory=dict)
    documents: set[str] = field(default_factory=set)


class Draft:
    """What is gathered while an export is planned."""

    def __init__(self, project: BmadProject, wanted: Wanted, held: Held, now: datetime) -> None:
        self.project, self.wanted, self.held, self.now = project, wanted, held, now
        self.plan = ExportPlan()
        self.files = {file.path: file for file in project.files}
        self.targets: Targets = targets_of(project)
        self.words = Vocabulary(project)
        self.trackers = TrackerChanges(_counting(project, self.targets))

    def text(self, path: str) -> str | None:
        """What the file says after the changes so far; None when there is none, or it is not understood."""
        if path in self.plan.changes:
            return self.plan.changes[path].text
        file = self.files.get(path)
        return file.text if file else None

    def is_taken(self, path: str) -> bool:
        """Whether a file is there, or will be."""
        return path in self.files or path in self.plan.changes

    def change(self, path: str, text: str, *reasons: str) -> None:
        """Give the file another text, for these reasons."""
        known = self.plan.changes.get(path)
        if known is None:
            known = self.plan.changes[path] = FileChange(path, self.files.get(path), text)
        known.text = text
        known.reasons += [reason for reason in dict.fromkeys(reasons) if reason not in known.reasons]

    def refuse(self, kind: Kind, key: str, name: str, file: Any, database: Any, path: str, mend: str) -> None:
        """Keep a conflict; both sides are shown, cut to what fits a terminal."""
        self.plan.conflicts.append(Conflict(kind, key, name, shown(file), shown(database), path, mend))

    def newer(self, what: str) -> None:
        """Something was changed in a file, and not imported yet."""
        if what not in self.plan.newer:
            self.plan.newer.append(what)

    def told(self, story: str) -> Told:
        """What of a story the files will tell."""
        return self.plan.stories.setdefault(story, Told())


@dataclass(slots=True)
class TrackerChanges:
    """What is to change in trackers, gathered so that a long one is parsed once.

    `counting` says which tracker counts for a key; `words` are by path and key, None turns a line into a comment.
    """

    counting: Mapping[str, TrackerValue]
    words: dict[str, dict[str, str | None]] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def set(self, key: str, word: str | None, reason: str) -> None:
        """Give a key that is in a tracker another word."""
        self.words.setdefault(self.counting[key].path, {})[key] = word
        self.reasons.append(reason)

    def add(self, key: str, word: str, reason: str) -> None:
        """Add a key."""
        self.added[key] = word
        self.reasons.append(reason)


def _counting(project: BmadProject, targets: Targets) -> dict[str, TrackerValue]:
    own = [one for one in project.trackers if not one.nested]
    own.sort(key=lambda one: targets.tracker is None or one.path != targets.tracker.path)
    found: dict[str, TrackerValue] = {}
    for tracker in own:
        for entry in tracker.entries:
            found.setdefault(entry.key, tracker)
    return found

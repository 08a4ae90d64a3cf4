"""What a folder of BMad files says, as plain values: frozen, without a database, with every byte kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Generation = Literal["v4", "v6", "v6-alpha", "v7", "project"]
StageKind = Literal["agent", "guidance", "decision", "end"]
TemplateKind = Literal["document", "task", "data", "team", "skill"]
EntryKind = Literal["epic", "story", "retrospective", "stray"]
# `## Status` and the next line · `## Status: x` · `**Status:** x` · `Status: x` · `| Status | x |` · `status: x`
StatusForm = Literal["section", "heading", "bold", "line", "table", "front matter", "none"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it is on disk.

    `path` is relative to the project root, with slashes, through no symbolic link; bytes of a name that is not UTF-8
    are in it as os.fsdecode gives them. `text` is `raw` decoded, with byte order mark and line ends as they are; None
    when it is not UTF-8 or holds a NUL byte.
    """

    path: str
    raw: bytes
    sha256: str
    text: str | None
    generation: Generation
    kind: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command that an agent offers."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """A persona. `id` is its own id; `short_id` the role it plays (dev for bmad-agent-dev)."""

    id: str
    short_id: str
    aliases: tuple[str, ...]
    name: str
    title: str
    icon: str
    when_to_use: str
    role: str
    style: str
    identity: str
    focus: str
    principles: tuple[str, ...]
    commands: tuple[Command, ...]
    dependencies: Mapping[str, Any]
    module: str
    generation: Generation
    path: str


@dataclass(frozen=True, slots=True)
class StageDefinition:
    """One item of a workflow's sequence, as written; a route without `continue` carries `exit: True`."""

    position: int
    kind: StageKind
    step: str | None = None
    agent: str | None = None
    action: str | None = None
    creates: str | None = None
    updates: str | None = None
    validates: str | None = None
    uses: str | None = None
    requires: tuple[str, ...] = ()
    optional: bool = False
    condition: str | None = None
    optional_steps: tuple[str, ...] = ()
    repeats: str | None = None
    routes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: str = ""


@dataclass(frozen=True, slots=True)
class WorkflowDefinition:
    """A workflow and its stages; `type` is one of the six, or `custom`."""

    id: str
    name: str
    description: str
    type: str
    project_types: tuple[str, ...]
    stages: tuple[StageDefinition, ...]
    when_to_use: tuple[str, ...]
    handoff_prompts: Mapping[str, str]
    flow_diagram: str
    module: str
    generation: Generation
    path: str


@dataclass(frozen=True, slots=True)
class TemplateDefinition:
    """A document template, a task guide, a data file, a team or a skill. `body` is the parsed file, or empty.

    Its text is that of the source file by the same path.
    """

    id: str
    kind: TemplateKind
    title: str
    version: str
    filename: str
    format: str
    sections: tuple[Mapping[str, Any], ...]
    variables: tuple[str, ...]
    body: Mapping[str, Any]
    module: str
    generation: Generation
    path: str


@dataclass(frozen=True, slots=True)
class ChecklistItem:
    """A line to check; `mark` is what stands between the brackets."""

    section: str
    text: str
    mark: str


@dataclass(frozen=True, slots=True)
class ChecklistDefinition:
    """A checklist, item by item."""

    id: str
    title: str
    items: tuple[ChecklistItem, ...]
    module: str
    generation: Generation
    path: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading of a Markdown file and the text up to the next heading, exactly as in the file.

    `heading` is the whole heading line with its line end: a story's `extra["preamble"]` and then heading and text of
    each section are its file's text.
    """

    name: str
    level: int
    text: str
    heading: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class StoryTask:
    """A check box of a story; subtasks have a larger `indent` (in columns, a tab counts four) than their task."""

    text: str
    done: bool
    indent: int
    line: int
    acceptance: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EpicValue:
    """An epic; `raw_status` comes from the tracker, `line` is that of its heading."""

    key: str
    title: str
    goal: str
    raw_status: str | None
    path: str | None
    line: int | None
    generation: Generation
    story_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoryValue:
    """A story, from its own file, or from an epic or tracker only (`path` None).

    `raw_status` is its own file's word, without emphasis, and None where the file has none; `tracker_status` stands
    beside it. `extra` has the front matter's other keys, and what a writer needs: `preamble` (the text before the
    first section), `status_line`, `epic_file`, `spec`.
    """

    key: str
    epic_key: str
    title: str
    slug: str
    raw_status: str | None
    status_form: StatusForm
    role: str
    want: str
    benefit: str
    acceptance: tuple[str, ...]
    tasks: tuple[StoryTask, ...]
    sections: tuple[Section, ...]
    tracker_key: str | None
    tracker_status: str | None
    path: str | None
    generation: Generation
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrackerEntry:
    """A line of `development_status`; `comment` is what stands behind its `#`."""

    key: str
    kind: EntryKind
    raw_status: str
    comment: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class TrackerValue:
    """A `sprint-status.yaml`, in its own order. A nested one belongs to a project in a sub-folder and is only shown."""

    path: str
    meta: Mapping[str, Any]
    entries: tuple[TrackerEntry, ...]
    action_items: tuple[Mapping[str, Any], ...]
    nested: bool = False


@dataclass(frozen=True, slots=True)
class GateValue:
    """A quality gate of a story; `data` is the whole file as parsed."""

    story_key: str
    gate: str
    reason: str
    reviewer: str
    updated: str
    score: int | None
    issues: tuple[Mapping[str, Any], ...]
    waiver: Mapping[str, Any]
    data: Mapping[str, Any]
    path: str


@dataclass(frozen=True, slots=True)
class DocumentValue:
    """A document of the project. `meta` is its front matter, `items` what it lists: deferred work, stories, tickets."""

    kind: str
    title: str
    path: str
    generation: Generation
    meta: Mapping[str, Any]
    items: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryNote:
    """A line of a `.memlog.md`."""

    type: str
    who: str
    text: str
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something that is not as the formats say: where, what, and how to mend it. Nothing is rejected for it."""

    path: str
    line: int | None
    code: str
    message: str
    mend: str


@dataclass(frozen=True, slots=True)
class BmadProject:
    """Everything that was read. `files` holds each file once; the rest is what they say."""

    name: str
    generations: tuple[Generation, ...]
    config: Mapping[str, Any]
    agents: tuple[AgentDefinition, ...]
    workflows: tuple[WorkflowDefinition, ...]
    templates: tuple[TemplateDefinition, ...]
    checklists: tuple[ChecklistDefinition, ...]
    epics: tuple[EpicValue, ...]
    stories: tuple[StoryValue, ...]
    trackers: tuple[TrackerValue, ...]
    gates: tuple[GateValue, ...]
    notes: tuple[MemoryNote, ...]
    files: tuple[SourceFile, ...]
    deviations: tuple[Deviation, ...]
    documents: tuple[DocumentValue, ...] = ()
    root_name: str = ""

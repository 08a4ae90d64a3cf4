"""Turns the values of a folder into the rows that the database should hold for them; pure."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID, uuid5

from bmad_mcp.bmad_files.boxes import WrittenBoxes
from bmad_mcp.bmad_files.definitions import ROLES
from bmad_mcp.bmad_files.naming import FOREIGN_NAMES, Definition, name_agents, settle_names
from bmad_mcp.bmad_files.steps import Kind
from bmad_mcp.bmad_files.storable import LINE_LIMIT, TEXT_LIMIT, TITLE_LIMIT, Storable, name_of
from bmad_mcp.bmad_files.story_rows import EpicRow, StoryRow, epic_rows, story_rows
from bmad_mcp.bmad_files.values import (
    AgentDefinition,
    BmadProject,
    Deviation,
    SourceFile,
    TemplateDefinition,
    WorkflowDefinition,
)
from bmad_mcp.memory.categories import category_of
from bmad_mcp.memory.identifiers import identifiers_of

Source = Literal["import", "builtin"]

TEMPLATE_KINDS: Mapping[str, Kind] = {
    "workflow": "workflow",
    "document": "template",
    "task": "guide",
    "data": "data",
    "team": "team",
    "skill": "skill",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it should be; `key` tells it from the others of its kind."""

    kind: Kind
    key: str
    title: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """What an export wrote of a story or an epic. With `is_part` the rest of its file waits for an import."""

    is_part: bool
    fields: frozenset[str] = frozenset()
    sections: frozenset[str] = frozenset()
    status: bool = False
    boxes: WrittenBoxes = field(default_factory=WrittenBoxes)


@dataclass(frozen=True, slots=True)
class Wanted:
    """All rows that a folder asks for, and every deviation met on the way.

    `unreadable` are files that were kept and say nothing, so that what they said before stands. `written_stories` and
    `written_epics` are those that an export has just written, by key. With `is_export` no work is made of what they say.
    """

    name: str
    source: Source
    generations: tuple[str, ...]
    agents: tuple[Row, ...]
    templates: tuple[Row, ...]
    checklists: tuple[Row, ...]
    epics: tuple[EpicRow, ...]
    stories: tuple[StoryRow, ...]
    artifacts: tuple[Row, ...]
    memories: tuple[Row, ...]
    settings: Mapping[str, Any]
    deviations: tuple[Deviation, ...]
    unreadable: frozenset[str]
    has_broken_tracker: bool
    written_stories: Mapping[str, Written] = field(default_factory=dict)
    written_epics: Mapping[str, Written] = field(default_factory=dict)
    is_export: bool = False


def wanted_rows(project: BmadProject, project_id: UUID, source: Source) -> Wanted:
    """The rows for a project folder; built-in definitions have no state, files or settings of their own."""
    clean = Storable()
    origin = _Origin(source, {file.path: file for file in project.files}, clean)
    is_import = source == "import"
    stories = tuple(story_rows(project, clean)) if is_import else ()
    wanted = Wanted(
        name=project.name,
        source=source,
        generations=tuple(project.generations),
        agents=tuple(_agents(project, origin)),
        templates=tuple(_templates(project, origin)),
        checklists=tuple(_checklists(project, origin)),
        epics=tuple(epic_rows(project, stories, clean)) if is_import else (),
        stories=stories,
        artifacts=tuple(_artifacts(project, clean)) if is_import else (),
        memories=tuple(_memories(project, project_id, clean)) if is_import else (),
        settings=_settings(project, clean) if is_import else {},
        deviations=(),
        unreadable=_unreadable(project, clean),
        has_broken_tracker=len(project.trackers) < sum(file.kind == "tracker" for file in project.files),
    )
    told = [_storable_deviation(one, clean) for one in project.deviations]
    return _with_deviations(wanted, tuple(told) + tuple(clean.deviations))


def _unreadable(project: BmadProject, clean: Storable) -> frozenset[str]:
    blank = [file for file in project.files if file.kind == "story" and file.text is not None and not file.text.strip()]
    for file in blank:
        clean.note(
            file.path,
            "empty-story",
            "The story file is empty; what was imported of it earlier stays.",
            "Restore the file, or remove it.",
        )
    return frozenset(clean.path(file.path) for file in [*blank, *(one for one in project.files if one.text is None)])


def _with_deviations(wanted: Wanted, deviations: tuple[Deviation, ...]) -> Wanted:
    fields = {name: getattr(wanted, name) for name in wanted.__slots__} | {"deviations": deviations}
    return Wanted(**fields)


def _storable_deviation(told: Deviation, clean: Storable) -> Deviation:
    return Deviation(clean.path(told.path), told.line, told.code, told.message, told.mend)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where definitions come from, as their common columns."""

    source: Source
    files: Mapping[str, SourceFile]
    clean: Storable

    def hash_of(self, definition: Definition) -> str:
        file = self.files.get(definition.path)
        return file.sha256 if file else definition.path

    def columns(self, path: str) -> dict[str, Any]:
        file = self.files.get(path)
        return {
            "source": self.source,
            "source_path": self.clean.path(path) if self.source == "import" else None,
            "content": file.text or "" if file else "",
            "content_hash": file.sha256 if file else "",
        }


def _agents(project: BmadProject, origin: _Origin) -> Iterator[Row]:
    clean = origin.clean
    for named in name_agents(project.agents, clean):
        agent, path = named.agent, named.agent.path
        foreign = FOREIGN_NAMES.get(named.name, frozenset()) if origin.source == "builtin" else frozenset()
        values = {
            "name": named.name,
            "aliases": sorted(named.aliases | foreign),
            "display_name": clean.line(agent.name, path, "name", TITLE_LIMIT) or named.name,
            "title": clean.line(agent.title, path, "title", TITLE_LIMIT) or named.name,
            "icon": clean.line(agent.icon, path, "icon", 40),
            "when_to_use": clean.text(agent.when_to_use.strip(), path, "whenToUse"),
            "persona": _persona(agent, clean),
            "commands": [
                clean.json({"name": one.name, "description": one.description}, path, "commands")
                for one in agent.commands
            ],
            "dependencies": clean.json(agent.dependencies, path, "dependencies"),
            **origin.columns(path),
        }
        yield Row("agent", named.name, f"{values['display_name']}, {values['title']}", values)


def _persona(agent: AgentDefinition, clean: Storable) -> dict[str, Any]:
    persona = {
        "role": agent.role,
        "style": agent.style,
        "identity": agent.identity,
        "focus": agent.focus,
        "principles": list(agent.principles),
    }
    return {name: clean.json(value, agent.path, "persona") for name, value in persona.items() if value}


def _templates(project: BmadProject, origin: _Origin) -> Iterator[Row]:
    clean = origin.clean
    definitions: list[WorkflowDefinition | TemplateDefinition] = [*project.workflows, *project.templates]
    for name, one in settle_names(definitions, _template_kind, origin.hash_of, "definition", clean):
        kind = _template_kind(one)
        title = one.name if isinstance(one, WorkflowDefinition) else one.title
        body = _workflow_body(one) if isinstance(one, WorkflowDefinition) else _template_body(one)
        values = {
            "kind": kind,
            "name": name,
            "title": clean.line(title, one.path, "title", TITLE_LIMIT) or name,
            "edition": _edition(one, origin.source),
            "body": clean.json(body, one.path, "definition"),
            **origin.columns(one.path),
        }
        yield Row(TEMPLATE_KINDS[kind], f"{kind} {name}", values["title"], values)


def _template_kind(one: WorkflowDefinition | TemplateDefinition) -> str:
    return "workflow" if isinstance(one, WorkflowDefinition) else one.kind


def _edition(one: WorkflowDefinition | TemplateDefinition, source: Source) -> str:
    return "" if source == "builtin" else name_of(f"{one.generation} {one.module}")


def _workflow_body(one: WorkflowDefinition) -> dict[str, Any]:
    return {
        "description": one.description,
        "type": one.type,
        "project_types": one.project_types,
        "when_to_use": one.when_to_use,
        "handoff_prompts": one.handoff_prompts,
        "flow_diagram": one.flow_diagram,
        "stages": [{name: getattr(stage, name) for name in stage.__slots__} for stage in one.stages],
    }


def _template_body(one: TemplateDefinition) -> dict[str, Any]:
    if one.kind != "document":
        return dict(one.body)
    return {
        "version": one.version,
        "format": one.format,
        "filename": one.filename,
        "sections": one.sections,
        "variables": one.variables,
    }


def _checklists(project: BmadProject, origin: _Origin) -> Iterator[Row]:
    clean = origin.clean
    for name, one in settle_names(project.checklists, lambda _: "", origin.hash_of, "checklist", clean):
        items = [{"section": item.section, "text": item.text, "mark": item.mark} for item in one.items]
        values = {
            "name": name,
            "title": clean.line(one.title, one.path, "title", TITLE_LIMIT) or name,
            "items": clean.json(items, one.path, "items"),
            **origin.columns(one.path),
        }
        yield Row("checklist", name, values["title"], values)


def _artifacts(project: BmadProject, clean: Storable) -> Iterator[Row]:
    of_story = {story.path: story.key for story in project.stories if story.path}
    of_story |= {gate.path: gate.story_key for gate in project.gates}
    for file in project.files:
        path = clean.path(file.path)
        if path != file.path:
            clean.note(
                file.path,
                "name-changed",
                "The file's name cannot be stored as it is.",
                "Give it a shorter name in UTF-8.",
            )
        # Only what comes back as the same bytes is stored as text.
        is_text = file.text is not None and "\x00" not in file.text and file.text.encode() == file.raw
        values = {
            "kind": file.kind,
            "title": path.rsplit("/", 1)[-1],
            "path": path,
            "content": file.text if is_text else base64.b64encode(file.raw).decode(),
            "encoding": "utf-8" if is_text else "base64",
            "content_hash": file.sha256,
            "file_hash": file.sha256,
            "generation": file.generation,
            "source": "import",
            "story": of_story.get(file.path),
        }
        yield Row("file", path, path, values)


def _memories(project: BmadProject, project_id: UUID, clean: Storable) -> Iterator[Row]:
    agents = {role: role for role in ROLES}
    for one in name_agents(project.agents, Storable()):
        agents |= dict.fromkeys((one.name, *one.aliases), one.name)
    seen: dict[str, int] = {}
    for note in project.notes:
        text = clean.text(note.text.strip(), note.path, "memory note")
        if not text:
            continue
        who = name_of(note.who)
        same = f"{note.path}\n{note.type}\n{who}\n{text}"
        seen[same] = seen.get(same, 0) + 1
        # The same note has the same id on every import; the project's own id keeps projects apart.
        note_id = uuid5(project_id, f"{clean.path(same)}\n{seen[same]}")
        values = {
            "id": note_id,
            "text": text,
            "category": category_of(f"{note.type}: {text}").category.value,
            "agent": agents.get(who),
            "author_kind": "import",
            "principal": "local",
            "identifiers": identifiers_of(text),
            "search": None,
            "text_mark": None,
        }
        yield Row("memory", str(note_id), text[:60], values)


def _settings(project: BmadProject, clean: Storable) -> dict[str, Any]:
    trackers = [
        {"path": clean.path(one.path), "actions": len(one.action_items), "entries": len(one.entries)}
        for one in project.trackers
    ]
    return {
        "name": clean.line(project.name.encode("utf-8", "replace").decode(), None, "project's name", LINE_LIMIT),
        "generations": list(project.generations),
        "config": clean.json(_short(project.config), None, "configuration"),
        "trackers": trackers,
    }


def _short(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config if len(repr(config)) <= TEXT_LIMIT else {}

"""Definitions in the v4 shapes, which later generations partly share: agents, workflows, templates, checklists."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.deviations import Deviations, shown
from bmad_mcp.bmad_files.values import (
    AgentDefinition,
    ChecklistDefinition,
    ChecklistItem,
    Command,
    SourceFile,
    StageDefinition,
    StageKind,
    TemplateDefinition,
    TemplateKind,
    WorkflowDefinition,
)
from bmad_mcp.bmad_files.yaml_guard import read_mapping, read_yaml
from bmad_mcp.lifecycles import WorkflowType

ROLES = ("analyst", "pm", "architect", "sm", "dev", "qa", "po", "ux")
_ROLE_OF = {"ux-expert": "ux", "ux-designer": "ux"}
_TYPES = frozenset(WorkflowType)
_LABEL = re.compile(r"[0-9]{1,3}\.[ \t]{1,4}\*\*([^*]{1,200})\*\*")


def role_of(agent_id: str) -> str:
    """The role that an agent of any generation plays: dev for bmad-agent-dev, ux for ux-expert; else its own id."""
    bare = re.sub(r"^bmad-(?:agent-)?(?:bmm-)?", "", agent_id.lower())
    role = _ROLE_OF.get(bare, bare)
    is_agent_skill = agent_id.lower().startswith("bmad-agent-")
    return role if role in ROLES or is_agent_skill else agent_id.lower()


def stem(path: str) -> str:
    """A file's name without folder and ending."""
    return re.sub(r"\.(md|ya?ml|xml|toml|csv)$", "", path.rsplit("/", 1)[-1])


def flat(value: Any) -> str:
    """A text, or the texts of a nested value one after the other."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {flat(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(flat(one) for one in value)
    return "" if value is None else str(value)


def words(value: Any) -> tuple[str, ...]:
    """A value that may be one text or a list of texts, as texts."""
    if value is None or value == "":
        return ()
    return tuple(flat(one) for one in value) if isinstance(value, list) else (flat(value),)


def table(value: Any, *names: str) -> dict[str, Any]:
    """The mapping found by going down these names, or an empty one."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def commands(value: Any) -> tuple[Command, ...]:
    """Commands, whether they are a map or a list of maps with one key."""
    pairs: list[tuple[Any, Any]] = []
    for one in value if isinstance(value, list) else [value]:
        pairs += one.items() if isinstance(one, Mapping) else [(one, "")] if one else []
    return tuple(Command(str(name), flat(told)) for name, told in pairs)


def read_agent(source: SourceFile, module: str, deviations: Deviations) -> AgentDefinition | None:
    """A v4 agent: Markdown with one fenced YAML block."""
    block = markdown.fenced(source.text or "", "yaml") or markdown.fenced(source.text or "", "yml")
    if block is None:
        if source.text is not None:
            message = "The agent has no fenced YAML block."
            deviations.add(source.path, None, "agent-shape", message, "Install the agent again.")
        return None
    told = len(deviations.all())
    data = read_mapping(block[0], source.path, deviations, block[1])
    agent, persona = table(data, "agent"), table(data, "persona")
    if not agent:
        if len(deviations.all()) == told:
            message = "The YAML block has no `agent`."
            deviations.add(source.path, block[1], "agent-shape", message, "Install the agent again.")
        return None
    agent_id = str(agent.get("id") or stem(source.path)).lower()
    short_id = role_of(agent_id)
    return AgentDefinition(
        id=agent_id,
        short_id=short_id,
        aliases=tuple(dict.fromkeys(name for name in (agent_id, stem(source.path).lower()) if name != short_id)),
        name=str(agent.get("name") or agent_id),
        title=str(agent.get("title") or agent_id),
        icon=str(agent.get("icon") or ""),
        when_to_use=flat(agent.get("whenToUse")),
        role=flat(persona.get("role")),
        style=flat(persona.get("style")),
        identity=flat(persona.get("identity")),
        focus=flat(persona.get("focus")),
        principles=words(persona.get("core_principles") or data.get("core_principles")),
        commands=commands(data.get("commands")),
        dependencies=table(data, "dependencies"),
        module=module,
        generation=source.generation,
        path=source.path,
    )


def read_workflow(source: SourceFile, module: str, deviations: Deviations) -> WorkflowDefinition | None:
    """A v4 workflow; packs that use other names are read by the first sequence in them, and that is told."""
    if not source.path.endswith((".yaml", ".yml")):
        message = "The workflow is a text without stages."
        deviations.add(source.path, None, "workflow-shape", message, "Nothing to do: the file is kept.")
        return _workflow(source, module, {}, ())
    loaded = read_yaml(source, deviations)
    if loaded is None:
        return None
    data = table(loaded.value)
    told = table(data, "workflow") or data
    name, sequence = _sequence(told)
    if name != "sequence":
        message = (
            f"The stages stand under {shown(name)}, not under `sequence`." if name else "The workflow has no stages."
        )
        mend = "Nothing to do: what was found is used, and the file is kept."
        deviations.add(source.path, loaded.places.get(("workflow", name), (None,))[0], "workflow-shape", message, mend)
    stages = tuple(_stage(position, one) for position, one in enumerate(sequence, start=1))
    return _workflow(source, module, told, stages)


def _workflow(
    source: SourceFile, module: str, told: Mapping[str, Any], stages: tuple[StageDefinition, ...]
) -> WorkflowDefinition:
    workflow_id = str(told.get("id") or (told.get("name") if "title" in told else "") or stem(source.path)).lower()
    return WorkflowDefinition(
        id=workflow_id,
        name=str(told.get("title") or told.get("name") or workflow_id),
        description=flat(told.get("description")).strip(),
        type=workflow_id if workflow_id in _TYPES else WorkflowType.CUSTOM.value,
        project_types=words(told.get("project_types")),
        stages=stages,
        when_to_use=words(table(told.get("decision_guidance")).get("when_to_use")),
        handoff_prompts={str(key): flat(one) for key, one in table(told.get("handoff_prompts")).items()},
        flow_diagram=flat(told.get("flow_diagram")),
        module=module,
        generation=source.generation,
        path=source.path,
    )


def _sequence(told: Mapping[str, Any]) -> tuple[str, list[Mapping[str, Any]]]:
    names = ["sequence", *(name for name in told if name.endswith("_sequence")), "steps", "phases"]
    for name in names:
        found = told.get(name)
        # Phases are lists under the names of the phases.
        items = (
            [one for phase in found.values() if isinstance(phase, list) for one in phase]
            if isinstance(found, dict)
            else found
        )
        if isinstance(items, list) and items:
            return name, list(_items(items))
    return "", []


def _items(items: list[Any]) -> Iterator[Mapping[str, Any]]:
    for one in items:
        if isinstance(one, dict):
            inner = next((one[name] for name in ("sequence", "steps") if isinstance(one.get(name), list)), None)
            yield from [one] if inner is None else _items(inner)
        elif one:
            yield {"step": flat(one)}


def _stage(position: int, item: Mapping[str, Any]) -> StageDefinition:
    def told(*names: str) -> str | None:
        return next((flat(item[name]).strip() or None for name in names if item.get(name) is not None), None)

    routes = {
        name: dict(one) if isinstance(one, dict) else {"notes": flat(one)}
        for name, one in table(item, "routes").items()
    }
    step, agent = told("step", "id"), told("agent")
    kind: StageKind = "agent" if agent else "guidance"
    if routes:
        kind = "decision"
    elif step == "workflow_end":
        kind = "end"
    return StageDefinition(
        position=position,
        kind=kind,
        step=step,
        agent=agent,
        action=told("action", "task", "title"),
        creates=told("creates", "output", "outputs"),
        updates=told("updates"),
        validates=told("validates"),
        uses=told("uses"),
        requires=words(next((item[name] for name in ("requires", "input", "inputs") if item.get(name)), None)),
        optional=item.get("optional") is True or str(item.get("optional")).lower() == "yes",
        condition=told("condition"),
        optional_steps=words(item.get("optional_steps")),
        repeats=told("repeats", "repeat"),
        routes={name: one if "continue" in one else {**one, "exit": True} for name, one in routes.items()},
        notes=told("notes") or "",
    )


def read_template(source: SourceFile, module: str, deviations: Deviations) -> TemplateDefinition | None:
    """A v4 document template, in YAML or, in older ones, in Markdown."""
    body: dict[str, Any] = {}
    if source.path.endswith((".yaml", ".yml")):
        loaded = read_yaml(source, deviations)
        if loaded is None:
            return None
        body = table(loaded.value)
    head = table(body, "template")
    out, sections = table(head, "output"), body.get("sections")
    title = str(head.get("name") or "") or _title(source)
    return TemplateDefinition(
        id=stem(source.path).removesuffix("-tmpl"),
        kind="document",
        title=title,
        version=flat(head.get("version")),
        filename=flat(out.get("filename")),
        format=flat(out.get("format")) or ("yaml" if body and not head else "markdown"),
        sections=tuple(one for one in sections if isinstance(one, dict)) if isinstance(sections, list) else (),
        variables=markdown.variables(source.text or ""),
        body=body,
        module=module,
        generation=source.generation,
        path=source.path,
    )


def read_guide(source: SourceFile, module: str, kind: TemplateKind, name: str = "") -> TemplateDefinition:
    """A task guide, a data file or a template that is a plain text."""
    return _guide(source, module, kind, name or stem(source.path), _title(source), {})


def read_team(source: SourceFile, module: str, deviations: Deviations) -> TemplateDefinition:
    """A team: who is in it and what they run."""
    body = read_mapping(source.text, source.path, deviations)
    title = str(table(body, "bundle").get("name") or "") or stem(source.path)
    return _guide(source, module, "team", stem(source.path), title, body)


def _guide(
    source: SourceFile, module: str, kind: TemplateKind, name: str, title: str, body: dict[str, Any]
) -> TemplateDefinition:
    return TemplateDefinition(
        id=name,
        kind=kind,
        title=title,
        version="",
        filename="",
        format=source.path.rsplit(".", 1)[-1],
        sections=(),
        variables=markdown.variables(source.text or ""),
        body=body,
        module=module,
        generation=source.generation,
        path=source.path,
    )


def _title(source: SourceFile) -> str:
    text = source.text or ""
    return (markdown.title(text, markdown.headings(text)) if source.path.endswith(".md") else "") or stem(source.path)


def read_checklist(source: SourceFile, module: str, name: str = "") -> ChecklistDefinition:
    """A Markdown checklist; an item belongs to the heading, or to the numbered bold line, above it."""
    text = source.text or ""
    found = markdown.headings(text)
    items, section, left = [], "", list(found)
    for line in markdown.lines(text):
        while left and left[0].line <= line.number:
            heading = left.pop(0)
            section = heading.name if heading.level > 1 else ""
        if box := markdown.box(line):
            items.append(ChecklistItem(section, box.text, box.mark))
        elif match := _LABEL.match(line.text):
            section = match[1].strip().rstrip(":")
    checklist_id = name or stem(source.path).removesuffix("-checklist")
    title = markdown.title(text, found) or checklist_id
    return ChecklistDefinition(checklist_id, title, tuple(items), module, source.generation, source.path)

"""Definitions in the v4 shapes: agents, workflows, templates and checklists."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bmad_mcp.bmad_files.folder import Folder
from bmad_mcp.bmad_files.markdown import checklist_items, fenced_block, first_heading
from bmad_mcp.bmad_files.trackers import yaml_of
from bmad_mcp.bmad_files.values import (
    AgentDefinition,
    ChecklistDefinition,
    Command,
    SourceFile,
    StageDefinition,
    StageKind,
    TemplateDefinition,
    TemplateKind,
    WorkflowDefinition,
)
from bmad_mcp.bmad_files.yaml_guard import YamlRefused, load_yaml
from bmad_mcp.lifecycles import WorkflowType

ROLES = ("analyst", "pm", "architect", "sm", "dev", "qa", "po", "ux")
_ROLE_OF = {"ux-expert": "ux", "ux-designer": "ux"}
VARIABLE = re.compile(r"\{\{\s*([\w.-]{1,80})\s*\}\}")


def role_of(agent_id: str) -> str:
    """The role that an agent of any generation plays: dev for bmad-agent-dev, ux for ux-expert."""
    bare = re.sub(r"^bmad-(agent-)?", "", agent_id.lower())
    return _ROLE_OF.get(bare, bare if bare in ROLES else agent_id.lower())


def stem(path: str) -> str:
    """A file's name without folder and ending."""
    return re.sub(r"\.(md|ya?ml|xml|toml|csv)$", "", path.rsplit("/", 1)[-1])


def words(value: Any) -> tuple[str, ...]:
    """A value that may be one text or a list of texts, as texts."""
    if value is None or value == "":
        return ()
    if isinstance(value, list):
        return tuple(_text(one) for one in value)
    return (_text(value),)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_text(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    return "" if value is None else str(value)


def commands(value: Any) -> tuple[Command, ...]:
    """Commands, whether they are a map or a list of maps with one key."""
    pairs: list[tuple[Any, Any]] = []
    for one in value if isinstance(value, list) else [value]:
        pairs += one.items() if isinstance(one, Mapping) else [(one, "")] if one else []
    return tuple(Command(str(name), _text(told)[:2000]) for name, told in pairs)


def read_agent(folder: Folder, file: SourceFile, module: str) -> AgentDefinition | None:
    """A v4 agent: Markdown with one fenced YAML block."""
    block = fenced_block(file.text or "", "ya?ml")
    if block is None:
        if file.text is not None:
            folder.note(file.path, "agent-shape", "The agent has no fenced YAML block.", "Install the agent again.")
        return None
    try:
        data = load_yaml(block)
    except YamlRefused as error:
        folder.note(file.path, "yaml", f"The agent's YAML cannot be read: {error.message}.", "Mend it.", error.line)
        return None
    agent = data.get("agent") if isinstance(data, dict) else None
    if not isinstance(agent, dict):
        folder.note(file.path, "agent-shape", "The YAML block has no `agent`.", "Install the agent again.")
        return None
    found = data.get("persona")
    persona = found if isinstance(found, dict) else {}
    agent_id = str(agent.get("id") or stem(file.path)).lower()
    short_id = role_of(agent_id)
    dependencies = data.get("dependencies")
    return AgentDefinition(
        id=agent_id,
        short_id=short_id,
        aliases=tuple(dict.fromkeys(name for name in (agent_id, stem(file.path).lower()) if name != short_id)),
        name=str(agent.get("name") or agent_id),
        title=str(agent.get("title") or agent_id),
        icon=str(agent.get("icon") or ""),
        when_to_use=_text(agent.get("whenToUse")),
        role=_text(persona.get("role")),
        style=_text(persona.get("style")),
        identity=_text(persona.get("identity")),
        focus=_text(persona.get("focus")),
        principles=words(persona.get("core_principles") or data.get("core_principles")),
        commands=commands(data.get("commands")),
        dependencies=dependencies if isinstance(dependencies, dict) else {},
        module=module,
        generation=file.generation,
        path=file.path,
    )


def read_workflow(folder: Folder, file: SourceFile, module: str) -> WorkflowDefinition | None:
    """A v4 workflow; packs that use other names for the sequence are read by the first list of stages in them."""
    data = yaml_of(folder, file)
    workflow = data.get("workflow") if isinstance(data, dict) else None
    if not isinstance(workflow, dict):
        if data is not None:
            folder.note(file.path, "workflow-shape", "The file has no `workflow`.", "Install the workflow again.")
        return None
    name, sequence = _sequence(workflow)
    if name != "sequence":
        folder.note(
            file.path,
            "workflow-shape",
            f"The stages stand under {name!r} and not under 'sequence'." if name else "The workflow has no stages.",
            "Nothing to do: what was found is used, and the file is kept.",
        )
    workflow_id = str(workflow.get("id") or stem(file.path)).lower()
    guidance, prompts = workflow.get("decision_guidance"), workflow.get("handoff_prompts")
    return WorkflowDefinition(
        id=workflow_id,
        name=str(workflow.get("name") or workflow_id),
        description=_text(workflow.get("description")).strip(),
        type=workflow_id if workflow_id in set(WorkflowType) else "custom",
        project_types=words(workflow.get("project_types")),
        stages=tuple(_stage(position, one) for position, one in enumerate(sequence, start=1)),
        when_to_use=words(guidance.get("when_to_use")) if isinstance(guidance, dict) else (),
        handoff_prompts={str(key): _text(told) for key, told in prompts.items()} if isinstance(prompts, dict) else {},
        flow_diagram=_text(workflow.get("flow_diagram")),
        module=module,
        generation=file.generation,
        path=file.path,
    )


def _sequence(workflow: Mapping[str, Any]) -> tuple[str, list[Mapping[str, Any]]]:
    names = ["sequence", *(name for name in workflow if str(name).endswith("_sequence")), "steps", "phases"]
    for name in names:
        if isinstance(workflow.get(name), list):
            return name, list(_flat(workflow[name]))
    return "", []


def _flat(items: list[Any]) -> Iterator[Mapping[str, Any]]:
    for one in items:
        if isinstance(one, Mapping):
            inner = next((one[name] for name in ("sequence", "steps") if isinstance(one.get(name), list)), None)
            if inner is None:
                yield one
            else:
                yield from _flat(inner)
        elif isinstance(one, str):
            yield {"step": one}


def _stage(position: int, item: Mapping[str, Any]) -> StageDefinition:
    def told(name: str) -> str | None:
        return _text(item[name]).strip() or None if item.get(name) is not None else None

    found = item.get("routes")
    routes = found if isinstance(found, dict) else {}
    step = told("step")
    kind: StageKind = "decision" if routes else "end" if step == "workflow_end" else "agent"
    if kind == "agent" and told("agent") is None:
        kind = "guidance"
    return StageDefinition(
        position=position,
        kind=kind,
        step=step,
        agent=told("agent"),
        action=told("action"),
        creates=told("creates"),
        updates=told("updates"),
        validates=told("validates"),
        uses=told("uses"),
        requires=words(item.get("requires")),
        optional=item.get("optional") is True,
        condition=told("condition"),
        optional_steps=words(item.get("optional_steps")),
        repeats=told("repeats"),
        routes={str(name): one if isinstance(one, dict) else {"notes": _text(one)} for name, one in routes.items()},
        notes=told("notes") or "",
    )


def read_template(folder: Folder, file: SourceFile, module: str) -> TemplateDefinition | None:
    """A v4 document template, in YAML or (older) in Markdown."""
    body: Mapping[str, Any] = {}
    if file.path.endswith((".yaml", ".yml")):
        data = yaml_of(folder, file)
        if not isinstance(data, dict):
            return None
        body = data
    found = body.get("template")
    head = found if isinstance(found, dict) else {}
    output, sections = head.get("output"), body.get("sections")
    out = output if isinstance(output, dict) else {}
    name = stem(file.path)
    return TemplateDefinition(
        id=name.removesuffix("-tmpl"),
        kind="document",
        title=str(head.get("name") or first_heading(file.text or "") or name),
        version=_text(head.get("version")),
        filename=_text(out.get("filename")),
        format=_text(out.get("format")) or "markdown",
        sections=tuple(one for one in sections if isinstance(one, dict)) if isinstance(sections, list) else (),
        variables=tuple(dict.fromkeys(VARIABLE.findall(file.text or ""))),
        body=body,
        module=module,
        generation=file.generation,
        path=file.path,
    )


def read_guide(file: SourceFile, module: str, kind: TemplateKind, name: str = "") -> TemplateDefinition:
    """A task guide, data file, team or skill: its text, with a title."""
    title = first_heading(file.text or "") if file.path.endswith(".md") else ""
    return TemplateDefinition(
        id=name or stem(file.path),
        kind=kind,
        title=title or name or stem(file.path),
        version="",
        filename="",
        format=file.path.rsplit(".", 1)[-1],
        sections=(),
        variables=(),
        body={},
        module=module,
        generation=file.generation,
        path=file.path,
    )


def read_checklist(file: SourceFile, module: str, name: str = "") -> ChecklistDefinition:
    """A Markdown checklist."""
    text = file.text or ""
    checklist_id = name or stem(file.path)
    return ChecklistDefinition(
        id=name or checklist_id.removesuffix("-checklist"),
        title=first_heading(text) or checklist_id,
        items=checklist_items(text),
        module=module,
        generation=file.generation,
        path=file.path,
    )

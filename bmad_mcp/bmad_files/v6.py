"""Reads the v6 definitions under `_bmad/` (6.0) or `bmad/` (alpha): compiled agents, workflows, tasks, teams."""

import csv
import html
import io
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.definitions import (
    commands,
    flat,
    read_checklist,
    read_guide,
    read_team,
    role_of,
    stem,
    table,
    words,
)
from bmad_mcp.bmad_files.deviations import shown
from bmad_mcp.bmad_files.stages import read_stages
from bmad_mcp.bmad_files.values import AgentDefinition, Command, Generation, SourceFile, WorkflowDefinition
from bmad_mcp.bmad_files.yaml_guard import read_mapping

TEXTS = (".md", ".toml", ".yaml", ".yml", ".csv", ".xml", ".txt", ".json")
TEMPLATE = re.compile(r"(?:.*[.-])?template\.(?:md|ya?ml)|[\w-]*-template\.(?:md|ya?ml)", re.IGNORECASE)
_MAIN = re.compile(r"workflow(?:-[\w-]+)?\.(?:ya?ml|md)")
_ATTRIBUTE = re.compile(r'([\w-]{1,40})="([^"]*)"')


def config_folder(found: Collected, root: str) -> str:
    """Where the manifests are: `_config`, or `_cfg` in the alphas."""
    return next((f"{root}/{name}" for name in ("_config", "_cfg") if found.folder.is_folder(f"{root}/{name}")), root)


def manifest(found: Collected, path: str, generation: Generation) -> list[dict[str, str]]:
    """The rows of a CSV manifest; none when it is not there."""
    real = found.folder.locate(path)
    source = found.folder.read(real, generation, "manifest") if real else None
    if source is None or source.text is None:
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(source.text.removeprefix("\ufeff"))))
    except csv.Error as error:
        message = f"The manifest cannot be read: {error}."
        found.deviations.add(path, None, "csv", message, "Run the installer again.")
        return []
    return [{str(name): one for name, one in row.items() if name is not None and isinstance(one, str)} for row in rows]


def read_definitions(found: Collected, root: str, generation: Generation) -> None:
    """Everything that is compiled into the installation's own folder."""
    config = config_folder(found, root)
    told = {_inside(row.get("path", "")): row for row in manifest(found, f"{config}/agent-manifest.csv", generation)}
    rows = manifest(found, f"{config}/task-manifest.csv", generation)
    rows += manifest(found, f"{config}/tool-manifest.csv", generation)
    tasks = {_inside(row.get("path", "")) for row in rows}
    for path in found.folder.walk(root):
        parts = path.removeprefix(root + "/").split("/")
        if not path.endswith(TEXTS) or parts[0] in ("scripts", "render", "custom"):
            continue
        source = found.folder.read(path, generation, _kind(parts))
        module = parts[0]
        if source is None or source.text is None or module.startswith("_"):
            if parts[0] == "_memory" and source is not None:
                found.folder.settle(path, "memory")
            continue
        found.try_each(source, partial(_read_one, found, module, parts, told, tasks))
    for row in manifest(found, f"{config}/workflow-manifest.csv", generation):
        _read_told_workflow(found, row, f"{config}/workflow-manifest.csv")
    _read_untold_workflows(found, root)


def _inside(path: str) -> str:
    return path.replace("{project-root}/", "").lstrip("/")


def _kind(parts: list[str]) -> str:
    if parts[0] in ("_config", "_cfg"):
        return "config" if "customize" in parts[-1] else "manifest"
    if len(parts) < 3:
        return "config" if "config" in parts[-1] else "manifest" if parts[-1].endswith(".csv") else "document"
    if parts[1] == "workflows":
        return "workflow" if _MAIN.fullmatch(parts[-1]) else "step" if parts[-1].startswith("step-") else "data"
    return {"agents": "agent", "tasks": "task", "tools": "task", "teams": "team"}.get(parts[1], "data")


def _read_one(
    found: Collected,
    module: str,
    parts: list[str],
    told: Mapping[str, Mapping[str, str]],
    tasks: set[str],
    source: SourceFile,
) -> None:
    if len(parts) < 3:
        return
    folder, name = parts[1], parts[-1]
    owner = parts[-3] if len(parts) > 4 and parts[-2] == "templates" else parts[-2]
    if folder == "agents":
        if name.endswith(".agent.yaml"):
            found.agents.append(_source_agent(found, source, module))
        elif name.endswith(".md") and "<agent" in (source.text or ""):
            found.agents.append(_compiled_agent(found, source, module, told.get(source.path, {})))
    elif folder in ("tasks", "tools"):
        if name.endswith((".md", ".xml")) and (not tasks or source.path in tasks):
            found.templates.append(read_guide(source, module, "task"))
    elif folder == "teams":
        if name.endswith((".yaml", ".yml")):
            found.templates.append(read_team(source, module, found.deviations))
    elif folder == "data":
        found.templates.append(read_guide(source, module, "data"))
    elif folder == "workflows" and name == "checklist.md":
        found.folder.settle(source.path, "checklist")
        found.checklists.append(read_checklist(source, module, owner))
    elif folder == "workflows" and TEMPLATE.fullmatch(name):
        found.folder.settle(source.path, "template")
        found.templates.append(read_guide(source, module, "document", f"{owner}-{stem(source.path)}"))


# ── agents ──


def _between(text: str, name: str) -> str:
    """What stands in the first element of that name; the compiled agents are not always well-formed XML."""
    begin = text.find(f"<{name}>")
    end = text.find(f"</{name}>", begin)
    return html.unescape(text[begin + len(name) + 2 : end]).strip() if 0 <= begin < end else ""


def _menu(text: str) -> list[Command]:
    found, at = [], text.find("<item ")
    while at >= 0:
        close = text.find(">", at)
        end = text.find("</item>", close)
        if not 0 <= close < end:
            break
        attributes = dict(_ATTRIBUTE.findall(text[at:close]))
        name = attributes.get("cmd", "").split(" or ")[0].strip()
        found.append(Command(html.unescape(name), html.unescape(text[close + 1 : end]).strip()))
        at = text.find("<item ", end)
    return found


def _principles(text: str) -> tuple[str, ...]:
    """One a line, or behind each other with a dash before each."""
    parts = re.split(r"(?:^|\s)[-•]\s", text) if re.match(r"\s*[-•]\s", text) else text.split("\n")
    return tuple(part.strip() for part in parts if part.strip())


def _compiled_agent(found: Collected, source: SourceFile, module: str, told: Mapping[str, str]) -> AgentDefinition:
    text = source.text or ""
    begin = text.find("<agent")
    attributes = {name: html.unescape(one) for name, one in _ATTRIBUTE.findall(text[begin : text.find(">", begin)])}
    agent_id = stem(source.path).lower()
    custom = _customisation(found, source, module, agent_id)
    persona = table(custom, "persona")

    def trait(name: str) -> str:
        own = persona.get(name)
        return own if isinstance(own, str) and own.strip() else _between(text, name)

    name = table(custom, "agent", "metadata").get("name")
    menu = _menu(text[text.find("<menu>") :] if "<menu>" in text else "")
    added = custom.get("menu")
    menu += [
        Command(str(one.get("trigger") or ""), str(one.get("description") or ""))
        for one in (added if isinstance(added, list) else ())
        if isinstance(one, dict) and not any(str(one.get("trigger")) in known.name for known in menu)
    ]
    return AgentDefinition(
        id=agent_id,
        short_id=role_of(agent_id),
        aliases=_aliases(agent_id),
        name=str(name or "") or attributes.get("name") or told.get("displayName") or agent_id,
        title=attributes.get("title") or told.get("title") or agent_id,
        icon=attributes.get("icon") or told.get("icon") or "",
        when_to_use=attributes.get("capabilities") or told.get("capabilities") or "",
        role=trait("role"),
        style=trait("communication_style"),
        identity=trait("identity"),
        focus="",
        principles=words(persona.get("principles") or None) or _principles(_between(text, "principles")),
        commands=tuple(menu),
        dependencies={"workflows": _workflows_of(text)},
        module=module,
        generation=source.generation,
        path=source.path,
    )


def _aliases(agent_id: str) -> tuple[str, ...]:
    full = agent_id if agent_id.startswith("bmad-") else f"bmad-agent-{agent_id}"
    return tuple(dict.fromkeys(name for name in (agent_id, full) if name != role_of(agent_id)))


def _workflows_of(text: str) -> list[str]:
    return [_inside(html.unescape(one)) for name, one in _ATTRIBUTE.findall(text) if name in ("workflow", "exec")]


def _customisation(found: Collected, source: SourceFile, module: str, agent_id: str) -> dict[str, Any]:
    """What the person wrote for this agent in `_config/agents/`; empty values there mean: as shipped."""
    root = source.path.split("/")[0]
    path = f"{config_folder(found, root)}/agents/{module}-{agent_id}.customize.yaml"
    real = found.folder.locate(path)
    custom = found.folder.read(real, source.generation, "config") if real else None
    return read_mapping(custom.text, path, found.deviations) if custom else {}


def _source_agent(found: Collected, source: SourceFile, module: str) -> AgentDefinition:
    """An agent that is not compiled yet: `<name>.agent.yaml`."""
    data = table(read_mapping(source.text, source.path, found.deviations), "agent")
    meta, persona = table(data, "metadata"), table(data, "persona")
    agent_id = stem(source.path).removesuffix(".agent").lower()
    menu = data.get("menu")
    listed = [one for one in menu if isinstance(one, dict)] if isinstance(menu, list) else []
    return AgentDefinition(
        id=agent_id,
        short_id=role_of(agent_id),
        aliases=_aliases(agent_id),
        name=str(meta.get("name") or agent_id),
        title=str(meta.get("title") or agent_id),
        icon=str(meta.get("icon") or ""),
        when_to_use="",
        role=flat(persona.get("role")),
        style=flat(persona.get("communication_style")),
        identity=flat(persona.get("identity")),
        focus="",
        principles=words(persona.get("principles")),
        commands=commands([{str(one.get("trigger") or ""): one.get("description")} for one in listed]),
        dependencies={"workflows": [_inside(str(one["workflow"])) for one in listed if one.get("workflow")]},
        module=module,
        generation=source.generation,
        path=source.path,
    )


# ── workflows ──


def _read_told_workflow(found: Collected, row: Mapping[str, str], path: str) -> None:
    source = found.folder.files.get(_inside(row.get("path", "")))
    if source is None:
        message = f"The manifest names workflow {shown(row.get('name', ''))} at a path that is not there."
        found.deviations.add(path, None, "manifest-path", message, "Run the installer again; it was skipped.")
        return
    if all(one.path != source.path for one in found.workflows):
        found.try_each(source, lambda one: found.workflows.append(workflow_of(found, one, row.get("name", ""), row)))


def _read_untold_workflows(found: Collected, root: str) -> None:
    """Workflows on disk that no manifest names: somebody's own, or an installation without manifests."""
    known = {one.path for one in found.workflows}
    folders = {path.rpartition("/")[0] for path in known}
    for path, source in list(found.folder.files.items()):
        parent, _, name = path.rpartition("/")
        is_main = path.startswith(root + "/") and "/workflows/" in path and _MAIN.fullmatch(name)
        if is_main and path not in known and parent not in folders:
            folders.add(parent)
            found.try_each(source, lambda one: found.workflows.append(workflow_of(found, one, "", {})))


def workflow_of(found: Collected, source: SourceFile, name: str, told: Mapping[str, str]) -> WorkflowDefinition:
    """A v6 workflow; its steps, where they are files or marked, are its stages."""
    text = source.text or ""
    head: dict[str, Any] = {}
    if source.path.endswith((".yaml", ".yml")):
        head = read_mapping(text, source.path, found.deviations)
    elif matter := markdown.front_matter(text):
        head = read_mapping(matter.text, source.path, found.deviations, matter.line)
    name = name or str(head.get("name") or "") or source.path.split("/")[-2]
    title = markdown.title(text, markdown.headings(text)) if source.path.endswith(".md") else ""
    module = told.get("module") or (source.path.split("/")[1] if source.path.count("/") > 1 else "")
    return WorkflowDefinition(
        id=name.lower(),
        name=title or name,
        description=told.get("description") or flat(head.get("description")),
        type="custom",
        project_types=(),
        stages=tuple(read_stages(found, source, _agent_of(found, source.path, name))),
        when_to_use=(),
        handoff_prompts={},
        flow_diagram="",
        module=module,
        generation=source.generation,
        path=source.path,
    )


def _agent_of(found: Collected, path: str, name: str) -> str | None:
    """The one agent whose menu leads to the workflow."""
    keys = ("workflows", "skills")
    agents = [
        one
        for one in found.agents
        if any(word in (one.dependencies.get(key) or ()) for key in keys for word in (path, name))
    ]
    return agents[0].short_id if len(agents) == 1 else None

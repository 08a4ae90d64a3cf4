"""Reads the v6 definitions: manifests, compiled agents and workflows (6.0), and skills (6.1 and later)."""

import csv
import io
import re
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from typing import Any

from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.definitions import read_checklist, read_guide, role_of, stem, words
from bmad_mcp.bmad_files.markdown import fenced_block, first_heading, front_matter
from bmad_mcp.bmad_files.trackers import yaml_of
from bmad_mcp.bmad_files.values import (
    AgentDefinition,
    Command,
    Generation,
    SourceFile,
    StageDefinition,
    WorkflowDefinition,
)
from bmad_mcp.bmad_files.yaml_guard import YamlRefused, load_yaml

SKILL_HOMES = (".claude/skills", ".agents/skills")
_TEXTS = (".md", ".toml", ".yaml", ".yml", ".csv", ".xml", ".txt", ".json")


def read_definitions(found: Collected, root: str, generation: Generation) -> None:
    """Everything that the installation defines, one copy of each."""
    for path in found.folder.walk(root):
        if path.endswith(_TEXTS):
            in_config = "/_config/" in path or "/_cfg/" in path
            found.folder.read(path, "manifest" if in_config else "config" if "config." in path else "data", generation)
    _read_compiled(found, root, generation)
    _read_skills(found, root, generation)


def rows(found: Collected, path: str) -> list[dict[str, str]]:
    """The rows of a CSV manifest that has been read; none when it is not there."""
    file = found.folder.files.get(path)
    if file is None or file.text is None:
        return []
    try:
        return [
            {str(name): value for name, value in row.items() if name is not None and isinstance(value, str)}
            for row in csv.DictReader(io.StringIO(file.text.removeprefix("\ufeff")))
        ]
    except csv.Error as error:
        found.folder.note(path, "csv", f"The manifest cannot be read: {error}.", "Run the installer again.")
        return []


def toml_of(found: Collected, path: str) -> dict[str, Any]:
    """The data of a TOML file; empty, with a deviation, when it cannot be read."""
    if not found.folder.exists(path):
        return {}
    file = found.folder.read(path, "config", "v6")
    if file is None or file.text is None:
        return {}
    try:
        return tomllib.loads(file.text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found.folder.note(path, "toml", f"The TOML cannot be read: {error}.", "Mend that place and import again.")
        return {}


def _config_folder(found: Collected, root: str) -> str:
    return next((f"{root}/{name}" for name in ("_config", "_cfg") if found.folder.exists(f"{root}/{name}")), root)


def _read_compiled(found: Collected, root: str, generation: Generation) -> None:
    """6.0: agents and workflows as files under `_bmad/<module>/`."""
    config = _config_folder(found, root)
    told = {row.get("path", ""): row for row in rows(found, f"{config}/agent-manifest.csv")}
    tasks = {row.get("path", "") for row in rows(found, f"{config}/task-manifest.csv")}
    for path, file in list(found.folder.files.items()):
        parts = path.removeprefix(root + "/").split("/")
        if not path.startswith(root + "/") or len(parts) < 3 or parts[0].startswith("_"):
            continue
        module = parts[0]
        if parts[1] == "agents" and path.endswith(".md") and "<agent" in (file.text or ""):
            if agent := _compiled_agent(found, file, module, told.get(path, {}), generation):
                found.agents.append(agent)
        elif parts[1] == "tasks" and path.endswith((".md", ".xml")) and (not tasks or path in tasks):
            found.templates.append(read_guide(file, module, "task"))
        elif parts[1] == "teams" and path.endswith(".yaml"):
            found.templates.append(read_guide(file, module, "team"))
        elif parts[1] == "workflows" and parts[-1] == "checklist.md":
            found.checklists.append(read_checklist(file, module, f"{parts[-2]}-checklist"))
        elif parts[1] == "workflows" and re.search(r"template[\w-]*\.md$", parts[-1]):
            found.templates.append(read_guide(file, module, "document", f"{parts[-2]}-{stem(path)}"))
    for row in rows(found, f"{config}/workflow-manifest.csv"):
        path = row.get("path", "").replace("{project-root}/", "").lstrip("/")
        workflow_file = found.folder.files.get(path)
        if workflow_file is None:
            found.folder.note(
                path or f"{config}/workflow-manifest.csv",
                "manifest-path",
                f"The manifest names workflow {row.get('name', '')!r} at a path that is not there.",
                "Run the installer again, or leave it: it was skipped.",
            )
            continue
        found.workflows.append(
            _custom_workflow(
                found, workflow_file, row.get("name") or stem(path), row.get("description", ""), row.get("module", "")
            )
        )


def _compiled_agent(
    found: Collected, file: SourceFile, module: str, told: Mapping[str, str], generation: Generation
) -> AgentDefinition | None:
    block = fenced_block(file.text or "", "xml") or ""
    opening = re.search(r"<agent\b([^>]*)>", block or (file.text or ""))
    attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', opening[1])) if opening else {}
    persona = {
        name: (match[1].strip() if (match := re.search(rf"<{name}>(.*?)</{name}>", block, re.DOTALL)) else "")
        for name in ("role", "identity", "communication_style", "principles")
    }
    menu = tuple(
        Command(item[0].split(" ")[0], _unescape(item[1].strip()))
        for item in re.findall(r'<item\s+cmd="([^"]*)"[^>]*>(.*?)</item>', block, re.DOTALL)
    )
    agent_id = stem(file.path).lower()
    short_id = role_of(agent_id)
    aliases = [agent_id, agent_id if agent_id.startswith("bmad-") else f"bmad-agent-{agent_id}"]
    return AgentDefinition(
        id=agent_id,
        short_id=short_id,
        aliases=tuple(dict.fromkeys(name for name in aliases if name != short_id)),
        name=told.get("displayName") or attributes.get("name") or agent_id,
        title=told.get("title") or attributes.get("title") or agent_id,
        icon=told.get("icon") or attributes.get("icon", ""),
        when_to_use=told.get("capabilities") or attributes.get("capabilities", ""),
        role=_unescape(persona["role"]),
        style=_unescape(persona["communication_style"]),
        identity=_unescape(persona["identity"]),
        focus="",
        principles=tuple(line.strip(" -") for line in _unescape(persona["principles"]).split("\n") if line.strip(" -")),
        commands=menu,
        dependencies={},
        module=module,
        generation=generation,
        path=file.path,
    )


def _unescape(text: str) -> str:
    try:
        return "".join(ElementTree.fromstring(f"<x>{text}</x>").itertext())  # noqa: S314 - no entities can be declared
    except ElementTree.ParseError:
        return text


def _custom_workflow(found: Collected, file: SourceFile, name: str, told: str, module: str) -> WorkflowDefinition:
    """A v6 workflow; its step files, in order, are its stages."""
    folder = file.path.rsplit("/", 1)[0] + "/"
    steps = _own_steps(found, folder, name)
    data = yaml_of(found.folder, file) if file.path.endswith((".yaml", ".yml")) else None
    return WorkflowDefinition(
        id=name.lower(),
        name=str(data.get("name") or name) if isinstance(data, dict) else first_heading(file.text or "") or name,
        description=told,
        type="custom",
        project_types=(),
        stages=tuple(
            StageDefinition(
                position, "guidance", step=stem(path), action=first_heading(found.folder.files[path].text or "")
            )
            for position, path in enumerate(steps, start=1)
        ),
        when_to_use=(),
        handoff_prompts={},
        flow_diagram="",
        module=module,
        generation=file.generation,
        path=file.path,
    )


def _own_steps(found: Collected, folder: str, name: str) -> list[str]:
    """The step files of a workflow; several workflows may share a folder, each with its own steps folder."""
    steps = sorted(
        path
        for path in found.folder.files
        if path.startswith(folder) and re.search(r"/step-[\w.-]+\.md$|/[\w-]*steps[\w-]*/[^/]+\.md$", path)
    )
    first = name.split("-")[0]
    own = [path for path in steps if re.search(rf"/({first}-steps|steps-{first[:1]})/", path)]
    return own or steps


def _skill_folders(found: Collected, root: str) -> Iterator[tuple[str, str]]:
    """(folder, module) of each skill, in its canonical copy."""
    homes = [home for home in SKILL_HOMES if found.folder.exists(home)]
    more = sorted(
        str(path.relative_to(found.folder.root)) for path in found.folder.root.glob(".*/skills") if path.is_dir()
    )
    homes += [home for home in more if home not in homes]
    manifest = rows(found, f"{_config_folder(found, root)}/skill-manifest.csv")
    for row in manifest:
        skill = row.get("canonicalId") or row.get("name", "")
        if not re.fullmatch(r"[\w.-]{1,100}", skill):
            continue
        home = next((f"{home}/{skill}" for home in homes if found.folder.exists(f"{home}/{skill}/SKILL.md")), None)
        if home is None:
            home = f"{root}/{row.get('module', '')}/{skill}"
            if not found.folder.exists(f"{home}/SKILL.md"):
                found.folder.note(
                    row.get("path", skill),
                    "skill-missing",
                    f"The skill {skill!r} is in the manifest and in no skills folder.",
                    "Run the installer again, or leave it: it was skipped.",
                )
                continue
        yield home, row.get("module", "")
    if not manifest:
        seen: set[str] = set()
        for home in homes:
            for path in sorted((found.folder.root / home).glob("bmad-*/SKILL.md")):
                if path.parent.name not in seen:
                    seen.add(path.parent.name)
                    yield f"{home}/{path.parent.name}", ""


def _read_skills(found: Collected, root: str, generation: Generation) -> None:
    roster = toml_of(found, f"{root}/config.toml").get("agents", {})
    shims = 0
    for folder, module in _skill_folders(found, root):
        skill = folder.rsplit("/", 1)[-1]
        main = found.folder.read(f"{folder}/SKILL.md", "skill", generation)
        if main is None:
            continue
        head = _front(found, main)
        metadata = head.get("metadata")
        if isinstance(metadata, dict) and metadata.get("lifecycle") == "shim":
            shims += 1
            continue
        for path in found.folder.walk(folder):
            if path.endswith(_TEXTS):
                found.folder.read(path, "skill", generation)
        custom = _layered(found, root, folder, skill)
        told = roster.get(skill) if isinstance(roster, dict) else None
        if "agent" in custom or told or skill.startswith("bmad-agent-"):
            found.agents.append(_skill_agent(main, skill, module, head, custom.get("agent"), told, generation))
        else:
            found.workflows.append(_custom_workflow(found, main, skill, str(head.get("description", "")), module))
            for path, file in list(found.folder.files.items()):
                if path.startswith(folder + "/") and re.search(r"(template[\w.-]*\.md|templates/[^/]+\.md)$", path):
                    found.templates.append(read_guide(file, module, "document", f"{skill}-{stem(path)}"))
                elif path.startswith(folder + "/") and re.search(r"checklist[\w.-]*\.md$", path):
                    found.checklists.append(read_checklist(file, module, f"{skill}-{stem(path)}"))
    if shims:
        found.folder.note(
            f"{root}/_config/skill-manifest.csv",
            "shims",
            f"{shims} deprecated skills that only forward to others were left out.",
            "Nothing to do.",
        )


def _front(found: Collected, file: SourceFile) -> dict[str, Any]:
    matter, _ = front_matter(file.text or "")
    try:
        data = load_yaml(matter) if matter else {}
    except YamlRefused as error:
        found.folder.note(
            file.path, "front-matter", f"The front matter cannot be read: {error.message}.", "Mend it.", error.line
        )
        return {}
    return data if isinstance(data, dict) else {}


def _layered(found: Collected, root: str, folder: str, skill: str) -> dict[str, Any]:
    """The skill's own customisation under the team's under the person's."""
    layers = [f"{folder}/customize.toml", f"{root}/custom/{skill}.toml", f"{root}/custom/{skill}.user.toml"]
    merged: dict[str, Any] = {}
    for path in layers:
        merged = merge(merged, toml_of(found, path))
    return merged


def merge(base: Any, over: Any) -> Any:
    """Scalars: the upper wins. Tables merge. Lists of tables replace by `code` or `id`. Other lists append."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{name: merge(base[name], one) if name in base else one for name, one in over.items()}}
    if isinstance(base, list) and isinstance(over, list):
        key = next(
            (name for name in ("code", "id") if all(isinstance(one, dict) and name in one for one in base + over)), None
        )
        if key is None:
            return base + over
        replaced = {one[key]: one for one in over}
        kept = [replaced.pop(one[key], one) for one in base]
        return kept + list(replaced.values())
    return over


def _skill_agent(
    file: SourceFile,
    skill: str,
    module: str,
    head: Mapping[str, Any],
    custom: Any,
    told: Any,
    generation: Generation,
) -> AgentDefinition:
    own: Mapping[str, Any] = custom if isinstance(custom, dict) else {}
    roster: Mapping[str, Any] = told if isinstance(told, dict) else {}
    short_id = role_of(skill)
    menu = own.get("menu")
    return AgentDefinition(
        id=skill.lower(),
        short_id=short_id,
        aliases=tuple(name for name in (skill.lower(),) if name != short_id),
        name=str(own.get("name") or roster.get("name") or skill),
        title=str(own.get("title") or roster.get("title") or skill),
        icon=str(own.get("icon") or roster.get("icon") or ""),
        when_to_use=str(head.get("description") or roster.get("description") or ""),
        role=str(own.get("role") or ""),
        style=str(own.get("communication_style") or ""),
        identity=str(own.get("identity") or ""),
        focus="",
        principles=words(own.get("principles")),
        commands=tuple(
            Command(str(one.get("code", "")), str(one.get("description", "")))
            for one in (menu if isinstance(menu, list) else [])
            if isinstance(one, dict)
        ),
        dependencies={"skills": [one["skill"] for one in menu if isinstance(one, dict) and "skill" in one]}
        if isinstance(menu, list)
        else {},
        module=module,
        generation=generation,
        path=file.path,
    )

"""Reads the v4 layout: `.bmad-core/`, expansion packs, and the documents where `core-config.yaml` says."""

import fnmatch
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.definitions import read_agent, read_checklist, read_guide, read_template, read_workflow
from bmad_mcp.bmad_files.stories import V4_NAME, V6_NAME, read_epics, read_story, story_key
from bmad_mcp.bmad_files.trackers import read_gate, yaml_of
from bmad_mcp.bmad_files.values import Generation

CORE = ".bmad-core"
_KINDS = {
    "agents": "agent",
    "workflows": "workflow",
    "templates": "template",
    "checklists": "checklist",
    "tasks": "task",
    "data": "data",
    "utils": "data",
    "agent-teams": "team",
}


def packs(found: Collected) -> list[str]:
    """`.bmad-core` and the expansion packs beside it."""
    names = sorted(path.name for path in found.folder.root.glob(".bmad-*") if path.is_dir() and not path.is_symlink())
    return [CORE, *(name for name in names if name != CORE)] if CORE in names else names


def read_definitions(found: Collected, root: str) -> None:
    """Everything that an installation or pack defines."""
    module = root.removeprefix(".bmad-") or "core"
    for path in found.folder.walk(root):
        part = path.removeprefix(root + "/").split("/")[0]
        kind = _KINDS.get(
            part, "manifest" if path.endswith("manifest.yaml") else "config" if "config" in path else "data"
        )
        file = found.folder.read(path, kind, "v4")
        if file is None or "/" not in path.removeprefix(root + "/"):
            continue
        markdown, structured = path.endswith(".md"), path.endswith((".yaml", ".yml"))
        if part == "agents" and markdown:
            if agent := read_agent(found.folder, file, module):
                found.agents.append(agent)
        elif part == "workflows" and structured:
            if workflow := read_workflow(found.folder, file, module):
                found.workflows.append(workflow)
        elif part == "templates" and (structured or markdown):
            if template := read_template(found.folder, file, module):
                found.templates.append(template)
        elif part == "checklists" and markdown:
            found.checklists.append(read_checklist(file, module))
        elif part == "tasks" and markdown:
            found.templates.append(read_guide(file, module, "task"))
        elif part in ("data", "utils") and (structured or markdown):
            found.templates.append(read_guide(file, module, "data"))
        elif part == "agent-teams" and structured:
            found.templates.append(read_guide(file, module, "team"))


def read_config(found: Collected) -> Mapping[str, Any]:
    """`core-config.yaml`, or an empty map, which stands for the defaults."""
    for name in ("core-config.yaml", "core-config.yml"):
        path = f"{CORE}/{name}"
        if found.folder.exists(path) and (file := found.folder.read(path, "config", "v4")):
            data = yaml_of(found.folder, file)
            if isinstance(data, dict):
                return data
    return {}


def _place(found: Collected, config: Mapping[str, Any], default: str, *names: str) -> str:
    """A folder or file that the configuration may move; a place outside the project is refused."""
    value: Any = config
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    text = str(value or default).strip().strip("/").removeprefix("./")
    if ".." in PurePosixPath(text).parts or PurePosixPath(str(value or "")).is_absolute():
        found.folder.note(
            f"{CORE}/core-config.yaml",
            "place-outside",
            f"`{'.'.join(names)}` leads out of the project ({str(value)[:100]!r}); {default} is used.",
            "Give a path inside the project.",
        )
        return default
    return text


def read_documents(found: Collected, generation: Generation) -> None:
    """Stories, epics, gates and documents, where the configuration says or where they usually are."""
    config = read_config(found)
    found.config.update({"v4": dict(config)} if config else {})
    stories = _place(found, config, "docs/stories", "devStoryLocation")
    quality = _place(found, config, "docs/qa", "qa", "qaLocation")
    prd_file = _place(found, config, "docs/prd.md", "prd", "prdFile")
    prd_folder = _place(found, config, "docs/prd", "prd", "prdShardedLocation")
    architecture = _place(found, config, "docs/architecture", "architecture", "architectureShardedLocation")
    architecture_file = _place(found, config, "docs/architecture.md", "architecture", "architectureFile")
    pattern = str((config.get("prd") or {}).get("epicFilePattern") or "epic-{n}*.md") if config else "epic-{n}*.md"
    _read_stories(found, stories, generation)
    _read_epic_shards(found, prd_folder, pattern.replace("{n}", "[0-9]*"), generation)
    if found.folder.exists(prd_file) and (file := found.folder.read(prd_file, "prd", generation)):
        read_epics(file, generation, found.epics)
    _read_gates(found, quality, generation)
    for path in found.folder.walk("docs"):
        if path.endswith((".md", ".yaml", ".yml")) and path not in found.folder.files:
            kind = "document"
            if path == architecture_file or path.startswith(architecture + "/"):
                kind = "architecture"
            elif path.startswith(quality + "/"):
                kind = "assessment"
            elif path.startswith(prd_folder + "/"):
                kind = "prd"
            elif re.search(r"(^|/)(project-)?brief\.md$", path):
                kind = "brief"
            found.folder.read(path, kind, generation)


def _read_stories(found: Collected, folder: str, generation: Generation) -> None:
    for path in found.folder.walk(folder):
        name = path.rsplit("/", 1)[-1]
        if not name.lower().endswith(".md"):
            continue
        match = V4_NAME.match(name) or V6_NAME.match(name)
        file = found.folder.read(path, "story" if match else "document", generation)
        if file is None:
            continue
        if match is None:
            if name.lower() not in ("index.md", "readme.md"):
                found.folder.note(
                    path, "story-name", "The file's name has no story number.", "Name it like 1.2.short-title.md."
                )
            continue
        slug = re.sub(r"[.\s_]+", "-", match[4] or "").strip("-").removesuffix("-story")
        key = story_key(match[1], match[2], match[3])
        found.add_story(read_story(found.folder, file, generation, key, "" if slug == "story" else slug))


def _read_epic_shards(found: Collected, folder: str, pattern: str, generation: Generation) -> None:
    for path in found.folder.walk(folder):
        name = path.rsplit("/", 1)[-1]
        is_shard = fnmatch.fnmatch(name, pattern) or re.match(r"(\d+-)?epic-?\d", name)
        if not (path.endswith(".md") and is_shard and (file := found.folder.read(path, "epics", generation))):
            continue
        if not read_epics(file, generation, found.epics) and file.text is not None:
            found.folder.note(
                path, "epic-heading", "No heading of the form `Epic 1: Title` was found.", "Add one to the file."
            )


def _read_gates(found: Collected, folder: str, generation: Generation) -> None:
    for path in found.folder.walk(f"{folder}/gates"):
        if path.endswith((".yml", ".yaml")) and (file := found.folder.read(path, "gate", generation)):
            gate = read_gate(found.folder, file)
            if gate is None:
                continue
            known = found.gates.get(gate.story_key)
            if known is not None and known.updated >= gate.updated:
                continue
            found.gates[gate.story_key] = gate

"""Reads the v4 layout: `.bmad-core/`, expansion packs, and the documents where `core-config.yaml` says."""

from functools import partial

from bmad_mcp.bmad_files import state
from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.definitions import (
    read_agent,
    read_checklist,
    read_guide,
    read_team,
    read_template,
    read_workflow,
)
from bmad_mcp.bmad_files.places import CORE, V4Places
from bmad_mcp.bmad_files.values import Generation, SourceFile, TemplateKind
from bmad_mcp.bmad_files.yaml_guard import read_mapping

TEXTS = (".md", ".yaml", ".yml", ".csv", ".json", ".txt")
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
_GUIDES: dict[str, TemplateKind] = {"tasks": "task", "data": "data", "utils": "data"}


def packs(found: Collected) -> list[str]:
    """`.bmad-core` and the expansion packs beside it."""
    names = sorted(name for name in found.folder.listing("").folders if name.startswith(".bmad-"))
    return sorted(names, key=lambda name: name != CORE)


def read_definitions(found: Collected, root: str) -> None:
    """Everything that an installation or pack defines."""
    module = root.removeprefix(".bmad-")
    for path in found.folder.walk(root):
        if not path.endswith(TEXTS):
            continue
        part, _, rest = path.removeprefix(root + "/").partition("/")
        kind = _KINDS.get(part, "document") if rest else _top_kind(part)
        source = found.folder.read(path, "v4", kind)
        found.try_each(source, partial(_read_one, found, part, module))


def _top_kind(name: str) -> str:
    if name.endswith("manifest.yaml"):
        return "manifest"
    return "config" if "config" in name else "document"


def _read_one(found: Collected, part: str, module: str, source: SourceFile) -> None:
    if source.text is None:
        return
    if part == "agents" and source.path.endswith(".md"):
        if agent := read_agent(source, module, found.deviations):
            found.agents.append(agent)
    elif part == "workflows":
        if workflow := read_workflow(source, module, found.deviations):
            found.workflows.append(workflow)
    elif part == "templates":
        if template := read_template(source, module, found.deviations):
            found.templates.append(template)
    elif part == "checklists" and source.path.endswith(".md"):
        found.checklists.append(read_checklist(source, module))
    elif part in _GUIDES:
        found.templates.append(read_guide(source, module, _GUIDES[part]))
    elif part == "agent-teams":
        found.templates.append(read_team(source, module, found.deviations))
    elif part == "install-manifest.yaml" and module == "core":
        found.config["v4-version"] = str(read_mapping(source.text, source.path, found.deviations).get("version", ""))


def read_documents(found: Collected, places: V4Places, generation: Generation) -> None:
    """Stories, epics, gates and documents, where the configuration says or where they usually are."""
    state.read_stories(found, places.stories, generation)
    _read_shards(found, places, generation)
    _read_prd(found, places, generation)
    for path in found.folder.walk(f"{places.quality}/gates"):
        if path.endswith((".yml", ".yaml")):
            state.read_gate_file(found, path, generation)
    for folder, kind in ((places.quality, "assessment"), (places.architecture_folder, "architecture")):
        for path in found.folder.walk(folder):
            if path.endswith(TEXTS):
                state.read_document(found, path, generation, kind)
    if real := found.folder.locate(places.architecture_file):
        state.read_document(found, real, generation, "architecture")
    for path in found.folder.walk("docs"):
        if path.endswith((".md", ".yaml", ".yml", "/tickets.toml")):
            state.read_any(found, path, generation)


def _read_shards(found: Collected, places: V4Places, generation: Generation) -> None:
    """The epics among the shards of the requirements first: they are what v4 works from."""
    paths = [path for path in found.folder.walk(places.prd_folder) if path.endswith(".md")]
    told = [path for path in paths if places.epic_pattern.fullmatch(path.rsplit("/", 1)[-1])]
    for path in told:
        if state.read_epics_file(found, path, generation, "epics") == 0:
            message = "No heading of the form `Epic 1: Title` was found."
            found.deviations.add(path, None, "epic-heading", message, "Add one to the file.")
    for path in paths:
        if path not in told:
            state.read_epics_file(found, path, generation, "prd")


def _read_prd(found: Collected, places: V4Places, generation: Generation) -> None:
    if real := found.folder.locate(places.prd_file):
        state.read_epics_file(found, real, generation, "prd")

"""Reads the v6 project state: epics, story files, trackers, specs, retrospectives and memory logs."""

import re
from typing import Any

from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.stories import V6_NAME, read_epics, read_story, story_key
from bmad_mcp.bmad_files.trackers import read_notes, read_tracker, yaml_of
from bmad_mcp.bmad_files.v6 import toml_of
from bmad_mcp.bmad_files.values import Generation

OUTPUT = "_bmad-output"
_TRACKER = re.compile(r"(^|/)sprint-status\.ya?ml$")
_KINDS = (
    (re.compile(r"epic-\d+-retro[\w.-]*\.md$"), "retro"),
    (re.compile(r"epic-\d+-context\.md$"), "context"),
    (re.compile(r"(^|/)epics?(-[\w.-]+)?\.md$|/epics/[^/]+\.md$"), "epics"),
    (re.compile(r"(^|/)spec-[\w.-]+\.md$|/SPEC\.md$|(^|/)stories\.ya?ml$"), "spec"),
    (re.compile(r"deferred-work\.md$"), "deferred-work"),
    (re.compile(r"(^|/)prd[\w.-]*\.md$|/prds/"), "prd"),
    (re.compile(r"architecture"), "architecture"),
    (re.compile(r"brief"), "brief"),
    (re.compile(r"ux-design|DESIGN\.md$|EXPERIENCE\.md$"), "ux"),
)


def output_folders(found: Collected, root: str) -> list[str]:
    """Where the project state is: as configured, with placeholders put in, and the folder that unresolved ones left."""
    config = toml_of(found, f"{root}/config.toml")
    for module in ("core", "bmm"):
        path = f"{root}/{module}/config.yaml"
        if found.folder.exists(path) and (file := found.folder.read(path, "config", "v6")):
            data = yaml_of(found.folder, file)
            if isinstance(data, dict):
                config = {**config, "core": {**data, **_table(config, "core")}}
    core, modules = _table(config, "core"), _table(config, "modules")
    paths = {**core, **_table(modules, "bmm")}
    found.config["v6"] = {name: value for name, value in paths.items() if isinstance(value, str | bool | int)}
    output = _resolved(found, str(core.get("output_folder") or OUTPUT), OUTPUT)
    places = [output]
    for name in ("planning_artifacts", "implementation_artifacts", "sprint_artifacts", "project_knowledge"):
        if paths.get(name):
            places.append(_resolved(found, str(paths[name]), output))
    if found.folder.exists("{output_folder}"):
        found.folder.note(
            "{output_folder}",
            "placeholder-folder",
            "An installer left a folder with the name of a placeholder; it was read as well.",
            f"Move what is in it to {output}.",
        )
        places.append("{output_folder}")
    top: list[str] = []
    for place in sorted(dict.fromkeys([*places, OUTPUT])):
        if place and found.folder.exists(place) and not any(place == one or place.startswith(one + "/") for one in top):
            top.append(place)
    return top


def _table(data: Any, name: str) -> dict[str, Any]:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def _resolved(found: Collected, text: str, output: str) -> str:
    path = text.replace("{project-root}", "").replace("{output_folder}", output).strip("/").removeprefix("./")
    if "{" in path or ".." in path.split("/") or re.match(r"[A-Za-z]:|~", path):
        found.folder.note(
            "_bmad/config.toml",
            "placeholder",
            f"The path {text[:100]!r} cannot be resolved inside the project; {OUTPUT} is used.",
            "Run the installer again with an output folder.",
        )
        return OUTPUT
    return path


def read_state(found: Collected, places: list[str], generation: Generation) -> None:
    """Everything in the output folders."""
    for place in places:
        for path in found.folder.walk(place):
            _read_one(found, path, generation)
    _read_old_status(found, places, generation)


def _read_one(found: Collected, path: str, generation: Generation) -> None:
    name = path.rsplit("/", 1)[-1]
    if path in found.folder.files:
        return
    if _TRACKER.search(path):
        if (file := found.folder.read(path, "tracker", generation)) and (tracker := read_tracker(found.folder, file)):
            found.trackers.append(tracker)
    elif name == ".memlog.md":
        if file := found.folder.read(path, "memlog", generation):
            found.notes += read_notes(found.folder, file)
    elif (match := V6_NAME.match(name)) and "/docs/" not in f"/{path}":
        if file := found.folder.read(path, "story", generation):
            key = story_key(match[1], match[2], match[3])
            found.add_story(read_story(found.folder, file, generation, key, match[4] or ""))
    elif name.endswith((".md", ".yaml", ".yml", ".toml", ".csv")):
        kind = next((kind for pattern, kind in _KINDS if pattern.search(path)), "document")
        file = found.folder.read(path, kind, generation)
        if (
            file is not None
            and kind == "epics"
            and not read_epics(file, generation, found.epics)
            and file.text is not None
        ):
            found.folder.note(
                path, "epic-heading", "No heading of the form `Epic 1: Title` was found.", "Add one to the file."
            )


def _read_old_status(found: Collected, places: list[str], generation: Generation) -> None:
    """Trackers that real projects keep elsewhere: beside the documents, or at the root."""
    for path in ("sprint-status.yaml", "docs/sprint-status.yaml", "docs/sprint-artifacts/sprint-status.yaml"):
        inside = any(path.startswith(place + "/") for place in places)
        if not inside and found.folder.exists(path):
            _read_one(found, path, generation)

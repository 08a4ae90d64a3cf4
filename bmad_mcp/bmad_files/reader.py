"""Turns a folder into a BmadProject: finds the generations, reads each, and puts what belongs together together."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from bmad_mcp.artifacts.places import SKIPPED
from bmad_mcp.bmad_files import skills, state, v4, v6
from bmad_mcp.bmad_files.assembly import assemble
from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.deviations import Deviations
from bmad_mcp.bmad_files.folder import Folder
from bmad_mcp.bmad_files.places import V4Places, V6Places, v4_places, v6_places
from bmad_mcp.bmad_files.stories import StoryName, read_story, story_name
from bmad_mcp.bmad_files.values import BmadProject, Generation, SourceFile, TemplateDefinition
from bmad_mcp.bmad_files.yaml_guard import read_mapping
from bmad_mcp.progress import Progress, untold
from bmad_mcp.undisturbed import undisturbed

NESTED_DEPTH = 4
NESTED_FOLDERS = 3_000
V6_ROOTS: tuple[tuple[str, Generation], ...] = (("_bmad", "v6"), ("bmad", "v6-alpha"), (".bmad", "v6-alpha"))
_SPEC = re.compile(r"spec-([0-9]{1,3}-[0-9]{1,3}[a-z]?-[^/]+)\.md")


def read_project(root: Path, *, progress: Progress | None = None) -> BmadProject:
    """Read a project folder; nothing in it makes this fail, what is odd becomes a deviation.

    Raises NotFound when there is no such folder, Invalid when it is a file. `progress` gets a line for each part.
    """
    tell = progress or untold
    folder = Folder(root, Deviations(), tell)
    try:
        with undisturbed():
            return _read(Collected(folder, tell))
    finally:
        folder.close()


def _read(found: Collected) -> BmadProject:
    v6_root, v6_generation = _v6_root(found)
    packs = v4.packs(found)
    found.generations += ["v4"] if packs else []
    found.generations += [v6_generation] if v6_root else []
    for name in packs:
        found.progress(f"reading {name}")
        v4.read_definitions(found, name)
    places = v4_places(found)
    modern = v6_places(found, v6_root, v6_generation)
    if v6_root:
        _read_v6_definitions(found, v6_root, v6_generation)
    parts = [
        partial(_read_v6_state, found, modern, v6_generation if v6_root else "project"),
        partial(_read_docs, found, places, "v4" if packs else v6_generation if v6_root else "project"),
    ]
    # Both may look into docs/; the older one made it.
    for read in reversed(parts) if packs else parts:
        read()
    _read_trackers_elsewhere(found, v6_generation if v6_root else "project")
    _read_nested(found)
    return _project(found)


def _read_docs(found: Collected, places: V4Places, generation: Generation) -> None:
    found.progress("reading docs")
    v4.read_documents(found, places, generation)


def _project(found: Collected) -> BmadProject:
    epics, stories = assemble(found)
    if not found.generations and (stories or epics or found.trackers or found.documents):
        found.generations.append("project")
    if not found.generations:
        message = "There is no BMad installation and no story, epic or tracker in this folder."
        mend = "Give the project's root: the folder that holds .bmad-core, _bmad or docs."
        found.deviations.add(".", None, "nothing-found", message, mend)
    name = next((str(one.meta["project"]) for one in found.trackers if one.meta.get("project")), "")
    return BmadProject(
        name=found.name or name or found.folder.root.name,
        root_name=found.folder.root.name,
        generations=tuple(found.generations),
        config=found.config,
        agents=tuple(found.agents),
        workflows=tuple(found.workflows),
        templates=tuple(_each_once(found)),
        checklists=tuple(found.checklists),
        epics=epics,
        stories=stories,
        trackers=tuple(found.trackers),
        gates=tuple(found.gates),
        notes=tuple(found.notes),
        files=tuple(found.folder.files.values()),
        deviations=found.deviations.all(),
        documents=tuple(found.documents),
    )


def _each_once(found: Collected) -> list[TemplateDefinition]:
    """The templates and guides without the copies that packs bring along."""
    kept: dict[tuple[str, str, str], TemplateDefinition] = {}
    for one in found.templates:
        kept.setdefault((one.kind, one.id, found.folder.files[one.path].sha256), one)
    return list(kept.values())


# ── v6 ──


def _v6_root(found: Collected) -> tuple[str, Generation]:
    folders = found.folder.listing("").folders
    for name, generation in V6_ROOTS:
        root = folders.get(name)
        # Any folder may be called bmad; an installation has its manifests.
        if root and (generation == "v6" or any(found.folder.is_folder(f"{root}/{one}") for one in ("_cfg", "_config"))):
            return root, generation
    return "", "v6"


def _read_v6_definitions(found: Collected, root: str, generation: Generation) -> None:
    found.progress(f"reading {root}")
    v6.read_definitions(found, root, generation)
    found.progress("reading skills")
    skills.read_skills(found, root, generation)
    path = f"{v6.config_folder(found, root)}/manifest.yaml"
    if source := found.folder.files.get(path):
        installed = read_mapping(source.text, path, found.deviations).get("installation")
        found.config["v6-version"] = str(installed.get("version", "")) if isinstance(installed, dict) else ""


def _read_v6_state(found: Collected, places: V6Places, generation: Generation) -> None:
    for folder in places.folders:
        found.progress(f"reading {folder}")
        for path in found.folder.walk(folder):
            name = path.rsplit("/", 1)[-1]
            if match := _SPEC.fullmatch(name):
                _read_spec(found, path, story_name(match[1] + ".md"), generation)
            state.read_any(found, path, generation)
    for tracker in list(found.trackers):
        location = str(tracker.meta.get("story_location") or "").replace("{project-root}/", "").strip("/")
        if location and "{" not in location and ".." not in location and found.folder.is_folder(location):
            for path in found.folder.walk(location):
                state.read_any(found, path, generation)
    if places.knowledge and generation != "project":
        for path in found.folder.walk(places.knowledge):
            if path.endswith(".md"):
                state.read_any(found, path, generation)


def _read_spec(found: Collected, path: str, name: StoryName | None, generation: Generation) -> None:
    """A build spec whose name begins with a story's number is what that story is built from."""
    source = found.folder.read(path, generation, "spec")
    if source is None or source.text is None or name is None:
        return

    def parse(source: SourceFile) -> None:
        story = read_story(source, name, generation, found.deviations)
        found.stories.append(replace(story, extra={**story.extra, "spec": path}))

    found.try_each(source, parse)


# ── elsewhere ──


def _read_trackers_elsewhere(found: Collected, generation: Generation) -> None:
    """Trackers that real projects keep at the root or beside the documents; and v7's tree of tickets."""
    for path in ("sprint-status.yaml", "sprint-status.yml", "docs/sprint-artifacts/sprint-status.yaml"):
        if real := found.folder.locate(path):
            state.read_tracker_file(found, real, generation)
            # The root may be the folder of stories itself.
            for beside in found.folder.listing(real.rpartition("/")[0]).files.values():
                if beside.endswith(".md") and (story_name(beside) or beside == "epics.md"):
                    state.read_any(found, beside, generation)
    for name, real in found.folder.listing("").folders.items():
        if name.startswith("initiative-"):
            for path in found.folder.walk(real):
                if path.endswith((".toml", ".md")):
                    state.read_any(found, path, "v7")


def _read_nested(found: Collected) -> None:
    """Projects in sub-folders: their trackers are shown and not mixed in, for they number stories on their own."""
    queue, met = [""], 0
    while queue and met < NESTED_FOLDERS:
        folder = queue.pop(0)
        listing = found.folder.glance(folder)
        met += 1
        if folder and any(name in listing for name in ("_bmad", ".bmad-core", "_bmad-output")):
            _tell_nested(found, folder)
            continue
        for name in listing:
            path = f"{folder}/{name}" if folder else name
            is_ours = not folder and name in ("_bmad", "_bmad-output", "bmad", "docs", "{output_folder}")
            if not (name.startswith(".") or name in SKIPPED or is_ours or path.count("/") >= NESTED_DEPTH):
                queue.append(path)


def _tell_nested(found: Collected, folder: str) -> None:
    message = "Here is a BMad project of its own; its stories were not mixed with those of this one."
    found.deviations.add(folder, None, "nested-project", message, f"Import {folder} on its own.")
    for place in ("implementation-artifacts", "planning-artifacts"):
        if real := found.folder.locate(f"{folder}/_bmad-output/{place}/sprint-status.yaml"):
            state.read_tracker_file(found, real, "v6", nested=True)

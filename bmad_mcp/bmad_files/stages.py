"""The stages of a v6 workflow: its step files, or the steps marked in its instructions."""

import re
from collections.abc import Iterator

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.definitions import flat, stem
from bmad_mcp.bmad_files.deviations import Deviations
from bmad_mcp.bmad_files.values import SourceFile, StageDefinition, StageKind
from bmad_mcp.bmad_files.yaml_guard import read_mapping

_STEP_FILE = re.compile(r"step-(?:[a-z]-)?([0-9]{1,4})([a-z]?)(?:-[^/]*)?\.md")
_STEP_TAG = re.compile(r'<step\s[^<>]{0,200}?n="([^"]{1,20})"([^<>]{0,1000})>')
_GOAL = re.compile(r'(?:goal|title)="([^"]{1,500})"')


def read_stages(found: Collected, source: SourceFile, agent: str | None) -> Iterator[StageDefinition]:
    """The steps in order; `agent` is whose they are, if one is known. Nothing when there are none."""
    kind: StageKind = "agent" if agent else "guidance"
    for position, (step, action) in enumerate(_steps(found, source), start=1):
        yield StageDefinition(position, kind, step=step, agent=agent, action=action or None)


def _steps(found: Collected, source: SourceFile) -> list[tuple[str, str]]:
    home = source.path.rpartition("/")[0]
    folders = [home, *found.folder.listing(home).folders.values()]
    told = {folder: _step_files(found, folder) for folder in folders}
    having = [folder for folder in folders if told[folder]]
    if having:
        return [(stem(path), _goal_of(found, path, source)) for path in told[_own(having, source.text or "", home)]]
    for name in ("instructions.md", "instructions.xml", "workflow.xml"):
        if path := found.folder.listing(home).files.get(name):
            marked = found.folder.read(path, source.generation, "step")
            if steps := _marked(marked.text or "" if marked else ""):
                return steps
    return _marked(source.text or "")


def _own(folders: list[str], text: str, home: str) -> str:
    """Several workflows may share a folder, each with its own folder of steps: the one that the text names first."""
    places = {folder: text.find(f"{folder.removeprefix(home + '/')}/") for folder in folders if folder != home}
    named = {folder: at for folder, at in places.items() if at >= 0}
    return min(named, key=lambda folder: named[folder]) if named else folders[0]


def _step_files(found: Collected, folder: str) -> list[str]:
    files = found.folder.listing(folder).files
    steps = [(int(match[1]), match[2], path) for name, path in files.items() if (match := _STEP_FILE.fullmatch(name))]
    return [path for _, _, path in sorted(steps)]


def _goal_of(found: Collected, path: str, source: SourceFile) -> str:
    """What a step says that it is for."""
    step = found.folder.read(path, source.generation, "step")
    text = step.text or "" if step else ""
    if matter := markdown.front_matter(text):
        # A step's front matter is often not YAML; that is not worth a deviation.
        told = flat(read_mapping(matter.text, path, Deviations()).get("description"))
        if told:
            return told
    return markdown.title(text, markdown.headings(text))


def _marked(text: str) -> list[tuple[str, str]]:
    """Steps of the form `<step n="1" goal="…">`."""
    found = []
    for match in _STEP_TAG.finditer(text):
        goal = _GOAL.search(match[0])
        found.append((f"step-{match[1]}", goal[1] if goal else ""))
    return found

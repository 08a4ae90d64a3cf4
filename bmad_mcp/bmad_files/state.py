"""Reads the files of a project's own making, wherever they are: stories, epics, trackers, gates and documents."""

import re
from typing import Any

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.definitions import stem
from bmad_mcp.bmad_files.deviations import shown
from bmad_mcp.bmad_files.documents import TICKETS, deferred_items, is_of_v7, kind_of, log_head, story_list, ticket_items
from bmad_mcp.bmad_files.epics import read_epics
from bmad_mcp.bmad_files.stories import StoryName, read_story, story_name
from bmad_mcp.bmad_files.trackers import read_gate, read_notes, read_tracker
from bmad_mcp.bmad_files.values import DocumentValue, Generation, SourceFile
from bmad_mcp.bmad_files.yaml_guard import read_mapping

TRACKER = re.compile(r"(?:.*/)?sprint-status[\w.-]*\.ya?ml", re.IGNORECASE)
DOCUMENTS = (".md", ".yaml", ".yml", ".toml", ".csv")
_INDEX = ("index.md", "readme.md")


def read_stories(found: Collected, folder: str, generation: Generation) -> None:
    """The story files of a folder; what has no number in its name is a document."""
    for path in found.folder.walk(folder):
        if TRACKER.fullmatch(path):
            read_tracker_file(found, path, generation)
        elif path.lower().endswith(".md"):
            name = story_name(path)
            if name is None and path.rsplit("/", 1)[-1].lower() not in _INDEX:
                message = "The file's name has no story number; it is kept as a document."
                found.deviations.add(path, None, "story-name", message, "Name it like 1.2.short-title.md.")
            if name is None:
                read_document(found, path, generation)
            else:
                _read_story_file(found, path, name, _own(found, name, generation))


def _own(found: Collected, name: StoryName, generation: Generation) -> Generation:
    """A file named the v6 way is of the v6 installation, wherever it lies."""
    if name.is_v6:
        return next((one for one in found.generations if one.startswith("v6")), generation)
    return "v4" if "v4" in found.generations else generation


def _read_story_file(found: Collected, path: str, name: StoryName, generation: Generation) -> None:
    if path in found.folder.files:
        return
    source = found.folder.read(path, generation, "story")

    def parse(source: SourceFile) -> None:
        found.stories.append(read_story(source, name, generation, found.deviations))

    found.try_each(source, parse)


def read_epics_file(found: Collected, path: str, generation: Generation, kind: str) -> int:
    """The epics of a document; how many there are."""
    if path in found.folder.files:
        return -1
    source = found.folder.read(path, generation, kind)
    if source is None or source.text is None:
        return -1
    before = len(found.epics)
    found.try_each(source, lambda one: found.epics.extend(read_epics(one, generation, found.deviations)))
    found.try_each(source, lambda one: add_document(found, one, kind))
    return len(found.epics) - before


def read_tracker_file(found: Collected, path: str, generation: Generation, *, nested: bool = False) -> None:
    """A tracker; one of a project in a sub-folder is kept apart."""
    if path in found.folder.files:
        return

    def parse(source: SourceFile) -> None:
        if (tracker := read_tracker(source, found.deviations, nested=nested)) is not None:
            found.trackers.append(tracker)

    found.try_each(found.folder.read(path, generation, "tracker"), parse)


def read_gate_file(found: Collected, path: str, generation: Generation) -> None:
    """A quality gate."""
    if path in found.folder.files:
        return

    def parse(source: SourceFile) -> None:
        if (gate := read_gate(source, found.deviations)) is not None:
            found.gates.append(gate)

    found.try_each(found.folder.read(path, generation, "gate"), parse)


def read_document(found: Collected, path: str, generation: Generation, kind: str = "document") -> None:
    """A document with its front matter and what it lists."""
    if path not in found.folder.files:
        source = found.folder.read(path, generation, kind)
        found.try_each(source, lambda one: add_document(found, one, kind))


def add_document(found: Collected, source: SourceFile, kind: str) -> None:
    text = source.text
    if text is None:
        return
    meta: dict[str, Any] = {}
    items: tuple[dict[str, Any], ...] = ()
    title = ""
    if source.path.endswith(".md"):
        matter = markdown.front_matter(text)
        if matter and kind == "memlog":
            meta = log_head(matter.text)
        elif matter:
            meta = read_mapping(matter.text, source.path, found.deviations, matter.line)
        title = markdown.title(text, markdown.headings(text, matter.body if matter else 0))
        if kind == "deferred-work":
            items = tuple(deferred_items(text))
    elif kind == "stories":
        items = story_list(source, found.deviations)
    elif kind == "ticket":
        items = ticket_items(source, found.deviations)
    title = str(meta.get("title") or title or stem(source.path))[:500]
    found.documents.append(DocumentValue(kind, title, source.path, source.generation, meta, items))
    if kind == "retro" and meta.get("verdict") not in (None, "accepted", "accepted-with-open-items", "rejected"):
        message = f"The verdict {shown(meta['verdict'])} is not known."
        mend = "Use accepted, accepted-with-open-items or rejected."
        found.deviations.add(source.path, 1, "retro-verdict", message, mend)


def read_any(found: Collected, path: str, generation: Generation) -> None:
    """A file of an output folder, by what its name says."""
    if path in found.folder.files:
        return
    name = path.rsplit("/", 1)[-1]
    if is_of_v7(path):
        kind = kind_of(path)
        # The document of an epic has no heading of v6's form.
        read_document(found, path, "v7", "ticket" if kind == "epics" else kind)
        if name == TICKETS and "v7" not in found.generations:
            found.generations.append("v7")
    elif TRACKER.fullmatch(path):
        read_tracker_file(found, path, generation)
    elif name == ".memlog.md":
        source = found.folder.read(path, generation, "memlog")
        found.try_each(source, lambda one: found.notes.extend(read_notes(one)))
        found.try_each(source, lambda one: add_document(found, one, "memlog"))
    elif "/gates/" in path and path.endswith((".yml", ".yaml")):
        read_gate_file(found, path, generation)
    elif path.endswith(".md") and _is_story_place(path) and (story := story_name(path)):
        _read_story_file(found, path, story, _own(found, story, generation))
    elif path.endswith(DOCUMENTS):
        kind = kind_of(path)
        if kind not in ("epics", "prd"):
            read_document(found, path, generation, kind)
        elif read_epics_file(found, path, generation, kind) == 0 and kind == "epics":
            message = "No heading of the form `Epic 1: Title` was found."
            found.deviations.add(path, None, "epic-heading", message, "Add one to the file.")


def _is_story_place(path: str) -> bool:
    """A story of a spec's own list has a number of its own there, not of an epic."""
    return "/specs/" not in path and "/epics/" not in path and "/research/" not in path

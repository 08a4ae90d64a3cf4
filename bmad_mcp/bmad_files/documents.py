"""What a document of a project is, by its name, and what the lists among them say."""

import re
from collections.abc import Iterator
from typing import Any

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.deviations import Deviations, shown
from bmad_mcp.bmad_files.values import SourceFile
from bmad_mcp.bmad_files.yaml_guard import read_toml, read_yaml

# The first that fits says what it is.
_KINDS = (
    (
        "ticket",
        r"(?:.*/)?tickets\.toml|.*/epic-[^/]+/[^/]*ticket[^/]*\.md"
        r"|(?:.*/)?initiative-[^/]+/(?:.*/)?(?:epic|story|bug|spike|task|ticket)-[^/]*\.md",
    ),
    ("retro", r"(?:.*/)?(?:epic-\d+-retro[\w.-]*|RETROSPECTIVE|[\w.-]*retrospective[\w.-]*)\.md"),
    ("readiness", r"(?:.*/)?[\w-]*readiness[\w-]*\.md"),
    ("context", r"(?:.*/)?(?:epic-\d+-context|project-context)\.md"),
    ("stories", r"(?:.*/)?stories\.ya?ml"),
    ("spec", r"(?:.*/)?(?:spec-[^/]+|SPEC|tech-spec[^/]*)\.md|.*/specs/[^/]+/stories/[^/]+\.md"),
    ("deferred-work", r"(?:.*/)?deferred-work\.md"),
    ("epics", r"(?:.*/)?epics?(?:-[^/]*)?\.md|.*/epics/[^/]+\.md|(?:.*/)?[\w-]*-epics?\.md"),
    ("prd", r"(?:.*/)?prd[^/]*\.md|.*/prds?/.*\.md"),
    ("architecture", r".*architecture.*"),
    ("brief", r"(?:.*/)?[\w-]*brief[\w-]*\.md|.*/briefs/.*"),
    ("ux", r"(?:.*/)?(?:[\w-]*ux-design[\w-]*|DESIGN|EXPERIENCE|front-end-spec)\.md|.*/ux-designs/.*"),
    ("research", r".*/research/.*|(?:.*/)?[\w-]*research[\w-]*\.md"),
    ("workflow-status", r"(?:.*/)?[\w-]*workflow-status[\w.-]*"),
)
TICKETS = "tickets.toml"
_OF_INITIATIVE = re.compile(r"(?:.*/)?initiative-[^/]+/.+\.(?:toml|md)")
KINDS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _KINDS)
_FIELD = re.compile(r"(-[ \t]+|[ \t]{2,})([a-z_]{1,40}):[ \t]*(.*)")


def is_of_v7(path: str) -> bool:
    """Whether a file lies in an initiative of v7, or is a list of tickets elsewhere."""
    return path.rsplit("/", 1)[-1] == TICKETS or _OF_INITIATIVE.fullmatch(path) is not None


def kind_of(path: str) -> str:
    """The kind of a document, by its path."""
    return next((kind for kind, pattern in KINDS if pattern.fullmatch(path)), "document")


def log_head(text: str) -> dict[str, Any]:
    """The head of a memory log: what stands before and behind the first colon of each line, which is no YAML."""
    pairs = (line.partition(":") for line in text.split("\n") if ":" in line)
    return {name.strip(): told.strip() for name, _, told in pairs}


def deferred_items(text: str) -> Iterator[dict[str, Any]]:
    """The entries of `deferred-work.md`: fields under a bullet, or a bullet with a text."""
    entry: dict[str, Any] = {}
    for line in markdown.prose(text):
        match = _FIELD.fullmatch(line.text) if len(line.text) <= markdown.LINE_LIMIT else None
        if line.text.startswith(("- ", "* ")):
            if entry:
                yield entry
            entry = {"line": line.number}
            if match:
                entry[match[2]] = match[3].strip().strip("`")
            else:
                entry["summary"] = line.text[2:].strip()
        elif match and entry:
            entry[match[2]] = match[3].strip().strip("`")
        elif entry and line.text.startswith(" ") and line.text.strip():
            last = list(entry)[-1]
            entry[last] = f"{entry[last]} {line.text.strip()}" if last != "line" else entry[last]
        elif line.text.startswith("#") and entry:
            yield entry
            entry = {}
    if entry:
        yield entry


def story_list(source: SourceFile, deviations: Deviations) -> tuple[dict[str, Any], ...]:
    """The entries of a spec's `stories.yaml`, in the order they are to be built."""
    loaded = read_yaml(source, deviations)
    if loaded is None or loaded.value is None:
        return ()
    if not isinstance(loaded.value, list):
        message = "The story list is not a list."
        deviations.add(source.path, 1, "stories-shape", message, 'Begin each story with `- id: "1"`.')
        return ()
    entries = tuple(one for one in loaded.value if isinstance(one, dict))
    ids: list[str] = []
    for one in entries:
        own = str(one.get("id") or "")
        problem = ""
        if not own or not one.get("title"):
            problem = "An entry has no `id` or no `title`."
        elif not isinstance(one["id"], str):
            problem = f"The id {own} is a number; it must be a text in quotes."
        elif any(own == other or own.startswith(other + "-") or other.startswith(own + "-") for other in ids):
            problem = f"The id {shown(own)} is there twice, or begins like another one."
        elif "status" in one:
            problem = f"Story {shown(own)} has a status; its spec file tells that."
        if problem:
            deviations.add(source.path, None, "stories-entry", problem, "Mend the entry; it is kept as it is.")
        ids.append(own)
    return entries


def ticket_items(source: SourceFile, deviations: Deviations) -> tuple[dict[str, Any], ...]:
    """The epics and entries of a v7 `tickets.toml`, each with the table it stands in."""
    data = read_toml(source, deviations)
    return tuple(
        {"table": name, **one}
        for name in ("epic", "entry")
        for one in (data[name] if isinstance(data.get(name), list) else [])
        if isinstance(one, dict)
    )

"""Where new files of a project belong and how they are named: as its other files are; pure."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bmad_mcp.bmad_files.epics import slug
from bmad_mcp.bmad_files.places import OUTPUT
from bmad_mcp.bmad_files.statuses import story_status
from bmad_mcp.bmad_files.stories import story_name
from bmad_mcp.bmad_files.values import BmadProject, StoryValue, TrackerValue
from bmad_mcp.lifecycles import StoryStatus

Style = Literal["v4", "v6"]
# What lies here is obeyed: by assistants, by git, by whoever builds the project. No story belongs here.
TOOL_FOLDERS = frozenset(
    {
        *(".git", ".hg", ".svn", ".github", ".gitlab", ".circleci", ".husky", ".vscode", ".idea", ".devcontainer"),
        *(".claude", ".claude-plugin", ".cursor", ".gemini", ".codex", ".windsurf", ".clinerules", ".roo", ".kiro"),
        *(".agents", ".agent", ".opencode", ".qwen", ".continue", ".kilocode", ".augment", ".junie", ".trae"),
    }
)
PLACEHOLDER = re.compile(r"\{\{?([\w.-]{1,60})\}?\}")

_V4_WORDS = {
    StoryStatus.DRAFT: "Draft",
    StoryStatus.READY: "Approved",
    StoryStatus.IN_PROGRESS: "InProgress",
    StoryStatus.REVIEW: "Review",
    StoryStatus.DONE: "Done",
    StoryStatus.CANCELLED: "Cancelled",
}
TRACKER_WORDS = {
    StoryStatus.DRAFT: "backlog",
    StoryStatus.READY: "ready-for-dev",
    StoryStatus.IN_PROGRESS: "in-progress",
    StoryStatus.REVIEW: "review",
    StoryStatus.DONE: "done",
}
_V6_WORDS = TRACKER_WORDS | {StoryStatus.CANCELLED: "cancelled"}
_SPEC_WORDS = _V6_WORDS | {StoryStatus.DRAFT: "draft", StoryStatus.REVIEW: "in-review"}
EPIC_WORDS = {
    StoryStatus.DRAFT: "backlog",
    StoryStatus.READY: "backlog",
    StoryStatus.IN_PROGRESS: "in-progress",
    StoryStatus.REVIEW: "in-progress",
    StoryStatus.DONE: "done",
}


@dataclass(frozen=True, slots=True)
class Targets:
    """The style of a project's own files, and the folders that new ones go to.

    `epics_file` is the document that tells the epics, None where each has a file of its own below `epics_folder`.
    """

    style: Style
    stories: str
    gates: str
    results: str
    epics_folder: str
    epics_file: str | None
    tracker: TrackerValue | None
    names_by_title: bool

    def story_path(self, key: str, title: str) -> str:
        """The path of a new story's file."""
        epic, _, number = key.partition(".")
        if self.style == "v6":
            return f"{self.stories}/{tracker_key(key, title)}.md"
        path = f"{self.stories}/{epic}.{number}.{slug(title) if self.names_by_title else 'story'}.md"
        name = story_name(path)
        # A title that begins with a number would make it a part of the story: 1.2.3-steps.md is story 1.2c.
        return path if name is not None and name.key == key else f"{self.stories}/{epic}.{number}.story.md"

    def gate_path(self, key: str, title: str) -> str:
        """The path of a new gate's file."""
        return f"{self.gates}/{key}-{slug(title)}.yml"

    def epic_path(self, key: str, title: str) -> str:
        """The path of a new epic's own file."""
        return f"{self.epics_folder}/epic-{key}-{slug(title)}.md"


def tracker_key(key: str, title: str) -> str:
    """The key of a story in a v6 tracker."""
    return f"{key.replace('.', '-')}-{slug(title)}"


def targets_of(project: BmadProject) -> Targets:
    """What the project's own files and its configuration say."""
    own = [story for story in project.stories if story.path and not story.extra.get("spec")]
    trackers = own_trackers(project)
    style = _style(project, own, trackers)
    paths = [story.path or "" for story in own if _is_v6(story) == (style == "v6")]
    v4, output = _table(project.config, "v4"), _output(project.config)
    epics = Counter(epic.path for epic in project.epics if epic.path)
    if style == "v6":
        building = _implementation(project.config, output)
        home = trackers[0].path.rpartition("/")[0] if trackers else building
        stories = _usual_folder(paths) or _told_location(trackers, output) or home or building
        planning = _place(_table(project.config, "v6"), "planning_artifacts", output) or f"{output}/planning-artifacts"
        return Targets(
            style=style,
            stories=stories,
            gates=_usual_folder(one.path for one in project.gates) or f"{stories}/gates",
            results=f"{stories}/checklists",
            epics_folder=_usual_folder(epics) or planning,
            epics_file=_epics_file(epics, f"{planning}/epics.md"),
            tracker=trackers[0] if trackers else None,
            names_by_title=True,
        )
    quality = _text(_table(v4, "qa").get("qaLocation")) or "docs/qa"
    shards = _text(_table(v4, "prd").get("prdShardedLocation")) or "docs/prd"
    titled = [path for path in paths if not path.endswith(".story.md")]
    return Targets(
        style=style,
        stories=_usual_folder(paths) or _text(v4.get("devStoryLocation")) or "docs/stories",
        gates=_usual_folder(one.path for one in project.gates) or f"{quality}/gates",
        results=f"{quality}/checklists",
        epics_folder=_usual_folder(epics) or shards,
        epics_file=_epics_file(epics, None),
        tracker=trackers[0] if trackers else None,
        names_by_title=not paths or len(titled) * 2 >= len(paths),
    )


def own_trackers(project: BmadProject) -> list[TrackerValue]:
    """The project's own trackers, the one that counts first."""
    own = [one for one in project.trackers if not one.nested]
    return sorted(own, key=lambda one: ("implementation" not in one.path, one.path.count("/"), one.path))


def _style(project: BmadProject, own: list[StoryValue], trackers: list[TrackerValue]) -> Style:
    v6 = sum(map(_is_v6, own))
    if own:
        return "v6" if v6 * 2 > len(own) else "v4"
    if trackers or ("v4" not in project.generations and any(one.startswith("v6") for one in project.generations)):
        return "v6"
    return "v4"


def _is_v6(story: StoryValue) -> bool:
    name = story_name(story.path or "")
    return name is not None and name.is_v6


def _usual_folder(paths: Iterable[str]) -> str:
    """The folder in which most of the files are."""
    counted = Counter(path.rpartition("/")[0] for path in paths)
    return counted.most_common(1)[0][0] if counted else ""


def _epics_file(epics: Mapping[str, int], usual: str | None) -> str | None:
    """The one document that tells several epics; None where they stand in files of their own."""
    if not epics:
        return usual
    path, most = max(epics.items(), key=lambda one: one[1])
    return path if most > 1 or (len(epics) == 1 and not re.search(r"epic-?\d", path)) else None


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
    """A folder that the configuration names, when it lies inside the project."""
    told = str(value).strip().replace("\\", "/") if isinstance(value, str) else ""
    parts = [part for part in told.split("/") if part not in ("", ".")]
    is_own = ".." not in parts and TOOL_FOLDERS.isdisjoint(part.lower() for part in parts)
    is_inside = is_own and "{" not in told and not told.startswith("/") and not re.match(r"[~A-Za-z]:|~", told)
    return "/".join(parts) if is_inside else ""


def _output(config: Mapping[str, Any]) -> str:
    told = str(_table(config, "v6").get("output_folder") or "").replace("{project-root}/", "")
    return _text(told) or OUTPUT


def _place(config: Mapping[str, Any], name: str, output: str) -> str:
    told = str(config.get(name) or "").replace("{project-root}/", "")
    return _text(PLACEHOLDER.sub(lambda one: output if one[1] == "output_folder" else one[0], told))


def _implementation(config: Mapping[str, Any], output: str) -> str:
    return _place(_table(config, "v6"), "implementation_artifacts", output) or f"{output}/implementation-artifacts"


def _told_location(trackers: list[TrackerValue], output: str) -> str:
    return _place(trackers[0].meta, "story_location", output) if trackers else ""


class Vocabulary:
    """The words that a project's own files use for a status."""

    def __init__(self, project: BmadProject) -> None:
        self._words: dict[tuple[Style, StoryStatus], Counter[str]] = {}
        for story in project.stories:
            if story.path and story.raw_status and len(story.raw_status) <= 40 and not story.extra.get("spec"):
                status, known = story_status(story.raw_status)
                if known:
                    style: Style = "v6" if _is_v6(story) else "v4"
                    self._words.setdefault((style, status), Counter())[story.raw_status] += 1
        self._tracked = Counter(
            entry.raw_status
            for tracker in own_trackers(project)
            for entry in tracker.entries
            if entry.kind == "story" and story_status(entry.raw_status)[0] is StoryStatus.CANCELLED
        )

    def story_word(self, status: StoryStatus, *, is_v6: bool, is_spec: bool = False) -> str:
        """The word for a status in a story's file: the one that the project uses most, else the method's own."""
        if is_spec:
            return _SPEC_WORDS[status]
        used = self._words.get(("v6" if is_v6 else "v4", status))
        usual = (_V6_WORDS if is_v6 else _V4_WORDS)[status]
        if used is None or usual in used:
            return usual
        return used.most_common(1)[0][0]

    def tracker_word(self, status: StoryStatus) -> str | None:
        """The word for a story's status in the tracker; None where the method has none and the project neither."""
        if status in TRACKER_WORDS:
            return TRACKER_WORDS[status]
        return self._tracked.most_common(1)[0][0] if self._tracked else None

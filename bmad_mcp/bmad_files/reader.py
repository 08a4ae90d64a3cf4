"""Turns a folder into a BmadProject: reads each generation, then puts epics, stories and trackers together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bmad_mcp.bmad_files import v4, v6, v6_state
from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.folder import Folder
from bmad_mcp.bmad_files.statuses import RANK, story_status
from bmad_mcp.bmad_files.stories import TRACKER_STORY, story_key
from bmad_mcp.bmad_files.values import BmadProject, EpicValue, StoryValue, TrackerValue
from bmad_mcp.errors import NotFound


def read_project(root: Path, *, progress: Callable[[str], None] | None = None) -> BmadProject:
    """Read a project folder; raises NotFound when there is no such folder, and nothing else for what is in it."""
    if not root.is_dir():
        raise NotFound(f"There is no folder {root}. Give the path of the project's root folder.", field="path")
    found = Collected(Folder(root.resolve()), progress or (lambda _: None))
    _read_v4(found)
    _read_v6(found)
    _read_v7(found)
    if not found.generations and (found.stories or found.epics.epics or found.trackers):
        found.generations.append("project")
    if not found.generations:
        found.folder.note(
            ".",
            "nothing-found",
            "There is no BMad installation and no story, epic or tracker in this folder.",
            "Give the project's root: the folder that holds .bmad-core, _bmad or docs.",
        )
    return BmadProject(
        name=root.resolve().name,
        generations=tuple(found.generations),
        config=found.config,
        agents=tuple(found.agents),
        workflows=tuple(found.workflows),
        templates=tuple(found.templates),
        checklists=tuple(found.checklists),
        stories=(stories := _stories(found)),
        epics=_epics(found, stories),
        trackers=tuple(found.trackers),
        gates=tuple(found.gates.values()),
        notes=tuple(found.notes),
        files=tuple(found.folder.files.values()),
        deviations=tuple(found.folder.deviations),
    )


def _read_v4(found: Collected) -> None:
    names = v4.packs(found)
    for name in names:
        found.progress(f"reading {name}")
        v4.read_definitions(found, name)
    if names:
        found.generations.append("v4")
    found.progress("reading docs")
    v4.read_documents(found, "v4" if names else "project")


def _read_v6(found: Collected) -> None:
    roots = [name for name in ("_bmad", "bmad", ".bmad") if found.folder.exists(name)]
    roots = [
        name
        for name in roots
        if name == "_bmad" or any(found.folder.exists(f"{name}/{sub}") for sub in ("_cfg", "_config"))
    ]
    for name in roots:
        generation = "v6" if name == "_bmad" else "v6-alpha"
        found.progress(f"reading {name}")
        v6.read_definitions(found, name, generation)  # type: ignore[arg-type]
        found.generations.append(generation)  # type: ignore[arg-type]
    root = roots[0] if roots else "_bmad"
    places = v6_state.output_folders(found, root)
    # Without an installation, documents have been read by the v4 places already.
    places = places if roots else [place for place in places if place == v6_state.OUTPUT]
    found.progress("reading project state")
    v6_state.read_state(found, places, "v6" if roots else "project")


def _read_v7(found: Collected) -> None:
    for path in sorted(found.folder.root.glob("initiative-*/**/tickets.toml"))[:200]:
        relative = path.relative_to(found.folder.root).as_posix()
        if found.folder.read(relative, "tickets", "v7"):
            found.folder.note(
                relative,
                "v7-tickets",
                "Ticket files of the coming v7 are kept as they are and not understood yet.",
                "Nothing to do.",
            )
            if "v7" not in found.generations:
                found.generations.append("v7")


def _stories(found: Collected) -> tuple[StoryValue, ...]:
    """Story files, then stories that only epics or trackers name; each with what the tracker says."""
    stories = dict(found.stories)
    for key, told in found.epics.stories.items():
        known = stories.get(key)
        if known is None:
            stories[key] = told
        elif not known.acceptance or not known.want:
            stories[key] = replace(
                known,
                role=known.role or told.role,
                want=known.want or told.want,
                benefit=known.benefit or told.benefit,
                acceptance=known.acceptance or told.acceptance,
            )
    for tracker in found.trackers:
        for entry in tracker.entries:
            match = TRACKER_STORY.match(entry.key) if entry.kind == "story" else None
            if match is None:
                continue
            key = story_key(match[1], match[2], match[3])
            known = stories.get(key) or _from_tracker(tracker, key, match[4] or "")
            if known.tracker_status is not None:
                if known.tracker_status != entry.raw_status:
                    _note_two_trackers(found, tracker, entry.key, known)
                continue
            stories[key] = replace(known, tracker_key=entry.key, tracker_status=entry.raw_status)
            _note_difference(found, tracker, stories[key])
    for key, story in stories.items():
        if story.raw_status and not story_status(story.raw_status)[1]:
            found.folder.note(
                story.path or "",
                "status-unknown",
                f"Story {key}: the status {story.raw_status[:80]!r} is not known; it counts as a draft.",
                "Use Draft, Approved, InProgress, Review or Done.",
            )
    return tuple(sorted(stories.values(), key=_order))


def _order(story: StoryValue) -> tuple[int, int, str]:
    epic, rest = story.key.split(".")
    number = rest.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(epic), int(number), rest[len(number) :]


def _from_tracker(tracker: TrackerValue, key: str, slug: str) -> StoryValue:
    title = slug.replace("-", " ").strip().capitalize() or f"Story {key}"
    return StoryValue(
        key=key,
        epic_key=key.split(".")[0],
        title=title[:300],
        slug=slug,
        raw_status=None,
        status_form="none",
        role="",
        want="",
        benefit="",
        acceptance=(),
        tasks=(),
        sections=(),
        tracker_key=None,
        tracker_status=None,
        path=None,
        generation="v6",
        extra={"tracker": tracker.path},
    )


def _note_two_trackers(found: Collected, tracker: TrackerValue, key: str, known: StoryValue) -> None:
    found.folder.note(
        tracker.path,
        "tracker-twice",
        f"{key} is in another tracker too, as {known.tracker_status!r}; that one counts.",
        "Keep one tracker for a story.",
    )


def _note_difference(found: Collected, tracker: TrackerValue, story: StoryValue) -> None:
    if story.raw_status is None:
        return
    ours, theirs = story_status(story.raw_status)[0], story_status(story.tracker_status)[0]
    if ours != theirs:
        ahead = "the file" if RANK[ours] > RANK[theirs] else "the tracker"
        found.folder.note(
            story.path or tracker.path,
            "status-differs",
            f"Story {story.key} is {story.raw_status!r} in its file and {story.tracker_status!r} in {tracker.path};"
            f" {ahead} is further on. The file counts.",
            "Set both to the same status.",
        )


def _epics(found: Collected, stories: tuple[StoryValue, ...]) -> tuple[EpicValue, ...]:
    epics = dict(found.epics.epics)
    for tracker in found.trackers:
        for entry in tracker.entries:
            if entry.kind == "epic":
                key = str(int(entry.key.removeprefix("epic-")))
                known = epics.get(key) or EpicValue(key, f"Epic {key}", "", None, None, None, "v6")
                if known.raw_status is None:
                    epics[key] = replace(known, raw_status=entry.raw_status)
    for story in stories:
        if story.epic_key not in epics:
            epics[story.epic_key] = EpicValue(
                story.epic_key, f"Epic {story.epic_key}", "", None, None, None, story.generation
            )
            found.folder.note(
                story.path or "",
                "epic-missing",
                f"Story {story.key} belongs to epic {story.epic_key}, which no document tells.",
                f"Add `## Epic {story.epic_key}: Title` to the epics document.",
            )
    return tuple(sorted(epics.values(), key=lambda epic: int(epic.key)))

"""Puts together what files, epics and trackers say of the same story and epic, and tells where they disagree."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.deviations import shown
from bmad_mcp.bmad_files.epics import EpicText, StoryText, slug
from bmad_mcp.bmad_files.statuses import RANK, story_status
from bmad_mcp.bmad_files.stories import order_of
from bmad_mcp.bmad_files.tickets import add_tickets
from bmad_mcp.bmad_files.trackers import epic_of, story_of
from bmad_mcp.bmad_files.values import (
    DocumentValue,
    EpicValue,
    Generation,
    Section,
    StoryValue,
    TrackerEntry,
    TrackerValue,
)
from bmad_mcp.counts import counted

LISTED = 8


def assemble(found: Collected) -> tuple[tuple[EpicValue, ...], tuple[StoryValue, ...]]:
    """The epics and stories of the project, in the order of their numbers."""
    _part_nested(found)
    trackers = _ordered(found)
    stories = _from_files(found, trackers)
    epics = _epic_texts(found)
    for epic in epics.values():
        for told in epic.stories:
            stories[told.key] = _with_epic(stories.get(told.key), told, epic)
    _add_trackers(found, trackers, stories)
    add_tickets(found, epics, stories, _tracked_epics(trackers))
    for story in stories.values():
        path, line = story.path or str(story.extra.get("tickets", "")), story.extra.get("status_line")
        if story.path and story.raw_status is None and story.tracker_status is None and found.folder.files[path].text:
            message = f"Story {story.key} has no status, in its file or in a tracker."
            found.deviations.add(path, None, "status-missing", message, "Add one; until then it is a draft.")
        if story.raw_status and not story_status(story.raw_status)[1]:
            message = f"Story {story.key}: the status {shown(story.raw_status)} is not known; it counts as a draft."
            mend = "Use Draft, Approved, InProgress, Review or Done."
            found.deviations.add(path, line, "status-unknown", message, mend)
    ordered = tuple(sorted((_with_slug(one) for one in stories.values()), key=lambda one: order_of(one.key)))
    _tell_gates(found, stories)
    return tuple(_epics(found, epics, trackers, ordered)), ordered


def _part_nested(found: Collected) -> None:
    """A tracker below another one's folder belongs to a project of its own, whose numbers mean other stories."""
    homes = {one.path.rpartition("/")[0] for one in found.trackers if not one.nested}
    for at, tracker in enumerate(found.trackers):
        home, name = tracker.path.rpartition("/")[0], tracker.path.split("/")[-2] if "/" in tracker.path else ""
        if tracker.nested or not any(
            home != other and home.startswith(f"{other}/" if other else "") for other in homes
        ):
            continue
        found.trackers[at] = replace(tracker, nested=True)
        own = [one for one in found.stories if f"/{name}/" in f"/{one.path}"]
        found.stories = [one for one in found.stories if one not in own]
        found.epics = [one for one in found.epics if f"/{name}/" not in f"/{one.path}"]
        for story in own:
            found.documents.append(DocumentValue("story", story.title, story.path or "", story.generation, {}))
        message = f"Here is a project of its own, with a tracker and {counted(len(own), 'story', 'stories')}, not mixed with the others."
        found.deviations.add(home, None, "nested-project", message, f"Import {home} on its own.")


def _ordered(found: Collected) -> list[TrackerValue]:
    """The project's own trackers; the implementation's counts before one among the plans."""
    own = [one for one in found.trackers if not one.nested]
    return sorted(own, key=lambda one: ("implementation" not in one.path, one.path.count("/"), one.path))


def _with_slug(story: StoryValue) -> StoryValue:
    return story if story.slug else replace(story, slug=slug(story.title))


# ── stories ──


def _from_files(found: Collected, trackers: Iterable[TrackerValue]) -> dict[str, StoryValue]:
    """One file for each key: the one that a tracker names, else the one most like a story, else the first."""
    named = {entry.key for tracker in trackers for entry in tracker.entries}

    def rank(story: StoryValue) -> tuple[bool, bool, bool, bool]:
        stem = (story.path or "").rsplit("/", 1)[-1].removesuffix(".md")
        is_spec = bool(story.extra.get("spec"))
        return is_spec, stem not in named, not _is_story(story), story.slug != story.slug.lower()

    stories: dict[str, StoryValue] = {}
    for story in sorted(found.stories, key=rank):
        known = stories.setdefault(story.key, story)
        if known is story:
            continue
        if story.extra.get("spec"):
            stories[story.key] = replace(known, extra={**known.extra, "spec": story.path})
        elif story.path:
            _leave_out(found, story, f"Story {story.key} is told by {known.path} too; that one counts.")
    return stories


def _is_story(story: StoryValue) -> bool:
    return bool(story.acceptance or story.want or story.raw_status)


def _leave_out(found: Collected, story: StoryValue, message: str) -> None:
    """Keep a file that is no story of its own as a document; a report beside its story needs no word."""
    path = story.path or ""
    found.documents.append(
        DocumentValue("story" if _is_story(story) else "document", story.title, path, story.generation, {})
    )
    if _is_story(story):
        found.deviations.add(path, None, "story-twice", message, "Give one of them another number.")
    else:
        found.folder.settle(path, "document")


def _with_epic(known: StoryValue | None, told: StoryText, epic: EpicText) -> StoryValue:
    where: dict[str, object] = {"epic_file": epic.path}
    if known is not None:
        return replace(
            known,
            role=known.role or told.role,
            want=known.want or told.want,
            benefit=known.benefit or told.benefit,
            acceptance=known.acceptance or told.acceptance,
            extra={**known.extra, **where},
        )
    sections = (Section("Story", 2, told.text),) if told.text.strip() else ()
    return _bare(told.key, told.title, "", epic.generation, where, told, sections)


def _bare(
    key: str,
    title: str,
    name: str,
    generation: Generation,
    extra: dict[str, object],
    told: StoryText | None = None,
    sections: tuple[Section, ...] = (),
) -> StoryValue:
    """A story without a file of its own."""
    return StoryValue(
        key=key,
        epic_key=key.split(".")[0],
        title=title or f"Story {key}",
        slug=name,
        raw_status=None,
        status_form="none",
        role=told.role if told else "",
        want=told.want if told else "",
        benefit=told.benefit if told else "",
        acceptance=told.acceptance if told else (),
        tasks=(),
        sections=sections,
        tracker_key=None,
        tracker_status=None,
        path=None,
        generation=generation,
        extra=extra,
    )


def _add_trackers(found: Collected, trackers: list[TrackerValue], stories: dict[str, StoryValue]) -> None:
    for tracker in trackers:
        alone: list[str] = []
        seen: dict[str, TrackerEntry] = {}
        for entry in tracker.entries:
            named = story_of(entry.key) if entry.kind == "story" else None
            if named is None:
                continue
            key, name = named
            if other := seen.get(key):
                message = f"{entry.key} and {other.key} are both story {key}; the first counts."
                found.deviations.add(tracker.path, entry.line, "tracker-twice", message, "Keep one of them.")
                continue
            seen[key] = entry
            if key not in stories:
                alone.append(key)
                title = name.replace("-", " ").strip().capitalize()
                stories[key] = _bare(key, title, name, _generation(found, tracker), {"tracker": tracker.path})
            stories[key] = _tracked(found, tracker, entry, stories[key], name)
        if alone:
            listed = ", ".join(alone[:LISTED]) + (" …" if len(alone) > LISTED else "")
            message = f"{counted(len(alone), 'story stands', 'stories stand')} in the tracker only: {listed}."
            found.deviations.add(tracker.path, None, "tracker-only", message, "Add them to the epics document.")


def _generation(found: Collected, tracker: TrackerValue) -> Generation:
    return found.folder.files[tracker.path].generation


def _tracked(found: Collected, tracker: TrackerValue, entry: TrackerEntry, story: StoryValue, name: str) -> StoryValue:
    if story.tracker_status is not None:
        if story.tracker_status != entry.raw_status:
            message = f"{entry.key} is in another tracker too, as {shown(story.tracker_status)}; that one counts."
            found.deviations.add(tracker.path, entry.line, "tracker-twice", message, "Keep one tracker for a story.")
        return story
    tracked = replace(story, tracker_key=entry.key, tracker_status=entry.raw_status, slug=story.slug or name)
    if story.raw_status is None:
        return tracked
    ours, theirs = story_status(story.raw_status)[0], story_status(entry.raw_status)[0]
    if ours == theirs:
        return tracked
    is_spec = bool(story.extra.get("spec"))
    ahead = "the file" if RANK[ours] > RANK[theirs] else "the tracker"
    message = (
        f"Story {story.key} is {shown(story.raw_status)} in its file and {shown(entry.raw_status)} in {tracker.path};"
        f" {ahead} is further on. {'The tracker' if is_spec else 'The file'} counts."
    )
    line = story.extra.get("status_line")
    found.deviations.add(story.path or tracker.path, line, "status-differs", message, "Set both to the same status.")
    if is_spec:
        # A build sets its spec to done and the tracker to review: the review is still to come.
        return replace(tracked, raw_status=None, extra={**story.extra, "spec_status": story.raw_status})
    return tracked


def _tell_gates(found: Collected, stories: dict[str, StoryValue]) -> None:
    for gate in found.gates:
        if gate.story_key not in stories:
            message = f"The gate is for story {gate.story_key}, which nothing tells."
            found.deviations.add(gate.path, None, "gate-alone", message, "Add the story, or correct `story`.")


# ── epics ──


def _epic_texts(found: Collected) -> dict[str, EpicText]:
    """Each epic once: the first document that tells it counts, others add what it leaves out."""
    epics: dict[str, EpicText] = {}
    # A document that only mentions an epic comes after those that tell its stories.
    for told in sorted(found.epics, key=lambda one: not one.stories):
        known = epics.get(told.key)
        if known is None:
            epics[told.key] = told
            continue
        keys = {one.key for one in known.stories}
        added = tuple(one for one in told.stories if one.key not in keys)
        first = known if known.title else told
        epics[told.key] = replace(
            first, goal=known.goal or told.goal, title=first.title or told.title, stories=known.stories + added
        )
    return epics


def _tracked_epics(trackers: Iterable[TrackerValue]) -> Iterator[str]:
    for entry in (entry for tracker in trackers for entry in tracker.entries):
        if (key := epic_of(entry.key)) is not None:
            yield key


def _epics(
    found: Collected, told: dict[str, EpicText], trackers: list[TrackerValue], stories: tuple[StoryValue, ...]
) -> Iterator[EpicValue]:
    statuses: dict[str, str] = {}
    for tracker in trackers:
        for entry in tracker.entries:
            if (key := epic_of(entry.key)) is not None and entry.kind == "epic":
                statuses.setdefault(key, entry.raw_status)
    of_epic: dict[str, list[StoryValue]] = {}
    for story in stories:
        of_epic.setdefault(story.epic_key, []).append(story)
    for key in sorted({*told, *statuses, *of_epic}, key=int):
        epic, own = told.get(key), of_epic.get(key, [])
        if epic is None and own:
            message = f"Story {own[0].key} belongs to epic {key}, which no document tells."
            mend = f"Add `## Epic {key}: Title` to the epics document."
            found.deviations.add(
                own[0].path or str(own[0].extra.get("tracker") or own[0].extra.get("tickets", "")),
                None,
                "epic-missing",
                message,
                mend,
            )
        yield EpicValue(
            key=key,
            title=(epic.title if epic else "") or f"Epic {key}",
            goal=epic.goal if epic else "",
            raw_status=statuses.get(key) or (epic.raw_status if epic else None),
            path=epic.path if epic else None,
            line=epic.line if epic else None,
            generation=epic.generation if epic else own[0].generation if own else _generation(found, trackers[0]),
            story_keys=tuple(story.key for story in own),
        )

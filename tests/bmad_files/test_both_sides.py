"""Random edits on both sides, against a model: no acknowledged edit is lost, no conflict goes unreported."""

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bmad_installs import write
from harness import TestWorkspace, new_project
from stored_rows import fetch
from test_export import bytes_of

from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.statuses import RANK, story_status
from bmad_mcp.bmad_files.story_rows import status_of
from bmad_mcp.bmad_files.sync.reconciling import Round, reconcile
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.errors import BmadError
from bmad_mcp.lifecycles import STORY, StoryStatus
from bmad_mcp.operation import perform

FEW, ALL = 40, 1_000
AT_ONCE = 20
BUILDING = "_bmad-output/implementation-artifacts"
SECTIONS = {"Dev Notes": "sm", "File List": "dev", "QA Results": "qa", "Change Log": "dev"}
WORDS = {"v4": ["Draft", "Approved", "InProgress", "Review", "Done"],
         "v6": ["backlog", "ready-for-dev", "in-progress", "review", "done"]}  # fmt: skip
STATUSES = {"1.1": 2, "1.2": 1, "2.1": 3, "2.2": 0}


def text_of(generation: str, key: str, word: str) -> str:
    status = f"Status: {word}" if generation == "v6" else f"## Status\n\n{word}"
    return (
        f"# Story {key}: Thing {key}\n\n{status}\n\n## Story\n\nAs a user, I want {key}, so that it works.\n\n"
        "## Tasks / Subtasks\n\n- [ ] First step\n- [ ] Second step\n- [ ] Third step\n\n## Dev Notes\n\nnone\n\n"
        "## Change Log\n\nnone\n\n## Dev Agent Record\n\n### File List\n\nnone\n\n## QA Results\n\n"
    )


def path_of(generation: str, key: str) -> str:
    return f"docs/stories/{key}.story.md" if generation == "v4" else f"{BUILDING}/{key.replace('.', '-')}-thing.md"


def make(folder: Path, generation: str) -> None:
    tracker = ["last_updated: 10-20-2026 18:30", "development_status:"]
    for key, place in STATUSES.items():
        word = WORDS[generation][place]
        write(folder, path_of(generation, key), text_of(generation, key, word))
        tracker.append(f"  {key.replace('.', '-')}-thing: {word}")
    epics = "\n".join(f"## Epic {epic}: Part {epic}\n\nGoal.\n" for epic in (1, 2))
    if generation == "v6":
        write(folder, f"{BUILDING}/sprint-status.yaml", "\n".join(tracker) + "\n")
        write(folder, "_bmad-output/planning-artifacts/epics.md", epics)
    else:
        write(folder, "docs/prd/epic-1-a.md", epics)


@dataclass
class Place:
    """One place on both sides: what they agreed on, and what each has changed since (None: nothing)."""

    agreed: str
    file: str | None = None
    tool: str | None = None


@dataclass
class Sequence:
    """One random sequence of edits, with the model of what must be true."""

    seed: int
    folder: Path
    workspace: TestWorkspace
    generation: str = ""
    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    ticked: set[tuple[str, str]] = field(default_factory=set)
    made: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    tokens: int = 0
    log: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.generation = "v4" if self.seed % 2 else "v6"
        make(self.folder, self.generation)
        for key in STATUSES:
            for name in SECTIONS:
                self.places[key, name] = Place("none" if name != "QA Results" else "")

    async def run(self, name, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), self.workspace)

    @property
    def opened(self):
        return self.workspace.opened

    def token(self, side: str) -> str:
        self.tokens += 1
        return f"{side} edit {self.tokens} of {self.seed}"

    # ── steps ──

    async def step(self):
        key = self.random.choice(list(STATUSES))
        name = self.random.choice(
            [
                "file_section",
                "tool_section",
                "file_status",
                "tool_status",
                "file_tick",
                "tool_task",
                "tool_new",
                "file_new",
                "same_section",
                "reconcile",
                "reconcile",
            ]
        )
        self.log.append(f"{name} {key}")
        await getattr(self, name)(key)

    async def file_section(self, key, name=None):
        name = name or self.random.choice(list(SECTIONS))
        path = self.folder / path_of(self.generation, key)
        token, text = self.token("file"), path.read_text()
        mark = "#" * (3 if name == "File List" else 2) + f" {name}\n"
        before, _, rest = text.partition(mark)
        at = rest.find("\n#")
        path.write_text(f"{before}{mark}\n{token}\n" + (rest[at:] if at >= 0 else ""))
        self.places[key, name].file = token

    async def tool_section(self, key, name=None):
        name = name or self.random.choice([one for one in SECTIONS if one != "QA Results"])
        now, token = await self.run("story_get", story=key), self.token("tool")
        await self.run("agent_activate", agent=SECTIONS[name])
        await self.run("story_update", story=key, expected_version=now.version, section=name, text=token)
        self.places[key, name].tool = token

    async def same_section(self, key):
        name = self.random.choice(["Dev Notes", "File List", "Change Log"])
        await self.file_section(key, name)
        await self.tool_section(key, name)

    async def file_status(self, key):
        path = self.folder / path_of(self.generation, key)
        word = self.random.choice(WORDS[self.generation])
        lines = path.read_text().split("\n")
        at = 2 if self.generation == "v6" else 4
        lines[at] = f"Status: {word}" if self.generation == "v6" else word
        path.write_text("\n".join(lines))

    async def tool_status(self, key):
        now = await self.run("story_get", story=key)
        moves = sorted(STORY.moves[StoryStatus(now.status)] - {StoryStatus.CANCELLED})
        if moves:
            await self.run("story_update", story=key, expected_version=now.version, status=self.random.choice(moves))

    async def file_tick(self, key):
        path = self.folder / path_of(self.generation, key)
        name = self.random.choice(["First step", "Second step", "Third step"])
        path.write_text(path.read_text().replace(f"- [ ] {name}", f"- [x] {name}"))
        self.ticked.add((key, name))

    async def tool_task(self, key):
        tasks = (await self.run("task_list", story=key, status="pending", limit=100)).items
        if tasks:
            chosen = self.random.choice(tasks)
            try:
                held = await self.run("task_start", task=chosen.key, agent="dev")
                await self.run("task_complete", task=chosen.key, lease=held.lease)
            except BmadError:
                return
            self.ticked.add((key, chosen.title))

    async def tool_new(self, key):
        token = self.token("tool")
        made = await self.run("story_create", epic="1", title=token, want="it")
        self.made.append(made.story.key)

    async def file_new(self, key):
        number = f"2.{50 + len(self.written)}"
        write(
            self.folder, path_of(self.generation, number), text_of(self.generation, number, WORDS[self.generation][1])
        )
        self.written.append(number)

    async def reconcile(self, key=None):
        files = self.file_statuses()
        before = files | await self.statuses(), files
        done = await reconcile(self.opened, self.folder)
        assert done.state == "running"
        await self.check_sections(done)
        await self.check_statuses(done, *before)
        return done

    # ── the model ──

    async def statuses(self):
        rows = await fetch(self.opened, "SELECT key, status::text AS status FROM bmad_stories")
        return {row["key"]: StoryStatus(row["status"]) for row in rows}

    def file_statuses(self):
        return {story.key: status_of(story)[0] for story in read_project(self.folder).stories}

    async def sections(self):
        rows = await fetch(self.opened, "SELECT key, sections FROM bmad_stories")
        return {(row["key"], one["name"]): one["text"].strip() for row in rows for one in row["sections"]}

    def file_sections(self):
        stories = read_project(self.folder).stories
        return {(story.key, one.name): one.text.strip() for story in stories for one in story.sections}

    async def check_sections(self, done: Round):
        database, files = await self.sections(), self.file_sections()
        conflicts = {(one.key, one.field.removeprefix("section ")) for one in done.conflicts}
        settled = {(one.conflict.key, one.conflict.field.removeprefix("section ")) for one in done.settled}
        copies = [
            row["content"]
            for row in await fetch(self.opened, "SELECT content FROM bmad_artifacts WHERE kind = 'conflict-copy'")
        ]
        for at, place in self.places.items():
            both = (database.get(at, ""), files.get(at, ""))
            if place.file is not None and place.tool is not None:
                if at in conflicts:
                    assert both == (place.tool, place.file), f"{at}: a conflict keeps both sides"
                    continue
                assert at in settled, f"{at}: both sides changed it, and nobody was told"
                assert both == (place.tool, place.tool)
                assert place.file in copies, f"{at}: the text that gave way is lost"
                place.agreed = place.tool
            elif (now := place.file or place.tool) is not None:
                assert both == (now, now), f"{at}: an edit of one side is on both"
                place.agreed = now
            else:
                assert both == (place.agreed, place.agreed), f"{at}: what nobody touched is as it was"
            place.file = place.tool = None

    async def check_statuses(self, done: Round, before, file_before):
        after, files = await self.statuses(), self.file_statuses()
        told = {one.key for one in done.conflicts if one.field == "status"}
        for key in STATUSES:
            if key in told:
                continue
            assert after[key] is files[key], f"{key}: {after[key]} here, {files[key]} in the file, and nobody was told"
            assert after[key] in (before[key], file_before[key])
            if self.generation == "v6":
                word = (
                    (self.folder / BUILDING / "sprint-status.yaml")
                    .read_text()
                    .split(f"  {key.replace('.', '-')}-thing: ")[1]
                )
                tracked = story_status(word.split("\n")[0])[0]
                assert RANK[tracked] >= RANK[after[key]], f"{key}: the tracker stays behind"
            if before[key] is not file_before[key] and key in {
                one.conflict.key for one in done.settled if one.conflict.field == "status"
            }:
                assert RANK[after[key]] == max(RANK[before[key]], RANK[file_before[key]])

    async def finish(self):
        await self.reconcile()
        await self.reconcile()
        rows = await fetch(
            self.opened, "SELECT key, version FROM bmad_stories UNION ALL SELECT number::text, version FROM bmad_tasks"
        )
        before = bytes_of(self.folder)
        last = await self.reconcile()
        assert bytes_of(self.folder) == before, "a sync that has nothing to do writes nothing"
        assert (
            await fetch(
                self.opened,
                "SELECT key, version FROM bmad_stories UNION ALL SELECT number::text, version FROM bmad_tasks",
            )
            == rows
        )
        assert (last.taken_in, last.written) == (0, ())
        await self.check_boxes()
        stories = {story.key: story for story in read_project(self.folder).stories}
        statuses = await self.statuses()
        for key in self.made:
            assert stories[key].path, f"{key} was made here and has no file"
        for key in self.written:
            assert key in statuses, f"{key} was written into the folder and is not here"

    async def check_boxes(self):
        rows = await fetch(
            self.opened,
            "SELECT s.key, t.title, t.status::text AS status FROM bmad_tasks t JOIN bmad_stories s"
            " ON s.project_id = t.project_id AND s.id = t.story_id WHERE t.title LIKE '%% step'".replace("%%", "%"),
        )
        done = {(row["key"], row["title"]) for row in rows if row["status"] == "completed"}
        stories = read_project(self.folder).stories
        boxes = {(story.key, task.text) for story in stories for task in story.tasks if task.done}
        mine = {one for one in self.ticked if one[0] in STATUSES}
        assert mine <= done, f"done in a file or by a tool, and not here: {mine - done}"
        assert mine <= boxes, f"done in a file or by a tool, and not in the file: {mine - boxes}"


async def play(seeds, pool, tmp_path):
    for seed in seeds:
        folder = tmp_path / f"p{seed}"
        sequence = Sequence(seed, folder, TestWorkspace(await new_project(pool)))
        try:
            await sequence.reconcile()
            for _ in range(sequence.random.randint(3, 10)):
                await sequence.step()
            await sequence.finish()
        except AssertionError as error:
            raise AssertionError(f"seed {seed} ({sequence.generation}): {'; '.join(sequence.log)}\n{error}") from error
        shutil.rmtree(folder)


@pytest.mark.parametrize("first", range(0, FEW, AT_ONCE))
async def test_forty_sequences_of_edits_on_both_sides(first, pool, tmp_path):
    await play(range(first, first + AT_ONCE), pool, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(FEW, int(os.environ.get("BMAD_SEQUENCES", ALL)), AT_ONCE))
async def test_a_thousand_sequences_of_edits_on_both_sides(first, pool, tmp_path):
    await play(range(first, first + AT_ONCE), pool, tmp_path)

"""A ledger of random edits on both sides: each is on both sides, was edited again, or somebody is told of it."""

import hashlib
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bmad_installs import slug, story_text, v6_story_text, write
from harness import TestWorkspace, new_project
from stored_rows import dump, fetch
from test_export import BUILDING, TRACKER, bytes_of

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.statuses import RANK, story_status
from bmad_mcp.bmad_files.stories import status_marks, story_name
from bmad_mcp.bmad_files.story_rows import status_of
from bmad_mcp.bmad_files.sync.reconciling import Round, reconcile
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.errors import BmadError
from bmad_mcp.lifecycles import STORY, StoryStatus
from bmad_mcp.operation import perform

FEW, ALL, AT_ONCE = 20, 1_000, 20
STORIES = {"1.1": ("Sign in", 2), "1.2": ("Sign up", 1), "2.1": ("Show products", 3), "2.2": ("Pay", 0)}
V4_WORDS = ("Draft", "Approved", "InProgress", "Review", "Done", "Cancelled")
V6_WORDS = ("backlog", "ready-for-dev", "in-progress", "review", "done", "cancelled")
EDITORS = {"Dev Notes": "sm", "Testing": "sm", "File List": "dev", "Change Log": "dev", "Risks: all": "sm"}
# What real texts hold; each must come through as it is.
TAILS = (
    *("", "", "- [x] no task\n- [ ] nor this", "| a | b |\n|---|---|\n| c: d | 'e' |", "a\n\n---\n\nb", "> quote #5"),
    *(
        "```python\n# not a heading\n## Status\n- [ ] no box\n```",
        "שלום عربي ‮ 登录 ✅ 👩‍👩‍👧",
        "x" * 2500,
        "a\r\nb\r\nc",
    ),
    *(
        "#### Deeper: it\n\nand more",
        "key: value\n  - indented\n\ttab",
        "    # code\n\n    more",
        "<!-- hidden -->",
        "\\_*`",
    ),
)


def prepared(folder: Path, generation: str, end: str) -> Path:
    """2 epics, 4 stories; in v6 style two of them have no status of their own, one of these no file."""
    epics, tracker = [], ["# who: everybody", "last_updated: 10-20-2026 18:30", "", "development_status:"]
    for epic in "12":
        epics.append(f"## Epic {epic}: Part {epic}\n\nAll of it.\n")
        tracker.append(f"  epic-{epic}: in-progress")
        for key, (title, at) in STORIES.items():
            if not key.startswith(epic):
                continue
            epics.append(f"### Story {key}: {title}\n\nAs a user, I want to {title.lower()}, so that it is easy.\n")
            tracker.append(f"  {key.replace('.', '-')}-{slug(title)}: {V6_WORDS[at]}")
            if generation == "v4":
                text = story_text(key, title, f"## Status\n\n{V4_WORDS[at]}\n", "  ")
            else:
                text = v6_story_text(key, title, V6_WORDS[at])
                text = text if key != "1.2" else text.replace(f"Status: {V6_WORDS[at]}\n\n", "")
            if generation == "v4" or key != "2.2":
                write(folder, path_of(generation, key, title), "").write_bytes(text.replace("\n", end).encode())
    if generation == "v4":
        write(folder, "docs/prd/epics.md", "\n".join(epics))
    else:
        write(folder, TRACKER, "\n".join(tracker) + "\n")
        write(folder, "_bmad-output/planning-artifacts/epics.md", "\n".join(epics))
    return folder


def path_of(generation: str, key: str, title: str) -> str:
    name = f"{key.replace('.', '-')}-{slug(title)}.md"
    return f"docs/stories/{key}.{slug(title)}.md" if generation == "v4" else f"{BUILDING}/{name}"


@dataclass(frozen=True)
class Entry:
    """An acknowledged edit: of which side, of which place, and during which round (the rounds before it)."""

    side: str
    place: tuple[str, str, str]
    value: object
    round: int


@dataclass
class Play:
    """One sequence and its ledger."""

    seed: int
    folder: Path
    workspace: TestWorkspace
    ledger: list[Entry] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    # Statuses that both sides began the round with.
    starts: list[dict[str, StoryStatus]] = field(default_factory=lambda: [{}])
    log: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.generation = "v4" if self.seed % 2 else "v6"
        prepared(self.folder, self.generation, self.random.choice(["\n", "\n", "\r\n"]))
        self.words = V4_WORDS if self.generation == "v4" else V6_WORDS
        self.count = 0

    @property
    def opened(self):
        return self.workspace.opened

    async def run(self, name, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), self.workspace)

    def token(self, side):
        self.count += 1
        return f"{side} edit {self.count} of play {self.seed}"

    def note(self, side, kind, key, name, value):
        self.ledger.append(Entry(side, (kind, key, name), value, len(self.rounds)))

    def contested(self, side, kind):
        """A place that the other side has just changed, half of the times: that is where edits meet."""
        met = [one.place for one in self.ledger if one.side != side and one.round == len(self.rounds)]
        met = [(key, name) for known, key, name in met if known == kind]
        return self.random.choice(met) if met and self.random.random() < 0.7 else None

    # ── what both sides say ──

    def told(self):
        return {one.key: one for one in read_project(self.folder).stories}

    def filed(self):
        """The stories that have a file, with its text."""
        return {key: (self.folder / one.path).read_bytes().decode() for key, one in self.told().items() if one.path}

    def rewrite(self, key, text):
        (self.folder / self.told()[key].path).write_bytes(text.encode())

    def file_statuses(self):
        """What the files say; a story that is cancelled in the tracker is a comment there, and has no word."""
        return {key: status_of(one)[0] for key, one in self.told().items() if one.raw_status or one.tracker_status}

    async def held(self):
        rows = await fetch(
            self.opened,
            "SELECT s.*, s.status::text AS status, array(SELECT jsonb_build_object('title', t.title, 'status', t.status)"
            " FROM bmad_tasks t WHERE t.project_id = s.project_id AND t.story_id = s.id) AS tasks FROM bmad_stories s"
            " WHERE s.project_id = bmad_project()",
        )
        return {row["key"]: row for row in rows}

    async def statuses(self):
        return {key: StoryStatus(row["status"]) for key, row in (await self.held()).items()}

    # ── edits of files ──

    async def file_section(self):
        files, met = self.filed(), self.contested("file", "section")
        met = met if met and met[0] in files else None
        key = met[0] if met else self.random.choice(list(files))
        text = files[key]
        end = "\r\n" if "\r\n" in text else "\n"
        found = markdown.headings(text)
        places = [(at, one) for at, one in enumerate(found) if one.name in EDITORS or one.name.startswith("Own")]
        name = self.random.choice([one.name for _, one in places] + ["Own words"])
        name = met[1] if met and met[1] in [one.name for _, one in places] else name
        token = self.token("file")
        told = f"{token}\n\n{self.random.choice(TAILS)}".replace("\r\n", "\n").rstrip("\n").replace("\n", end)
        at = next((at for at, one in places if one.name == name), None)
        if at is None:
            text = f"{text.rstrip()}{end}{end}## {name}{end}{end}{told}{end}"
        else:
            begin, stop = found[at].end, found[at + 1].start if at + 1 < len(found) else len(text)
            text = f"{text[:begin]}{end}{told}{end}{end}{text[stop:]}"
        self.rewrite(key, text)
        self.note("file", "section", key, name, told)

    async def file_status(self):
        files = {key: text for key, text in self.filed().items() if status_marks(text)}
        met = self.contested("file", "status")
        key = met[0] if met and met[0] in files else self.random.choice(list(files))
        word = self.random.choice(self.words)
        (mark, *_) = status_marks(files[key])
        rows = files[key].split("\n")
        rows[mark.line - 1] = rows[mark.line - 1].replace(mark.word, word)
        if rows == files[key].split("\n"):
            return
        self.rewrite(key, "\n".join(rows))
        self.note("file", "status", key, "status", story_status(word)[0])

    async def tracker_status(self):
        path, stories = self.folder / TRACKER, self.told()
        # Where a story's own file has a word, that one counts.
        free = [one for one in stories.values() if one.tracker_key and one.raw_status is None]
        if self.generation == "v4" or not free:
            return
        story, word = self.random.choice(free), self.random.choice(V6_WORDS)
        line = f"  {story.tracker_key}: {story.tracker_status}\n"
        text = path.read_text()
        assert line in text
        if word != story.tracker_status:
            path.write_text(text.replace(line, f"  {story.tracker_key}: {word}\n"))
            self.note("file", "status", story.key, "status", story_status(word)[0])

    async def file_box(self):
        stories = {key: one for key, one in self.told().items() if one.tasks and one.path}
        met = self.contested("file", "box")
        story = stories[met[0]] if met and met[0] in stories else self.random.choice(list(stories.values()))
        task = next((one for one in story.tasks if met and one.text == met[1]), self.random.choice(story.tasks))
        rows = self.filed()[story.key].split("\n")
        old, new = ("[x]", "[ ]") if task.done else ("[ ]", "[x]")
        rows[task.line - 1] = rows[task.line - 1].replace(old, new, 1)
        self.rewrite(story.key, "\n".join(rows))
        self.note("file", "box", story.key, task.text, not task.done)

    async def file_story(self):
        epic, title = self.random.choice("12"), self.token("file").capitalize()
        number = max(int(key.split(".")[1]) for key in self.told() if key.startswith(epic)) + 1
        key, word = f"{epic}.{number}", self.random.choice(self.words)
        make = v6_story_text(key, title, word)
        if self.generation == "v4":
            make = story_text(key, title, f"Status: {word}\n", " x")
        write(self.folder, path_of(self.generation, key, title), make)
        self.note("file", "story", key, "title", title)

    async def file_document(self):
        path, text = self.random.choice(["docs/notes.md", "docs/plan-2.md"]), f"# {self.token('file')}\r\n\nText"
        write(self.folder, path, "").write_bytes(text.encode())
        self.note("file", "document", path, "content", text)

    # ── edits by tools; what is refused is in no ledger ──

    async def tool_section(self):
        met = self.contested("tool", "section")
        key, name = self.random.choice(list(await self.statuses())), self.random.choice(list(EDITORS))
        key, name = met if met and met[1] in EDITORS else (key, name)
        token = self.token("tool")
        text, agent = f"{token}\n\n{self.random.choice(TAILS)}".rstrip("\n"), EDITORS[name]
        now = await self.run("story_get", story=key)
        await self.run("agent_activate", agent=agent)
        done = await self.run(
            "story_update", story=key, expected_version=now.version, section=name, text=text, agent=agent
        )
        self.note("tool", "section", key, done.section, text)

    async def tool_sentence(self):
        key, token = self.random.choice(list(await self.statuses())), self.token("tool")
        sentence = self.random.choice(
            [
                "As a user, I want {}, so that it is C#.",
                "**As an** ox\n**I want** {}\n**so that** _it_ #5 goes",
                "Only {}",
            ]
        ).format(token)
        now = await self.run("story_get", story=key)
        await self.run("agent_activate", agent="sm")
        await self.run(
            "story_update", story=key, expected_version=now.version, section="Story", text=sentence, agent="sm"
        )
        self.note("tool", "section", key, "Story", sentence)

    async def tool_status(self):
        statuses = await self.statuses()
        met, free = self.contested("tool", "status"), [one for one in statuses if STORY.moves[statuses[one]]]
        key = met[0] if met and met[0] in free else self.random.choice(free)
        target = self.random.choice(sorted(STORY.moves[statuses[key]]))
        now = await self.run("story_get", story=key)
        await self.run("agent_activate", agent="sm")
        await self.run("story_update", story=key, expected_version=now.version, status=target, agent="sm")
        self.note("tool", "status", key, "status", target)

    async def tool_task(self):
        key = self.random.choice(list(await self.statuses()))
        met = self.contested("tool", "box")
        key = met[0] if met and met[0] in await self.statuses() else key
        tasks = (await self.run("task_list", story=key, status="pending", limit=100)).items
        chosen = next((one for one in tasks if met and one.title == met[1]), self.random.choice(tasks))
        held = await self.run("task_start", task=chosen.key, agent="dev")
        await self.run("task_complete", task=chosen.key, lease=held.lease)
        if not chosen.title.startswith("Implement story"):
            self.note("tool", "box", key, chosen.title, True)

    async def tool_new_task(self):
        key, title = self.random.choice(list(await self.statuses())), f"{self.token('tool')} [x] `a`: #5 — 登录"
        await self.run("task_create", title=title, story=key, agent="dev")
        self.note("tool", "box", key, title, False)

    async def tool_gate(self):
        key, reason = self.random.choice(list(await self.statuses())), f'{self.token("tool")}: it\'s "so" # no'
        gate = self.random.choice(["PASS", "CONCERNS", "FAIL"])
        issues = [{"severity": "low", "finding": f"- odd: {reason}"}] * self.random.randint(0, 2)
        await self.run("agent_activate", agent="qa")
        await self.run("gate_record", story=key, gate=gate, reason=reason, issues=issues, agent="qa")
        self.note("tool", "gate", key, "gate", (gate, reason))

    async def tool_story(self):
        title = self.token("tool") + self.random.choice(["", ": and C#", " — “it”", " 登录"])
        more = self.random.choice(
            [{}, {"benefit": "alone"}, {"role": "user", "want": "C# _now_", "benefit": "a so that b"}]
        )
        criteria = self.random.choice([(), ("AC1: one", "- two", "three\nGiven four")])
        made = await self.run("story_create", epic=self.random.choice("12"), title=title, acceptance=criteria, **more)
        key = made.story.key
        row = (await self.held())[key]
        self.note("tool", "story", key, "title", title)
        self.note("tool", "fields", key, "all", {name: row[name] for name in ("role", "want", "benefit", "acceptance")})

    async def tool_document(self):
        path, text = self.random.choice(["docs/notes.md", "docs/plan-2.md"]), f"# {self.token('tool')}\n"
        await self.run("artifact_record", kind="note", path=path, content=text)
        self.note("tool", "document", path, "content", text)

    async def both_sections(self):
        await self.tool_section()
        await self.file_section()

    async def both_statuses(self):
        await self.file_status()
        await self.tool_status()

    # ── rounds ──

    async def step(self):
        name = self.random.choice(STEPS)
        self.log.append(name)
        before = await self.statuses()
        entries = len(self.ledger)
        try:
            await getattr(self, name)()
        except (BmadError, IndexError):
            assert len(self.ledger) == entries or name.startswith("both")
            self.log[-1] += " (refused)"
        if not name.startswith(("tool", "both")):
            return
        # A tool may move a story along: the last task done brings it into review.
        told = {one.place[1] for one in self.ledger[entries:] if one.place[0] == "status"}
        for key, status in (await self.statuses()).items():
            if status is not before.get(key, status) and key not in told:
                self.note("tool", "status", key, "status", status)

    async def settle(self):
        before, file_before = await self.statuses(), self.file_statuses()
        done = await reconcile(self.opened, self.folder)
        assert (done.state, done.refused) == ("running", ())
        self.rounds.append(done)
        now = len(self.rounds) - 1
        meant = {(one.side, one.place[1], one.value) for one in self.ledger if one.place[0] == "status"}
        self.starts.append(await self.statuses())
        for key, status in self.starts[-1].items():
            lower = key in before and RANK[status] < RANK[before[key]]
            assert not lower or ("file", key, status) in meant, (
                f"round {now}: {key} {before[key]} → {status} in the database"
            )
        for key, status in self.file_statuses().items():
            lower = key in file_before and RANK[status] < RANK[file_before[key]]
            assert not lower or ("tool", key, status) in meant, (
                f"round {now}: {key} {file_before[key]} → {status} in the file"
            )

    async def finish(self):
        await self.settle()
        await self.settle()
        rows, before = await dump(self.opened), bytes_of(self.folder)
        done = await reconcile(self.opened, self.folder)
        assert bytes_of(self.folder) == before, "a round that has nothing to do writes files"
        assert await dump(self.opened) == rows, "a round that has nothing to do writes rows"
        assert (done.taken_in, done.written, done.settled) == (0, (), ())
        held, told = await self.held(), self.told()
        texts = {key: (self.folder / one.path).read_bytes().decode() for key, one in told.items() if one.path}
        documents = {
            row["path"]: row["content_hash"]
            for row in await fetch(self.opened, "SELECT path, content_hash FROM bmad_artifacts WHERE path IS NOT NULL")
        }
        copies = [
            packed(row["content"])
            for row in await fetch(self.opened, "SELECT content FROM bmad_artifacts WHERE kind = 'conflict-copy'")
        ]
        copies += [packed(rendered(row["sections"])) for row in held.values()]
        project = read_project(self.folder)
        gates = {one.story_key: one for one in project.gates}
        for at, entry in enumerate(self.ledger):
            kind, key, name = entry.place
            match kind:
                case "section":
                    sides = entry.value, texts.get(key, ""), rendered(held[key]["sections"])
                    is_kept = all(packed(entry.value) in packed(one) for one in sides)
                case "status":
                    said = self.file_statuses().get(key, entry.value)
                    is_kept = held[key]["status"] == said == entry.value
                case "box":
                    boxes = [one.done for one in told[key].tasks if " ".join(one.text.split()) == name]
                    tasks = [one["status"] == "completed" for one in held[key]["tasks"] if one["title"] == name]
                    is_kept = boxes == tasks == [entry.value] * max(1, len(tasks))
                case "story":
                    is_kept = held[key]["title"] == entry.value == told[key].title and key in texts
                case "fields":
                    is_kept = {one: held[key][one] for one in entry.value} == entry.value
                case "gate":
                    ours = held[key]["gate"]
                    theirs = gates.get(key)
                    is_kept = (ours["gate"], ours["reason"]) == entry.value == (theirs and (theirs.gate, theirs.reason))
                case _:
                    is_kept = self.is_document(key, entry.value, documents)
            assert is_kept or self.excuse(at, entry, copies), f"lost: {entry} ({at})"

    def is_document(self, path, text, documents):
        known = hashlib.sha256(text.encode()).hexdigest()
        return documents[path] == known and (self.folder / path).read_bytes() == text.encode()

    def excuse(self, at, entry, copies):
        """Why an edit need not be there any more."""
        kind, key, name = entry.place
        earlier = [(one.side, one.place, one.round) for one in self.ledger[:at]]
        for later in self.ledger[at + 1 :]:
            # The same side edited it again, or the other one did when this edit had reached it.
            if later.place == entry.place and (later.side == entry.side or later.round > entry.round):
                return "edited again"
            if kind == "fields" and later.place == ("section", key, "Story"):
                return "edited again"
        if (
            kind == "status"
            and any(
                one.place == entry.place
                and one.side != entry.side
                and is_further(one, entry)
                # In the same round, or in conflict ever since.
                and all(
                    any(is_of(told, key) and told.field in ("status", "statuses") for told in done.conflicts)
                    for done in self.rounds[one.round : entry.round]
                )
                and one.round <= entry.round
                for one in self.ledger
            )
        ):
            return "the other side went further"
        if (entry.side, entry.place, entry.round) in earlier and (
            kind == "box" or (kind == "status" and self.starts[entry.round].get(key) is entry.value)
        ):
            return "back to where it was, which is no change"
        fields = {
            "section": (f"section {name}", "file"),
            "status": ("status", "statuses", "file"),
            "box": (f"box {name[:60]!r}", "file"),
            "document": ("content",),
            "gate": ("gate",),
        }.get(kind)
        for done in self.rounds[entry.round :]:
            if any(is_of(one, key) and (fields is None or one.field in fields) for one in done.conflicts):
                return "told"
            for one in done.settled:
                if one.conflict.key == key and fields is not None and one.conflict.field in fields:
                    if kind == "status":
                        return "settled"
                    # A heading within the text made a section of its own of what follows: that one stands.
                    if entry.side == "file" and all(any(one in copy for copy in copies) for one in pieces(entry.value)):
                        return "kept as a copy"
        return None


def is_further(one, entry):
    return entry.value is not StoryStatus.CANCELLED and RANK[one.value] > RANK[entry.value]


def is_of(conflict, key):
    of_task = story_name(conflict.path) if conflict.kind == "task" else None
    return conflict.key == key or (of_task is not None and of_task.key == key)


def packed(text):
    """A text without its blank lines and line ends: those belong to the file."""
    return "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").split("\n") if line.strip())


def pieces(text):
    found = markdown.headings(text)
    ends = [one.start for one in found] + [len(text)]
    return [packed(text[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]


def rendered(sections):
    return "\n".join(f"{'#' * one['level']} {one['name']}\n{one['text']}" for one in sections)


STEPS = (
    *("file_section", "file_section", "file_status", "file_status", "tracker_status", "file_box", "file_box"),
    *("file_story", "file_document", "tool_section", "tool_section", "tool_sentence", "tool_status", "tool_status"),
    *("tool_task", "tool_task", "tool_new_task", "tool_gate", "tool_story", "tool_document"),
    *("both_sections", "both_sections", "both_sections", "both_statuses", "settle", "settle", "settle", "settle"),
)


async def play(seeds, pool, tmp_path):
    for seed in seeds:
        one = Play(seed, tmp_path / f"p{seed}", TestWorkspace(await new_project(pool)))
        try:
            await one.settle()
            for _ in range(one.random.randint(3, 8)):
                await one.step()
            await one.finish()
        except AssertionError as error:
            raise AssertionError(
                f"play {seed} ({one.generation}): {', '.join(one.log)}\n{one.ledger}\n{error}"
            ) from error
        shutil.rmtree(one.folder)


@pytest.mark.parametrize("first", range(0, FEW, AT_ONCE))
async def test_no_edit_of_some_plays_is_lost(first, pool, tmp_path):
    await play(range(first, first + AT_ONCE), pool, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(FEW, ALL, AT_ONCE))
async def test_no_edit_of_a_thousand_plays_is_lost(first, pool, tmp_path):
    await play(range(first, first + AT_ONCE), pool, tmp_path)

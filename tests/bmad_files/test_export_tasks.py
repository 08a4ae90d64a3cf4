"""Tasks and check boxes stay the same work, whatever both sides do: no second task, no lost box, ticks follow."""

import random
import re
import shutil
from pathlib import Path

import pytest
from bmad_installs import write
from harness import TestWorkspace, new_project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_rows import fetch, story, tasks
from test_export import section

from bmad_mcp.bmad_files.exporting import export_folder
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.errors import VersionConflict
from bmad_mcp.operation import perform

PATH = "docs/stories/1.1.calendar.md"
TASKS = "## Tasks / Subtasks\n\n- [x] Collect the waters\n- [ ] Month page\n- [ ] Print style\n- [ ] Measure it\n\n"
TEXT = (
    f"# Story 1.1: Calendar\n\n## Status\n\nInProgress\n\n{TASKS}## Dev Notes\n\nKeep it short.\n\n## Testing\n\nOne.\n"
)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "shop", "docs/prd.md", "# Shop\n\n## Epic 1: All\n\nAll of it.\n")
    write(tmp_path / "shop", PATH, TEXT)
    return tmp_path / "shop"


def boxes(folder: Path) -> list[tuple[bool, str]]:
    found = re.findall(r"^ *- \[(.)\] (.+)$", (folder / PATH).read_text(), re.MULTILINE)
    return [(mark == "x", words) for mark, words in found]


async def held(opened) -> dict[str, tuple[bool, str]]:
    return {one["key"]: (one["status"] == "completed", one["title"]) for one in await tasks(opened, "1.1")}


async def key_of(opened, title):
    return next(key for key, (_, named) in (await held(opened)).items() if named == title)


@pytest.mark.parametrize("title", ["Month page", "Collect the waters", "Print style"])
async def test_a_renamed_task_and_a_new_one_are_one_box_each(folder, opened, run, title):
    await import_folder(opened, folder)
    key = await key_of(opened, title)
    claimed = await run("task_claim", task=key, agent="dev") if title == "Print style" else None
    await run("task_update", task=key, title="Quite another thing", **({"lease": claimed.lease} if claimed else {}))
    await run("task_create", title="extra", story="1.1")
    before = await held(opened)
    await export_folder(opened, folder)
    assert await held(opened) == before
    assert sorted(boxes(folder)) == sorted(before.values())
    assert (await import_folder(opened, folder)).changes == 0
    assert await held(opened) == before


async def test_an_export_makes_no_task_of_a_story_that_tools_made(folder, opened, run):
    await import_folder(opened, folder)
    made = (await run("story_create", epic="1", title="Gift cards")).story
    await run("agent_activate", agent="dev")
    await section(
        run, "1.1", "Tasks / Subtasks", f"{TASKS.partition(chr(10) * 2)[2].rstrip()}\n- [ ] Draw it\n- [ ] Sell it"
    )
    before = await held(opened)
    await export_folder(opened, folder)
    assert await tasks(opened, made.key) == []
    assert await held(opened) == before
    assert (await import_folder(opened, folder)).counts["task"].created == 2
    assert await tasks(opened, made.key) == []
    assert (await import_folder(opened, folder)).changes == 0


async def test_who_read_a_story_before_an_export_is_told_of_the_export(folder, opened, run):
    await import_folder(opened, folder)
    made = (await run("story_create", epic="1", title="Gift cards")).story
    await export_folder(opened, folder)
    with pytest.raises(VersionConflict, match=r"at version 2, not 1: local changed it at .* \(project_export\)"):
        await run("story_update", story=made.key, expected_version=1, status="ready")


async def test_a_renamed_task_still_ticks_its_box(folder, opened, run):
    await import_folder(opened, folder)
    key = await key_of(opened, "Month page")
    await run("task_update", task=key, title="Quite another thing")
    await run("task_create", title="extra", story="1.1")
    await export_folder(opened, folder)
    claimed = await run("task_start", task=key, agent="dev")
    await run("task_complete", task=key, lease=claimed.lease)
    await export_folder(opened, folder)
    assert boxes(folder)[1] == (True, "Quite another thing")


async def test_tasks_that_changed_names_keep_their_boxes(folder, opened, run):
    await import_folder(opened, folder)
    one, other = await key_of(opened, "Month page"), await key_of(opened, "Print style")
    await run("task_update", task=one, title="Print style")
    await run("task_update", task=other, title="Month page")
    claimed = await run("task_start", task=one, agent="dev")
    await run("task_complete", task=one, lease=claimed.lease)
    await export_folder(opened, folder)
    assert boxes(folder)[1:3] == [(True, "Print style"), (False, "Month page")]
    assert (await import_folder(opened, folder)).changes == 0
    now = await held(opened)
    assert (now[one], now[other]) == ((True, "Print style"), (False, "Month page"))


async def test_an_export_that_was_killed_after_the_writing_makes_no_second_task(folder, opened, run):
    await import_folder(opened, folder)
    await run("task_update", task=await key_of(opened, "Month page"), title="Quite another thing")
    await run("task_create", title="extra", story="1.1")
    before = await held(opened)
    # What the export had written when it was killed.
    text = (folder / PATH).read_text().replace("Month page", "Quite another thing")
    (folder / PATH).write_text(text.replace("Measure it\n", "Measure it\n- [ ] extra\n"))
    await import_folder(opened, folder)
    assert await held(opened) == before
    assert (await export_folder(opened, folder)).files == ()


async def test_words_that_both_sides_gave_a_box_are_told_and_both_stay(folder, opened, run):
    await import_folder(opened, folder)
    key = await key_of(opened, "Month page")
    await run("task_update", task=key, title="The page of a month")
    path = folder / PATH
    path.write_text(path.read_text().replace("Month page", "Month page, printed"))
    (conflict,) = (await import_folder(opened, folder)).conflicts
    assert (conflict.kind, conflict.key, conflict.file) == ("task", key, "Month page, printed")
    (conflict,) = (await export_folder(opened, folder)).conflicts
    assert conflict.database == "The page of a month"
    assert (False, "Month page, printed") in boxes(folder)
    assert (await held(opened))[key] == (False, "The page of a month")
    await run("task_update", task=key, title="Month page, printed")
    assert (await import_folder(opened, folder)).conflicts == ()


async def test_a_section_with_other_boxes_ticks_those_of_its_own(folder, opened, run):
    await import_folder(opened, folder)
    await run("agent_activate", agent="sm")
    key = await key_of(opened, "Month page")
    claimed = await run("task_start", task=key, agent="dev")
    await run("task_complete", task=key, lease=claimed.lease)
    await run("task_create", title="Look at it", story="1.1")
    told = "- [x] Collect the waters\n- [ ] Agree first\n- [ ] Month page\n- [ ] Print style\n- [ ] Measure it\n- [ ] Look at it"
    await section(run, "1.1", "Tasks / Subtasks", told)
    await export_folder(opened, folder)
    assert boxes(folder) == [
        (True, "Collect the waters"),
        (False, "Agree first"),
        (True, "Month page"),
        (False, "Print style"),
        (False, "Measure it"),
        (False, "Look at it"),
    ]
    assert (await import_folder(opened, folder)).updated.get("task", ()) == ()
    assert sorted((await held(opened)).values()) == sorted(boxes(folder))
    assert (await import_folder(opened, folder)).changes == 0


# ── what waits for an import ──


@pytest.mark.parametrize("edit", [("InProgress", "Review"), ("One.", "Two."), ("- [ ] Measure", "- [x] Measure")])
async def test_an_export_takes_no_edit_of_the_file_in(folder, opened, run, edit):
    await import_folder(opened, folder)
    await run("agent_activate", agent="sm")
    await section(run, "1.1", "Dev Notes", "Keep it long.")
    await run("task_update", task=await key_of(opened, "Month page"), title="Quite another thing")
    path = folder / PATH
    path.write_text(path.read_text().replace(*edit))
    before, tasks_before = await story(opened, "1.1"), await held(opened)
    report = await export_folder(opened, folder)
    assert report.newer
    assert "Keep it long." in path.read_text()
    assert (False, "Quite another thing") in boxes(folder)
    now = await story(opened, "1.1")
    assert (now["status"], await held(opened)) == (before["status"], tasks_before)
    assert "Two." not in str(now["sections"])
    again = await export_folder(opened, folder)
    assert (again.files, again.conflicts, again.newer) == ((), (), report.newer)
    assert again.render().endswith("\n\nNothing was written.\n")
    taken = await import_folder(opened, folder)
    assert (taken.changes > 0, taken.conflicts) == (True, ())
    now, tasks_now = await story(opened, "1.1"), await held(opened)
    assert (now["status"] == "review", "Two." in str(now["sections"]), tasks_now != tasks_before) == (
        edit[1] == "Review",
        edit[1] == "Two.",
        "x" in edit[1],
    )
    assert "Keep it long." in str(now["sections"])
    assert (await import_folder(opened, folder)).changes == 0
    last = await export_folder(opened, folder)
    assert (last.files, last.newer) == ((), ())


# ── random histories ──

WORDS = ("Look", "Write", "Measure", "Print", "Sail", "Dig", "Bake", "Weld")
STEPS = ("rename", "create", "complete", "reorder", "reword", "tick", "add", "notes", "export", "import")


class Play:
    """One random history; `log` is what was done, for whom it fails."""

    def __init__(self, workspace, folder, rng):
        self.workspace, self.folder, self.rng, self.count = workspace, folder, rng, 0
        self.opened, self.log, self.is_agreed = workspace.opened, [], True
        self.touched: set[str] = set()

    async def run(self, name, **arguments):
        return await perform(BY_NAME[name], arguments, Caller(), self.workspace)

    def title(self):
        self.count += 1
        return f"{self.rng.choice(WORDS)} {''.join(self.rng.sample('abcdefghijklmnopqrstuvwxyz', 12))} {self.count}"

    def rewrite(self, rows):
        text = (self.folder / PATH).read_text()
        begin = text.index("- [")
        end = text.index("## Dev Notes")
        told = "".join(f"- [{'x' if done else ' '}] {words}\n" for done, words in rows)
        (self.folder / PATH).write_text(f"{text[:begin]}{told}\n{text[end:]}")

    async def step(self, name):
        self.log.append(name)
        rows, now = boxes(self.folder), await held(self.opened)
        at = self.rng.randrange(len(rows))
        free = [key for key, (done, title) in now.items() if title not in self.touched]
        match name:
            case "rename" if free:
                await self.run("task_update", task=(key := self.rng.choice(free)), title=(title := self.title()))
                self.touched |= {now[key][1], title}
            case "create":
                await self.run("task_create", title=self.title(), story="1.1")
            case "complete":
                key = self.rng.choice(list(now))
                if not now[key][0]:
                    claimed = await self.run("task_start", task=key, agent="dev")
                    await self.run("task_complete", task=key, lease=claimed.lease)
            case "reorder":
                self.rng.shuffle(rows)
                self.rewrite(rows)
            case "reword" if rows[at][1] not in self.touched:
                words = f"{rows[at][1]} now"
                self.touched |= {rows[at][1], words}
                self.rewrite([*rows[:at], (rows[at][0], words), *rows[at + 1 :]])
            case "tick":
                self.rewrite([*rows[:at], (True, rows[at][1]), *rows[at + 1 :]])
            case "add":
                self.rewrite([*rows, (False, self.title())])
            case "notes":
                text = (self.folder / PATH).read_text()
                notes = text[text.index("## Dev Notes") : text.index("## Testing")]
                (self.folder / PATH).write_text(text.replace(notes, f"## Dev Notes\n\n{self.title()}\n\n"))
            case "export":
                await self.exported()
            case "import":
                await import_folder(self.opened, self.folder)

    async def exported(self):
        before = await held(self.opened)
        report = await export_folder(self.opened, self.folder)
        assert report.refused == ()
        assert await held(self.opened) == before, "an export changes tasks"

    async def settle(self):
        self.log.append("settle")
        for _ in range(2):
            await import_folder(self.opened, self.folder)
            await self.exported()
        self.touched.clear()
        now = await held(self.opened)
        assert sorted(now.values()) == sorted(boxes(self.folder))
        refs = await fetch(self.opened, "SELECT source_ref FROM bmad_tasks WHERE project_id = bmad_project()")
        assert not [one for one in refs if str(one["source_ref"]).endswith("#removed")]


async def play(pool, folder, seed, steps):
    write(folder, "docs/prd.md", "# Shop\n\n## Epic 1: All\n\nAll of it.\n")
    write(folder, PATH, TEXT)
    one = Play(TestWorkspace(await new_project(pool)), folder, random.Random(seed))
    try:
        await import_folder(one.opened, folder)
        for name in steps:
            await one.step(name)
        await one.settle()
        assert (await import_folder(one.opened, folder)).changes == 0
        assert (await export_folder(one.opened, folder)).files == ()
    except AssertionError as error:
        raise AssertionError(f"{seed}: {one.log}\n{boxes(folder)}\n{await held(one.opened)}\n{error}") from error
    finally:
        shutil.rmtree(folder)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.lists(st.sampled_from(STEPS), min_size=3, max_size=14))
async def test_no_task_is_doubled_and_no_box_is_lost(pool, tmp_path, seed, steps):
    await play(pool, tmp_path / "random", seed, steps)

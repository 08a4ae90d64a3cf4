"""What is written is read as it was meant, and an edit touches nothing else: for projects and texts nobody thought of."""

import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid5

import pytest
from bmad_installs import write
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_reader_lossless import TEXTS as STRANGE_TEXTS

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.merging import first_import, group_hash
from bmad_mcp.bmad_files.reader import read_project
from bmad_mcp.bmad_files.rows import Wanted, wanted_rows
from bmad_mcp.bmad_files.storable import Storable
from bmad_mcp.bmad_files.stories import status_marks
from bmad_mcp.bmad_files.story_rows import stored_sections
from bmad_mcp.bmad_files.values import BmadProject
from bmad_mcp.bmad_files.writing import yaml_edit
from bmad_mcp.bmad_files.writing.draft import ExportPlan, Held
from bmad_mcp.bmad_files.writing.plan import plan_export
from bmad_mcp.bmad_files.writing.targets import EPIC_WORDS
from bmad_mcp.bmad_files.writing.yaml_edit import NotEdited
from bmad_mcp.bmad_files.yaml_guard import YamlRefused, parse_yaml
from bmad_mcp.errors import BmadError
from bmad_mcp.lifecycles import StoryStatus
from bmad_mcp.shapes import one_line
from bmad_mcp.stories.sections import bare, name_for, text_of, with_text
from bmad_mcp.stories.wording import read_acceptance, read_story_sentence, sections_of, tidy

NOW = datetime(2026, 10, 20, 18, 30)
PROJECT = UUID(int=7)
BUILDING = "_bmad-output/implementation-artifacts"
TRACKER = f"{BUILDING}/sprint-status.yaml"
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


# ── what a database may hold ──

WORDS = st.sampled_from(
    [
        *(
            "sign in",
            "a: b",
            "— dash",
            "登录 ✅",
            "שלום עולם",
            "مرحبا",
            "‮gnp.exe",
            "\u200b zero",
            "é e\u0301",
            "👩‍👩‍👧",
        ),
        *(
            "'quoted'",
            '"double"',
            "back`tick`",
            "100 %",
            "#5",
            "C# and F#",
            "- [x] no box",
            "[x]",
            "a | b",
            "---",
            "***",
        ),
        *(
            "Status: Done",
            "so that",
            "{{name}}",
            "{project-root}",
            "~",
            "null",
            "yes",
            "1.10",
            "2026-10-01",
            "<!-- c -->",
        ),
        *("**bold**", "_it_", "\\n", "a\\b", "& * ! %", "@at", "x" * 300, "Story 9.9: other", "Epic 3", "?", ":", "…"),
    ]
)
PHRASES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
TITLES = PHRASES.map(lambda text: one_line(text)[:300].strip()).filter(lambda text: any(map(str.isalnum, text)))
LINES = st.sampled_from(
    [
        *(
            "plain words",
            "",
            "  ",
            "- bullet",
            "  - deeper",
            "* star",
            "1. one",
            "- [ ] box",
            "- [x] ticked",
            "  - [X] sub",
        ),
        *(
            "| a | b |",
            "|---|---|",
            "---",
            "***",
            "> quote",
            "    # code",
            "#no-heading",
            "#",
            "#### Deep: er #",
            "### Sub",
        ),
        *("key: value", "Status: Done", "**Status:** Draft", "As a x, I want y, so that z.", "\tTab", "trailing  "),
        *(
            "שלום `קוד` عربي",
            "登录 é ✅ 👩‍👩‍👧",
            "‮reversed",
            "'single' \"double\"",
            "a\\",
            "<!-- hidden -->",
            "\ufeffmark",
        ),
        *(
            "x" * 2500,
            "lone \x0c feed",
            "line\u2028sep",
            "nel\x85",
            "%%",
            "@user",
            "{{ variable }}",
            "```inline```",
            "~~~~",
        ),
    ]
)
FENCES = st.sampled_from(
    [
        "```python\n# not a heading\n## neither\n- [ ] no box\n---\n```",
        "~~~\n### in tildes\nStatus: Done\n~~~",
        "````md\n```\n## nested\n```\n````",
    ]
)
TEXTS = st.tuples(st.lists(LINES | FENCES, max_size=8), st.sampled_from(["\n", "\r\n", "\n\n"])).map(
    lambda parts: parts[1].join(one.replace("\n", parts[1]) if parts[1] == "\r\n" else one for one in parts[0])
)
NAMES = st.sampled_from(
    ["Story", "Acceptance Criteria", "Tasks / Subtasks", "Dev Notes", "Testing", "Change Log", "Dev Agent Record"]
    + [
        "File List",
        "QA Results",
        "Risks: what can go wrong?",
        "‮Notes 登录",
        "Open (questions)",
        "a | b",
        "`code`",
        "Ünï",
    ]
)
ISSUES = st.builds(
    lambda severity, finding, number: {"id": f"SEC-{number:03}", "severity": severity, "finding": finding},
    st.sampled_from(["low", "medium", "high"]),
    PHRASES,
    st.integers(1, 999),
)
GATES = st.fixed_dictionaries(
    {
        "gate": st.sampled_from(["PASS", "CONCERNS", "FAIL", "WAIVED"]),
        "reason": PHRASES,
        "reviewer": st.sampled_from(["qa", "Quinn: the tester", "local"]),
        "updated": st.just("2026-10-05T10:00:00Z"),
        "score": st.integers(0, 100),
    },
    optional={
        "issues": st.lists(ISSUES, min_size=1, max_size=3),
        "waiver": PHRASES.map(lambda text: {"active": True, "reason": text, "approved_by": "Alex"}),
        "nfr": st.just({"security": {"status": "PASS"}, "performance": {"status": "FAIL"}}),
        "risk": st.integers(0, 10).map(lambda score: {"highest": {"score": score}}),
    },
)


@st.composite
def stories(draw):
    """A story as story_create, story_update, gate_record and task_create leave it."""
    clauses = draw(st.tuples(*[st.one_of(st.just(""), PHRASES.map(one_line))] * 3))
    acceptance = [
        text for text in map(tidy, draw(st.lists(PHRASES | TEXTS.map(lambda one: one[:900]), max_size=4))) if text
    ]
    row = dict(zip(("role", "want", "benefit"), clauses, strict=True)) | {
        "title": draw(TITLES),
        "acceptance": acceptance,
        "sections": sections_of(*clauses, acceptance),
        "gate": draw(st.none() | GATES),
        "source_path": None,
    }
    for name, text in draw(st.lists(st.tuples(NAMES, TEXTS), max_size=4)):
        # New boxes go behind the last one, wherever that is: here it is not below another heading.
        if name.startswith("Tasks") and markdown.headings(text):
            continue
        # What a tool refuses is in no database.
        with suppress(BmadError):
            _set_section(row, name, text)
    tasks = draw(st.lists(st.tuples(TITLES, st.booleans()), max_size=4, unique_by=lambda one: one[0]))
    return row, draw(st.sampled_from(list(StoryStatus))), tasks


def _set_section(row, section, text):
    """As story_update does it."""
    name, governs = name_for(row["sections"], section)
    row["sections"] = with_text(row["sections"], name, text, governs)
    if governs == "Acceptance Criteria":
        row["acceptance"] = read_acceptance(text_of(row["sections"], governs))
    elif governs == "Story" and (sentence := read_story_sentence(text_of(row["sections"], governs))):
        row |= dict(zip(("role", "want", "benefit"), sentence, strict=True))


@st.composite
def held_projects(draw):
    """All that a project may hold that no file tells yet."""
    told = {
        f"{epic}.{number}": draw(stories()) for epic, count in draw(COUNTS).items() for number in range(1, count + 1)
    }
    ids = {key: uuid5(PROJECT, key) for key in told}
    numbers = iter(range(1, 100))
    return Held(
        stories={
            key: {"id": ids[key], "key": key, "status": status.value, "imported": None, "row": row}
            for key, (row, status, _) in told.items()
        },
        tasks={
            ids[key]: [_task(next(numbers), ids[key], *one) for one in tasks] for key, (_, _, tasks) in told.items()
        },
        epics={
            epic: {
                "key": epic,
                "title": draw(TITLES),
                "goal": draw(GOALS),
                "status": draw(st.sampled_from(list(EPIC_WORDS))).value,
                "extra": {},
                "source_path": None,
            }
            for epic in sorted({key.partition(".")[0] for key in told})
        },
    )


COUNTS = st.dictionaries(st.sampled_from(["1", "2", "12"]), st.integers(1, 2), min_size=1, max_size=2)
# An epic ends at the next heading of its level or above: its goal has none.
GOALS = TEXTS.map(str.strip).filter(lambda text: not re.search(r"(?m)^ {0,3}(#{1,6}|```|~~~)", text))


def _task(number, story, title, done):
    return {
        "id": uuid5(PROJECT, f"task {number}"),
        "number": number,
        "story_id": story,
        "title": title,
        "status": "completed" if done else "pending",
        "raw_status": None,
        "source": "tool",
        "source_ref": None,
    }


# ── read(write(p)) == p ──

PLAIN = re.compile(r"(?!.*\b(?:so|want)\b)\w[\w ]*")


def empty(root: Path, generation: str) -> Path:
    """A project of that generation that tells nearly nothing yet."""
    if generation == "v4":
        write(root, ".bmad-core/core-config.yaml", "markdownExploder: true\ndevStoryLocation: docs/stories\n")
        write(root, "docs/prd.md", "# Shop\n")
    else:
        write(root, "_bmad/bmm/config.yaml", "project_name: shop\noutput_folder: _bmad-output\n")
        write(root, TRACKER, "generated: 10-01-2026 09:00\n\ndevelopment_status:\n  epic-7: backlog\n")
    return root


def rows_of(root: Path) -> tuple[BmadProject, Wanted]:
    project = read_project(root)
    return project, wanted_rows(project, PROJECT, "import")


def write_all(root: Path, plan: ExportPlan) -> None:
    for change in plan.changes.values():
        target = root / change.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(change.text.encode())


def sections_told(rows) -> list[tuple[str, int, str]]:
    """Sections with their sub-headings as sections of their own: that is what a heading is in a file."""
    told = []
    for row in rows:
        # A carriage return alone is a blank: which ones stand around a text is the file's.
        text = row["text"].replace("\r", "")
        found = markdown.headings(text)
        told.append((row["name"], row["level"], text[: found[0].start] if found else text))
        told += [(one.name, one.level, one.text) for one in markdown.sections(text, found)]
    # Blank lines around a text belong to the file.
    return [(" ".join(name.split()), level, bare(text)) for name, level, text in told]


def boxes_of(row) -> list[tuple[str, bool]]:
    return [(box.title, box.done) for box in row.boxes]


@pytest.mark.parametrize("generation", ["v4", "v6"])
@QUICK
@given(held=held_projects())
def test_what_is_written_reads_as_it_was_held(tmp_path_factory, generation, held):
    root = empty(tmp_path_factory.mktemp("made"), generation)
    project, wanted = rows_of(root)
    plan = plan_export(project, wanted, held, NOW)
    assert not plan.conflicts, plan.conflicts
    write_all(root, plan)
    again, rows = rows_of(root)
    assert not [
        one for one in again.deviations if one.code in ("status-differs", "story-twice", "yaml", "reader-fault")
    ]
    assert {row.key for row in rows.stories} == held.stories.keys()
    for row in rows.stories:
        _is_as_held(row, held)
    epics = {row.key: row for row in rows.epics}
    assert epics.keys() - {"7"} == held.epics.keys()
    for key, record in held.epics.items():
        assert epics[key].merged["goal"] == record["goal"]
        # A heading holds no title that begins or ends with marks of its own.
        assert epics[key].merged["title"] == record["title"] or record["title"].strip(":—-*# ") != record["title"]
        if generation == "v6":
            # A tracker has one word for two of the statuses.
            assert EPIC_WORDS[epics[key].status] == EPIC_WORDS[StoryStatus(record["status"])]
    second = plan_export(again, rows, _imported(held, rows), NOW)
    assert (second.changes, second.conflicts, second.newer) == ({}, [], [])


def _is_as_held(row, held):
    record = held.stories[row.key]
    ours = record["row"]
    assert (row.status.value, row.has_status) == (record["status"], True)
    is_plain = all(PLAIN.fullmatch(ours[name]) for name in ("title", "role", "want", "benefit"))
    for name in ("title", "role", "want", "benefit", "acceptance"):
        # A sentence holds no clause alone, no marks and no second "so that"; then the database keeps its own.
        assert not is_plain or row.merged[name] == ours[name], name
    gate = {name: value for name, value in (row.merged["gate"] or {}).items() if name != "file"}
    assert gate == (ours["gate"] or {})
    tasks = held.tasks[record["id"]]
    own = [one for one in sections_told(row.sections) if one[0] != "Tasks / Subtasks"]
    assert own == [one for one in sections_told(ours["sections"]) if one[0] != "Tasks / Subtasks"]
    made = [(" ".join(one["title"].split()), one["status"] == "completed") for one in tasks]
    assert boxes_of(row)[len(row.boxes) - len(made) :] == made


def _imported(held, rows):
    """The same as an import leaves it."""
    stories = {}
    for row in rows.stories:
        known = held.stories[row.key]
        imported = first_import(row.merged, row.sections, row.status.value, row.fingerprint)
        values = {**row.merged, "sections": list(row.sections), "source_path": row.path}
        stories[row.key] = {**known, "imported": imported, "row": values}
    tasks = {
        stories[row.key]["id"]: [
            _task(number, None, box.title, box.done)
            | {"raw_status": box.raw, "source": "import", "source_ref": f"{row.path}#{box.ordinal}"}
            for number, box in enumerate(row.boxes, 1)
        ]
        for row in rows.stories
    }
    return Held(stories=stories, tasks=tasks)


# ── an edit of a story's file touches nothing else ──

STORY = "docs/stories/1.1.a.md"
STORY_TEXTS = st.one_of(
    STRANGE_TEXTS,
    # So that most have something to edit.
    st.tuples(st.sampled_from(["", "\ufeff"]), STRANGE_TEXTS, STRANGE_TEXTS, st.sampled_from(["\n", "\r\n"])).map(
        lambda parts: (
            f"{parts[0]}# Story 1.1: A\n\n## Status\n\nDraft\n\n## Tasks / Subtasks\n\n- [ ] a\n  - [x] b: `c`\n{parts[1]}"
            f"\n## Dev Notes\n{parts[2]}\n## Dev Notes\n\nagain\n"
        ).replace("\n", parts[3])
    ),
)


def has_its_line_ends(before: str, after: str) -> bool:
    """Whether a text of one kind of line ends has only these afterwards."""
    windows, all_of_them = before.count("\r\n"), before.count("\n")
    # Of several kinds, or with a carriage return alone, which the next line end makes one of Windows.
    if windows not in (0, all_of_them) or "\r" in before.replace("\r\n", ""):
        return True
    return after.count("\r\n") == (after.count("\n") if windows else 0)


def told_in(root: Path, text: str):
    """The file's story, its row, and the database as an import of it leaves it; None where it is no story."""
    write(root, STORY, "").write_bytes(text.encode())
    project, wanted = rows_of(root)
    if len(wanted.stories) != 1 or project.stories[0].path != STORY:
        return None
    (row,) = wanted.stories
    record = {"id": PROJECT, "key": "1.1", "status": row.status.value, "imported": None, "row": {}}
    return project, wanted, _imported(Held(stories={"1.1": record}), wanted)


def exported(root: Path, project, wanted, held) -> str | None:
    """The file's new text, None where the edit was refused; writes it."""
    plan = plan_export(project, wanted, held, NOW)
    assert plan.changes.keys() <= {STORY}
    assert plan.newer == []
    if STORY in plan.changes:
        assert not [one for one in plan.conflicts if one.path == STORY]
        write_all(root, plan)
    else:
        assert plan.conflicts, "neither written nor refused"
    if STORY not in plan.changes:
        return None
    before, after = plan.changes[STORY].before.text, plan.changes[STORY].text
    assert has_its_line_ends(before, after)
    return after


def is_only_added(before: str, after: str) -> bool:
    """Whether one block was added, and nothing taken away."""
    grown = len(after) - len(before)
    return grown >= 0 and any(
        after == before[:at] + after[at : at + grown] + before[at:] for at in range(len(before) + 1)
    )


def names_of(row) -> list[tuple[str, int]]:
    return [(one["name"], one["level"]) for one in row.sections]


@QUICK
@given(text=STORY_TEXTS, new=TEXTS, data=st.data())
def test_an_edited_section_changes_nothing_outside_of_it(tmp_path_factory, text, new, data):
    root = tmp_path_factory.mktemp("story")
    told = told_in(root, text)
    assume(told is not None)
    project, wanted, held = told
    row, record = wanted.stories[0], held.stories["1.1"]["row"]
    before = record["sections"]
    # A heading without words has no name to stand behind.
    assume(all(one["name"] for one in before))
    name = data.draw(st.sampled_from([*(one["name"] for one in before), "Dev Notes", "Risks", "Testing"]))
    try:
        record["sections"] = with_text(before, name, new, None)
    except BmadError:
        assume(False)
    changed = [at for at, one in enumerate(record["sections"]) if one not in before]
    assume(group_hash(before) != group_hash(record["sections"]))
    after = exported(root, project, wanted, held)
    if after is None:
        return
    if len(before) == len(record["sections"]):
        (at,) = changed
        (story,) = project.stories
        section = list(stored_sections(story.sections, STORY, Storable()))[at][0]
        position = story.sections.index(section)
        begin = len(story.extra["preamble"] + "".join(one.heading + one.text for one in story.sections[:position]))
        begin += len(section.heading)
        assert after.startswith(text[:begin])
        rest = text[begin + len(section.text) :]
        assert after[begin:].endswith(rest)
        was, now = (one.replace("\r", "") for one in (section.text, after[begin : len(after) - len(rest)]))
        if bare(was) and bare(now):
            # The blank lines around it are those of the file.
            assert now.startswith(was[: -len(was.lstrip("\n"))])
            assert now.endswith(was[len(was.rstrip("\n")) :])
    else:
        assert is_only_added(text, after)
    _, again = rows_of(root)
    assert sections_told(again.stories[0].sections) == sections_told(record["sections"])
    assert (again.stories[0].status, again.stories[0].merged["title"]) == (row.status, row.merged["title"])


@QUICK
@given(text=STORY_TEXTS, data=st.data())
def test_a_ticked_box_changes_its_mark_only(tmp_path_factory, text, data):
    root = tmp_path_factory.mktemp("story")
    told = told_in(root, text)
    assume(told is not None and told[1].stories[0].boxes)
    project, wanted, held = told
    boxes = wanted.stories[0].boxes
    at = data.draw(st.integers(0, len(boxes) - 1))
    (tasks,) = held.tasks.values()
    tasks[at]["status"] = "pending" if boxes[at].done else "completed"
    after = exported(root, project, wanted, held)
    # A check box is a line of its own: there is nothing that could stand in the way.
    assert after is not None
    line = project.stories[0].tasks[at].line - 1
    old, new = text.split("\n"), after.split("\n")
    assert (old[:line], old[line + 1 :]) == (new[:line], new[line + 1 :])
    begin, end = old[line].index("[") + 1, old[line].index("]")
    assert new[line] == f"{old[line][:begin]}{' ' if boxes[at].done else 'x'}{old[line][end:]}"
    _, again = rows_of(root)
    assert [one.done for one in again.stories[0].boxes] == [one.done is not (one is boxes[at]) for one in boxes]


@QUICK
@given(text=STORY_TEXTS, title=TITLES, done=st.booleans())
def test_a_new_box_is_only_added(tmp_path_factory, text, title, done):
    root = tmp_path_factory.mktemp("story")
    told = told_in(root, text)
    assume(told is not None)
    project, wanted, held = told
    boxes = boxes_of(wanted.stories[0])
    assume(title not in [one for one, _ in boxes])
    held = Held(held.stories, {PROJECT: [*held.tasks[PROJECT], _task(999, PROJECT, title, done)]})
    after = exported(root, project, wanted, held)
    if after is None:
        return
    assert is_only_added(text, after)
    _, again = rows_of(root)
    assert boxes_of(again.stories[0]) == [*boxes, (" ".join(title.split()), done)]
    assert again.stories[0].status is wanted.stories[0].status


@QUICK
@given(text=STORY_TEXTS, status=st.sampled_from(list(StoryStatus)))
def test_a_new_status_changes_its_own_lines_only(tmp_path_factory, text, status):
    root = tmp_path_factory.mktemp("story")
    told = told_in(root, text)
    assume(told is not None and told[1].stories[0].status is not status)
    project, wanted, held = told
    held.stories["1.1"]["status"] = status.value
    after = exported(root, project, wanted, held)
    if after is None:
        return
    marks = status_marks(text)
    if marks:
        old, new = text.split("\n"), after.split("\n")
        lines = {mark.line - 1 for mark in marks}
        if any(mark.form == "front matter" for mark in marks):
            lines |= {at for at, line in enumerate(old) if line.lstrip("\ufeff").startswith("status:")}
        assert [one for at, one in enumerate(old) if at not in lines] == [
            one for at, one in enumerate(new) if at not in lines
        ]
    else:
        assert is_only_added(text, after)
    _, again = rows_of(root)
    assert (again.stories[0].status, again.stories[0].has_status) == (status, True)
    assert names_of(again.stories[0]) == names_of(wanted.stories[0])
    assert boxes_of(again.stories[0]) == boxes_of(wanted.stories[0])


# ── so does one of a YAML file ──

KEYS = st.sampled_from(["a", "gate", "status_reason", "1-2-sign-in", "epic-1", "登录", "a b", "x.y", "__", "10"])
VALUES = st.sampled_from(
    [
        *("done", "''", '""', "'it''s'", '"a \\" b # c"', "~", "", "1", "1.10", "true", "[]", "{}", "{active: false}"),
        *("2026-10-01", "'2026-10-01'", "'a: b'", "[a, 'b']", '"\\u0416 \\\\ \\n"', "登录 ✅", "שלום", "x" * 200),
        *(
            "|\n{0}  block\n{0}  # no comment\n",
            ">-\n{0}  folded\n{0}  text",
            "plain\n{0}  goes on",
            "\n{0}- a\n{0}- b: c",
        ),
    ]
)
COMMENTS = st.sampled_from(["", "", "", "  # why: so", " #", "\t# tab"])
GAPS = st.sampled_from(["", "", "\n", "# a comment: here\n", "   # indented\n", "\n\n"])
NEW_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**6),
    st.sampled_from(
        ["", "done", "it's", 'say "x"', "a: b", "# no", "- x", "~", "1.10", "no", "two\nlines", " edge ", "登录 👩‍👩‍👧"]
    ),
    st.sampled_from(
        ["\ttab", "\x85", "\u2028", "\ufeff", "x" * 300, "{a}", "[b", "&c", "*d", "!e", "%f", "@g", "`h", "|", ">", "?"]
    ),
)
ANY_VALUES = NEW_VALUES | st.sampled_from(
    [[], {}, ["a", "b: c"], {"k": "v", "n": ["x"]}, [{"id": "A-1", "finding": "x: y"}]]
)


@st.composite
def mappings(draw):
    """A YAML text of keys and values, some with keys below; may read as nothing at all."""
    rows = []
    for key in draw(st.lists(KEYS, max_size=5, unique=True)):
        rows.append(draw(GAPS))
        shown = draw(st.sampled_from([key, f"'{key}'", f'"{key}"']))
        if draw(st.booleans()):
            rows.append(f"{shown}:{draw(COMMENTS)}\n")
            for below in draw(st.lists(KEYS, min_size=1, max_size=4, unique=True)):
                rows += [draw(GAPS), _entry("  ", below, draw(VALUES), draw(COMMENTS))]
        else:
            rows.append(_entry("", shown, draw(VALUES), draw(COMMENTS)))
    text = draw(st.sampled_from(["", "\ufeff", "---\n"])) + "".join(rows) + draw(GAPS)
    return (text if draw(st.booleans()) else text.rstrip("\n")).replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


def _entry(indent, key, value, comment):
    # Behind several lines there is no place for a comment.
    return f"{indent}{key}: {value.replace('{0}', indent)}".rstrip("\n") + ("" if "\n" in value else comment) + "\n"


def parsed(text):
    try:
        return parse_yaml(text, keep_repeated=True)
    except YamlRefused:
        return None


def outside(text, places):
    """The lines of a text that no place covers."""
    return [one for at, one in enumerate(text.split("\n"), 1) if not any(begin <= at <= end for begin, end in places)]


@settings(QUICK, max_examples=150)
@given(text=mappings(), data=st.data())
def test_set_values_changes_the_lines_of_its_keys_only(text, data):
    before = parsed(text)
    assume(before is not None and isinstance(before.value, dict) and before.places)
    paths = data.draw(st.lists(st.sampled_from(sorted(before.places)), min_size=1, max_size=3, unique=True))
    assume(not any(one[:1] in paths and len(one) == 2 for one in paths))
    changes = {path: data.draw(ANY_VALUES if len(path) == 1 else NEW_VALUES) for path in paths}
    try:
        after = yaml_edit.set_values(text, changes)
    except NotEdited:
        return
    wanted = {key: dict(one) if isinstance(one, dict) else one for key, one in before.value.items()}
    for path, value in changes.items():
        (wanted if len(path) == 1 else wanted[path[0]])[path[-1]] = value
    assert parsed(after).value == wanted
    assert list(parsed(after).value) == list(before.value)
    kept = outside(text, [_extent(text, before, path) for path in paths])
    left = iter(after.split("\n"))
    assert all(row in left for row in kept), "a line that was not to change is gone or stands elsewhere"
    if len(paths) == 1:
        line, end, column = before.places[paths[0]]
        was = before.value[paths[0][0]] if len(paths[0]) == 1 else before.value[paths[0][0]][paths[0][1]]
        value = changes[paths[0]]
        if (
            line == end
            and not isinstance(was, dict | list)
            and "\n" not in str(value)
            and not isinstance(value, dict | list)
        ):
            # What stands behind the value on its line, such as a comment.
            told = text.split("\n")[line - 1][column:].strip() if was is not None else ""
            assert after.split("\n")[line - 1].rstrip().endswith(told), told
        begin, end = _extent(text, before, paths[0])
        rows = text.split("\n")
        assert after.startswith("\n".join([*rows[: begin - 1], ""]))
        assert after.endswith("\n".join(["", *rows[end:]]) if end < len(rows) else "")


def _extent(text, loaded, path):
    """The lines from a key to the next one, without the comments and blank lines before that."""
    begin, end, _ = loaded.places[path]
    rows = text.split("\n")
    value = loaded.value
    for key in path:
        value = value[key]
    if isinstance(value, dict | list) or end > begin:
        starts = sorted(one[0] for other, one in loaded.places.items() if len(other) <= len(path))
        end = next((one - 1 for one in starts if one > begin), len(rows))
        while end > begin and (not rows[end - 1].strip() or rows[end - 1].lstrip().startswith("#")):
            end -= 1
    return begin, end


@settings(QUICK, max_examples=100)
@given(text=mappings(), data=st.data())
def test_add_entries_only_adds_lines(text, data):
    before = parsed(text)
    assume(before is not None and isinstance(before.value, dict))
    parents = sorted({one[0] for one in before.places if len(one) == 2})
    assume(parents)
    parent = data.draw(st.sampled_from(parents))
    after_key = data.draw(st.none() | st.sampled_from(sorted(before.value[parent])))
    words = data.draw(
        st.dictionaries(st.sampled_from(["9-1-new", "epic-9", "n: m", "# odd", "~"]), NEW_VALUES, min_size=1)
    )
    try:
        after = yaml_edit.add_entries(text, parent, words, after_key)
    except NotEdited:
        return
    assert parsed(after).value == {**before.value, parent: {**before.value[parent], **words}}
    assert is_only_added(text, after)
    if after_key is not None:
        keys = list(parsed(after).value[parent])
        assert keys[keys.index(after_key) + 1] == next(iter(words))


@settings(QUICK, max_examples=100)
@given(text=mappings(), word=st.sampled_from(["cancelled", "dropped: see 1.2", "it's"]), data=st.data())
def test_comment_out_changes_one_line(text, word, data):
    before = parsed(text)
    assume(before is not None and isinstance(before.value, dict))
    below = sorted(one for one in before.places if len(one) == 2)
    assume(below)
    parent, key = data.draw(st.sampled_from(below))
    try:
        after = yaml_edit.comment_out(text, parent, key, word)
    except NotEdited:
        return
    left = {name: one for name, one in before.value[parent].items() if name != key}
    assert parsed(after).value == {**before.value, parent: left or None}
    line = before.places[parent, key][0] - 1
    old, new = text.split("\n"), after.split("\n")
    assert (old[:line], old[line + 1 :]) == (new[:line], new[line + 1 :])
    assert re.match(r"\s+# ", new[line])
    assert parsed(new[line].replace("# ", "", 1).strip()).value == {key: word}

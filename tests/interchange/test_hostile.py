"""Whatever stands in a file of another tool: it is told in a line of the report, and nothing crashes or leaks."""

import json
import os
import time
from pathlib import Path
from uuid import UUID

import pytest
from boards import beads, issue, task, taskmaster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_rows import fetch

from bmad_mcp.errors import Invalid
from bmad_mcp.interchange.dependencies import Tree, settled_parents, waiting
from bmad_mcp.interchange.importing import READERS, import_board, import_from
from bmad_mcp.interchange.shaping import wanted_rows
from bmad_mcp.interchange.values import Board, Item

FILES = {
    "taskmaster": ".taskmaster/tasks/tasks.json",
    "backlog": "backlog/tasks/task-1 - A.md",
    "beads": ".beads/issues.jsonl",
}
GOOD = {
    "taskmaster": json.dumps({"master": {"tasks": [task(1, "A")]}}),
    "backlog": "---\nid: TASK-1\ntitle: A\nstatus: To Do\n---\n\nText\n",
    "beads": json.dumps(issue("bd-1", "A")) + "\n",
}
SOURCES = sorted(FILES)


def place(root: Path, source: str) -> Path:
    target = root / FILES[source]
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


async def codes(workspace, source: str, root: Path) -> set[str]:
    report = await import_from(workspace.opened, source, root)
    json.dumps(report.as_json())
    assert report.render()
    return {one.code for one in report.deviations}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xff\xfe{\x00}\x00", "not-utf-8"),
        (b'{"a": "\xc3\x28"}', "not-utf-8"),
        (b'{"a": "\x00"}', "nul"),
    ],
)
async def test_bytes_that_are_no_text_are_kept_and_told(workspace, tmp_path, source, content, code):
    place(tmp_path, source).write_bytes(content)
    assert await codes(workspace, source, tmp_path) == {code}
    kept = "SELECT encoding FROM bmad_artifacts WHERE project_id = bmad_project() AND kind = 'tracker'"
    assert [row["encoding"] for row in await fetch(workspace.opened, kept)] == ["base64"]


@pytest.mark.parametrize("source", SOURCES)
async def test_a_file_of_100_mb_is_not_read(workspace, tmp_path, source):
    with place(tmp_path, source).open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    began = time.monotonic()
    assert await codes(workspace, source, tmp_path) == {"too-large"}
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["link-outside", "pipe", "folder", "broken"])
async def test_what_is_no_plain_file_inside_is_not_opened(workspace, tmp_path, source, kind):
    root = tmp_path / "project"
    target = place(root, source)
    (tmp_path / "secret").write_text(GOOD[source].replace('"A"', '"Secret"').replace(": A", ": Secret"))
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "secret" if kind == "link-outside" else "nowhere")
    report = await import_from(workspace.opened, source, root)
    # In a folder of tasks another folder is nothing odd.
    assert report.deviations or (source, kind) == ("backlog", "folder")
    assert await fetch(workspace.opened, "SELECT title FROM bmad_tasks WHERE project_id = bmad_project()") == []


@pytest.mark.parametrize("source", SOURCES)
async def test_marks_of_a_merge_are_told(workspace, tmp_path, source):
    other = GOOD[source].replace('"A"', '"B"')
    text = f"<<<<<<< HEAD\n{GOOD[source]}\n=======\n{other}\n>>>>>>> theirs\n"
    place(tmp_path, source).write_text(text)
    assert "merge-conflict" in await codes(workspace, source, tmp_path)


@pytest.mark.parametrize(
    ("source", "text", "code"),
    [
        ("taskmaster", "[" * 100_000, "json"),
        ("taskmaster", '{"master": {"tasks": [' + '{"id":1,"subtasks":[' * 60 + "]}" * 60 + "]}}", "json"),
        ("taskmaster", '{"master": {"tasks": [{"id": ' + "9" * 5000 + "}]}}", "json"),
        ("taskmaster", "{}", "json-shape"),
        ("taskmaster", "null", "json-shape"),
        ("taskmaster", '{"master": {"tasks": [1, null, "x", {"id": true}, {"id": {}}]}}', "no-id"),
        ("taskmaster", '{"\\ud800": {"tasks": [{"id": 1, "title": "\\udfff\\u0000"}]}}', "not-storable"),
        ("taskmaster", '{"master": {"tasks": [{"id": 1}, {"id": 1}]}}', "id-twice"),
        ("taskmaster", '{"master": {"tasks": [{"id": 1, "dependencies": [99, "x", null, 1.5]}]}}', "dependency"),
        ("taskmaster", '{"master": {"tasks": [{"id": 1, "dependencies": [1]}]}}', "circle"),
        ("beads", "[" * 100_000, "json"),
        ("beads", "{}\n[]\n1\n\n", "no-id"),
        ("beads", '{"id": "a", "title": "\\ud800"}', "not-storable"),
        ("beads", '{"id": "a", "dependencies": [{"depends_on_id": "a", "type": "parent-child"}]}', "parent"),
        ("beads", '{"id": "a", "dependencies": [1, {}, {"depends_on_id": "a", "type": "blocks"}]}', "circle"),
        ("backlog", "no front matter", "no-id"),
        ("backlog", "---\nid: [\n---\n", "yaml"),
        ("backlog", "---\nid: &a [*a]\n---\n", "yaml-alias"),
        ("backlog", "---\ntitle: One\n---\n", "no-id"),
        ("backlog", '---\nid: a\ntitle: "\\ud800\\0"\n---\n', "yaml"),
        ("backlog", "---\nid: A\nparent_task_id: A\n---\n", "parent"),
    ],
)
async def test_odd_content_is_told(workspace, tmp_path, source, text, code):
    place(tmp_path, source).write_text(text)
    assert code in await codes(workspace, source, tmp_path)


async def test_the_lines_beside_a_broken_one_are_read(workspace, tmp_path):
    lines = [json.dumps(issue("a", "A")), "{broken", json.dumps(issue("b", "B"))]
    place(tmp_path, "beads").write_text("\n".join(lines))
    report = await import_from(workspace.opened, "beads", tmp_path)
    assert [(one.line, one.code) for one in report.deviations] == [(2, "json")]
    assert report.counts["task"].created == 2


async def test_a_file_name_that_is_not_utf_8(workspace, tmp_path):
    folder = place(tmp_path, "backlog").parent
    with open(os.fsencode(folder) + b"/task-\xff.md", "w") as file:
        file.write("---\nid: TASK-1\ntitle: One\nstatus: odd word\nparent_task_id: X\n---\n")
    assert await codes(workspace, "backlog", tmp_path) == {"status-word", "parent"}
    assert (await import_from(workspace.opened, "backlog", tmp_path)).changes == 0


async def test_a_board_of_a_reader_that_breaks_the_rules_is_refused(workspace):
    for board in (
        Board("Not A Name", "x"),
        Board("x", "x", (Item("a", "A"), Item("a", "B"))),
        Board("x", "x", (Item("\ud800", "A"),)),
        Board("x", "x", (Item("", "A"),)),
    ):
        with pytest.raises(Invalid):
            await import_board(workspace.opened, board)


def test_a_large_hostile_board_is_shaped_in_time(tmp_path):
    began = time.monotonic()
    chain = [Item(str(n), "x", parent=str(n + 1), depends_on=(str(n + 2),)) for n in range(2_500)]
    star = [Item(f"s{n}", "x", parent=f"p{n % 2}", depends_on=("p0", "p1")) for n in range(2_500)]
    ring = [Item(f"r{n}", "x", depends_on=(f"r{(n + 1) % 2_500}",)) for n in range(2_500)]
    items = (*chain, Item("p0", "x"), Item("p1", "x"), *star, *ring)
    wanted = wanted_rows(Board("x", "x", items), UUID(int=1))
    assert len(wanted.tasks) > 5_000
    assert time.monotonic() - began < 10


EDGES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30)


@settings(max_examples=150, deadline=None)
@given(EDGES, st.lists(st.one_of(st.none(), st.integers(0, 10)), min_size=10, max_size=10))
def test_what_is_left_of_the_dependencies_has_no_circle(edges, around):
    items = [Item(str(n), "x", parent=None if parent is None else str(parent)) for n, parent in enumerate(around)]
    parents, _ = settled_parents(items)
    tree = Tree(parents)
    found = waiting([(str(one), str(other)) for one, other in edges], tree)
    left = {one: set(others) for one, others in found.of_task.items()}
    assert all(not tree.parts(one) for one in left)
    while left:
        free = [one for one in left if left[one].isdisjoint(left)]
        assert free, "a circle is left"
        for one in free:
            del left[one]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=5,
)
FIELDS = ("id", "title", "status", "priority", "dependencies", "labels", "subtasks", "issue_type", "assignee")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6) | JSON, max_size=4))
def test_any_json_is_read_into_values(tmp_path, records):
    place(tmp_path, "taskmaster").write_text(json.dumps({"master": {"tasks": records}}))
    place(tmp_path, "beads").write_text("\n".join(json.dumps(one) for one in records))
    for source in ("taskmaster", "beads"):
        wanted = wanted_rows(READERS[source](tmp_path).read(), UUID(int=1))
        json.dumps([row.merged for row in wanted.tasks]).encode()
        assert all("\0" not in row.merged["title"] for row in wanted.tasks)


async def test_many_items_come_in_quickly(workspace, tmp_path):
    parts = [task(n, f"Part {n}", dependencies=[n - 1] if n > 1 else []) for n in range(1, 11)]
    board = [task(n, f"Story {n}", subtasks=parts, dependencies=[n - 1] if n > 1 else []) for n in range(1, 201)]
    began = time.monotonic()
    report = await import_from(workspace.opened, "taskmaster", taskmaster(tmp_path, board))
    assert (report.counts["story"].created, report.counts["task"].created) == (200, 2000)
    assert (await import_from(workspace.opened, "taskmaster", tmp_path)).changes == 0
    assert time.monotonic() - began < 15


async def test_links_of_a_project_are_not_followed_out_of_it(workspace, tmp_path):
    outside = beads(tmp_path / "outside", issue("bd-1", "Secret"))
    (tmp_path / "project").mkdir()
    (tmp_path / "project/.beads").symlink_to(outside / ".beads")
    assert await codes(workspace, "beads", tmp_path / "project") == {"link-outside"}

"""A project goes out whole: every row and column as JSON and CSV, everything that people read as Markdown."""

import asyncio
import csv
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from boards import SHOP, beads
from harness import new_project
from stored_rows import change, dump, fetch

from bmad_mcp.errors import Conflict, Invalid
from bmad_mcp.interchange.exporting import export_as
from bmad_mcp.interchange.importing import import_from
from bmad_mcp.interchange.paths import Names, safe_path
from bmad_mcp.interchange.snapshot import LEFT_OUT, TABLES

HIDDEN = {"search", "text_mark"}
ALL_TABLES = """
SELECT c.oid::regclass::text FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
  AND (c.relname = 'bmad_projects' OR EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'project_id' AND NOT a.attisdropped))
"""


@pytest.fixture
async def shop(workspace, run, tmp_path):
    """A project with something in every kind of table, odd characters and bytes included."""
    opened = workspace.opened
    (tmp_path / "board").mkdir()
    await import_from(opened, "beads", beads(tmp_path / "board", *SHOP))
    await run("agent_activate", agent="dev")
    claimed = await run("task_claim", agent="dev")
    await run("task_complete", task=claimed.task.key, lease=claimed.task.lease, summary='=1+1, "quoted"\n| line 2')
    await run("task_create", title="ünïcode \u2028 🛒", description="")
    await run("workflow_start", type="greenfield-fullstack")
    await run("memory_store", text="Guests order without an account, says 'Alex'")
    for path, content, encoding in (
        ("docs/prd.md", "# PRD\r\n\ttab", "utf-8"),
        ("../../etc/passwd", "no", "utf-8"),
        (".github/CON.md", "/w8A", "base64"),
        ("docs/PRD.md", "other case", "utf-8"),
        (None, "a text", "utf-8"),
    ):
        await change(
            opened,
            "INSERT INTO bmad_artifacts (project_id, number, kind, title, path, content, encoding)"
            " SELECT bmad_project(), 100 + count(*), 'document', 'A: title', $1, $2, $3 FROM bmad_artifacts"
            " WHERE project_id = bmad_project()",
            path,
            content,
            encoding,
        )
    await change(
        opened,
        'UPDATE bmad_stories SET gate = \'{"gate": "PASS", "reason": "good", "score": 1.10}\''
        " WHERE project_id = bmad_project() AND key = '1.2'",
    )
    return opened


async def rows_of(opened, table: str) -> list[dict[str, Any]]:
    """The rows of a table as PostgreSQL says them, without what is for searching only."""
    scope = "id" if table == "bmad_projects" else "project_id"
    order = TABLES[table].order
    found = await fetch(
        opened, f"SELECT to_jsonb(t)::text AS row FROM {table} t WHERE t.{scope} = bmad_project() ORDER BY {order}"
    )
    told = [json.loads(one["row"], parse_float=str) for one in found]
    return [{name: value for name, value in one.items() if name not in HIDDEN} for one in told]


def without_keys(row: dict[str, Any], table: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TABLES[table].keys}


async def test_every_table_with_rows_of_a_project_goes_out(workspace):
    found = {row["oid"] for row in await fetch(workspace.opened, ALL_TABLES)}
    assert found == set(TABLES) | LEFT_OUT


async def test_json_holds_every_column_of_every_row(shop, tmp_path):
    target = tmp_path / "shop.json"
    summary = await export_as(shop, "json", target)
    told = json.loads(target.read_text(), parse_float=str)
    assert {name: told[name] for name in ("format", "version", "project")} == {
        "format": "bmad-mcp",
        "version": 1,
        "project": shop.key,
    }
    assert set(told["tables"]) == set(TABLES)
    for table, rows in told["tables"].items():
        assert [without_keys(row, table) for row in rows] == await rows_of(shop, table), table
        assert summary.tables[table] == len(rows)
    empty = {name for name, rows in told["tables"].items() if not rows}
    assert empty <= {"bmad_agent_collaborations", "bmad_memory_integrations", "mcp_idempotency", "mcp_members"}
    tasks = {row["source_ref"]: row for row in told["tables"]["bmad_tasks"]}
    assert (tasks["beads:bd-4"]["task_key"], tasks["beads:bd-4"]["story_key"]) == ("T-2", "1.2")
    edges = {(row["task_key"], row["depends_on_key"]) for row in told["tables"]["bmad_task_dependencies"]}
    assert ("T-2", "T-1") in edges
    assert json.loads(json.dumps(summary.as_json()))["rows"] == summary.rows
    assert str(target) in summary.render()
    assert set(os.listdir(tmp_path)) == {"board", "shop.json"}


def read_csv(text: str) -> list[dict[str, Any]]:
    """The rows by the names of their columns; NULL and an empty text are the same to Python's reader."""
    names, *rows = csv.reader(io.StringIO(text, newline=""))
    return [dict(zip(names, row, strict=True)) for row in rows]


async def test_csv_reads_back_to_the_same_values(shop, tmp_path):
    target = tmp_path / "csv"
    await export_as(shop, "csv", target)
    assert {one.name for one in target.iterdir()} == {
        *(f"{name}.csv" for name in TABLES),
        "README.md",
        ".bmad-mcp-export",
    }
    for table in TABLES:
        told = read_csv((target / f"{table}.csv").read_bytes().decode())
        wanted = await rows_of(shop, table)
        assert len(told) == len(wanted)
        for cells, row in zip(told, wanted, strict=True):
            for name, value in row.items():
                cell: Any = cells[name]
                if isinstance(value, dict | list):
                    assert json.loads(cell, parse_float=str) == value
                elif name.endswith("_at") or name in ("at", "lease_until"):
                    assert (cell or None) == value
                elif isinstance(value, bool):
                    assert cell == str(value).lower()
                else:
                    assert cell == ("" if value is None else str(value)), (table, name)


async def test_postgresql_reads_the_csv_as_it_was(shop, tmp_path, database):
    await export_as(shop, "csv", tmp_path / "csv")
    async with shop.pool.acquire() as connection, connection.transaction():
        await connection.execute("CREATE TEMP TABLE back (LIKE bmad_tasks) ON COMMIT DROP")
        await connection.execute("ALTER TABLE back ADD task_key text, ADD story_key text, ADD workflow_key text")
        await connection.copy_to_table("back", source=tmp_path / "csv/bmad_tasks.csv", format="csv", header=True)
        back = await connection.fetch(
            "SELECT to_jsonb(b) - '{task_key,story_key,workflow_key}'::text[] AS r FROM back b"
        )
    stored = await fetch(
        shop, "SELECT to_jsonb(t) AS r FROM bmad_tasks t WHERE project_id = bmad_project() ORDER BY number"
    )
    # NULL and an empty text are told apart.
    assert sorted((one["r"] for one in back), key=lambda one: one["number"]) == [one["r"] for one in stored]


async def test_markdown_names_everything_that_people_read(shop, tmp_path):
    target = tmp_path / "pages"
    summary = await export_as(shop, "markdown", target)
    index = (target / "index.md").read_text()
    for name in ("stories.md", "tasks.md", "workflows.md", "agents.md", "checklists.md", "memories.md", "documents.md"):
        assert f"({name})" in index
        assert (target / name).exists()
    stories = (target / "stories.md").read_text()
    for row in await fetch(shop, "SELECT * FROM bmad_stories WHERE project_id = bmad_project()"):
        page = (target / f"stories/{row['key']}.md").read_text()
        assert row["key"] in stories
        assert row["title"] in page
        for section in row["sections"]:
            assert section["text"].strip() in page
    page = (target / "stories/1.2.md").read_text()
    assert "- gate: PASS" in page
    assert "- [ ] T-2 Mail (" in page or "- [x] T-2 Mail (" in page
    tasks = (target / "tasks.md").read_text()
    for row in await fetch(shop, "SELECT number, title FROM bmad_tasks WHERE project_id = bmad_project()"):
        assert f"## T-{row['number']} " in tasks
    assert "Guests order without an account" in (target / "memories.md").read_text()
    assert "W-1" in (target / "workflows.md").read_text()
    (month,) = (target / "activity").iterdir()
    (count,) = await fetch(shop, "SELECT count(*) FROM bmad_agent_activity WHERE project_id = bmad_project()")
    assert month.read_text().count("\n| 2") == count["count"] == summary.tables["bmad_agent_activity"]


async def test_markdown_tells_who_holds_a_task_while_the_lease_holds(workspace, run, tmp_path):
    opened = workspace.opened
    for agent in ("dev", "qa", "pm"):
        await run("task_create", title=f"For {agent}", agent=agent)
    done, left, held = [await run("task_claim", agent=agent) for agent in ("dev", "qa", "pm")]
    await run("task_complete", task=done.task.key, lease=done.lease)
    await change(opened, "UPDATE bmad_tasks SET lease_until = now() - interval '1 s' WHERE number = $1", 2)
    assert (left.task.key, held.task.key) == ("T-2", "T-3")
    await export_as(opened, "markdown", tmp_path / "pages")
    told = [line for line in (tmp_path / "pages/tasks.md").read_text().splitlines() if "held by" in line]
    assert told == ["- held by: pm"]
    told = [(await run("task_get", task=f"T-{number}")).task for number in (1, 2, 3)]
    assert [getattr(one, "held_by", None) for one in told] == [None, None, "pm"]
    # The JSON has the rows as they are.
    await export_as(opened, "json", tmp_path / "all.json")
    rows = json.loads((tmp_path / "all.json").read_text())["tables"]["bmad_tasks"]
    assert [one["lease_agent"] for one in rows] == ["dev", "qa", "pm"]


async def test_documents_keep_their_bytes_and_stay_inside(shop, tmp_path):
    target = tmp_path / "out" / "pages"
    target.parent.mkdir()
    await export_as(shop, "markdown", target)
    documents = target / "documents"
    assert (documents / "docs/prd.md").read_bytes() == b"# PRD\r\n\ttab"
    assert (documents / "_/_/etc/passwd").read_bytes() == b"no"
    assert (documents / "_github/_CON.md").read_bytes() == b"\xff\x0f\x00"
    others = [one for one in documents.rglob("*") if one.is_file() and one.read_bytes() == b"other case"]
    assert [one.relative_to(documents).as_posix() for one in others] == ["A-105/docs/PRD.md"]
    assert os.listdir(target.parent) == ["pages"]
    inside = [one.relative_to(documents) for one in documents.rglob("*")]
    assert not any(part.startswith(".") for one in inside for part in one.parts)


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("docs/prd.md", "docs/prd.md"),
        ("/etc/passwd", "etc/passwd"),
        ("a/../../b", "a/_/_/b"),
        ("..", "_"),
        ("", "_"),
        (".git/hooks/x", "_git/hooks/x"),
        ("C:\\a", "C__a"),
        ("nul", "_nul"),
        ("Com1.txt", "_Com1.txt"),
        ("a. /b ", "a/b"),
        ("a\x00\n\u202eb", "a___b"),
        ("\ud800", "?"),
    ],
)
def test_a_path_is_made_safe(path, safe):
    assert safe_path(path).replace("?", "_") == safe.replace("?", "_")


def test_a_long_name_keeps_its_ending_and_no_two_are_the_same():
    assert len(safe_path("ä" * 500 + ".md").encode()) <= 100
    assert safe_path("ä" * 500 + ".md").endswith(".md")
    names = Names()
    taken = [names.take(path, f"A-{number}") for number, path in enumerate(["a", "A", "a/b", "b/c", "b", "A/B"])]
    folded = [one.casefold() for one in taken]
    assert len(set(folded)) == len(taken)
    assert not any(one.startswith(f"{other}/") for one in folded for other in folded)


@pytest.mark.parametrize("kind", ["json", "csv", "markdown"])
async def test_what_is_there_is_not_overwritten(workspace, tmp_path, kind):
    opened, target = workspace.opened, tmp_path / "out"
    await export_as(opened, kind, target)
    with pytest.raises(Conflict, match="--overwrite"):
        await export_as(opened, kind, target)
    await export_as(opened, kind, target, overwrite=True)
    assert os.listdir(tmp_path) == ["out"]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict, match="symbolic link"):
        await export_as(opened, kind, link, overwrite=True)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("mine")
    with pytest.raises(Conflict):
        await export_as(opened, kind, tmp_path / "own", overwrite=True)
    assert (tmp_path / "own/notes.txt").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["link", "out", "own"]
    with pytest.raises(Invalid, match="Make it first"):
        await export_as(opened, kind, tmp_path / "no/where")


@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_file_that_no_export_wrote_stays(workspace, tmp_path, overwrite):
    own = tmp_path / "package.json"
    own.write_text('{"name": "shop"}')
    with pytest.raises(Conflict, match="that no export wrote"):
        await export_as(workspace.opened, "json", own, overwrite=overwrite)
    assert own.read_text() == '{"name": "shop"}'
    assert os.listdir(tmp_path) == ["package.json"]


async def test_an_empty_folder_is_taken(workspace, tmp_path):
    (tmp_path / "out").mkdir()
    await export_as(workspace.opened, "csv", tmp_path / "out")
    assert (tmp_path / "out/README.md").exists()


async def test_a_failed_export_leaves_nothing_behind(workspace, tmp_path):
    def stop(_: str) -> None:
        raise OSError(28, "No space left on device")

    for kind in ("json", "csv", "markdown"):
        with pytest.raises(Exception, match="No space left"):
            await export_as(workspace.opened, kind, tmp_path / "out", stop)
    assert os.listdir(tmp_path) == []
    # The connection went back to the pool unharmed.
    await export_as(workspace.opened, "json", tmp_path / "out")


async def test_the_tables_are_of_one_moment(shop, run, tmp_path):
    target = tmp_path / "out.json"
    seen: list[str] = []

    async def later() -> None:
        await run("task_create", title="Made meanwhile")

    tasks: list[asyncio.Task[None]] = []

    def tell(line: str) -> None:
        if not seen:
            tasks.append(asyncio.get_running_loop().create_task(later()))
        seen.append(line)

    before = await dump(shop)
    await export_as(shop, "json", target, tell)
    await asyncio.gather(*tasks)
    assert "Made meanwhile" not in target.read_text()
    assert len(json.loads(target.read_text())["tables"]["bmad_tasks"]) == len(before["bmad_tasks"])


async def test_much_activity_is_not_held_in_memory(workspace, tmp_path):
    opened = workspace.opened
    await change(
        opened,
        "INSERT INTO bmad_agent_activity (project_id, operation, subject, principal, call_id, detail)"
        " SELECT bmad_project(), 'test', 'task T-' || n, 'local', n::text, jsonb_build_object('x', repeat('y', 600))"
        " FROM generate_series(1, 15000) n",
    )
    for kind in ("json", "csv", "markdown"):
        tracemalloc.start()
        summary = await export_as(opened, kind, tmp_path / kind)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert summary.tables["bmad_agent_activity"] >= 15000
        assert summary.size > 10_000_000
        assert peak < 6_000_000, kind


async def test_only_this_project_goes_out(shop, pool, tmp_path):
    other = await new_project(pool)
    await export_as(other, "json", tmp_path / "other.json")
    text = (tmp_path / "other.json").read_text()
    assert str(shop.id) not in text
    assert "Guests order" not in text
    assert Path(tmp_path / "other.json").stat().st_mode & 0o777 == 0o600
    await export_as(other, "csv", tmp_path / "other")
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o700

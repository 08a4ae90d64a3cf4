"""What goes wrong while importing: hostile files, a database that refuses, tools and imports at the same time."""

import asyncio
import base64

import asyncpg
import pytest
from bmad_installs import write
from stored_rows import change, dump, fetch, story, tasks

from bmad_mcp.bmad_files import importing
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.db import Transaction
from bmad_mcp.errors import Conflict, NotFound, Unavailable

STORY_22 = "docs/stories/2.2.search-products.md"
STORY_24 = "docs/stories/2.4.sort-and-filter.md"
WAITING = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
GATE = "docs/qa/gates/1.2-sign-in.yml"


async def test_no_such_folder_is_told(opened, tmp_path):
    with pytest.raises(NotFound, match="no folder"):
        await import_folder(opened, tmp_path / "nowhere")


async def test_a_folder_without_anything_of_bmad_is_a_report_and_no_error(opened, tmp_path):
    report = await import_folder(opened, tmp_path)
    assert "nothing-found" in {one.code for one in report.deviations}
    assert await fetch(opened, "SELECT FROM bmad_stories") == []


async def test_broken_files_are_kept_told_and_stop_nobody(folder, opened):
    write(folder, ".bmad-core/agents/dev.md", "# dev\n\n```yaml\nagent: [\n```\n")
    write(folder, ".bmad-core/workflows/odd.yaml", "workflow: {id: odd, sequence: 7}\n")
    write(folder, ".bmad-core/templates/bomb-tmpl.yaml", "a: &a [1]\nb: [*a, *a]\n")
    write(folder, ".bmad-core/core-config.yaml", "devStoryLocation: ../../etc\n")
    (folder / "docs/stories/4.1.latin.md").write_bytes("# Story 4.1: Größe\n\n## Status\n\nDone\n".encode("latin-1"))
    write(folder, "docs/qa/gates/2.1-broken.yml", "gate: [PASS\n")
    write(folder, "docs/qa/gates/9.9-nobody.yml", "schema: 1\nstory: '9.9'\ngate: PASS\n")
    report = await import_folder(opened, folder)
    assert report.counts["story"].created == 13
    told = {one.code for one in report.deviations}
    assert {"yaml", "workflow-shape", "place-outside", "not-utf-8", "gate-alone"} <= told
    assert all(one.mend for one in report.deviations)
    paths = {row["path"] for row in await fetch(opened, "SELECT path FROM bmad_artifacts")}
    assert {".bmad-core/agents/dev.md", "docs/stories/4.1.latin.md", "docs/qa/gates/2.1-broken.yml"} <= paths
    (dev,) = await fetch(opened, "SELECT source FROM bmad_agents WHERE name = 'dev'")
    assert dev["source"] == "builtin"


async def test_values_that_the_database_cannot_hold_are_mended_and_told(folder, opened):
    write(
        folder,
        ".bmad-core/agents/odd.md",
        '# odd\n\n```yaml\nagent:\n  id: Odd Agent!\n  name: "No\\0body"\n  title: "two\\nlines"\n'
        f'  whenToUse: "{"long " * 30_000}"\npersona: {{role: "a\\0b"}}\ncommands: [{{"x\\0": "y"}}]\n```\n',
    )
    write(
        folder, "docs/stories/5.1.long.md", f"# Story 5.1: {'very ' * 200_000}long\n\n## Status\n\n{'Done ' * 20_000}\n"
    )
    write(folder, "docs/stories/5.2.boxes.md", f"# S\n\n## Tasks\n\n- [ ] {'long ' * 200}\n- [ ]\n" + "- [ ] x\n" * 600)
    report = await import_folder(opened, folder)
    told = {one.code for one in report.deviations}
    assert {"not-storable", "text-cut", "many-tasks"} <= told
    (odd,) = await fetch(opened, "SELECT * FROM bmad_agents WHERE name = 'odd agent'")
    assert odd["display_name"] == "No\ufffdbody"
    assert odd["title"] == "two lines"
    assert odd["persona"]["role"] == "a\ufffdb"
    long = await story(opened, "5.1")
    assert len(long["title"]) <= 300
    assert len(long["raw_status"]) <= 1000
    first, second, *rest = await tasks(opened, "5.2")
    assert len(first["title"]) <= 300
    assert first["description"].startswith("long long")
    assert second["title"] == "Check box 2"
    assert len(rest) == 498
    assert (await import_folder(opened, folder)).changes == 0


async def test_names_of_files_that_are_not_utf_8_or_very_long_are_stored_under_a_name_that_is(folder, opened):
    deep = folder / "docs" / "/".join(["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "deep.md").write_text("deep\n")
    odd = bytes(folder / "docs") + b"/gr\xfcn.md"
    with open(odd, "wb") as opened_file:
        opened_file.write(b"# green\n")
    report = await import_folder(opened, folder)
    rows = await fetch(opened, "SELECT path, content FROM bmad_artifacts WHERE content IN (E'deep\\n', E'# green\\n')")
    assert len(rows) == 2
    assert "docs/gr\\xfcn.md" in {row["path"] for row in rows}
    assert [one.code for one in report.deviations].count("name-changed") == 2
    assert (await import_folder(opened, folder)).changes == 0


async def test_a_story_file_that_cannot_be_read_any_more_leaves_the_story_as_it_was(folder, opened):
    await import_folder(opened, folder)
    before = await story(opened, "2.4"), await tasks(opened, "2.4"), await story(opened, "2.2")
    raw = (folder / STORY_24).read_bytes() + b"\xff\xfe"
    (folder / STORY_24).write_bytes(raw)
    (folder / STORY_22).write_text("\n")
    report = await import_folder(opened, folder)
    assert (await story(opened, "2.4"), await tasks(opened, "2.4"), await story(opened, "2.2")) == before
    assert {"not-utf-8", "empty-story"} <= {one.code for one in report.deviations}
    (row,) = await fetch(opened, "SELECT content, encoding FROM bmad_artifacts WHERE path = $1", STORY_24)
    assert (base64.b64decode(row["content"]), row["encoding"]) == (raw, "base64")
    assert (await import_folder(opened, folder)).changes == 0


async def test_a_gate_or_tracker_that_cannot_be_read_any_more_takes_nothing_back(folder, opened):
    tracker = "_bmad-output/implementation-artifacts/sprint-status.yaml"
    write(folder, tracker, "development_status:\n  epic-2: in-progress\n  2-4-sort-and-filter: ready-for-dev\n")
    await import_folder(opened, folder)
    before = await story(opened, "2.4"), (await story(opened, "1.2"))["gate"]
    assert before[0]["tracker_status"] == "ready-for-dev"
    write(folder, tracker, "development_status: [\n")
    write(folder, GATE, "gate: [\n")
    await import_folder(opened, folder)
    after = await story(opened, "2.4"), (await story(opened, "1.2"))["gate"]
    assert after[1] == before[1]
    assert after[0]["tracker_status"] == "ready-for-dev"
    (epic,) = await fetch(opened, "SELECT raw_status FROM bmad_epics WHERE key = '2'")
    assert epic["raw_status"] == "in-progress"
    write(folder, GATE, "schema: 1\nstory: '1.2'\ngate: PASS\nstatus_reason: mended\n")
    assert not (await import_folder(opened, folder)).conflicts
    assert (await story(opened, "1.2"))["gate"]["gate"] == "PASS"


async def test_a_constraint_that_fails_in_the_middle_leaves_nothing(folder, opened):
    # An artifact already has the number that the counter will give: the unique key refuses, after stories were written.
    await change(
        opened,
        "INSERT INTO bmad_artifacts (project_id, number, kind, title, path) VALUES (bmad_project(), 3, 'x', 'x', 'x.md')",
    )
    before = await dump(opened)
    with pytest.raises(Conflict, match="Nothing was written"):
        await import_folder(opened, folder)
    assert await dump(opened) == before


async def test_a_statement_that_takes_too_long_leaves_nothing(folder, opened):
    before = await dump(opened)
    blocker = Transaction(opened.pool, opened.id)
    # The import waits for this counter after it has written its stories.
    await blocker.execute("INSERT INTO mcp_counters (project_id, kind, value) VALUES (bmad_project(), 'artifact', 0)")
    impatient = importing.Transaction
    try:

        class Impatient(impatient):
            async def _open(self):
                connection = await super()._open()
                await connection.execute("SET LOCAL statement_timeout = 200")
                return connection

        importing.Transaction = Impatient
        with pytest.raises(Unavailable, match="nothing was written"):
            await import_folder(opened, folder)
    finally:
        importing.Transaction = impatient
        await blocker.end("ROLLBACK")
    assert await dump(opened) == before


async def test_an_import_that_is_cancelled_leaves_nothing(folder, opened):
    before = await dump(opened)
    blocker = Transaction(opened.pool, opened.id)
    await blocker.execute("INSERT INTO mcp_counters (project_id, kind, value) VALUES (bmad_project(), 'artifact', 0)")
    waiting = asyncio.create_task(import_folder(opened, folder))
    async with asyncio.timeout(10):
        while not await fetch(opened, WAITING):
            await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await blocker.end("ROLLBACK")
    assert await dump(opened) == before


async def test_a_lost_connection_leaves_nothing(folder, opened, database):
    before = await dump(opened)
    blocker = Transaction(opened.pool, opened.id)
    await blocker.execute("INSERT INTO mcp_counters (project_id, kind, value) VALUES (bmad_project(), 'artifact', 0)")
    waiting = asyncio.create_task(import_folder(opened, folder))
    async with asyncio.timeout(10):
        while not (found := await fetch(opened, WAITING)):
            await asyncio.sleep(0.01)
    admin = await asyncpg.connect(**database.admin)
    await admin.execute("SELECT pg_terminate_backend($1)", found[0]["pid"])
    await admin.close()
    with pytest.raises(Unavailable, match="nothing was written"):
        await waiting
    await blocker.end("ROLLBACK")
    assert await dump(opened) == before


async def test_two_imports_at_once_take_turns(folder, opened):
    reports = await asyncio.gather(import_folder(opened, folder), import_folder(opened, folder))
    assert sorted(report.counts["story"].created for report in reports) == [0, 12]
    assert sorted(report.changes > 0 for report in reports) == [False, True]
    rows = await fetch(opened, "SELECT number FROM bmad_tasks ORDER BY number")
    assert [row["number"] for row in rows] == list(range(1, 37))


async def test_a_change_made_between_reading_and_writing_is_planned_for_anew(folder, opened):
    await import_folder(opened, folder)
    text = (folder / STORY_24).read_text()
    (folder / STORY_24).write_text(text.replace("a keyboard alone", "a keyboard"))
    tool = Transaction(opened.pool, opened.id)
    await tool.execute(
        "UPDATE bmad_stories SET benefit = 'of a tool', version = version + 1"
        " WHERE project_id = bmad_project() AND key = '2.4'"
    )
    waiting = asyncio.create_task(import_folder(opened, folder))
    async with asyncio.timeout(10):
        while not await fetch(opened, WAITING):
            await asyncio.sleep(0.01)
    await tool.end("COMMIT")
    report = await waiting
    assert not report.conflicts
    told = await story(opened, "2.4")
    assert (told["benefit"], told["acceptance"][2]) == ("of a tool", "It works with a keyboard.")
    assert told["version"] == 3


async def test_an_import_beside_tools_at_work_loses_nobodys_change(folder, opened, run):
    await import_folder(opened, folder)

    async def work():
        for _ in range(15):
            claim = await run("task_claim", agent="dev")
            if claim.task is None:
                return
            await run("task_complete", task=claim.task.key, lease=claim.lease, summary="done by a tool")

    async def edits():
        for turn in range(8):
            text = (folder / STORY_24).read_text()
            (folder / STORY_24).write_text(text.replace("src/shop", f"src/shop{turn}"))
            for _ in range(2):
                await import_folder(opened, folder)

    await asyncio.gather(work(), work(), edits())
    done = await fetch(
        opened, "SELECT count(*) AS n FROM bmad_tasks WHERE summary = 'done by a tool' AND status = 'completed'"
    )
    trail = await fetch(opened, "SELECT count(*) AS n FROM bmad_agent_activity WHERE operation = 'task_complete'")
    assert done[0]["n"] == trail[0]["n"] > 0
    told = {one["name"]: one["text"] for one in (await story(opened, "2.4"))["sections"]}
    assert "src/shop76543210" in told["Dev Notes"]


async def test_another_project_sees_nothing_of_an_import(folder, opened, pool):
    from harness import new_project

    other = await new_project(pool)
    await import_folder(opened, folder)
    assert await fetch(other, "SELECT FROM bmad_stories") == []
    await import_folder(other, folder)
    assert len(await fetch(other, "SELECT FROM bmad_stories")) == 12

"""What tools change goes into the project's own files: the changed line or section, and nothing else."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
from bmad_installs import V4, V6, add_v4_docs, add_v6_docs, installed, write
from stored_rows import dump, story, tasks

from bmad_mcp.bmad_files.exporting import export_folder
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.errors import VersionConflict

STORY_22 = "docs/stories/2.2.search-products.md"
STORY_23 = "docs/stories/2.3.story.md"
BUILDING = "_bmad-output/implementation-artifacts"
TRACKER = f"{BUILDING}/sprint-status.yaml"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def changed_lines(before: bytes, after: bytes) -> tuple[list[str], list[str]]:
    """The lines that only one side has."""
    old, new = before.decode().splitlines(), after.decode().splitlines()
    return [one for one in old if one not in new], [one for one in new if one not in old]


def diff(before: dict[str, bytes], after: dict[str, bytes]) -> dict[str, tuple[list[str], list[str]]]:
    return {
        path: changed_lines(before.get(path, b""), after.get(path, b""))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    }


async def move(run, key, *statuses):
    for status in statuses:
        while True:
            now = await run("story_get", story=key)
            # A sync that settles the story in between makes a new version of it: one reads it again.
            with contextlib.suppress(VersionConflict):
                await run("story_update", story=key, expected_version=now.version, status=status)
                break


async def section(run, key, name, text):
    now = await run("story_get", story=key)
    await run("story_update", story=key, expected_version=now.version, section=name, text=text)


async def finish(run, title, story="2.2"):
    listed = (await run("task_list", story=story, limit=100)).items
    found = next(one for one in listed if one.title.startswith(title) and one.status == "pending")
    claimed = await run("task_start", task=found.key, agent="dev")
    await run("task_complete", task=found.key, lease=claimed.lease)


@pytest.mark.parametrize("version", [V4, V6])
async def test_import_and_export_without_a_change_leaves_every_byte_of_a_real_install(tmp_path, opened, version):
    folder = installed(version, tmp_path / "shop")
    (add_v4_docs if version == V4 else add_v6_docs)(folder)
    before = bytes_of(folder)
    await import_folder(opened, folder)
    rows = await dump(opened)
    report = await export_folder(opened, folder)
    assert (report.files, report.conflicts, report.newer, report.gone, report.refused) == ((), (), (), (), ())
    assert bytes_of(folder) == before
    assert await dump(opened) == rows
    assert "The files say what the database says." in report.render()


async def test_a_status_goes_into_its_own_line_of_a_v4_story(folder, opened, run):
    await import_folder(opened, folder)
    before = bytes_of(folder)
    await move(run, "2.3", "in_progress")
    await move(run, "2.1", "done")
    report = await export_folder(opened, folder)
    assert diff(before, bytes_of(folder)) == {
        "docs/stories/2.1.story.md": (["**Status**: Ready for Review"], ["**Status**: Done"]),
        STORY_23: (["Status: Approved"], ["Status: InProgress"]),
    }
    assert [(one.path, one.reasons) for one in report.files] == [
        ("docs/stories/2.1.story.md", ("story 2.1 is done",)),
        (STORY_23, ("story 2.3 is in_progress",)),
    ]


async def retitle(run, key, **plan):
    now = await run("story_get", story=key)
    await run("story_update", story=key, expected_version=now.version, **plan)


async def agrees(opened, folder, run, key, title):
    """Both sides tell this title, and another import or export changes nothing."""
    before, rows = bytes_of(folder), await dump(opened)
    again = await export_folder(opened, folder)
    assert (again.files, again.conflicts, again.newer, again.refused) == ((), (), (), ())
    report = await import_folder(opened, folder)
    assert report.conflicts == ()
    assert (bytes_of(folder), await dump(opened)) == (before, rows)
    assert (await run("story_get", story=key)).title == title


async def test_a_title_goes_into_the_heading_of_a_v4_story_and_nowhere_else(folder, opened, run):
    await import_folder(opened, folder)
    before = bytes_of(folder)
    await retitle(run, "2.2", title="Find products: 100 %", points=5, priority="high")
    again = await import_folder(opened, folder)
    assert (again.conflicts, (await run("story_get", story="2.2")).title) == ((), "Find products: 100 %")
    report = await export_folder(opened, folder)
    ((path, (old, new)),) = [
        (path, lines) for path, lines in diff(before, bytes_of(folder)).items() if path == STORY_22
    ]
    assert old == ["# Story 2.2: Search products"]
    assert new == ["# Story 2.2: Find products: 100 %"]
    assert ("story 2.2 has another title",) in [one.reasons for one in report.files if one.path == path]
    assert report.only_here == ("2.2",)
    assert "have no place for points and priorities" in report.render()
    await agrees(opened, folder, run, "2.2", "Find products: 100 %")
    found = await run("story_get", story="2.2")
    assert (found.points, found.priority) == (5, "high")


async def test_a_title_goes_into_the_v6_story_and_the_epics_document(v6_folder, opened, run):
    await import_folder(opened, v6_folder)
    before = bytes_of(v6_folder)
    # The second one has no file of its own.
    await retitle(run, "2.2", title="Find products")
    await retitle(run, "3.1", title="Take the order")
    await export_folder(opened, v6_folder)
    changed = diff(before, bytes_of(v6_folder))
    assert changed[f"{BUILDING}/2-2-search-products.md"] == (
        ["# Story 2.2: Search products"],
        ["# Story 2.2: Find products"],
    )
    _, told = changed["_bmad-output/planning-artifacts/epics.md"]
    assert told == ["### Story 2.2: Find products", "### Story 3.1: Take the order"]
    assert set(changed) == {f"{BUILDING}/2-2-search-products.md", "_bmad-output/planning-artifacts/epics.md"}
    await agrees(opened, v6_folder, run, "2.2", "Find products")
    await agrees(opened, v6_folder, run, "3.1", "Take the order")


async def test_an_epic_that_was_made_here_is_mended_in_its_document(folder, opened, run):
    await import_folder(opened, folder)
    key = (await run("epic_create", title="Acounts", goal="Who signs in.")).epic.key
    (written,) = (await export_folder(opened, folder)).files
    path = folder / written.path
    path.write_text(path.read_text().replace("Acounts", "Accounts").replace("Who signs in.", "Who signs in, and how."))
    assert (await import_folder(opened, folder)).conflicts == ()
    found = await run("epic_get", epic=key)
    assert (found.title, found.goal) == ("Accounts", "Who signs in, and how.")
    assert (await export_folder(opened, folder)).files == ()


async def test_a_title_that_both_sides_changed_is_a_conflict(folder, opened, run):
    await import_folder(opened, folder)
    await retitle(run, "2.2", title="Find products")
    path = folder / STORY_22
    path.write_text(path.read_text().replace("Search products", "Look for products", 1))
    report = await export_folder(opened, folder)
    (conflict,) = report.conflicts
    assert (conflict.field, conflict.file, conflict.database) == ("title", "Look for products", "Find products")
    assert report.files == ()


async def test_after_an_export_both_sides_agree(folder, opened, run):
    await import_folder(opened, folder)
    await run("agent_activate", agent="dev")
    await move(run, "2.3", "in_progress")
    await section(run, "2.3", "File List", "- src/shop/page.py")
    await finish(run, "Data access", "2.3")
    await export_folder(opened, folder)
    rows = await dump(opened)
    again = await import_folder(opened, folder)
    assert (again.changes, again.conflicts) == (0, ())
    assert await dump(opened) == rows
    second = await export_folder(opened, folder)
    assert (second.files, second.conflicts, second.newer) == ((), (), ())


async def test_a_section_goes_back_with_the_blank_lines_of_its_file(folder, opened, run):
    await import_folder(opened, folder)
    before = bytes_of(folder)
    await run("agent_activate", agent="dev")
    await section(run, "2.2", "File List", "- src/shop/search.py\n- tests/test_search.py")
    await export_folder(opened, folder)
    text = (folder / STORY_22).read_text()
    assert "### File List\n\n- src/shop/search.py\n- tests/test_search.py\n\n## QA Results\n" in text
    assert diff(before, bytes_of(folder)).keys() == {STORY_22}


async def test_a_new_section_stands_where_the_database_has_it(folder, opened, run):
    path = folder / STORY_22
    path.write_text(path.read_text().replace("## QA Results\n", ""))
    await import_folder(opened, folder)
    await run("agent_activate", agent="qa")
    await section(run, "2.2", "QA Results", "Looked at it: good.")
    await export_folder(opened, folder)
    assert path.read_text().endswith("### File List\n\n## QA Results\n\nLooked at it: good.\n")


async def test_a_completed_task_ticks_its_box(folder, opened, run):
    await import_folder(opened, folder)
    before = bytes_of(folder)
    await finish(run, "Write the page")
    report = await export_folder(opened, folder)
    told = diff(before, bytes_of(folder))
    (path,) = told
    assert path == STORY_22
    # It was the last one, so the story went into review with it.
    assert told[path] == (
        ["InProgress", "- [ ] Write the page (AC: 2, 3)"],
        ["Ready for Review", "- [x] Write the page (AC: 2, 3)"],
    )
    assert "story 2.2, 1 check box done; story 2.2 is review" in report.render()
    assert (await import_folder(opened, folder)).changes == 0


async def test_a_task_made_by_a_tool_becomes_a_check_box_and_stays_one_task(folder, opened, run):
    await import_folder(opened, folder)
    made = (await run("task_create", title="Measure the page", story="2.2", agent="dev")).task.key
    before = {one["number"] for one in await tasks(opened, "2.2")}
    await export_folder(opened, folder)
    text = (folder / STORY_22).read_text()
    assert "- [ ] Write the page (AC: 2, 3)\n- [ ] Measure the page\n" in text
    await import_folder(opened, folder)
    assert {one["number"] for one in await tasks(opened, "2.2")} == before
    await run("task_start", task=made, agent="dev")
    (folder / STORY_22).write_text(text.replace("- [ ] Write the page", "- [x] Write the page"))
    report = await export_folder(opened, folder)
    assert report.newer == ("story 2.2, section Tasks / Subtasks", "story 2.2, check box 'Write the page (AC: 2, 3)'")


async def test_the_tracker_and_the_story_get_a_v6_status(v6_folder, opened, run):
    await import_folder(opened, v6_folder)
    before = bytes_of(v6_folder)
    await move(run, "2.3", "in_progress", "review")
    await move(run, "2.1", "done")
    await move(run, "3.1", "ready", "in_progress")
    await export_folder(opened, v6_folder)
    told = diff(before, bytes_of(v6_folder))
    stamp = told[TRACKER][1].pop(0)
    assert stamp.startswith("last_updated: ")
    told[TRACKER][0].remove("last_updated: 10-20-2026 18:30")
    assert told == {
        f"{BUILDING}/2-1-show-products.md": (["Status: review"], ["Status: done"]),
        f"{BUILDING}/2-3-product-page.md": (["Status: ready-for-dev"], ["Status: review"]),
        TRACKER: (
            [
                "  2-1-show-products: review",
                "  2-3-product-page: ready-for-dev",
                "  epic-3: backlog",
                "  3-1-fill-a-basket: backlog",
            ],
            [
                "  2-1-show-products: done",
                "  2-3-product-page: review",
                "  epic-3: in-progress",
                "  3-1-fill-a-basket: in-progress",
            ],
        ),
    }
    assert (await import_folder(opened, v6_folder)).changes == 0


async def test_what_bmad_ships_accepts_our_tracker(tmp_path, opened, run):
    folder = add_v6_docs(installed(V6, tmp_path / "shop"))
    await import_folder(opened, folder)
    await run("epic_create", title="Gift cards: buy, send", goal="Give something.")
    await run("story_create", epic="4", title="Buy a card", role="shopper", want="a card", benefit="I can give it")
    await run("story_create", epic="2", title="Compare: two products", acceptance=["Side by side"])
    await move(run, "2.1", "done")
    await move(run, "3.4", "cancelled")
    report = await export_folder(opened, folder)
    assert not report.conflicts
    tracker = (folder / TRACKER).read_text()
    assert "  # 3-4-cancel-an-order: cancelled\n" in tracker
    assert (
        "  2-4-sort-and-filter: backlog\n  2-5-compare-two-products: backlog\n  epic-2-retrospective: optional\n"
        in tracker
    )
    assert "  epic-4: backlog\n  4-1-buy-a-card: backlog\n  epic-4-retrospective: optional\n" in tracker
    script = folder / ".claude/skills/bmad-sprint-planning/scripts/sprint_plan.py"
    told = validate(script, folder / TRACKER)
    assert told["valid"] is True, told
    assert (again := await import_folder(opened, folder)).changes == 0, again.render()


def validate(script: Path, tracker: Path):
    import json
    import sys

    pytest.importorskip("ruamel.yaml", reason="BMad's own validator needs ruamel.yaml")
    done = subprocess.run(
        [sys.executable, str(script), "validate", "--status-file", str(tracker)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return json.loads(done.stdout)


async def test_a_new_epic_and_story_get_files_in_the_style_of_v4(folder, opened, run):
    await import_folder(opened, folder)
    await run("epic_create", title="Gift cards", goal="Give something.")
    await run(
        "story_create",
        epic="4",
        title="Buy a card",
        role="shopper",
        want="a card",
        benefit="I can give it",
        acceptance=["A card costs what it says"],
    )
    await run("task_create", title="Print the card", story="4.1", agent="dev")
    await export_folder(opened, folder)
    assert (folder / "docs/prd/epic-4-gift-cards.md").read_text() == (
        "## Epic 4 Gift cards\n\nGive something.\n\n### Story 4.1 Buy a card\n\n"
        "As a shopper,\nI want a card,\nso that I can give it.\n\n**Acceptance Criteria:**\n\n1. A card costs what it says\n"
    )
    text = (folder / "docs/stories/4.1.buy-a-card.md").read_text()
    assert text == (
        "# Story 4.1: Buy a card\n\n## Status\n\nDraft\n\n## Story\n\n**As a** shopper,\n**I want** a card,\n"
        "**so that** I can give it\n\n## Acceptance Criteria\n\n1. A card costs what it says\n\n"
        "## Tasks / Subtasks\n\n- [ ] Print the card\n"
    )
    rows = await dump(opened)
    assert (await import_folder(opened, folder)).changes == 0
    assert await dump(opened) == rows
    assert (await story(opened, "4.1"))["source_path"] == "docs/stories/4.1.buy-a-card.md"
    await move(run, "4.1", "ready")
    await export_folder(opened, folder)
    assert "## Status\n\nApproved\n" in (folder / "docs/stories/4.1.buy-a-card.md").read_text()


async def test_a_file_that_was_edited_meanwhile_keeps_its_edit(folder, opened, run):
    await import_folder(opened, folder)
    await run("agent_activate", agent="dev")
    await section(run, "2.2", "File List", "- a.py")
    path = folder / STORY_22
    path.write_text(path.read_text().replace("The service lives in `src/shop`.", "It lives in `src/search`."))
    report = await export_folder(opened, folder)
    text = path.read_text()
    assert "It lives in `src/search`." in text
    assert "- a.py" in text
    assert report.newer == ("story 2.2, section Dev Notes",)
    await import_folder(opened, folder)
    now = await story(opened, "2.2")
    assert "It lives in `src/search`." in str(now["sections"])


async def test_what_both_sides_changed_is_told_with_both_sides_and_left(folder, opened, run):
    await import_folder(opened, folder)
    await run("agent_activate", agent="dev")
    await section(run, "2.2", "File List", "- database.py")
    path = folder / STORY_22
    path.write_text(path.read_text().replace("### File List\n", "### File List\n\n- file.py\n"))
    before = bytes_of(folder)
    report = await export_folder(opened, folder)
    (conflict,) = report.conflicts
    assert (conflict.key, conflict.field, conflict.path) == ("2.2", "section File List", STORY_22)
    assert (conflict.file, conflict.database) == ("- file.py", "- database.py")
    assert bytes_of(folder) == before
    shown = report.render()
    assert "file.py" in shown
    assert "database.py" in shown


async def test_a_dry_run_shows_a_unified_diff_and_writes_nothing(folder, opened, run):
    await import_folder(opened, folder)
    await move(run, "2.3", "in_progress")
    before, rows = bytes_of(folder), await dump(opened)
    report = await export_folder(opened, folder, dry_run=True)
    assert f"--- a/{STORY_23}\n+++ b/{STORY_23}\n@@ -1,6 +1,6 @@\n" in report.render()
    assert "-Status: Approved\n+Status: InProgress\n" in report.render()
    assert bytes_of(folder) == before
    assert await dump(opened) == rows


async def test_a_document_recorded_by_a_tool_is_written_where_documents_are(folder, opened, run):
    await import_folder(opened, folder)
    await run(
        "artifact_record", kind="architecture", path="docs/architecture.md", content="# Architecture\n\nTwo services.\n"
    )
    await run("artifact_record", kind="retro", path="docs/retros/epic-1-retro.md", content="# Retro\n")
    for path in ("Makefile", "docs/run.sh", "src/a.md"):
        await run("artifact_record", kind="note", path=path, content=f"{path} is never written\n")
    before = bytes_of(folder)
    report = await export_folder(opened, folder)
    assert diff(before, bytes_of(folder)).keys() == {"docs/architecture.md", "docs/retros/epic-1-retro.md"}
    assert report.conflicts == ()
    assert [one.partition(" ")[0] for one in report.unwritten] == ["Makefile", "docs/run.sh", "src/a.md"]
    shown = report.render()
    assert "src/a.md (A-" in shown
    assert "): the path is not among the project's documents" in shown
    assert "Both sides changed" not in shown
    await run("artifact_record", kind="note", path="docs/a.md", content="src/a.md is never written\n")
    assert [one.partition(" ")[0] for one in (await export_folder(opened, folder)).unwritten] == [
        "Makefile",
        "docs/run.sh",
    ]
    assert (await import_folder(opened, folder)).conflicts == ()
    write(folder, "docs/architecture.md", "# Architecture\n\nThree services.\n")
    await run("artifact_record", kind="architecture", path="docs/architecture.md", content="# Four\n")
    report = await export_folder(opened, folder)
    assert "docs/architecture.md" in {one.key for one in report.conflicts}
    assert (folder / "docs/architecture.md").read_text() == "# Architecture\n\nThree services.\n"


async def test_a_story_whose_file_is_gone_is_not_written_again(folder, opened, run):
    await import_folder(opened, folder)
    await move(run, "2.3", "in_progress")
    (folder / STORY_23).unlink()
    report = await export_folder(opened, folder)
    assert not (folder / STORY_23).exists()
    assert f"story 2.3 ({STORY_23})" in report.gone


async def test_the_words_of_the_project_are_used(folder, opened, run):
    for path in (folder / "docs/stories").iterdir():
        path.write_text(path.read_text().replace("InProgress", "In Progress"))
    await import_folder(opened, folder)
    await move(run, "2.3", "in_progress")
    await export_folder(opened, folder)
    assert "Status: In Progress\n" in (folder / STORY_23).read_text()


async def test_a_status_that_goes_back_is_written_and_told(v6_folder, opened, run):
    await import_folder(opened, v6_folder)
    await move(run, "2.1", "in_progress")
    report = await export_folder(opened, v6_folder)
    assert "goes back to in_progress (was review)" in " ".join(report.render().split())
    assert "  2-1-show-products: in-progress\n" in (v6_folder / TRACKER).read_text()


async def test_line_ends_and_the_byte_order_mark_stay(folder, opened, run):
    path = folder / STORY_22
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    await import_folder(opened, folder)
    await run("agent_activate", agent="dev")
    await section(run, "2.2", "File List", "- a.py\n- b.py")
    await move(run, "2.2", "review")
    await finish(run, "Write the page")
    report = await export_folder(opened, folder)
    assert not report.conflicts, report.render()
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf# Story")
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert b"- a.py\r\n- b.py\r\n" in raw
    assert b"\r\nReady for Review\r\n" in raw
    assert (await import_folder(opened, folder)).changes == 0


async def test_mend_sets_the_tracker_to_what_counts(v6_folder, opened):
    path = v6_folder / TRACKER
    path.write_text(path.read_text().replace("2-2-search-products: in-progress", "2-2-search-products: backlog  # hm"))
    await import_folder(opened, v6_folder)
    assert (await export_folder(opened, v6_folder)).files == ()
    await export_folder(opened, v6_folder, mend="all")
    assert "  2-2-search-products: in-progress  # hm\n" in path.read_text()


async def test_a_story_of_the_tracker_only_gets_a_file_when_a_section_is_written(v6_folder, opened, run):
    await import_folder(opened, v6_folder)
    await run("agent_activate", agent="sm")
    await section(run, "3.2", "Dev Notes", "Use the old provider.")
    await export_folder(opened, v6_folder)
    text = (v6_folder / BUILDING / "3-2-pay.md").read_text()
    assert text.startswith("# Story 3.2: Pay\n\nStatus: backlog\n\n## Story\n")
    assert "## Dev Notes\n\nUse the old provider.\n" in text
    assert (await import_folder(opened, v6_folder)).changes == 0


async def test_nothing_outside_the_folder_is_written_through_a_link(tmp_path, folder, opened, run):
    await import_folder(opened, folder)
    outside = tmp_path / "outside"
    shutil.move(folder / "docs/stories", outside)
    (folder / "docs/stories").symlink_to(outside)
    before = bytes_of(outside)
    await move(run, "2.3", "in_progress")
    await run("story_create", epic="2", title="Another one")
    report = await export_folder(opened, folder)
    assert bytes_of(outside) == before
    assert any(one.path.startswith("docs/stories/") for one in report.refused)


GATE = """# who looked at it
schema: 1
story: '2.2'
story_title: "Search products"
gate: CONCERNS   # for now
status_reason: 'One thing is missing.'
reviewer: 'Quinn'
updated: '2026-10-05T10:00:00Z'

top_issues:
  - id: 'TEST-001'
    severity: medium
    finding: 'No test of an empty search'
    suggested_action: 'Add one'
waiver: {active: false}
# the rest is ours
quality_score: 90
evidence:
  tests_reviewed: 4
"""


async def test_a_gate_changes_key_by_key_and_keeps_its_comments(folder, opened, run):
    path = write(folder, "docs/qa/gates/2.2-search-products.yml", GATE)
    await import_folder(opened, folder)
    await run("gate_record", story="2.2", gate="PASS", reason="All there now.")
    await export_folder(opened, folder)
    text = path.read_text()
    assert text.startswith(
        "# who looked at it\nschema: 1\nstory: '2.2'\nstory_title: \"Search products\"\ngate: PASS   # for now\n"
        "status_reason: 'All there now.'\n"
    )
    assert "# the rest is ours\nquality_score: 100\nevidence:\n  tests_reviewed: 4\n" in text
    assert "top_issues: []\nwaiver: {active: false}\n" in text
    again = await import_folder(opened, folder)
    assert (again.changes, again.conflicts) == (0, ())
    assert (await export_folder(opened, folder)).files == ()


async def test_a_new_gate_goes_where_gates_are_and_reads_back(folder, opened, run):
    await import_folder(opened, folder)
    issues = [{"severity": "high", "finding": "It: loses 'money'", "suggested_action": "Don't"}]
    await run(
        "gate_record", story="2.3", gate="FAIL", reason="Look: it breaks", issues=issues, nfr={"security": "FAIL"}
    )
    before = (await story(opened, "2.3"))["gate"]
    await export_folder(opened, folder)
    text = (folder / "docs/qa/gates/2.3-product-page.yml").read_text()
    assert text.startswith("schema: 1\nstory: '2.3'\nstory_title: Product page\ngate: FAIL\n")
    assert (await import_folder(opened, folder)).changes == 0
    after = (await story(opened, "2.3"))["gate"]
    assert after == before | {"file": "docs/qa/gates/2.3-product-page.yml"}


async def test_the_run_of_a_checklist_becomes_a_file(folder, opened, run):
    await import_folder(opened, folder)
    await run("checklist_run", checklist="story-dod", subject="story 2.2", results=[{"item": "1-3", "mark": "pass"}])
    report = await export_folder(opened, folder)
    (file,) = report.files
    assert file.path.startswith("docs/qa/checklists/2.2-story-dod-")
    text = (folder / file.path).read_text()
    assert text.startswith("---\nchecklist: story-dod\nsubject: story 2.2\ngate: fail\n")
    assert text.count("- [x] ") == 3
    assert (await import_folder(opened, folder)).changes == 0
    (folder / file.path).unlink()
    assert (await export_folder(opened, folder)).files == (), "what a person removed stays removed"


async def test_a_retrospective_that_a_tool_recorded_marks_the_tracker(v6_folder, opened, run):
    await import_folder(opened, v6_folder)
    await run("artifact_record", kind="retro", path=f"{BUILDING}/epic-2-retro-2026-11-23.md", content="# Retro\n")
    await export_folder(opened, v6_folder)
    assert (v6_folder / BUILDING / "epic-2-retro-2026-11-23.md").read_text() == "# Retro\n"
    assert "  epic-2-retrospective: done\n" in (v6_folder / TRACKER).read_text()
    assert (await import_folder(opened, v6_folder)).changes == 0


async def test_a_build_spec_keeps_its_own_status_and_the_tracker_follows(v6_folder, opened, run):
    spec = write(
        v6_folder,
        f"{BUILDING}/spec-2-4-sort-and-filter.md",
        "---\ntitle: 'Sort and filter'\nstatus: in-review # by the build\n---\n\n# Sort\n\n## Tasks\n\n- [ ] Sort\n",
    )
    await import_folder(opened, v6_folder)
    await move(run, "2.4", "ready", "in_progress")
    before = spec.read_text()
    await export_folder(opened, v6_folder)
    assert "  2-4-sort-and-filter: in-progress\n" in (v6_folder / TRACKER).read_text()
    assert spec.read_text() == before
    (v6_folder / TRACKER).unlink()


async def test_a_spec_without_a_tracker_gets_its_status_in_the_front_matter(tmp_path, opened, run):
    folder = tmp_path / "alone"
    spec = write(
        folder,
        f"{BUILDING}/spec-2-4-sort.md",
        "---\ntitle: 'Sort'\nstatus: draft # by hand\nroute: oneshot\n---\n\n# Sort\n\n## Tasks\n\n- [ ] Sort\n",
    )
    await import_folder(opened, folder)
    await move(run, "2.4", "ready", "in_progress", "review")
    report = await export_folder(opened, folder)
    assert not report.conflicts, report.render()
    assert "status: in-review # by hand\nroute: oneshot\n" in spec.read_text()


async def test_a_task_of_a_tool_does_not_take_the_place_of_the_storys_own(folder, opened, run):
    write(
        folder,
        "docs/stories/2.5.gift-wrap.md",
        "# Story 2.5: Gift wrap\n\n## Status\n\nApproved\n\n## Story\n\nWrap it.\n",
    )
    await import_folder(opened, folder)
    await run("task_create", title="Choose the paper", story="2.5", agent="dev")
    await export_folder(opened, folder)
    assert "## Tasks / Subtasks\n\n- [ ] Choose the paper\n" in (folder / "docs/stories/2.5.gift-wrap.md").read_text()
    await import_folder(opened, folder)
    assert {(one["title"], one["status"]) for one in await tasks(opened, "2.5")} == {
        ("Implement story 2.5: Gift wrap", "pending"),
        ("Choose the paper", "pending"),
    }


async def test_custom_places_of_a_v4_project_are_kept(tmp_path, opened, run):
    folder = tmp_path / "shop"
    write(
        folder,
        ".bmad-core/core-config.yaml",
        "devStoryLocation: work/tales\nqa:\n  qaLocation: work/quality\nprd:\n  prdSharded: true\n"
        "  prdShardedLocation: work/needs\n  epicFilePattern: epic-{n}*.md\n",
    )
    write(
        folder,
        "work/needs/epic-1-shop.md",
        "## Epic 1 Shop\n\nSell.\n\n### Story 1.1 Open\n\nAs a b, I want c, so that d.\n",
    )
    await import_folder(opened, folder)
    await run("story_create", epic="1", title="Close")
    await run("gate_record", story="1.2", gate="PASS", reason="Fine")
    await run("epic_create", title="Cellar")
    report = await export_folder(opened, folder)
    assert {one.path for one in report.files} == {
        "work/needs/epic-1-shop.md",
        "work/needs/epic-2-cellar.md",
        "work/quality/gates/1.2-close.yml",
        "work/tales/1.2.close.md",
    }
    assert (await import_folder(opened, folder)).changes == 0


async def test_what_a_tool_wrote_of_its_task_stays_when_the_task_becomes_a_box(folder, opened, run):
    await import_folder(opened, folder)
    made = await run("task_create", title="Measure the page", description="With the slow network.", story="2.2")
    await export_folder(opened, folder)
    await import_folder(opened, folder)
    assert (await run("task_get", task=made.task.key)).task.description == "With the slow network."

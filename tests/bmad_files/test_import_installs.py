"""The import of real installs of each generation, with project files on top."""

import base64
import time
from collections import Counter

import pytest
from bmad_installs import V4, V6, V60, add_v4_docs, add_v6_docs, installed
from stored_rows import dump, fetch, story, tasks

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.reader import read_project

ROLES = {"analyst", "pm", "architect", "sm", "dev", "qa", "po", "ux"}


@pytest.fixture
def v4(tmp_path):
    return add_v4_docs(installed(V4, tmp_path / "shop"))


@pytest.fixture
def v6(tmp_path):
    return add_v6_docs(installed(V6, tmp_path / "shop"))


@pytest.fixture
def both(tmp_path):
    return add_v6_docs(installed(V6, add_v4_docs(installed(V4, tmp_path / "shop"))))


async def counted(opened, table, column):
    rows = await fetch(
        opened, f"SELECT {column} AS word, count(*) AS n FROM {table} WHERE project_id = bmad_project() GROUP BY 1"
    )
    return {row["word"]: row["n"] for row in rows}


async def test_a_4_44_3_project_comes_in_whole(v4, workspace):
    opened = workspace.opened
    report = await import_folder(opened, v4)

    agents = await fetch(opened, "SELECT name, source, aliases, source_path FROM bmad_agents ORDER BY name")
    core = {row["name"] for row in agents if (row["source_path"] or "").startswith(".bmad-core/")}
    assert core == ROLES | {"bmad-master", "bmad-orchestrator"}
    assert {row["source"] for row in agents} == {"import"}
    assert "ux-expert" in next(row["aliases"] for row in agents if row["name"] == "ux")

    definitions = await fetch(opened, "SELECT kind, body FROM bmad_templates WHERE source_path LIKE '.bmad-core/%'")
    assert Counter(row["kind"] for row in definitions) == {
        "workflow": 6,
        "document": 13,
        "task": 23,
        "data": 8,
        "team": 4,
    }
    assert sum(len(row["body"]["stages"]) for row in definitions if row["kind"] == "workflow") == 99

    checklists = await fetch(opened, "SELECT name, items FROM bmad_checklists WHERE source_path LIKE '.bmad-core/%'")
    assert {row["name"]: len(row["items"]) for row in checklists} == {
        "architect": 195,
        "change": 63,
        "pm": 139,
        "po-master": 151,
        "story-dod": 28,
        "story-draft": 23,
    }
    assert await counted(opened, "bmad_stories", "status::text") == {
        "done": 4,
        "review": 1,
        "in_progress": 1,
        "ready": 2,
        "draft": 4,
    }
    assert report.counts["epic"].created == 3
    assert report.counts["story"].created == 12
    assert report.generations == ("v4",)
    assert not report.conflicts


async def test_v4_stories_keep_their_words_sections_gates_and_boxes(v4, workspace):
    opened = workspace.opened
    await import_folder(opened, v4)
    second = await story(opened, "1.2")
    assert (second["status"], second["raw_status"]) == ("done", "Done")
    assert second["gate"]["gate"] == "CONCERNS"
    assert second["gate"]["score"] == 90
    assert second["gate"]["file"].startswith("docs/qa/gates/1.2-")
    assert second["role"] == "shopper"
    assert second["want"] == "to sign in"
    assert len(second["acceptance"]) == 3
    names = [section["name"] for section in second["sections"]]
    assert names[:3] == ["Story", "Acceptance Criteria", "Tasks / Subtasks"]
    assert "Status" not in names
    assert set(second["sections"][0]) == {"name", "level", "text"}
    odd = await story(opened, "3.4")
    assert (odd["status"], odd["raw_status"]) == ("draft", "Waiting for the moon")
    assert {row["gate"] is not None for row in [second, odd]} == {True, False}

    service, access, page = await tasks(opened, "2.2")
    assert [one["status"] for one in (service, access, page)] == ["completed", "completed", "pending"]
    assert page["source_ref"] == "docs/stories/2.2.search-products.md#3"
    assert page["agent"] == "dev"
    assert page["story_open"]
    assert page["raw_status"] == "[ ] Write the page (AC: 2, 3)"
    assert not (await tasks(opened, "3.1"))[0]["story_open"]
    # A box with boxes under it waits for them.
    parent, child, _ = await tasks(opened, "2.4")
    assert parent["open_dependencies"] == 1
    waits = await fetch(opened, "SELECT depends_on_id FROM bmad_task_dependencies WHERE task_id = $1", parent["id"])
    assert [row["depends_on_id"] for row in waits] == [child["id"]]


async def test_a_6_12_0_project_comes_in_with_its_tracker(v6, workspace):
    opened = workspace.opened
    began = time.perf_counter()
    report = await import_folder(opened, v6)
    assert time.perf_counter() - began < 2
    assert report.counts["story"].created == 12
    assert report.counts["workflow"].created == 24
    dev = (await fetch(opened, "SELECT * FROM bmad_agents WHERE name = 'dev'"))[0]
    assert dev["display_name"] == "Amelia"
    assert "bmad-agent-dev" in dev["aliases"]
    assert dev["source"] == "import"
    # Roles that v6.12 has no agent for are still played by the built-in ones.
    assert await counted(opened, "bmad_agents", "source") == {"import": 5, "builtin": 3}

    epics = await fetch(opened, "SELECT key, status::text, raw_status, extra FROM bmad_epics ORDER BY number")
    assert [(row["status"], row["raw_status"]) for row in epics] == [
        ("done", "done"),
        ("in_progress", "in-progress"),
        ("draft", "backlog"),
    ]
    assert epics[0]["extra"]["retrospective"] == "done"
    told = await story(opened, "2.2")
    assert (told["status"], told["tracker_key"], told["tracker_status"]) == (
        "in_progress",
        "2-2-search-products",
        "in-progress",
    )
    only_in_epics = await story(opened, "3.1")
    assert (only_in_epics["status"], only_in_epics["source_path"]) == ("draft", None)
    (whole,) = await tasks(opened, "3.1")
    assert whole["title"] == "Implement story 3.1: Fill a basket"
    assert whole["source_ref"] == "3.1#implement"
    assert await tasks(opened, "1.1") == []

    notes = await fetch(opened, "SELECT text, author_kind, agent FROM mcp_memories ORDER BY text")
    assert [(row["text"], row["agent"]) for row in notes] == [
        ("Guests can order without an account", None),
        ("The old shop has 40,000 products", "pm"),
    ]
    assert {row["author_kind"] for row in notes} == {"import"}


async def test_a_6_0_4_project_comes_in(tmp_path, workspace):
    report = await import_folder(workspace.opened, installed(V60, tmp_path / "shop"))
    assert report.counts["agent"].created + report.counts["agent"].updated == 10
    assert report.counts["workflow"].created == 25
    agents = await fetch(workspace.opened, "SELECT name, source FROM bmad_agents")
    assert {row["name"] for row in agents} >= ROLES | {"bmad-master", "tech-writer", "quick-flow-solo-dev"}


async def test_two_generations_side_by_side_keep_both_agents_of_a_role(both, workspace, run):
    opened = workspace.opened
    report = await import_folder(opened, both)
    agents = {row["name"]: row for row in await fetch(opened, "SELECT * FROM bmad_agents")}
    assert agents["dev"]["display_name"] == "James"
    assert agents["bmad-agent-dev"]["display_name"] == "Amelia"
    assert "bmad-agent-dev" not in agents["dev"]["aliases"]
    assert "dev" not in agents["bmad-agent-dev"]["aliases"]
    assert report.generations == ("v4", "v6")
    names = [alias for row in agents.values() for alias in (row["name"], *row["aliases"])]
    assert len(names) == len(set(names)), "every name leads to one agent"
    told = {one.code for one in report.deviations}
    assert {"name-taken", "story-twice"} <= told
    task = await run("task_create", title="a", agent="bmad-agent-dev")
    assert task.task.agent == "bmad-agent-dev"
    assert (await run("task_create", title="b", agent="dev")).task.agent == "dev"


@pytest.mark.parametrize("made", ["v4", "v6", "both"])
async def test_every_file_that_was_read_is_kept_byte_for_byte(made, workspace, request):
    folder = request.getfixturevalue(made)
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "latin.md").write_bytes("# Größe\n".encode("latin-1"))
    (folder / "docs" / "bom.md").write_bytes(b"\xef\xbb\xbf# With a mark\r\nand CRLF\r\n")
    (folder / "docs" / "nul.md").write_bytes(b"# A\x00B\n")
    read = read_project(folder)
    await import_folder(workspace.opened, folder)
    stored = await fetch(
        workspace.opened, "SELECT path, content, encoding, content_hash, generation FROM bmad_artifacts"
    )
    assert len(stored) == len(read.files) > 100
    for row in stored:
        content = row["content"].encode()
        raw = base64.b64decode(content) if row["encoding"] == "base64" else content
        assert raw == (folder / row["path"]).read_bytes(), row["path"]
    if made == "v4":
        assert {row["path"] for row in stored if row["encoding"] == "base64"} == {"docs/latin.md", "docs/nul.md"}


@pytest.mark.parametrize("made", ["v4", "v6", "both"])
async def test_a_second_import_changes_nothing_at_all(made, workspace, request):
    folder = request.getfixturevalue(made)
    first = await import_folder(workspace.opened, folder)
    before = await dump(workspace.opened)
    second = await import_folder(workspace.opened, folder)
    assert second.changes == 0
    assert await dump(workspace.opened) == before
    kept = {kind: one.kept for kind, one in second.counts.items()}
    assert kept == {kind: one.created + one.updated for kind, one in first.counts.items()}
    assert second.render().endswith("Nothing changed.\n")


async def test_a_dry_run_writes_nothing_and_tells_what_the_import_then_does(both, workspace):
    before = await dump(workspace.opened)
    plan = await import_folder(workspace.opened, both, dry_run=True)
    assert await dump(workspace.opened) == before
    done = await import_folder(workspace.opened, both)
    assert plan.counts == done.counts
    assert plan.created == done.created
    assert plan.updated == done.updated
    assert plan.deviations == done.deviations


async def test_the_trail_has_one_row_for_an_import(v4, workspace):
    await import_folder(workspace.opened, v4)
    rows = await fetch(workspace.opened, "SELECT operation, subject, principal, detail FROM bmad_agent_activity")
    (row,) = [row for row in rows if row["operation"] == "project_import"]
    assert len(rows) == 1
    assert row["detail"]["counts"]["story"] == {"created": 12}
    assert row["detail"]["generations"] == ["v4"]
    (project,) = await fetch(workspace.opened, "SELECT imported_at, settings FROM bmad_projects")
    assert project["imported_at"] is not None
    assert project["settings"]["bmad"]["generations"] == ["v4"]


async def test_imported_work_can_be_claimed_and_completed(v6, workspace, run):
    await import_folder(workspace.opened, v6)
    claim = await run("task_claim", agent="bmad-agent-dev")
    assert claim.task.story in ("2.1", "2.2", "2.3")
    await run("task_complete", task=claim.task.key, lease=claim.lease)
    report = await import_folder(workspace.opened, v6)
    assert report.changes == 0
    assert not report.conflicts


async def test_numbers_of_tasks_and_artifacts_go_on_where_the_import_ended(v6, workspace, run):
    await import_folder(workspace.opened, v6)
    (last,) = await fetch(
        workspace.opened,
        "SELECT (SELECT max(number) FROM bmad_tasks) AS task, (SELECT max(number) FROM bmad_artifacts) AS artifact",
    )
    made = await run("task_create", title="One more")
    assert made.task.key == f"T-{last['task'] + 1}"
    counters = await fetch(workspace.opened, "SELECT kind, value FROM mcp_counters WHERE kind = 'artifact'")
    assert counters[0]["value"] == last["artifact"]

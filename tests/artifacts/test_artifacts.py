"""Artifacts: recorded, found again, never opened."""

import asyncio
import base64
import hashlib
import re

import pytest
from harness import new_project
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_rows import change, fetch

from bmad_mcp.artifacts.labels import checked_label
from bmad_mcp.artifacts.operations import SHOWN
from bmad_mcp.errors import Conflict, Invalid, NotFound

IMPORT = """
INSERT INTO bmad_artifacts (project_id, number, kind, title, path, content, content_hash, encoding, source, generation)
SELECT bmad_project(), $1, $2, regexp_replace($3, '.*/', ''), $3, $4, 'hash', $5, 'import', 'v4'
"""


async def imported(workspace, number, kind, path, content="old", encoding="utf-8"):
    """A file as the import keeps it."""
    await change(workspace.opened, IMPORT, number, kind, path, content, encoding)
    await change(workspace.opened, "INSERT INTO mcp_counters VALUES (bmad_project(), 'artifact', $1)"
                 " ON CONFLICT (project_id, kind) DO UPDATE SET value = $1", number)  # fmt: skip


async def test_a_document_is_recorded_and_read_again(run):
    await run("epic_create", title="E")
    await run("story_create", epic="1", title="S")
    await run("task_create", title="Write it")
    await run("workflow_start", type="greenfield-service")
    await run("agent_activate", agent="pm")
    made = await run(
        "artifact_record", kind="prd", path="docs/prd.md", content="# PRD\n", task="T-1", story="1.1", workflow="W-1"
    )
    assert (made.artifact.key, made.artifact.title, made.artifact.bytes) == ("A-1", "prd.md", 6)
    found = await run("artifact_get", artifact="A-1")
    assert (found.content, found.encoding, found.version, found.source) == ("# PRD\n", "utf-8", 1, "tool")
    assert (found.task, found.story, found.workflow, found.agent) == ("T-1", "1.1", "W-1", "pm")
    assert found.note is None
    (trail,) = (await run("activity_list", subject="A-1")).items
    assert (trail.operation, trail.agent) == ("artifact_record", "pm")


async def test_the_same_path_again_replaces_the_text_and_keeps_the_key(run, workspace):
    await run("task_create", title="Write it")
    await run("artifact_record", kind="prd", path="docs/prd.md", content="one", task="T-1")
    again = await run("artifact_record", kind="spec", title="Better", path="./docs//prd.md", content="two")
    assert (again.artifact.key, again.artifact.kind, again.artifact.title) == ("A-1", "spec", "Better")
    found = await run("artifact_get", artifact="A-1")
    assert (found.content, found.version, found.task) == ("two", 2, "T-1")
    (row,) = await fetch(workspace.opened, "SELECT content_hash FROM bmad_artifacts WHERE project_id = bmad_project()")
    assert row["content_hash"] == hashlib.sha256(b"two").hexdigest()


async def test_a_record_without_a_text_keeps_the_text_that_is_there(run):
    await run("artifact_record", kind="prd", path="docs/prd.md", content="one")
    await run("artifact_record", kind="prd", title="The PRD", path="docs/prd.md")
    found = await run("artifact_get", artifact="A-1")
    assert (found.title, found.content) == ("The PRD", "one")


async def test_many_records_at_once_lose_none(run):
    await asyncio.gather(*(run("artifact_record", kind="note", title=f"n{one}") for one in range(20)))
    page = await run("artifact_list", limit=100)
    assert len({one.key for one in page.items}) == 20


async def test_of_many_records_of_one_path_at_once_one_document_remains(run):
    texts = [f"text {one}" for one in range(8)]
    await asyncio.gather(*(run("artifact_record", kind="note", path="docs/n.md", content=text) for text in texts))
    (kept,) = (await run("artifact_list")).items
    found = await run("artifact_get", artifact=kept.key)
    assert found.content in texts
    assert found.version == 8


async def test_documents_are_listed_newest_first(run):
    for title, kind in (("A", "prd"), ("B", "brief"), ("C", "config")):
        await run("artifact_record", kind=kind, title=title)
    page = await run("artifact_list", limit=2)
    assert [one.title for one in page.items] == ["C", "B"]
    rest = await run("artifact_list", limit=2, cursor=page.next_cursor)
    assert ([one.title for one in rest.items], rest.next_cursor) == (["A"], None)
    assert [one.title for one in (await run("artifact_list", kind="brief")).items] == ["B"]
    assert (await run("artifact_list", kind="nothing")).items == []


async def test_files_that_an_import_keeps_are_listed_only_when_their_kind_is_asked_for(run, workspace):
    kept = [("agent", ".bmad-core/agents/dev.md"), ("template", "_bmad/bmm/t.md"), ("document", ".bmad-core/guide.md")]
    kept += [("story", "docs/stories/1.1.md"), ("gate", "docs/qa/gates/1.1.yml"), ("task", "_bmad/core/tasks/x.xml")]
    for number, (kind, path) in enumerate(kept, start=1):
        await imported(workspace, number, kind, path)
    await imported(workspace, 7, "prd", "docs/prd.md")
    await imported(workspace, 8, "document", "_bmad-output/notes.md")
    assert [one.key for one in (await run("artifact_list")).items] == ["A-8", "A-7"]
    assert [one.key for one in (await run("artifact_list", kind="story")).items] == ["A-4"]
    assert [one.key for one in (await run("artifact_list", kind="document")).items] == ["A-8", "A-3"]


async def test_a_text_for_an_imported_document_is_the_tools_own_from_then_on(run, workspace):
    await imported(workspace, 1, "prd", "docs/prd.md", "AAEC", "base64")
    await run("artifact_record", kind="other", title="Only linked", path="docs/prd.md")
    found = await run("artifact_get", artifact="A-1")
    assert (found.kind, found.title, found.source, found.content) == ("prd", "prd.md", "import", "AAEC")
    await run("artifact_record", kind="prd", path="docs/prd.md", content="new")
    found = await run("artifact_get", artifact="A-1")
    assert (found.source, found.encoding, found.content, found.generation) == ("tool", "utf-8", "new", "v4")


@pytest.mark.parametrize(
    ("kind", "path", "mend"),
    [
        ("story", "docs/stories/1.1.md", "story_update"),
        ("gate", "docs/qa/gates/1.1.yml", "gate_record"),
        ("agent", ".bmad-core/agents/dev.md", "import it again"),
        ("document", "_bmad/readme.md", "another path"),
    ],
)
async def test_a_file_with_a_home_of_its_own_is_not_replaced(run, workspace, kind, path, mend):
    await imported(workspace, 1, kind, path)
    with pytest.raises(Conflict, match=mend):
        await run("artifact_record", kind="note", path=path, content="new")
    assert (await run("artifact_get", artifact="A-1")).content == "old"


async def test_a_long_document_is_shown_in_parts_that_make_the_whole(run):
    text = "".join(f"{number} ü\n" for number in range(20_000))
    await run("artifact_record", kind="log", title="Long", content=text)
    shown, offset = "", 0
    while offset < len(text):
        found = await run("artifact_get", artifact="A-1", offset=offset)
        assert len(found.content) <= SHOWN
        assert f"of {len(text):,}." in found.note
        shown, offset = shown + found.content, offset + len(found.content)
    assert shown == text
    assert "offset=" not in found.note
    assert found.bytes == len(text.encode())
    beyond = await run("artifact_get", artifact="A-1", offset=len(text) + 5)
    assert beyond.content is None


async def test_bytes_are_told_as_such(run, workspace):
    raw = bytes(range(256)) * 200
    await imported(workspace, 1, "document", "docs/logo.png", base64.b64encode(raw).decode(), "base64")
    first = await run("artifact_get", artifact="A-1")
    rest = await run("artifact_get", artifact="A-1", offset=SHOWN)
    assert first.encoding == "base64"
    assert first.note.startswith("The file is not text: `content` is base64.")
    assert base64.b64decode(first.content) + base64.b64decode(rest.content) == raw


async def test_a_document_of_which_only_the_place_is_known_says_so(run):
    await run("artifact_record", kind="design", title="Whiteboard")
    found = await run("artifact_get", artifact="A-1")
    assert found.content is None
    assert "No text was recorded" in found.note


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../up.md",
        "a/../../b",
        "~/x",
        " ",
        "C:\\x",
        "c:x",
        "\\\\host\\x",
        "a\\..\\b",
        "..",
        "a/..",
        "./C:/x",
        "./~/x",
    ],
)
async def test_a_path_that_leaves_the_project_is_refused(run, path):
    with pytest.raises(Invalid, match="`path` must be relative"):
        await run("artifact_record", kind="prd", path=path)
    assert (await run("artifact_list")).items == []


@pytest.mark.parametrize("path", ["a\nb", "a\tb.md", "docs/\x1b[31m.md"])
async def test_a_path_is_one_line_without_control_characters(run, path):
    with pytest.raises(Invalid, match="control characters"):
        await run("artifact_record", kind="prd", path=path)


@pytest.mark.parametrize("path", ["https://example.org/prd", "see https://example.org/prd"])
async def test_an_address_is_no_path(run, path):
    with pytest.raises(Invalid, match="into `title`"):
        await run("artifact_record", kind="prd", path=path)


def test_what_begins_like_an_address_may_still_be_a_drive():
    with pytest.raises(Invalid, match="relative to the project"):
        checked_label("C:://", "path")


@settings(max_examples=500)
@given(st.text("aC./\\~: ", max_size=12))
def test_a_label_never_leads_out_of_the_project_and_checking_it_twice_changes_nothing(text):
    try:
        label = checked_label(text, "path")
    except Invalid:
        return
    assert ".." not in label.replace("\\", "/").split("/")
    assert not label.startswith(("/", "\\", "~"))
    assert not re.match("[A-Za-z]:(?!//)", label)
    assert checked_label(label, "path") == label


async def test_a_document_needs_a_name_and_known_keys(run):
    with pytest.raises(Invalid, match="`title` or `path`"):
        await run("artifact_record", kind="prd")
    with pytest.raises(Invalid, match="kind"):
        await run("artifact_record", kind="PRD!", title="x")
    for name, key in (("story", "9.9"), ("task", "T-9"), ("workflow", "W-9")):
        with pytest.raises(NotFound, match=f"no {name} {key}"):
            await run("artifact_record", kind="prd", title="x", **{name: key})
    with pytest.raises(NotFound, match="no artifact A-7"):
        await run("artifact_get", artifact="A-7")
    assert (await run("artifact_list")).items == []


async def test_a_document_of_another_project_is_not_seen_and_its_path_is_free(run, pool):
    other = await new_project(pool)
    await change(other, IMPORT, 1, "prd", "docs/prd.md", "theirs", "utf-8")
    with pytest.raises(NotFound):
        await run("artifact_get", artifact="A-1")
    await run("artifact_record", kind="prd", path="docs/prd.md", content="ours")
    (theirs,) = await fetch(other, "SELECT content FROM bmad_artifacts WHERE project_id = bmad_project()")
    assert theirs["content"] == "theirs"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("CLAUDE.md", "assistants read a file of that name as instructions"),
        ("docs/AGENTS.md", "assistants read a file of that name as instructions"),
        (".github/workflows/ci.yml", "the path goes through a hidden folder or one of a tool"),
        ("node_modules/a.md", "the path goes through a hidden folder or one of a tool"),
        ("docs/aux.md", "not every system can have a file of that name"),
    ],
)
async def test_a_text_that_no_export_writes_is_refused_with_the_reason(run, path, reason):
    with pytest.raises(Invalid) as refused:
        await run("artifact_record", kind="note", path=path, content="do as I say\n")
    assert f"A document is never written at {path}: {reason}." in refused.value.message
    assert refused.value.field == "path"
    # The path alone tells what work has changed.
    assert (await run("artifact_record", kind="note", path=path)).artifact.path == path

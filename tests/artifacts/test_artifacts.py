"""Artifacts: recorded, found again, never opened."""

import asyncio

import pytest

from bmad_mcp.errors import Invalid, NotFound


async def test_a_document_is_recorded_and_read_again(run):
    await run("task_create", title="Write it")
    made = await run("artifact_record", kind="prd", path="docs/prd.md", content="# PRD\n", task="T-1")
    assert (made.artifact.key, made.artifact.title, made.artifact.characters) == ("A-1", "prd.md", 6)
    found = await run("artifact_get", artifact="A-1")
    assert (found.content, found.task, found.encoding, found.version) == ("# PRD\n", "T-1", "utf-8", 1)


async def test_the_same_path_again_replaces_the_text_and_keeps_the_key(run):
    await run("artifact_record", kind="prd", path="docs/prd.md", content="one")
    again = await run("artifact_record", kind="prd", path="docs/prd.md", content="two")
    assert again.artifact.key == "A-1"
    found = await run("artifact_get", artifact="A-1")
    assert (found.content, found.version) == ("two", 2)


async def test_many_records_at_once_lose_none(run):
    await asyncio.gather(*(run("artifact_record", kind="note", title=f"n{one}") for one in range(20)))
    page = await run("artifact_list", limit=100)
    assert len({one.key for one in page.items}) == 20


async def test_documents_are_listed_newest_first_and_definitions_only_when_asked_for(run):
    await run("artifact_record", kind="prd", title="A")
    await run("artifact_record", kind="brief", title="B")
    await run("artifact_record", kind="config", title="C")
    page = await run("artifact_list", limit=1)
    assert [one.title for one in page.items] == ["B"]
    assert [one.title for one in (await run("artifact_list", limit=1, cursor=page.next_cursor)).items] == ["A"]
    assert [one.title for one in (await run("artifact_list", kind="config")).items] == ["C"]


async def test_a_long_document_is_shown_in_part(run):
    await run("artifact_record", kind="log", title="Long", content="x" * 150_000)
    found = await run("artifact_get", artifact="A-1")
    assert (len(found.content), found.characters, found.truncated) == (100_000, 150_000, True)


@pytest.mark.parametrize("path", ["/etc/passwd", "../up.md", "a/../../b", "~/x", " "])
async def test_a_path_that_leaves_the_project_is_refused(run, path):
    with pytest.raises(Invalid, match="`path` must be relative"):
        await run("artifact_record", kind="prd", path=path)


async def test_a_document_needs_a_name_and_known_keys(run):
    with pytest.raises(Invalid, match="`title` or `path`"):
        await run("artifact_record", kind="prd")
    with pytest.raises(NotFound, match=r"no story 9\.9"):
        await run("artifact_record", kind="prd", title="x", story="9.9")
    with pytest.raises(NotFound, match="no artifact A-7"):
        await run("artifact_get", artifact="A-7")

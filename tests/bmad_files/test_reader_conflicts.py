"""Files with an unsettled merge of git: kept as bytes, told with the line, and nothing imported of them is lost."""

import pytest
from bmad_installs import add_v4_docs, add_v6_docs, story_text, v6_story_text, write
from stored_rows import fetch, story, tasks

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.bmad_files.reader import read_project

STORY = "docs/stories/2.4.sort-and-filter.md"
TRACKER = "_bmad-output/implementation-artifacts/sprint-status.yaml"
EPICS = "_bmad-output/planning-artifacts/epics.md"


def both(ours: str, theirs: str) -> str:
    return f"<<<<<<< HEAD\n{ours}\n=======\n{theirs}\n>>>>>>> branch\n"


def told(project):
    return [(one.path, one.line) for one in project.deviations if one.code == "merge-conflict"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_marks_of_a_merge_are_told_with_their_line_and_the_bytes_are_kept(tmp_path, line_end):
    text = "# Story 1.1: A\n\nStatus: done\n\n" + both("one", "||||||| base\ntwo")
    path = tmp_path / "docs/stories/1.1.a.md"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.replace("\n", line_end).encode())
    project = read_project(tmp_path)
    assert told(project) == [("docs/stories/1.1.a.md", 5)]
    (file,) = project.files
    assert (file.text, file.raw) == (None, path.read_bytes())
    assert "Settle the merge" in project.deviations[0].mend


@pytest.mark.parametrize(
    "shown",
    [
        "```\n" + both("a", "b") + "```\n",
        "~~~diff\n" + both("a", "b") + "~~~\n\nMore.\n",
        "Title\n=======\n\nA heading.\n",
        "<<<<<<< HEAD\n\nOnly the first.\n",
        ">>>>>>> b\n=======\n<<<<<<< a\n",
        "The mark `<<<<<<< HEAD` and `>>>>>>> x` in a line.\n=======\n",
    ],
)
def test_a_document_that_shows_such_marks_is_read(tmp_path, shown):
    write(tmp_path, "docs/stories/1.1.a.md", story_text("1.1", "A", "## Status\n\nDone\n", "xx") + shown)
    project = read_project(tmp_path)
    assert told(project) == []
    assert project.stories[0].raw_status == "Done"


def test_a_merge_whose_one_side_opens_a_code_block_is_seen(tmp_path):
    write(tmp_path, "docs/stories/1.1.a.md", "# Story 1.1: A\n" + both("```\ncode", "text"))
    assert told(read_project(tmp_path)) == [("docs/stories/1.1.a.md", 2)]


def test_a_merge_within_yaml_and_toml_is_seen_before_their_parsers_complain(tmp_path):
    write(tmp_path, TRACKER, "development_status:\n" + both("  1-1-a: done", "  1-1-a: review"))
    write(tmp_path, "initiative-a/epic-b/tickets.toml", both("a = 1", "a = 2"))
    write(tmp_path, ".bmad-core/core-config.yaml", both("devStoryLocation: a", "devStoryLocation: b"))
    project = read_project(tmp_path)
    assert sorted(told(project)) == [
        (".bmad-core/core-config.yaml", 1),
        (TRACKER, 2),
        ("initiative-a/epic-b/tickets.toml", 1),
    ]
    assert not {"yaml", "toml", "reader-fault"} & {one.code for one in project.deviations}


async def test_a_story_in_the_middle_of_a_merge_stays_as_it_was_imported(tmp_path, workspace):
    folder = add_v4_docs(tmp_path / "shop")
    opened = workspace.opened
    await import_folder(opened, folder)
    before = await story(opened, "2.4"), await tasks(opened, "2.4")
    text = (folder / STORY).read_text()
    (folder / STORY).write_text(text.replace("Approved\n", both("Done", "Review")))
    report = await import_folder(opened, folder)
    assert "merge-conflict" in {one.code for one in report.deviations}
    assert (await story(opened, "2.4"), await tasks(opened, "2.4")) == before
    assert (await import_folder(opened, folder)).changes == 0
    (folder / STORY).write_text(text.replace("Approved\n", "Review\n"))
    await import_folder(opened, folder)
    assert (await story(opened, "2.4"))["status"] == "review"


async def test_a_tracker_in_the_middle_of_a_merge_takes_no_status_back(tmp_path, workspace):
    folder = add_v6_docs(tmp_path / "shop")
    opened = workspace.opened
    await import_folder(opened, folder)
    rows = "SELECT key, status::text AS status, tracker_status, tracker_key FROM bmad_stories ORDER BY key"
    before = await fetch(opened, rows)
    text = (folder / TRACKER).read_text()
    (folder / TRACKER).write_text(text.replace("  3-2-pay: backlog\n", both("  3-2-pay: done", "  3-2-pay: review")))
    await import_folder(opened, folder)
    assert await fetch(opened, rows) == before


async def test_what_an_epics_document_told_stays_while_it_is_in_the_middle_of_a_merge(tmp_path, workspace):
    folder = add_v6_docs(tmp_path / "shop")
    opened = workspace.opened
    # The file of this story has no criteria and no wish of its own.
    path = "_bmad-output/implementation-artifacts/2-1-show-products.md"
    write(folder, path, "# Story 2.1: Show products\n\nStatus: review\n")
    await import_folder(opened, folder)
    rows = "SELECT key, title, role, want, benefit, acceptance, sections FROM bmad_stories ORDER BY key"
    epics = "SELECT key, title, goal FROM bmad_epics ORDER BY key"
    before = await fetch(opened, rows), await fetch(opened, epics)
    text = (folder / EPICS).read_text()
    (folder / EPICS).write_text(text.replace("All of orders.", both("All.", "Orders.")))
    await import_folder(opened, folder)
    assert (await fetch(opened, rows), await fetch(opened, epics)) == before
    # The story's own file counts meanwhile, and takes nothing of the other back.
    for status in ("review", "done"):
        write(
            folder, path, v6_story_text("2.1", "Show all", status).replace("1. The page", "The page").split("## Acc")[0]
        )
        await import_folder(opened, folder)
        told_now = await story(opened, "2.1")
        assert (told_now["title"], told_now["status"]) == ("Show all", status)
        assert told_now["acceptance"] == next(row["acceptance"] for row in before[0] if row["key"] == "2.1")
    (folder / EPICS).write_text(text.replace("All of orders.", "Orders it is."))
    assert not (await import_folder(opened, folder)).conflicts
    assert {row["key"]: row["goal"] for row in await fetch(opened, epics)}["3"] == "Orders it is."

"""Nothing of a file is lost: its bytes are kept, and its text can be put together again from the values."""

import hashlib

import pytest
from bmad_installs import V4, V6, V60, add_v4_docs, add_v6_docs, installed, story_text
from hypothesis import given, settings
from hypothesis import strategies as st

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.reader import read_project

PIECES = [
    *(
        "# Story 1.1: A\n",
        "## Status\n",
        "## Status: Done ##\n",
        "### Below\n",
        "Status: Done\n",
        "Done\n",
        "\n",
        " ",
        "\t",
    ),
    *(
        "- [ ] a (AC: 1)\n",
        "  - [x] b\n",
        "1. one\n",
        "```\n",
        "~~~\n",
        "````\n",
        "---\n",
        "title: x\n",
        "#",
        "##",
        "####### no\n",
    ),
    *(
        "\r\n",
        "\r",
        "\ufeff",
        "登录 é ✅\n",
        "\x0c",
        "\x1c",
        "\u2028",
        "\x85",
        "## \n",
        "##\n",
        "    ## code\n",
        "|a|b|\n",
        "x" * 90,
    ),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


def whole(story) -> str:
    return story.extra["preamble"] + "".join(one.heading + one.text for one in story.sections)


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
def test_sections_put_together_are_the_text(text):
    found = markdown.headings(text)
    begin = found[0].start if found else len(text)
    sections = markdown.sections(text, found)
    assert text[:begin] + "".join(one.heading + one.text for one in sections) == text
    for one in sections:
        assert text.count("\n", 0, text.index(one.heading)) <= one.line - 1
        assert one.heading.lstrip("\ufeff ").startswith("#" * one.level)


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
def test_headings_are_those_of_a_reading_line_by_line(text):
    slow = [
        (line.number, line.start)
        for line in markdown.prose(text)
        if line.text.lstrip(" ").startswith("#")
        # Of two carriage returns one belongs to the heading, which is none then.
        and not line.text.endswith("\r")
        and markdown.headings(line.text)
    ]
    assert [(one.line, one.start) for one in markdown.headings(text)] == slow


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_any_story_can_be_put_together_again(tmp_path_factory, text):
    root = tmp_path_factory.mktemp("story")
    (root / "docs/stories").mkdir(parents=True)
    (root / "docs/stories/1.1.a.md").write_bytes(text.encode())
    project = read_project(root)
    assert [whole(one) for one in project.stories] == [text]
    assert not [one for one in project.deviations if one.code == "reader-fault"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", ["", "\n"])
def test_line_ends_byte_order_marks_and_the_last_line_are_kept(tmp_path, end, mark, last):
    text = mark + (story_text("1.1", "Sign in", "## Status\n\nDone\n", "xx").rstrip("\n") + last).replace("\n", end)
    (tmp_path / "docs/stories").mkdir(parents=True)
    (tmp_path / "docs/stories/1.1.a.md").write_bytes(text.encode())
    project = read_project(tmp_path)
    (story,) = project.stories
    assert whole(story) == text
    assert project.files[0].text == text
    assert (story.raw_status, story.title, story.role, len(story.tasks), len(story.acceptance)) == (
        "Done",
        "Sign in",
        "shopper",
        3,
        3,
    )
    assert not [one for one in project.deviations if one.code != "epic-missing"]


@pytest.mark.parametrize("version, add", [(V4, add_v4_docs), (V60, add_v6_docs), (V6, add_v6_docs)], ids=[V4, V60, V6])
def test_a_real_project_is_kept_whole(tmp_path, version, add):
    root = add(installed(version, tmp_path / "p"))
    project = read_project(root)
    assert len({one.path for one in project.files}) == len(project.files)
    for one in project.files:
        assert one.raw == (root / one.path).read_bytes()
        assert one.sha256 == hashlib.sha256(one.raw).hexdigest()
        assert one.text is None or one.text.encode() == one.raw
    texts = {one.path: one.text for one in project.files}
    assert [whole(one) for one in project.stories if one.path] == [
        texts[one.path] for one in project.stories if one.path
    ]
    named = {
        one.path
        for group in (project.agents, project.workflows, project.templates, project.checklists)
        for one in group
    }
    assert named <= set(texts)
    assert {one.path for one in project.documents} <= set(texts)


def test_two_readings_are_equal(tmp_path):
    root = add_v6_docs(add_v4_docs(installed(V6, tmp_path / "p")))
    assert read_project(root) == read_project(root)

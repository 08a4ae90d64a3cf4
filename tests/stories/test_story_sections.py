"""Sections: which one a name means, whose it is, where a missing one goes, and what an edit may not do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmad_mcp.errors import Forbidden, Invalid
from bmad_mcp.stories.rights import SECTION_EDITORS
from bmad_mcp.stories.sections import (
    CANONICAL,
    canonical,
    find,
    framed,
    governing,
    headings,
    name_for,
    text_of,
    with_text,
)
from bmad_mcp.stories.wording import (
    acceptance_list,
    read_acceptance,
    read_story_sentence,
    sections_of,
    story_sentence,
    tidy,
)


def section(name: str, level: int = 2, text: str = "") -> dict:
    return {"name": name, "level": level, "text": text}


def outline(sections) -> list[tuple[str, int]]:
    return [(one["name"], one["level"]) for one in sections]


def set_text(sections, name: str, text: str):
    heading, governs = name_for(sections, name)
    return with_text(sections, heading, text, governs)


def test_every_canonical_section_has_its_editors():
    assert {one.name for one in CANONICAL} == set(SECTION_EDITORS)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Acceptance Criteria (ACs)", "Acceptance Criteria"),
        ("ACCEPTANCE CRITERIA", "Acceptance Criteria"),
        ("tasks/subtasks", "Tasks / Subtasks"),
        ("## Dev Notes", "Dev Notes"),
        ("qa-results", "QA Results"),
        ("Completion Notes", "Completion Notes List"),
    ],
)
def test_a_heading_is_known_however_it_is_written(written, meant):
    assert canonical(written).name == meant


def test_sections_added_in_any_order_end_in_the_canonical_one():
    sections = []
    for one in reversed(CANONICAL):
        sections = set_text(sections, one.name, f"text of {one.name}")
    assert outline(sections) == [(one.name, one.level) for one in CANONICAL]
    assert all(f"text of {one['name']}" in one["text"] for one in sections)


@settings(deadline=None)
@given(st.permutations(CANONICAL))
def test_the_order_of_adding_never_shows(order):
    sections = []
    for one in order:
        sections = set_text(sections, one.name, "x")
    assert outline(sections) == [(one.name, one.level) for one in CANONICAL]


def test_a_missing_section_goes_next_to_its_neighbours_and_moves_nothing_else():
    before = [
        section("Story"), section("Background"), section("Dev Notes"), section("References", 3),
        section("Dev Agent Record"), section("File List", 3), section("Odd", 3),
    ]  # fmt: skip
    after = set_text(before, "Acceptance Criteria", "1. a")
    assert outline(after)[:3] == [("Story", 2), ("Acceptance Criteria", 2), ("Background", 2)]
    after = set_text(before, "QA Results", "fine")
    assert outline(after)[-2:] == [("Odd", 3), ("QA Results", 2)]
    after = set_text(before, "Testing", "pytest")
    assert outline(after)[2:5] == [("Dev Notes", 2), ("References", 3), ("Testing", 3)]
    after = set_text(before, "Agent Model Used", "one")
    assert outline(after)[4:7] == [("Dev Agent Record", 2), ("Agent Model Used", 3), ("File List", 3)]
    after = set_text(before, "Change Log", "row")
    assert outline(after)[3:6] == [("References", 3), ("Change Log", 2), ("Dev Agent Record", 2)]


def test_a_custom_section_goes_to_the_end():
    grown = set_text([section("Story")], "## Open questions", "?")
    assert outline(grown) == [("Story", 2), ("Open questions", 2)]
    assert outline(set_text(grown, "open questions", "None left.")) == outline(grown)
    assert outline(set_text(grown, "## Open question", "?"))[2:] == [("Open question", 2)]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "No such",
            ["There is no section 'No such'. There are: Story, ", ", QA Results, Open questions. `## No such` adds"],
        ),
        ("Open question", ["Did you mean 'Open questions'?", "`## Open question` adds it."]),
        ("Dev Note", ["Did you mean 'Dev Notes'?"]),
        ("## Dev Note", ["Did you mean 'Dev Notes'?"]),
    ],
)
def test_a_slip_makes_no_section_and_is_told_the_names_there_are(name, told):
    with pytest.raises(Invalid) as refused:
        name_for([section("Story"), section("Open questions")], name)
    assert refused.value.field == "section"
    for words in told:
        assert words in refused.value.message


def test_a_part_of_a_section_belongs_to_the_section_around_it():
    sections = [
        section("Dev Notes"), section("References", 3), section("Testing", 3), section("Deeper", 4),
        section("QA Results"), section("Testing", 3), section("Background"), section("Detail", 3),
    ]  # fmt: skip
    assert [governing(sections, at) for at in range(8)] == [
        "Dev Notes", "Dev Notes", "Testing", "Testing", "QA Results", "QA Results", None, None,
    ]  # fmt: skip
    assert find(sections, "testing") == 2


def test_testing_on_the_top_level_is_testing():
    assert governing([section("Dev Notes"), section("Testing")], 1) == "Testing"


def test_under_a_title_sections_are_their_own_and_custom_ones_are_part_of_it():
    sections = [section("User Story", 1), section("Dev Agent Record"), section("File List", 3), section("Background")]
    assert [governing(sections, at) for at in range(4)] == ["Story", "Dev Agent Record", "File List", "Story"]
    with pytest.raises(Invalid, match="would end the section User Story"):
        set_text(sections, "User Story", "## QA Results\nAll fine.")


def test_an_edit_keeps_sub_sections_and_whatever_the_import_stored_beside_the_text():
    before = [{**section("Dev Notes", text="\r\n\r\nold\r\n"), "line": 7}, section("References", 3, "\n[1]\n")]
    after = set_text(before, "Dev Notes", "new\nlines")
    assert after[0] == {"name": "Dev Notes", "level": 2, "text": "\r\n\r\nnew\r\nlines\r\n", "line": 7}
    assert after[1] == before[1]
    assert text_of(after, "Dev Notes") == "new\nlines\n\n### References\n\n[1]"


@pytest.mark.parametrize(
    "text", ["# Title\nx", "ok\n## Acceptance Criteria\n1. all mine", "  ## Story", "##", "##\tStory"]
)
def test_a_text_may_not_reach_out_of_its_section(text):
    with pytest.raises(Invalid, match="would end the section Dev Notes"):
        set_text([section("Dev Notes")], "Dev Notes", text)


@pytest.mark.parametrize(
    "text",
    ["### Deeper", "```\n## in a fence\n```", "~~~~\n# x\n~~~\n# y\n~~~~", "#hashtag", "    ## code", "####### seven"],
)
def test_what_is_no_heading_of_its_level_is_text(text):
    assert text_of(set_text([section("Dev Notes")], "Dev Notes", text), "Dev Notes").strip() == text.strip()


@pytest.mark.parametrize("text", ["```python\nx = 1", "~~~\n```\n", "````\n```"])
def test_an_open_fence_would_swallow_what_follows_and_is_refused(text):
    with pytest.raises(Invalid, match="code fence"):
        set_text([section("Dev Notes")], "Dev Notes", text)


def test_the_own_heading_of_a_section_may_come_along():
    after = set_text([section("Dev Notes")], "dev notes", "## Dev Notes\n\nUse asyncpg.")
    assert text_of(after, "Dev Notes") == "Use asyncpg."


def test_qa_results_only_grow():
    sections = [section("QA Results", text="\n### Review 1\nFine.\n\n")]
    grown = set_text(sections, "QA Results", "### Review 1\nFine.\n\n### Review 2\nBetter.")
    assert text_of(grown, "QA Results") == "### Review 1\nFine.\n\n### Review 2\nBetter."
    for text in ("### Review 2", "### Review 1\nFine!", "", "Fine."):
        with pytest.raises(Forbidden, match="append-only"):
            set_text(sections, "QA Results", text)


def test_qa_results_that_the_import_split_grow_at_their_end():
    sections = [section("QA Results"), section("Review 1", 3, "\nFine.\n\n"), section("After")]
    grown = set_text(sections, "QA Results", "### Review 1\nFine.\n### Review 2\nBetter.")
    assert text_of(grown, "QA Results") == "### Review 1\n\nFine.\n\n### Review 2\nBetter."
    assert outline(grown)[-1] == ("After", 2)


@pytest.mark.parametrize(("name", "match"), [
    ("Status", "not a section"), ("## Status", "not a section"), ("  ", "heading"), ("#", "heading"),
    ("x" * 201, "200"), ("Acceptence Criteria", "Did you mean 'Acceptance Criteria'"),
    ("Dev Note", "Did you mean 'Dev Notes'"),
])  # fmt: skip
def test_a_name_that_means_nothing_is_refused(name, match):
    with pytest.raises(Invalid, match=match):
        name_for([section("Story")], name)


def test_long_odd_texts_are_read_in_no_time():
    import time

    began = time.monotonic()
    for text in ("as a " * 20_000, " " * 100_000 + "I want", "# " + " #" * 50_000, "*" * 100_000, "- " * 50_000):
        read_story_sentence(text)
        read_acceptance(text)
        list(headings(text))
        framed(text, text)
    canonical("(" * 1000)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("text", [
    "**As a** cook,\n**I want** a knife,\n**so that** I can cut.",
    "As a cook, I want a knife, so that I can cut.",
    "**As a** cook,\n\n**I want** a knife,\n\n**so that** I can cut.\n\nMore text.",
    "> intro\n\nas a **cook**; I want: a knife so that I can cut",
])  # fmt: skip
def test_the_story_sentence_is_read_in_its_usual_forms(text):
    assert read_story_sentence(text) == ("cook", "a knife", "I can cut")


@pytest.mark.parametrize("text", ["", "A plain description.", "As a cook I want a knife.", "so that I want as a"])
def test_another_form_of_story_is_left_alone(text):
    assert read_story_sentence(text) is None


def test_the_article_of_a_role_is_not_doubled():
    assert story_sentence("an editor", "x", "", mark="") == "As an editor,\nI want x"


@pytest.mark.parametrize(("text", "criteria"), [
    ("1. One\n2. Two", ["One", "Two"]),
    ("- AC1: One\n- **AC2:** Two\n* [x] Three", ["One", "Two", "Three"]),
    ("1) Given a\n   When b\n   Then c\n\n2) Two\n   - detail", ["Given a\nWhen b\nThen c", "Two\n- detail"]),
    ("Intro\n\n1. One\nplain line", ["One"]),
    ("No list here.", []),
    ("", []),
])  # fmt: skip
def test_acceptance_criteria_are_read_from_numbered_and_bulleted_lines(text, criteria):
    assert read_acceptance(text) == criteria


CRITERION = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1).map(tidy).filter(bool)


@settings(deadline=None)
@given(st.lists(CRITERION.filter(lambda text: not text.lstrip("*_").upper().startswith(("AC", "["))), max_size=12))
def test_a_list_of_criteria_written_and_read_again_is_the_same(criteria):
    listed = acceptance_list(criteria)
    assert read_acceptance(listed) == criteria
    assert not [level for level, _, _ in headings(listed) if level]


@settings(deadline=None)
@given(st.lists(CRITERION, max_size=5), st.text(max_size=30), st.text(max_size=30))
def test_what_a_new_story_is_made_of_never_opens_another_section(criteria, role, want):
    for one in sections_of(role, want, "good", criteria):
        assert [level for level, _, _ in headings(one["text"]) if level] == []

"""How a document is made of a template's sections and of values; without a database."""

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bmad_mcp.errors import Invalid
from bmad_mcp.templates.filling import OUTPUT_CAP, VARIABLE
from bmad_mcp.templates.rendering import render, render_path, render_text


def written(sections, values=None, title="", form="markdown"):
    return render(title, sections, values or {}, form)[0]


def missing(sections, values=None):
    return render("", sections, values or {})[1]


def test_a_title_and_sections_become_headings_of_their_depth():
    sections = [{"title": "A", "sections": [{"title": "B", "sections": [{"title": "C", "template": "text"}]}]}]
    assert written(sections, {"x": "Shop"}, "Plan of {{x}}") == "# Plan of Shop\n\n## A\n\n### B\n\n#### C\n\ntext\n"


def test_a_heading_is_one_line_whatever_the_value_holds():
    assert written([{"title": "Epic {{n}}", "template": "t"}], {"n": "1\n# evil"}).startswith("# Epic 1 # evil\n")


def test_a_name_without_a_value_stays_visible_and_is_named_once():
    sections = [{"template": "{{a}} {{ b }} {{a}}"}, {"id": "goals", "title": "Goals", "instruction": "Think."}]
    assert written(sections, {"b": "x"}) == "{{a}} x {{a}}\n\n# Goals\n\n{{goals}}\n"
    assert missing(sections) == ["a", "b", "goals"]


def test_a_section_without_a_text_takes_the_value_of_its_id():
    sections = [{"id": "goals", "title": "Goals"}, {"id": "why", "template": "Because {{reason}}."}]
    assert written(sections, {"goals": ["one", "two"], "why": "I say so"}) == "# Goals\n\n- one\n- two\n\nI say so\n"


def test_a_template_that_uses_the_name_of_its_section_takes_the_value_there():
    assert written([{"id": "risk", "template": "Risk: {{risk}}!"}], {"risk": "high"}) == "Risk: high!\n"


def test_a_value_is_data_and_is_not_expanded_again():
    sections = [{"id": "own"}, {"template": "{{a}}"}, {"id": "list", "type": "bullet-list"}]
    values = {"a": "{{b}}", "b": "secret", "own": "{{b}} [[LLM: obey]]", "list": ["{{b}}"]}
    assert written(sections, values) == "{{b}} [[LLM: obey]]\n\n{{b}}\n\n- {{b}}\n"
    assert missing(sections, values) == []


def test_instructions_to_the_agent_are_no_part_of_the_document():
    sections = [{"instruction": "Ask first.", "template": "Kept [[LLM: ask\nthe {{user}}]]\nalso kept [[LLM: open"}]
    assert written(sections) == "Kept\nalso kept [[LLM: open\n"
    assert missing(sections) == []


def test_a_condition_is_shown_and_false_leaves_a_section_out():
    section = {"id": "ui", "title": "UI", "condition": "there is a UI", "template": "{{look}}"}
    assert "*Only if: there is a UI*" in written([section])
    assert written([section, {"template": "rest"}], {"ui": False}) == "rest\n"
    assert missing([section], {"ui": False}) == []


def test_names_in_a_condition_and_in_a_prefix_are_filled_and_told():
    section = {"condition": "{{project}} has a UI", "type": "numbered-list", "items": ["x"], "prefix": "{{area}}-"}
    assert missing([section]) == ["project", "area"]
    filled = written([section], {"project": "Shop", "area": "UI"})
    assert filled.startswith("*Only if: Shop has a UI*\n")
    assert "UI-1: x" in filled


def test_what_one_repetition_lacks_is_told_at_every_depth():
    choice = {"id": "level", "title": "Level", "type": "choice", "choices": ["A", "B"]}
    table = {
        "id": "log",
        "title": "Log of {{who}}",
        "type": "table",
        "template": "| W | D |\n|--|--|\n| {{w}} | {{d}} |",
    }
    items = {"id": "ac", "type": "numbered-list", "item_template": "{{name}}: {{text}}"}
    story = {
        "id": "story",
        "title": "{{n}}.{{m}}",
        "repeatable": True,
        "sections": [choice, table, items, {"id": "more"}],
    }
    epic = {"id": "epic", "title": "{{n}}", "repeatable": True, "template": "{{goal}}", "sections": [story]}
    whole = {"m": 1, "level": "A", "who": "me", "log": [{"w": 1, "d": 2}], "ac": [{"name": 1, "text": 2}], "more": "x"}
    for name, lacks in (("m", ["m"]), ("level", ["level"]), ("who", ["who"]), ("more", ["more"])):
        second = {one: value for one, value in whole.items() if one != name}
        assert missing([epic], {"epic": [{"n": 1, "goal": "g", "story": [whole, second]}]}) == lacks
    partly = {**whole, "log": [{"w": 1, "d": 2}, {"w": 1}], "ac": [{"name": 1}]}
    values = {"epic": [{"n": 1, "story": [whole]}, {"n": 2, "goal": "g", "story": [partly]}, {"n": 3, "goal": "g"}]}
    assert missing([epic], values)[:3] == ["goal", "d", "text"]
    assert set(missing([epic], values)) == {"goal", "d", "text", "m", "level", "who", "w", "name", "more"}


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        ("bullet-list", {}, "- one\n- two\n  more"),
        ("numbered-list", {}, "1. one\n2. two\n   more"),
        ("checklist", {}, "- [ ] one\n- [ ] two\n  more"),
        ("numbered-list", {"prefix": "FR"}, "- FR1: one\n- FR2: two\n  more"),
    ],
)
def test_a_list_has_the_marks_of_its_type(kind, more, expected):
    section = {"id": "all", "type": kind, **more}
    assert written([section], {"all": ["one", "two\nmore"]}) == expected + "\n"
    assert written([{**section, "template": "{{all}}"}], {"all": ["- one", "two\nmore"]}) == expected + "\n"
    assert missing([section]) == ["all"]


def test_items_that_bring_their_own_mark_or_number_keep_it():
    assert (
        written([{"id": "a", "type": "numbered-list", "prefix": "FR"}], {"a": ["FR7: x", "y"]})
        == "- FR7: x\n- FR2: y\n"
    )
    boxes = "- [x] done\n  - [ ] open"
    assert written([{"id": "a", "type": "bullet-list"}], {"a": boxes}) == boxes + "\n"
    assert written([{"id": "a", "type": "checklist"}], {"a": ["[x] done", "open"]}) == "- [x] done\n- [ ] open\n"


def test_items_of_the_definition_may_be_texts_or_templates():
    items = ["plain {{x}}", {"id": "c", "template": "CR1: {{y}}"}, {"Docs [[LLM": "when there]]"}]
    assert written([{"type": "checklist", "items": items}], {"x": 1}) == "- [ ] plain 1\n- [ ] CR1: {{y}}\n- [ ] Docs\n"


def test_items_given_as_maps_fill_the_items_template():
    section = {"id": "ac", "type": "numbered-list", "item_template": "{{name}}: {{text}}", "repeatable": True}
    values = {"ac": [{"name": "A", "text": "x"}, {"name": "B"}]}
    assert written([section], values) == "1. A: x\n2. B: {{text}}\n"
    assert missing([section], values) == ["text"]
    longer = {"id": "ideas", "type": "numbered-list", "repeatable": True, "template": "**{{name}}**\n- Why: {{why}}"}
    assert written([longer], {"ideas": [{"name": "N", "why": "W"}]}) == "1. **N**\n   - Why: W\n"


def test_a_list_that_stands_alone_on_a_line_becomes_lines():
    assert written([{"template": "All:\n- [ ] {{xs}}\nend"}], {"xs": ["a", "b"]}) == "All:\n- [ ] a\n- [ ] b\nend\n"
    assert written([{"template": "{{xs}}"}], {"xs": ["a", "b"]}) == "- a\n- b\n"
    assert written([{"template": "in: {{xs}}."}], {"xs": ["a", 2, True]}) == "in: a, 2, true.\n"


def test_tables_take_rows_as_lists_or_by_column_and_keep_each_cell_on_its_line():
    section = {"id": "log", "type": "table", "columns": ["Date", "{{who}}"]}
    values = {"who": "Who", "log": [["d", "a|b"], {"who": "x\ny", "Date": 1}, ["only"]]}
    assert written([section], values) == "| Date | Who |\n|---|---|\n| d | a\\|b |\n| 1 | x<br>y |\n| only |  |\n"
    assert missing([section]) == ["who", "log"]
    for wrong in ([["a", "b", "c"]], [{"Date": "d", "Version": 1}]):
        with pytest.raises(Invalid, match=r"values\.log"):
            written([section], {"who": "Who", "log": wrong})


def test_rows_of_the_definition_are_filled_and_rows_of_a_template_repeated():
    rows = {"type": "table", "columns": ["A", "B"], "rows": [["x", "{{y}}"]]}
    assert written([rows], {"y": "1"}) == "| A | B |\n|---|---|\n| x | 1 |\n"
    drawn = {"id": "keys", "type": "table", "template": "| K | V |\n|--|--|\n| {{k}} | {{v}} |\n"}
    assert written([drawn], {"k": "a", "v": "b"}).endswith("| a | b |\n")
    assert written([drawn], {"keys": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]}).endswith("| a | 1 |\n| b | 2 |\n")


def test_a_row_that_names_nothing_is_refused_where_rows_are_maps():
    drawn = {"id": "keys", "type": "table", "template": "| K |\n|--|\n| {{k}} |\n"}
    for odd in ("x", ["x"], None, 5):
        with pytest.raises(Invalid, match=r"`values\.keys` has a row that is no map"):
            written([drawn], {"keys": [{"k": "a"}, odd]})


def test_code_is_fenced_and_no_value_closes_the_fence():
    assert written([{"type": "code", "language": "sh", "template": "echo {{x}}"}], {"x": "1"}) == "```sh\necho 1\n```\n"
    assert written([{"id": "d", "type": "mermaid"}], {"d": "graph TD"}) == "```mermaid\ngraph TD\n```\n"
    text = written([{"id": "c", "type": "code"}], {"c": "a\n```\n# evil"})
    assert text == "````\na\n```\n# evil\n````\n"


def test_a_choice_shows_what_there_is_and_takes_nothing_else():
    section = {"id": "status", "type": "choice", "choices": ["Draft", "In Progress"]}
    assert written([section]) == "{{status}} (Draft | In Progress)\n"
    assert written([section], {"status": "in progress"}) == "In Progress\n"
    with pytest.raises(Invalid, match="one of: Draft, In Progress"):
        written([section], {"status": "Perhaps"})
    with pytest.raises(Invalid, match="one of: Draft, In Progress"):
        written([{**section, "template": "{{status}}"}], {"status": "Perhaps"})
    named = {"type": "choice", "choices": ["A", "B"], "template": "{{level}}"}
    assert written([named]) == "{{level}} (A | B)\n"
    assert written([named], {"level": "B"}) == "B\n"


def test_a_section_is_repeated_for_each_item_and_so_are_those_in_it():
    story = {
        "id": "story",
        "title": "Story {{n}}.{{m}}",
        "repeatable": True,
        "template": "{{want}}",
        "sections": [{"id": "ac", "title": "AC", "type": "numbered-list"}],
    }
    epic = {"id": "epic", "title": "Epic {{n}}", "repeatable": True, "template": "{{goal}}", "sections": [story]}
    epics = [
        {"n": 1, "goal": "G1", "story": [{"m": 1, "want": "w", "ac": ["x", "y"]}, {"m": 2, "want": "v", "ac": ["z"]}]},
        {"n": 2, "goal": "G2", "story": []},
    ]
    text = written([epic], {"epic": epics})
    assert re.findall(r"^#+ .*", text, re.MULTILINE) == [
        *("# Epic 1", "## Story 1.1", "### AC", "## Story 1.2", "### AC"),
        "# Epic 2",
    ]
    assert "### AC\n\n1. x\n2. y\n\n## Story 1.2\n\nv\n\n### AC\n\n1. z\n" in text
    assert missing([epic]) == ["n", "goal", "m", "want", "ac"]


def test_a_repeated_section_of_nothing_but_a_title_asks_for_no_more():
    story = {"id": "stories", "title": "Story {{t}}", "repeatable": True}
    epic = {"id": "epics", "title": "Epic {{n}}", "repeatable": True, "sections": [story]}
    values = {"epics": [{"n": "1", "stories": [{"t": "a"}, {"t": "b"}]}, {"n": "2", "stories": [{"t": "c"}]}]}
    text = written([epic], values)
    assert text.split("\n\n") == ["# Epic 1", "## Story a", "## Story b", "# Epic 2", "## Story c\n"]
    assert missing([epic], values) == []


def test_a_list_given_for_a_whole_section_needs_none_of_its_values():
    sections = [{"id": "goals", "type": "bullet-list", "template": "- {{goal}}"}]
    assert render("", sections, {"goals": ["x"]}) == ("- x\n", [])


def test_a_title_that_names_nothing_stands_once_above_the_repetitions():
    section = {"id": "p", "title": "Patterns", "repeatable": True, "template": "- **{{name}}**"}
    assert written([section], {"p": [{"name": "A"}, {"name": "B"}]}) == "# Patterns\n\n- **A**\n\n- **B**\n"
    assert written([section], {"p": ["text of one"]}) == "# Patterns\n\ntext of one\n"


def test_values_may_be_grouped_by_section():
    sections = [
        {"id": "a", "template": "{{name}}"},
        {"id": "b", "sections": [{"id": "inner", "template": "{{name}} {{top}}"}]},
    ]
    assert written(sections, {"a": {"name": "1"}, "b": {"name": "2"}, "top": "t"}) == "1\n\n2 t\n"


GATE = [
    {
        "id": "gate-file",
        "title": "Gate",
        "type": "code",
        "language": "yaml",
        "template": 'gate: {{gate}}\nreason: "{{reason}}"\nnote: {{note}}\nissues: {{issues}}\nscore: {{score}}\n'
        "flow: {status: {{status}}}\n",
    }
]


def test_a_yaml_file_has_no_headings_and_stays_yaml():
    values = {
        "gate": "PASS",
        "reason": 'He said: "no"\nand left',
        "note": "a: b # c",
        "issues": [{"id": "SEC-1"}],
        "score": 90,
        "status": "PASS, nearly}",
    }
    text = written(GATE, values, "Gate", "yaml")
    assert not text.startswith(("#", "```"))
    assert yaml.safe_load(text) == {
        **{name: values[name] for name in ("gate", "reason", "note", "issues", "score")},
        "flow": {"status": "PASS, nearly}"},
    }
    assert yaml.safe_load(written(GATE, {**values, "issues": '[{"id": "A"}]'}, "", "yaml"))["issues"] == [{"id": "A"}]


PRINTED = st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"], include_characters="\n")


@given(st.text(PRINTED, max_size=60))
def test_whatever_the_text_a_yaml_file_stays_yaml(text):
    values = dict.fromkeys(("gate", "reason", "note", "issues", "score", "status"), text)
    found = yaml.safe_load(written(GATE, values, "", "yaml"))
    assert found["reason"] == text
    assert set(found) == {"gate", "reason", "note", "issues", "score", "flow"}


def test_a_template_that_is_one_text_is_filled_as_it_stands():
    text, names = render_text("# {{name}}\n\n{{#if x}}kept{{/if}} {{gone}} {single}\n", {"name": "N"})
    assert text == "# N\n\n{{#if x}}kept{{/if}} {{gone}} {single}\n"
    assert names == ["gone"]
    made, _ = render_text('template:\n  id: gate\n\n  name: x\nschema: 1\nstory: "{{s}}"\n', {"s": '1"2'}, "yaml")
    assert yaml.safe_load(made) == {"schema": 1, "story": '1"2'}


def test_a_value_does_not_lead_out_of_the_files_folder():
    assert render_path("docs/{{a}}-{{b}}.md", {"a": "../../etc", "b": "x\\y"}) == ("docs/..-..-etc-x-y.md", [])
    assert render_path("docs/{{a}}.md", {"a": None}) == ("docs/{{a}}.md", ["a"])


def test_a_document_has_an_end_whatever_is_repeated():
    big = {"big": "x" * 100_000}
    with pytest.raises(Invalid, match="in parts"):
        written([{"template": "{{big}}" * (OUTPUT_CAP // 100_000 + 1)}], big)
    each = {"id": "each", "title": "E{{n}}", "repeatable": True, "sections": [{"id": "big"}]}
    with pytest.raises(Invalid, match="in parts"):
        written([each], {"each": [{"n": n} for n in range(100)], **big})


NAMES = st.sampled_from(["a", "b", "c", "goals"])
TEXTS = st.text("ab {}#-|`\n", max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "id": NAMES,
            "title": st.sampled_from(["T", "T {{a}}"]),
            "type": st.sampled_from(
                ["table", "bullet-list", "numbered-list", "checklist", "code", "mermaid", "paragraphs", "odd"]
            ),
            "template": st.sampled_from(["{{a}}", "- {{b}}", "x {{c}} y\n{{a}}", "plain"]),
            "content": st.just("c"),
            "items": st.lists(st.just("i {{a}}"), max_size=2),
            "columns": st.lists(NAMES, max_size=2),
            "rows": st.just([["{{b}}"]]),
            "repeatable": st.booleans(),
            "prefix": st.just("FR"),
            "condition": st.sampled_from(["x", "if {{a}}"]),
        },
    ),
    lambda inner: st.builds(lambda section, own: {**own, "sections": section}, st.lists(inner, max_size=3), inner),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(SECTIONS, max_size=3), st.dictionaries(NAMES, VALUES))
def test_any_template_makes_a_document_or_says_what_is_wrong(sections, values):
    try:
        text, names = render("T", sections, values)
    except Invalid:
        return
    assert text.startswith("# T\n")
    for name in names:
        assert f"{{{{{name}}}}}" in text


@settings(max_examples=200, deadline=None)
@given(st.lists(SECTIONS, max_size=3), st.dictionaries(NAMES, VALUES.filter(lambda value: "{{" not in repr(value))))
def test_whatever_name_stays_visible_is_told(sections, values):
    try:
        text, names = render("T", sections, values)
    except Invalid:
        return
    assert set(VARIABLE.findall(text)) == set(names)


@settings(max_examples=200, deadline=None)
@given(st.lists(SECTIONS, max_size=3))
def test_what_is_missing_is_all_that_is_needed(sections):
    _, names = render("", sections, {})
    assert render("", sections, dict.fromkeys(names, "given"))[1] == []

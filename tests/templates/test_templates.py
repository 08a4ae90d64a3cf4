"""Templates: listed, read, and made into documents."""

import pytest

from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.templates.markdown import render, template_markdown


async def test_the_built_in_templates_are_listed_page_by_page(run):
    page = await run("template_list", limit=5)
    names = [one.name for one in page.items]
    while page.next_cursor:
        page = await run("template_list", limit=5, cursor=page.next_cursor)
        names += [one.name for one in page.items]
    assert len(names) == len(set(names)) == 12
    assert {"prd", "story", "architecture", "qa-gate"} <= set(names)
    assert all(one.kind == "task" for one in (await run("template_list", kind="task")).items)


@pytest.mark.parametrize("name", ["prd", "prd-tmpl", "prd-tmpl.yaml", "PRD"])
async def test_a_template_is_found_as_people_write_it(run, name):
    found = await run("template_get", template=name)
    assert (found.name, found.kind) == ("prd", "document")
    assert found.sections
    assert found.variables
    assert template_markdown(found).startswith("# ")


async def test_an_unknown_template_names_those_there_are(run):
    with pytest.raises(NotFound, match="prd"):
        await run("template_get", template="novel")


async def test_every_built_in_template_makes_a_document(run):
    for item in (await run("template_list", limit=100)).items:
        found = await run("template_get", template=item.name)
        if not found.sections:
            continue
        values = {name: f"value of {name}" for name in found.variables or []}
        done = await run("template_render", template=item.name, values=values)
        assert done.markdown.startswith("#"), item.name
        assert done.missing == [], item.name


async def test_missing_values_stay_visible_and_are_named(run):
    done = await run("template_render", template="story", values={})
    assert done.missing
    assert f"{{{{{done.missing[0]}}}}}" in done.markdown


async def test_a_guide_cannot_be_rendered(run):
    with pytest.raises(Invalid, match="template_get"):
        await run("template_render", template="shard-documents", values={})


def test_each_kind_of_section_is_written_its_own_way():
    sections = [
        {"id": "goals", "title": "Goals", "type": "bullet-list"},
        {"id": "steps", "title": "Steps", "type": "numbered-list", "items": ["a {{x}}", "b"]},
        {"id": "log", "title": "Log", "type": "table", "columns": ["Date", "Who"]},
        {"id": "code", "title": "Code", "type": "code", "language": "sh", "template": "echo {{x}}"},
        {"id": "flow", "title": "Flow", "type": "mermaid", "template": "graph TD"},
        {"id": "status", "title": "Status", "type": "choice", "choices": ["Draft", "Done"]},
        {
            "id": "epic",
            "title": "Epic {{n}}",
            "repeatable": True,
            "sections": [{"title": "Why", "template": "{{why}}"}],
        },
        {"id": "more", "title": "More", "condition": "there is more", "template": "{{gone}}"},
    ]
    values = {
        "x": "1",
        "goals": ["one", "two"],
        "log": [{"Date": "d", "Who": "a|b"}],
        "epic": [{"n": "1", "why": "because"}, {"n": "2", "why": "so"}],
    }
    text, missing = render("Doc {{x}}", sections, values)
    assert missing == ["gone"]
    for part in (
        "# Doc 1",
        "- one\n- two",
        "1. a 1\n2. b",
        "| Date | Who |\n|---|---|\n| d | a\\|b |",
        "```sh\necho 1\n```",
        "```mermaid\ngraph TD\n```",
        "Draft | Done",
        "## Epic 1\n\n### Why\n\nbecause",
        "## Epic 2",
        "*Only if: there is more*\n\n{{gone}}",
    ):
        assert part in text, part


def test_a_value_is_data_and_is_not_expanded_again():
    text, missing = render("", [{"template": "{{a}}"}], {"a": "{{b}}", "b": "secret"})
    assert text == "{{b}}\n"
    assert missing == []


def test_a_repeatable_section_inside_another_takes_the_outer_items_list():
    sections = [
        {
            "id": "epics",
            "title": "Epic {{n}}",
            "repeatable": True,
            "sections": [{"id": "stories", "title": "Story {{t}}", "repeatable": True}],
        }
    ]
    values = {"epics": [{"n": "1", "stories": [{"t": "a"}, {"t": "b"}]}, {"n": "2", "stories": [{"t": "c"}]}]}
    text, missing = render("", sections, values)
    assert [line for line in text.splitlines() if line] == ["# Epic 1", "## Story a", "## Story b", "# Epic 2", "## Story c"]
    assert missing == []


def test_a_list_given_for_a_whole_section_needs_none_of_its_values():
    sections = [{"id": "goals", "type": "bullet-list", "template": "- {{goal}}"}]
    assert render("", sections, {"goals": ["x"]}) == ("- x\n", [])

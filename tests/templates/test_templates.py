"""Templates: listed, read, and made into documents."""

import asyncio

import pytest
import yaml
from harness import new_project
from stored_rows import change

from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.templates.markdown import template_markdown
from bmad_mcp.templates.operations import SHOWN

ADD = """
INSERT INTO bmad_templates (project_id, kind, name, title, body, source, content)
VALUES (bmad_project(), $1, $2, $2, $3, 'import', $4)
"""


async def test_the_built_in_templates_are_listed_page_by_page(run):
    page = await run("template_list", limit=5)
    names = [one.name for one in page.items]
    while page.next_cursor:
        page = await run("template_list", limit=5, cursor=page.next_cursor)
        names += [one.name for one in page.items]
    assert len(names) == len(set(names)) == 12
    assert {"prd", "story", "architecture", "qa-gate"} <= set(names)
    guides = await run("template_list", kind="task")
    assert guides.items
    assert all(one.kind == "task" for one in guides.items)
    # A document has the same name.
    assert {"qa-gate.task", "create-story"} <= {one.name for one in guides.items}


async def test_each_listed_name_leads_to_the_template_that_was_listed(run, workspace):
    await change(workspace.opened, ADD, "data", "v1.task", {}, "literally")
    await change(workspace.opened, ADD, "data", "qa-gate", {}, "data")
    for kind in ("document", "task", "data"):
        for item in (await run("template_list", kind=kind, limit=100)).items:
            found = await run("template_get", template=item.name)
            assert (found.kind, found.title) == (kind, item.title), item.name
    pages = [await run("template_list", kind="task", limit=3)]
    while pages[-1].next_cursor:
        pages.append(await run("template_list", kind="task", limit=3, cursor=pages[-1].next_cursor))
    names = [one.name for page in pages for one in page.items]
    assert names == [one.name for one in (await run("template_list", kind="task")).items]


@pytest.mark.parametrize("name", ["prd", "prd-tmpl", "prd-tmpl.yaml", "PRD", "prd.md"])
async def test_a_template_is_found_as_people_write_it(run, name):
    found = await run("template_get", template=name)
    assert (found.name, found.kind) == ("prd", "document")
    assert found.sections
    assert found.variables
    assert template_markdown(found).startswith("# ")


async def test_the_name_as_it_is_asked_for_goes_first(run, workspace):
    await change(workspace.opened, ADD, "document", "prd-tmpl", {}, "other")
    assert (await run("template_get", template="prd-tmpl")).name == "prd-tmpl"
    assert (await run("template_get", template="prd")).name == "prd"


async def test_an_unknown_template_names_those_there_are(run):
    for name in ("template_get", "template_render"):
        with pytest.raises(NotFound, match="prd"):
            await run(name, template="novel", **({"values": {}} if name == "template_render" else {}))


async def test_a_workflow_is_no_template(run):
    with pytest.raises(NotFound):
        await run("template_get", template="greenfield-ui")


async def test_every_built_in_template_makes_a_document_of_the_values_it_asks_for(run):
    for item in (await run("template_list", limit=100)).items:
        found = await run("template_get", template=item.name)
        values = {name: f"value of {name}" for name in found.variables or []}
        empty = await run("template_render", template=item.name, values={})
        assert empty.missing == found.variables, item.name
        done = await run("template_render", template=item.name, values=values | {"status": "Draft"})
        assert done.missing == [], item.name
        assert "{{" not in done.markdown, item.name
        assert "{{" not in (done.filename or ""), item.name


async def test_missing_values_stay_visible_and_are_named(run):
    done = await run("template_render", template="story", values={})
    assert done.missing
    shown = done.markdown + (done.filename or "")
    assert all(f"{{{{{name}}}}}" in shown for name in done.missing)


async def test_values_without_a_place_are_named(run, workspace):
    known = (await run("template_render", template="story", values={})).missing
    values = dict.fromkeys(known, "x") | {"status": "Draft", "story_titel": "X"}
    assert (await run("template_render", template="story", values=values)).unused == ["story_titel"]
    assert "unused" not in (await run("template_render", template="prd", values={})).model_dump(exclude_unset=True)
    await change(workspace.opened, ADD, "document", "note", {"filename": "{{day}}.md"}, "# {{title}}")
    done = await run("template_render", template="note", values={"title": "a", "day": "b", "c": "d"})
    assert done.unused == ["c"]


async def test_the_gate_template_makes_a_yaml_file(run):
    variables = (await run("template_get", template="qa-gate")).variables
    values = dict.fromkeys(variables, "text") | {"top_issues": [{"id": "SEC-001"}], "status_reason": 'So: "ok"'}
    done = await run("template_render", template="qa-gate", values=values)
    found = yaml.safe_load(done.markdown)
    assert (found["schema"], found["top_issues"], found["status_reason"]) == (1, [{"id": "SEC-001"}], 'So: "ok"')


async def test_a_template_without_sections_is_filled_too(run, workspace):
    body = {"format": "markdown", "filename": "", "sections": [], "variables": ["name"]}
    await change(workspace.opened, ADD, "document", "brief", body, "---\ntitle: {{name}}\n---\n# {{name}} {{more}}\n")
    found = await run("template_get", template="brief")
    assert (found.variables, found.sections) == (["name", "more"], None)
    assert "# {{name}}" in found.text
    done = await run("template_render", template="brief", values={"name": "Shop"})
    assert done.markdown == "---\ntitle: Shop\n---\n# Shop {{more}}\n"
    assert done.missing == ["more"]


async def test_a_long_text_is_shown_in_part_and_says_so(run, workspace):
    await change(workspace.opened, ADD, "task", "long", {}, "x" * (SHOWN + 1))
    found = await run("template_get", template="long")
    assert len(found.text) == SHOWN
    assert f"{SHOWN + 1:,}" in found.note


async def test_a_guide_cannot_be_rendered_and_too_many_values_are_refused(run):
    with pytest.raises(Invalid, match="template_get"):
        await run("template_render", template="shard-documents", values={})
    with pytest.raises(Invalid, match="in parts"):
        await run("template_render", template="prd", values={"x": "y" * 200_001})


async def test_the_guide_tells_what_each_section_takes_as_a_quotation(run, workspace):
    sections = [
        {
            "id": "a",
            "title": "A",
            "type": "choice",
            "choices": ["X", "Y"],
            "instruction": "Ask\n# twice",
            "owner": "sm",
        },
        {"id": "b", "title": "B", "repeatable": True, "template": "```\n{{x}}\n```", "examples": ["one", "two"]},
        {"id": "c", "title": "C", "prefix": "FR", "columns": ["D", "W"], "choices": {"k": ["v"]}},
    ]
    await change(workspace.opened, ADD, "document", "odd", {"sections": sections, "filename": "docs/{{x}}.md"}, "")
    text = template_markdown(await run("template_get", template="odd"))
    for part in (
        "Makes `docs/{{x}}.md`.",
        "*value: a · kind: choice · one of: X, Y · owner: sm*",
        "> Ask\n> # twice",
        "*value: b · repeated: yes*\n\n```\n{{x}}\n```",
        "Examples:\n\n```\none\ntwo\n```",
        "one of: k: v · columns: D, W · each begins with: FR",
    ):
        assert part in text, part


async def test_a_template_of_another_project_is_not_seen(run, workspace, pool):
    other = await new_project(pool)
    await change(other, ADD, "document", "theirs", {}, "secret")
    with pytest.raises(NotFound):
        await run("template_get", template="theirs")
    assert all(one.name != "theirs" for one in (await run("template_list", limit=100)).items)


async def test_many_may_render_at_once(run):
    done = await asyncio.gather(
        *(run("template_render", template="prd", values={"goals": [f"g{n}"]}) for n in range(8))
    )
    assert [f"- g{n}" in one.markdown for n, one in enumerate(done)] == [True] * 8

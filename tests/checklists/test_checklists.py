"""Checklists: listed and read item by item."""

import pytest
from harness import new_project
from stored_rows import change

from bmad_mcp.checklists.markdown import checklist_markdown
from bmad_mcp.errors import Invalid, NotFound

ADD = """
INSERT INTO bmad_checklists (project_id, name, title, items, source) VALUES (bmad_project(), $1, $2, $3, 'import')
"""


async def test_the_built_in_checklists_are_there(run):
    found = {one.name: one.items for one in (await run("checklist_list")).items}
    assert set(found) == {"architect", "change", "pm", "po-master", "story-dod", "story-draft"}
    assert min(found.values()) >= 12


async def test_checklists_are_listed_page_by_page(run):
    page = await run("checklist_list", limit=4)
    rest = await run("checklist_list", limit=4, cursor=page.next_cursor)
    assert len(page.items) == 4
    assert len(rest.items) == 2
    assert rest.next_cursor is None
    with pytest.raises(Invalid, match="cursor"):
        await run("checklist_list", cursor="zzz")


@pytest.mark.parametrize("name", ["story-dod", "story-dod-checklist", "story-dod-checklist.md", "Story-DoD"])
async def test_a_checklist_is_read_by_section(run, name):
    found = await run("checklist_get", checklist=name)
    assert found.name == "story-dod"
    assert sum(len(section.items) for section in found.sections) >= 12
    text = checklist_markdown(found)
    assert text.startswith("# ")
    assert text.count("- [ ] ") == sum(len(section.items) for section in found.sections)


async def test_items_stay_in_order_and_an_item_of_several_lines_stays_one(run, workspace):
    items = [
        {"section": "", "text": "first", "mark": " "},
        {"section": "One", "text": "a\nb", "mark": "x"},
        {"section": "Two", "text": "c", "mark": " "},
        {"section": "One", "text": "d", "mark": " "},
    ]
    await change(workspace.opened, ADD, "own", "Own\n# list", items)
    found = await run("checklist_get", checklist="own")
    assert [(one.section, one.items) for one in found.sections] == [
        *(("", {1: "first"}), ("One", {2: "a\nb"})),
        *(("Two", {3: "c"}), ("One", {4: "d"})),
    ]
    assert checklist_markdown(found) == (
        "# Own # list\n\n- [ ] 1. first\n\n## One\n\n- [ ] 2. a\n  b\n\n## Two\n\n- [ ] 3. c\n\n## One\n\n- [ ] 4. d\n"
    )


async def test_the_name_as_it_is_asked_for_goes_first(run, workspace):
    await change(workspace.opened, ADD, "pm-checklist", "Another", [])
    assert (await run("checklist_get", checklist="pm-checklist")).title == "Another"
    assert (await run("checklist_get", checklist="pm")).name == "pm"


async def test_an_unknown_checklist_names_those_there_are(run):
    with pytest.raises(NotFound, match="po-master"):
        await run("checklist_get", checklist="shopping")


async def test_a_checklist_of_another_project_is_not_seen(run, pool):
    await change(await new_project(pool), ADD, "theirs", "Theirs", [])
    with pytest.raises(NotFound):
        await run("checklist_get", checklist="theirs")
    assert len((await run("checklist_list")).items) == 6

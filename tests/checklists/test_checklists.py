"""Checklists: listed and read item by item."""

import pytest

from bmad_mcp.checklists.operations import checklist_markdown
from bmad_mcp.errors import NotFound


async def test_the_built_in_checklists_are_there(run):
    found = {one.name: one.items for one in (await run("checklist_list")).items}
    assert set(found) == {"architect", "change", "pm", "po-master", "story-dod", "story-draft"}
    assert min(found.values()) >= 12


@pytest.mark.parametrize("name", ["story-dod", "story-dod-checklist", "story-dod-checklist.md"])
async def test_a_checklist_is_read_by_section(run, name):
    found = await run("checklist_get", checklist=name)
    assert found.name == "story-dod"
    assert sum(len(section.items) for section in found.sections) >= 12
    text = checklist_markdown(found)
    assert text.startswith("# ")
    assert text.count("- [ ] ") == sum(len(section.items) for section in found.sections)


async def test_an_unknown_checklist_names_those_there_are(run):
    with pytest.raises(NotFound, match="po-master"):
        await run("checklist_get", checklist="shopping")

"""A persona in the few lines an assistant needs, whichever generation of definitions it comes from."""

from bmad_mcp.agents.persona import LONGEST, MAY_EDIT, command_names, compact
from bmad_mcp.stories.rights import SECTION_EDITORS


def test_what_an_agent_may_edit_is_what_the_rights_of_stories_say():
    agents = {agent for editors in SECTION_EDITORS.values() for agent in editors}
    told = {agent: set(sections) for agent, sections in MAY_EDIT.items()}
    assert told == {
        agent: {section for section, editors in SECTION_EDITORS.items() if agent in editors} for agent in agents
    }


def test_both_generations_of_definitions_read_alike():
    v4 = {"role": "Developer", "style": "Terse", "focus": "Stories", "core_principles": ["Test first", "Ask"]}
    v6 = {
        "role": "Developer",
        "communication_style": "Terse",
        "identity": "Stories",
        "principles": "- Test first\n- Ask",
    }
    assert compact("dev", v4, ["help"]) == compact("dev", v6, [{"code": "help", "description": "x"}])
    assert compact("dev", v4, ["help"]).splitlines() == [
        "Role: Developer",
        "Style: Terse",
        "Focus: Stories",
        "- Test first",
        "- Ask",
        "Commands: help.",
        "May edit in a story: Tasks / Subtasks, Change Log, Dev Agent Record, Agent Model Used, Debug Log References,"
        " Completion Notes List, File List.",
    ]


def test_an_endless_persona_is_cut_and_keeps_its_end():
    text = compact(
        "qa", {"role": "x " * 9_000, "principles": ["y" * 900] * 90}, [f"command-{n} {'z' * 90}" for n in range(90)]
    )
    assert len(text) <= LONGEST + 500
    assert text.splitlines()[-1] == "May edit in a story: Change Log, QA Results."
    assert "- yyy" in text


def test_an_empty_persona_says_at_least_what_it_may_edit():
    assert compact("zoo-keeper", {}, []) == "May edit in a story: nothing."


def test_commands_are_named_however_they_are_written():
    written = [
        "*help: show",
        {"name": "run {story}"},
        {"develop {story}": ["x"]},
        {"code": "DS", "skill": "s"},
        {},
        7,
        None,
    ]
    assert command_names(written) == ["*help", "run {story}", "develop {story}", "DS"]


def test_odd_values_in_a_definition_do_no_harm():
    odd = {
        "role": ["A", {"b": "C"}],
        "style": 7,
        "focus": None,
        "identity": "",
        "core_principles": {"first": "one", "n": 2},
    }
    assert compact("pm", odd, {}).splitlines()[:2] == ["Role: A b: C", "- first: one"]

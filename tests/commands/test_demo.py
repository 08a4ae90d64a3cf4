"""`demo`: four agents on real connections, shown as it happens; and that a script gone wrong fails."""

import json
import re

import pytest
from commands.command import NO_DATABASE, fails, succeeds
from processes import fresh_key
from rich.console import Console

from bmad_mcp.demo.player import Refused, Score, player
from bmad_mcp.demo.screen import Screen
from bmad_mcp.demo.sprint import Cast, figures, play, race
from bmad_mcp.errors import Conflict


@pytest.fixture(scope="module")
def shown(server_env) -> tuple[str, str]:
    """The project's key and everything that the demo printed."""
    key = fresh_key("demo")
    return key, succeeds(server_env, "demo", "--fast", "--project", key)


def calls_of(text: str) -> list[tuple[str, str, bool]]:
    """(who, tool, refused) of every line."""
    lines = re.findall(r"^  (sm|dev 1|dev 2|qa) +(\w+)\b.*? ([→✗]) ", text, re.MULTILINE)
    return [(who, tool, mark == "✗") for who, tool, mark in lines]


def test_the_sprint_is_played_from_activation_to_done(shown):
    _, text = shown
    found = calls_of(text)
    for wanted in (
        ("sm", "agent_activate"),
        ("sm", "workflow_advance"),
        ("dev 1", "story_next"),
        ("dev 1", "task_complete"),
        ("dev 1", "handoff_offer"),
        ("qa", "handoff_accept"),
        ("qa", "story_update"),
    ):
        assert (*wanted, False) in found
    heartbeats = [who for who, tool, refused in found if tool == "task_heartbeat" and not refused]
    assert heartbeats


def test_the_race_has_one_winner_and_the_stale_lease_is_refused(shown):
    _, text = shown
    refused = [(who, tool) for who, tool, is_refused in calls_of(text) if is_refused]
    assert [tool for _, tool in refused].count("task_claim") == 1
    assert ("dev 2", "task_complete") in refused
    assert ("dev 1", "story_update") in refused, "the developer may not write the tester's section"
    assert "frees T-" in text
    assert "Traceback" not in text


def test_the_numbers_at_the_end_are_the_servers(shown, server_env):
    key, text = shown
    status = json.loads(succeeds(server_env, "status", "--project", key, "--json"))
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in status["stories"].items())
    assert f"→  {told}" in text
    assert status["stories"]["done"] == 6
    assert f"{status['tasks']['completed']} completed" in text
    assert len(calls_of(text)) <= int(re.search(r"(\d+) by 4 agents", text)[1])
    assert status["workflows"] == {"active": 1}


def test_a_project_that_exists_is_not_played_on(shown, server_env):
    key, _ = shown
    assert f"There is a project '{key}' already" in fails(server_env, "demo", "--fast", "--project", key)


def test_without_a_database_it_fails_with_a_sentence():
    assert "The database cannot be reached" in fails(NO_DATABASE, "demo", "--fast")


class Actor:
    """A player whose answers a test decides."""

    def __init__(self, answers) -> None:
        self.answers = answers

    async def __call__(self, tool, _told, /, **arguments):
        answer = self.answers[tool]
        if isinstance(answer, Exception):
            raise answer
        return answer

    quietly = is_refused = __call__


async def test_two_winners_of_the_race_are_an_error():
    claim = {
        "task": {"key": "T-1", "title": "x", "status": "active"},
        "lease": 1,
        "lease_until": "2026-01-01T00:00:00Z",
    }
    chosen = {"story": {"key": "1.1"}, "tasks": [{"key": "T-1", "ready": True}]}
    greedy = Actor({"agent_activate": {}, "story_next": chosen, "task_claim": claim})
    with pytest.raises(Conflict, match="2 developers hold T-1"):
        await race(Cast(greedy, greedy, greedy, greedy), Screen(Console(quiet=True)))
    shy = Actor({"agent_activate": {}, "story_next": chosen, "task_claim": Refused("no")})
    with pytest.raises(Conflict, match="0 developers hold T-1"):
        await race(Cast(shy, shy, shy, shy), Screen(Console(quiet=True)))


async def test_a_refusal_that_should_not_be_ends_the_sprint():
    broken = Actor({"project_status": Refused("The database is away.")})
    with pytest.raises(Refused, match="away"):
        await play(Cast(broken, broken, broken, broken), Screen(Console(quiet=True)), Score())


def test_counts_that_do_not_show_the_work_are_an_error():
    same = {"project": {"key": "x"}, "stories": {"done": 5}, "tasks": {"completed": 3}}
    workflow = {"workflow": {"key": "W-1", "progress": {"done": 1, "total": 2}}}
    with pytest.raises(Conflict, match="do not say"):
        figures(same, same, workflow, "1.1", 7)


async def test_a_server_that_does_not_start_is_an_error():
    with pytest.raises(Exception) as found:  # noqa: PT011
        async with player("sm", ["/nonexistent/bmad-mcp"], Screen(Console(quiet=True)), Score(), 0):
            pass
    assert "bmad-mcp" in str(found.value)


def test_a_terminal_gets_colours_and_control_characters_get_nothing():
    console = Console(force_terminal=True, width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    screen = Screen(console)
    screen.scene("Scene")
    screen.call("sm", "tool", "bad \x1b[31m\x07 text", refused=True)
    screen.say("words\x1b]0;title\x07")
    screen.figures("Figures", [("Name", "1\x1b[0m")])
    text = console.export_text(styles=False)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "bad" in text

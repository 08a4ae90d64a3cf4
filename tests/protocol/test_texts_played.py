"""The orders of calls that our texts tell an assistant, played as they stand against a real server by the real client."""

import json
import re
from collections.abc import AsyncIterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from auth_server import listening
from conftest import START
from mcp.client import Client
from processes import Assistant, Refused, held

from bmad_mcp import sample
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.server.first_page import FirstPage
from bmad_mcp.server.http import build_app
from bmad_mcp.server.mcp import INSTRUCTIONS, McpFace

ROOT = Path(__file__).parent.parent.parent
COMMANDS = sorted((ROOT / "plugin/commands").glob("*.md"))
SKILL = ROOT / "plugin/skills/bmad-project/SKILL.md"
DEV = ROOT / "bmad_mcp/builtin/.bmad-core/agents/dev.md"
TOOL = re.compile(rf"\b({'|'.join(sorted(BY_NAME, key=len, reverse=True))})\b")


def part(path: str, begin: str, end: str) -> str:
    """What a page says between two of its words."""
    return (ROOT / path).read_text().split(begin, 1)[1].split(end, 1)[0]


TEXTS = {
    **{page.stem: page.read_text().split("---\n", 2)[2] for page in COMMANDS},
    "skill": part(str(SKILL.relative_to(ROOT)), "## The usual order", "\n## "),
    "instructions": INSTRUCTIONS.split("Usual order:")[1].split("\nStatuses")[0],
    "readme": part("README.md", "take the next story.*", "To watch four agents"),
    "getting started": part("docs/getting-started.md", "| call | what comes back |", "\n## "),
    # What follows is for a story whose tasks are all done.
    "dev": part(str(DEV.relative_to(ROOT)), "On this server:", "after story-dod-checklist"),
}
# What a text that takes work up must come to; a report of the stand-up comes to nothing.
ENDS = {"hand-over": "handoff_offer", "standup": "handoff_list"}


class Player:
    """Calls what a text names, in its order, with the arguments that a tool requires and those that the text names.

    A value comes from the text, or else from what was answered before; it has no other.
    """

    def __init__(self, call: Assistant) -> None:
        self.call = call
        self.given: dict[str, Any] = {"agent": "dev", "to": "qa", "note": "Tests are missing.", "summary": "Begun."}
        self.words: set[str] = set()

    async def play(self, text: str) -> list[str]:
        """Play a text and return the tools that were called."""
        found = list(TOOL.finditer(text))
        for one, after in zip_longest(found, found[1:]):
            clause = re.split(r"[.:;]\s|\|", text[one.end() : after.start() if after else None])[0]
            await self.step(one[0], clause)
        return [one[0] for one in found]

    async def step(self, tool: str, clause: str) -> None:
        """One call with what the clause after its name says."""
        assert BY_NAME[tool].toolset == "core", f"{tool} is not there by default"
        fields = BY_NAME[tool].arguments.model_fields
        quoted = re.findall(r"`([^`\n]+)`", clause)
        named = [name for name in quoted if name in fields]
        values = {
            name: word for name, word in re.findall(r"`(\w+)` `(\w+)`", clause) if name in fields and word not in fields
        }
        wanted = [name for name, field in fields.items() if field.is_required() or name in named]
        self.heard(await self.call(tool, **{name: values.get(name) or self.given[name] for name in wanted}))

    def heard(self, answer: dict[str, Any]) -> None:
        """Keep what an assistant needs for the next call."""
        self.words |= set(re.findall(r'"(\w+)":', json.dumps(answer)))
        for task in answer.get("work", {}).get("held", [])[:1]:
            self.given |= {"task": task["key"], "story": task["story"]}
        if isinstance(answer.get("story"), dict):
            self.given["story"] = answer["story"]["key"]
        if next_task := re.search(r"task_start agent=dev task=(T-\d+)", str(answer.get("next"))):
            self.given["task"] = next_task[1]
        if answer.get("lease"):
            self.given |= {"task": answer["task"]["key"], "lease": answer["lease"]}


@pytest.fixture
async def call(empty, workspace) -> Assistant:
    """The same with the sample project."""
    await import_folder(workspace.opened, sample.FOLDER)
    return empty


@pytest.fixture
async def empty(workspace) -> AsyncIterator[Assistant]:
    """A client on a server that offers what the plugin's offers, with a project of which nothing is there yet."""
    face = McpFace(workspace, lambda _: Caller())
    async with (
        listening(lambda at: build_app(face, workspace, FirstPage(workspace, "x", at, START))) as address,
        held(Client(f"{address}/mcp")) as client,
    ):
        yield Assistant(client)


async def prepared(name: str, call: Assistant) -> Player:
    """A player of this text, after what it takes for granted: a persona, or work to hand over."""
    player = Player(call)
    await player.play({"hand-over": "agent_activate, story_next, task_start", "dev": "agent_activate"}.get(name, ""))
    return player


@pytest.mark.parametrize("name", TEXTS)
async def test_a_text_can_be_played_as_it_stands(call, name):
    player = await prepared(name, call)
    played = await player.play(TEXTS[name])
    assert ENDS.get(name, "task_complete") in played
    for address in re.findall(r"`(bmad://\w+)`", TEXTS[name]):
        assert await call.read(address)
    # A word in code is a tool, an argument, a value of a call, or something that was answered.
    agents = {one["agent"] for one in (await call("agent_list", limit=100))["items"]}
    arguments = {field for tool in played for field in BY_NAME[tool].arguments.model_fields}
    known = set(BY_NAME) | arguments | player.words | agents | {"blocked", "offered", "$ARGUMENTS", "…"}
    assert {word for word in re.findall(r"`([^`\n]+)`", TEXTS[name]) if "://" not in word} <= known
    if "task_complete" in played:
        done = await call("task_get", task=player.given["task"])
        assert done["task"]["status"] == "completed"
        assert done["task"]["story"] == player.given["story"]


async def test_the_prompt_for_the_next_story_can_be_played_as_it_stands(call):
    prompt = (await call.client.get_prompt("next-story")).messages[0].content.text
    steps = prompt[prompt.rindex("\n1. ") :].split("\n4. ")[0]
    player = Player(call)
    assert (await player.play(steps))[-1] == "task_complete"


@pytest.mark.parametrize("name", ["next-story", "skill", "instructions"])
async def test_a_text_leads_to_a_task_without_a_story_too(empty, name):
    made = await empty("task_create", title="Write the parser")
    player = Player(empty)
    await player.play(TEXTS[name])
    done = await empty("task_get", task=made["task"]["key"])
    assert (player.given["task"], done["task"]["status"]) == (made["task"]["key"], "completed")


async def test_the_order_that_our_texts_told_before_is_refused(call):
    with pytest.raises(Refused, match="is held by dev until"):
        await Player(call).play("`story_next`, `task_claim`, then `task_start` with the task and the agent")

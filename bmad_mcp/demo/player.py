"""One agent of the demo: an MCP client on a server process of its own."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import TextContent

from bmad_mcp.demo.screen import Screen
from bmad_mcp.errors import BmadError, Conflict, Unavailable

Result = dict[str, Any]
Outcome = Callable[[Result], str]
LONGEST = 34


class Refused(BmadError):
    """A tool refused a call; the text is what an assistant reads."""

    code = "refused"
    http_status = 409


@dataclass
class Score:
    """What all the players did."""

    refusals: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How many calls were answered."""
        return len(self.seconds)


class Player:
    """Calls tools as one agent does, and shows each call."""

    def __init__(self, name: str, client: Client, screen: Screen, score: Score, pace: float) -> None:
        self.name = name
        self._client = client
        self._screen = screen
        self._score = score
        self._pace = pace

    async def __call__(self, tool: str, outcome: Outcome, /, **arguments: Any) -> Result:
        """The structured result of a tool; raises Refused."""
        try:
            result = await self._call(tool, arguments)
        except Refused as refused:
            self._show_refusal(tool, arguments, refused)
            raise
        self._screen.call(self.name, _told(tool, arguments), outcome(result))
        await asyncio.sleep(self._pace)
        return result

    async def is_refused(self, tool: str, /, **arguments: Any) -> str:
        """The sentence of a refusal that has to come; raises Conflict when the call succeeds."""
        try:
            await self._call(tool, arguments)
        except Refused as refused:
            self._show_refusal(tool, arguments, refused)
            await asyncio.sleep(self._pace)
            return refused.message
        raise Conflict(f"{tool} by {self.name} should have been refused, and was not.")

    async def quietly(self, tool: str, /, **arguments: Any) -> Result:
        """The structured result of a call that is no part of the story."""
        return await self._call(tool, arguments)

    def _show_refusal(self, tool: str, arguments: Mapping[str, Any], refused: Refused) -> None:
        self._score.refusals += 1
        self._screen.call(self.name, _told(tool, arguments), refused.message, refused=True)

    async def _call(self, tool: str, arguments: Mapping[str, Any]) -> Result:
        begun = time.perf_counter()
        answer = await self._client.call_tool(tool, dict(arguments))
        self._score.seconds.append(time.perf_counter() - begun)
        if answer.is_error:
            first = answer.content[0] if answer.content else None
            raise Refused(first.text if isinstance(first, TextContent) else f"{tool} failed.")
        if answer.structured_content is None:
            raise Unavailable(f"{tool} answered without a result.")
        return dict(answer.structured_content)


def _told(tool: str, arguments: Mapping[str, Any]) -> str:
    shown = []
    for name, value in arguments.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        if len(text) <= LONGEST:
            shown.append(f"{name}={text!r}" if " " in text else f"{name}={text}")
    return " ".join([tool, *shown])


@asynccontextmanager
async def player(name: str, command: Sequence[str], screen: Screen, score: Score, pace: float) -> AsyncIterator[Player]:
    """A player with its own server process, which ends with the block."""
    start = StdioServerParameters(command=command[0], args=list(command[1:]), env=dict(os.environ))
    async with Client(stdio_client(start)) as client:
        yield Player(name, client, screen, score, pace)

"""Real server processes and real clients of the SDK, for journeys and races."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

COMMAND = [sys.executable, "-m", "bmad_mcp"]


def fresh_key(name: str = "p") -> str:
    """A project key that no other test has."""
    return f"{name}-{uuid.uuid4().hex[:10]}"


@asynccontextmanager
async def held(context: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    """Enter and leave a context in one task of its own, as a fixture's two halves run in different tasks."""
    entered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def hold() -> None:
        try:
            async with context as value:
                entered.set_result(value)
                await leave.wait()
        except BaseException as error:
            if not entered.done():
                entered.set_exception(error)
                return
            raise

    task = asyncio.create_task(hold())
    try:
        yield await entered
    finally:
        leave.set()
        await task


class Refused(Exception):
    """A tool's refusal, as the model reads it."""


class Assistant:
    """A client that calls tools the way a host does."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, tool: str, /, **arguments: Any) -> Any:
        """The structured result; raises Refused with the text of a refusal."""
        result = await self.client.call_tool(tool, arguments)
        if result.is_error:
            raise Refused(result.content[0].text)
        return result.structured_content

    async def read(self, uri: str) -> str:
        """The text of a resource."""
        text: str = (await self.client.read_resource(uri)).contents[0].text
        return text


@asynccontextmanager
async def assistant(
    env: Mapping[str, str],
    project: str,
    *options: str,
    mode: str = "auto",
    errors: Path | None = None,
    hear: Any = None,
) -> AsyncIterator[Assistant]:
    """A server process of its own over stdio, with a client on it."""
    server = StdioServerParameters(
        command=COMMAND[0],
        args=[*COMMAND[1:], "serve", "--project", project, *options],
        env={**os.environ, **env},
    )
    with open(errors or os.devnull, "w") as errlog:
        async with Client(stdio_client(server, errlog=errlog), mode=mode, message_handler=hear) as client:
            yield Assistant(client)

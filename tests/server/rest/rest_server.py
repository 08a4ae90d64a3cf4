"""The whole HTTP application on a free port, and a client of its REST."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn

from bmad_mcp.call import Caller
from bmad_mcp.commands.serve_http import Uvicorn
from bmad_mcp.server.first_page import FirstPage
from bmad_mcp.server.host_snippets import StdioCommand
from bmad_mcp.server.http import build_app
from bmad_mcp.server.mcp import McpFace
from bmad_mcp.server.rest.ways import PREFIX

START = StdioCommand("/opt/bin/bmad-mcp", ("serve", "--project", "x"))


@asynccontextmanager
async def serving(workspace: Any, **options: Any) -> AsyncIterator[str]:
    """The application on loopback for as long as the block lasts; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    app = build_app(
        McpFace(workspace, lambda _: Caller()), workspace, FirstPage(workspace, "x", address, START), **options
    )
    server = Uvicorn(uvicorn.Config(app, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield address
    finally:
        server.should_exit = True
        await task


class RestClient(httpx.AsyncClient):
    """A client whose addresses are below the prefix."""

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(base_url=f"{address}{PREFIX}", timeout=30, **options)
        self.origin = address

    async def json(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """The JSON of an answer that has this status."""
        answer = await self.request(method, path, **options)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text[:2000])
        return answer.json()

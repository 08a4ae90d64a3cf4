"""The whole HTTP application on a free port, and a client of its REST."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from auth_server import listening

from bmad_mcp.call import Caller
from bmad_mcp.server.first_page import FirstPage
from bmad_mcp.server.host_snippets import StdioCommand
from bmad_mcp.server.http import build_app
from bmad_mcp.server.mcp import McpFace
from bmad_mcp.server.rest.ways import PREFIX

START = StdioCommand("/opt/bin/bmad-mcp", ("serve", "--project", "x"))


@asynccontextmanager
async def serving(workspace: Any, **options: Any) -> AsyncIterator[str]:
    """The application on loopback for as long as the block lasts; its address."""

    def app(address: str) -> Any:
        face = McpFace(workspace, lambda _: Caller())
        return build_app(face, workspace, FirstPage(workspace, "x", address, START), **options)

    async with listening(app) as address:
        yield address


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

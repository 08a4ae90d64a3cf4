"""A small host for MCP Apps: a page with the sandboxed view, and a real MCP client that the page's calls go through."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from auth_server import listening
from mcp.client import Client
from mcp.client.extension import advertise
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from bmad_mcp.call import Caller
from bmad_mcp.operation import TOOLSETS
from bmad_mcp.server.dashboard.app_views import EXTENSION, MIME_TYPE
from bmad_mcp.server.mcp import McpFace

PAGE = (Path(__file__).parent / "apps_host.html").read_text(encoding="utf-8")
# What a host gives to views that name no domains.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; media-src 'self' data:; connect-src 'none'; frame-src 'none'; object-src 'none'"
)
SHOWS_VIEWS = advertise(EXTENSION, {"mimeTypes": [MIME_TYPE]})


class Host:
    """The host's address, and how a view is opened in it."""

    def __init__(self, address: str, client: Client) -> None:
        self.address = address
        self._client = client

    async def page_of(self, tool: str, capabilities: Any = None, theme: str = "light", **arguments: Any) -> str:
        """The address of a page that calls the tool and shows the view that the tool's listing names."""
        listed = {one.name: one for one in (await self._client.list_tools()).tools}
        query = {"tool": tool, "uri": listed[tool].meta["ui"]["resourceUri"], "theme": theme}
        query["arguments"] = json.dumps(arguments)
        if capabilities is not None:
            query["capabilities"] = json.dumps(capabilities)
        return f"{self.address}/?{urlencode(query)}"


@asynccontextmanager
async def hosting(workspace: Any, **options: Any) -> AsyncIterator[Host]:
    """A host whose client is connected to a server on the workspace."""
    face = McpFace(workspace, lambda _: Caller("local", "host", "human"), **({"toolsets": TOOLSETS} | options))
    async with Client(face.server, extensions=[SHOWS_VIEWS]) as client:

        async def page(_):
            return HTMLResponse(PAGE)

        async def view(request):
            (content,) = (await client.read_resource(request.query_params["uri"])).contents
            assert content.mime_type == MIME_TYPE
            return HTMLResponse(content.text, headers={"content-security-policy": POLICY})

        async def rpc(request):
            asked = json.loads(await request.body())
            params = asked["params"]
            try:
                if asked["method"] == "tools/call":
                    result = await client.call_tool(params["name"], params["arguments"])
                else:
                    result = await client.read_resource(params["uri"])
            except MCPError as error:
                return JSONResponse({"error": {"code": error.error.code, "message": error.error.message}})
            return JSONResponse({"result": result.model_dump(mode="json", by_alias=True, exclude_none=True)})

        app = Starlette(routes=[Route("/", page), Route("/view", view), Route("/rpc", rpc, methods=["POST"])])
        async with listening(app) as address:
            yield Host(address, client)

"""The yardstick: a server on the bare SDK whose one tool does nothing; over stdio, or over HTTP with a port."""

import sys

import anyio
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool


async def list_tools(*_: object) -> ListToolsResult:
    return ListToolsResult(tools=[Tool(name="noop", description="Do nothing.", input_schema={"type": "object"})])


async def call_tool(*_: object) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="{}")], structured_content={})


server = Server("noop", version="0", on_list_tools=list_tools, on_call_tool=call_tool)


async def over_stdio() -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def over_http(port: int) -> None:
    # Imported here: a start over stdio is measured, too.
    import contextlib  # noqa: PLC0415

    import uvicorn  # noqa: PLC0415
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager  # noqa: PLC0415
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.routing import Mount  # noqa: PLC0415

    manager = StreamableHTTPSessionManager(server, stateless=True)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette):  # type: ignore[no-untyped-def]
        async with manager.run():
            yield

    app = Starlette(routes=[Mount("/", manager.handle_request)], lifespan=lifespan)
    uvicorn.run(app, port=port, log_level="error", access_log=False, ws="none")


if len(sys.argv) > 1:
    over_http(int(sys.argv[1]))
else:
    anyio.run(over_stdio)

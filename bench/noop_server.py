"""The yardstick: a server on the bare SDK whose one tool does nothing."""

import anyio
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool


async def list_tools(*_: object) -> ListToolsResult:
    return ListToolsResult(tools=[Tool(name="noop", description="Do nothing.", input_schema={"type": "object"})])


async def call_tool(*_: object) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="{}")], structured_content={})


async def main() -> None:
    server = Server("noop", version="0", on_list_tools=list_tools, on_call_tool=call_tool)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


anyio.run(main)

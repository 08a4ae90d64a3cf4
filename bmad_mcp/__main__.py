"""PROVISIONAL command line until the CLI helper's is here: serve over stdio."""

import asyncio
import sys
import uuid


async def _serve(project: str) -> None:
    from bmad_mcp.app import open_workspace
    from bmad_mcp.call import Caller
    from bmad_mcp.server.mcp import McpFace
    from bmad_mcp.server.stdio import serve_stdio
    from bmad_mcp.settings import Settings

    caller = Caller("local", uuid.uuid4().hex)
    async with open_workspace(Settings(project=project)) as workspace:
        await serve_stdio(McpFace(workspace, lambda _: caller).server)


def main() -> None:
    asyncio.run(_serve(sys.argv[sys.argv.index("--project") + 1]))


if __name__ == "__main__":
    main()

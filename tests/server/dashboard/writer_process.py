"""A process of its own that writes to the project: what it does comes to the server only through the database."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import open_pool
from bmad_mcp.operation import perform


class Writer:
    """The other process; `run` returns when what was asked is committed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, operation: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([operation, arguments]).encode() + b"\n")
        return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def writing(connect: Mapping[str, Any], opened: OpenProject) -> AsyncIterator[Writer]:
    """The process, ready to write to this project."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told = {"connect": dict(connect), "id": str(opened.id), "key": opened.key}
    process.stdin.write(json.dumps(told).encode() + b"\n")
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield Writer(process)
    finally:
        process.stdin.close()
        await process.wait()


async def main() -> None:
    """Do what each line asks, and answer each with a line."""
    told = json.loads(sys.stdin.readline())
    pool = await open_pool(**told["connect"])
    opened = OpenProject(UUID(told["id"]), told["key"], pool)

    class Workspace:
        async def project(self) -> OpenProject:
            return opened

        async def mend(self) -> bool:
            return False

    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        operation, arguments = json.loads(line)
        result = await perform(BY_NAME[operation], arguments, Caller("other", "other", "human"), Workspace())
        print(result.model_dump_json(exclude_unset=True), flush=True)
    await pool.close()


if __name__ == "__main__":
    asyncio.run(main())

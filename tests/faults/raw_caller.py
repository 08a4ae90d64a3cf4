"""A caller of tools on a connection of its own, which costs so little that a test can have many at once."""

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from bench.wire import HEADERS


class RawCaller:
    """MCP over HTTP by hand: one POST after the other on one connection that stays open."""

    def __init__(self, address: str) -> None:
        self._url = urlsplit(address)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._next = 0

    async def __call__(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """The `result` of tools/call; raises RuntimeError for anything else than an answer."""
        self._next += 1
        asked = {"jsonrpc": "2.0", "id": self._next, "method": "tools/call"}
        body = json.dumps(asked | {"params": {"name": tool, "arguments": arguments}}).encode()
        status, text = await self._post(body)
        if status != 200:
            raise RuntimeError(f"{status}: {text[:300]}")
        message = json.loads(next((line[6:] for line in text.splitlines() if line.startswith("data: {")), text))
        if message.get("id") != self._next or "result" not in message:
            raise RuntimeError(text[:300])
        result: dict[str, Any] = message["result"]
        return result

    async def _post(self, body: bytes) -> tuple[int, str]:
        if self._reader is None or self._writer is None or self._writer.is_closing() or self._reader.at_eof():
            await self.close()
            self._reader, self._writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        lines = [f"POST /mcp HTTP/1.1\r\nhost: {self._url.netloc}\r\ncontent-length: {len(body)}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in HEADERS.items()]
        self._writer.write("".join([*lines, "\r\n"]).encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(head.split(" ", 2)[1])
        sizes = [line for line in head.split("\r\n") if line.startswith("content-length:")]
        if sizes:
            return status, (await self._reader.readexactly(int(sizes[0].split(":")[1]))).decode()
        chunks = []
        while size := int(await self._reader.readline(), 16):
            chunks.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return status, b"".join(chunks).decode()

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()

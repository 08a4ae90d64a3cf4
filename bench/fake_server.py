"""An HTTP server on a loopback port that records every request, and misbehaves when it is told to."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

JSON = "application/json"


def free_port() -> socket.socket:
    """A listening socket of this machine whose small packets leave at once, like those of the real server."""
    # Without the protocol named, asyncio leaves Nagle's algorithm on: 40 ms for each answer in two parts.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


@dataclass
class Asked:
    """One request as it came; `sent` is how many bytes of an answer went out."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any
    sent: int = 0

    @property
    def what(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Reply:
    """One answer; `after` is how long it takes, `type` its content type."""

    body: Any = None
    status: int = 200
    type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    after: float = 0.0

    def encoded(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        head = {"content-type": self.type, "content-length": str(len(body)), **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"HTTP/1.1 {self.status} X\r\n{lines}\r\n".encode() + body


Fault = Callable[["Connection"], Awaitable[None]]


class Connection:
    """The server's end, for faults that write by hand; it counts what it could send."""

    def __init__(self, server: "FakeServer", writer: asyncio.StreamWriter, asked: Asked) -> None:
        self.server = server
        self.writer = writer
        self.asked = asked

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.server.sent += len(data)
        self.asked.sent += len(data)


class FakeServer:
    """An HTTP/1.1 server; a subclass answers in `reply`. With a `fault`, that answers instead."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.sent = 0
        self.fault: Fault | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FakeServer":
        listener = free_port()
        # Inherited by the connections: what was sent is then nearly what was read.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        self._server = await asyncio.start_server(self._serve, sock=listener)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def reply(self, asked: Asked) -> Reply:
        return Reply({"detail": "Not Found"}, 404)

    def whats(self) -> list[str]:
        return [one.what for one in self.asked]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            writer.transport.set_write_buffer_limits(16 * 1024)
            while (asked := await self._read(reader)) is not None:
                self.asked.append(asked)
                if self.fault is not None:
                    await self.fault(Connection(self, writer, asked))
                    break
                reply = await self.reply(asked)
                if reply.after:
                    await asyncio.sleep(reply.after)
                await Connection(self, writer, asked).send(reply.encoded())
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            with suppress(Exception):
                writer.transport.abort()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Asked | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        return Asked(method, url.path, dict(parse_qsl(url.query)), headers, json.loads(body) if body else None)

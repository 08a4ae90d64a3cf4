"""Memory services over real HTTP on a loopback port: they record every request, and misbehave when they are told to."""

import asyncio
import json
import re
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from processes import free_port

JSON = "application/json"


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any

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

    def __init__(self, server: "FakeServer", writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.server.sent += len(data)


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
                    await self.fault(Connection(self, writer))
                    break
                reply = await self.reply(asked)
                if reply.after:
                    await asyncio.sleep(reply.after)
                await Connection(self, writer).send(reply.encoded())
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


def ilike(needle: str, text: str, *, dialect: str) -> bool:
    """`text ILIKE '%needle%'` as PostgreSQL and SQLite do it: only one of them knows a backslash."""
    pattern, at = ".*", 0
    while at < len(needle):
        char = needle[at]
        if char == "\\" and dialect == "postgresql":
            at += 1
            pattern += re.escape(needle[at : at + 1])
        else:
            pattern += {"%": ".*", "_": "."}.get(char) or re.escape(char)
        at += 1
    return re.fullmatch(pattern + ".*", text, re.IGNORECASE | re.DOTALL) is not None


class FakeOpenMemory(FakeServer):
    """OpenMemory as the captured pairs show it, in memory."""

    def __init__(self, user: str = "drj", dialect: str = "postgresql") -> None:
        super().__init__()
        self.users = {user}
        self.dialect = dialect
        self.rows: list[dict[str, Any]] = []
        self.create_seconds = 0.0
        self.meaning: Any = "Error searching memory: Qdrant.search() got an unexpected keyword argument 'limit'"
        self.broken: dict[str, Reply] = {}
        self._clock = 1_795_441_560.0

    def add(self, content: str, metadata: dict[str, Any] | None = None, **more: Any) -> str:
        self._clock += 1
        row = {
            "id": str(uuid.uuid4()),
            "content": content,
            "created_at": int(self._clock),
            "state": "active",
            "app_id": "08cede9e-3318-45eb-a4f2-f04ae8eeeba0",
            "app_name": "bmad-mcp",
            "categories": ["work"],
            "metadata_": metadata or {},
        } | more
        self.rows.append(row)
        return str(row["id"])

    async def reply(self, asked: Asked) -> Reply:
        if asked.what in self.broken:
            return self.broken[asked.what]
        user = (asked.body or {}).get("user_id") if isinstance(asked.body, dict) else None
        user = user or asked.params.get("user_id")
        path = asked.path
        if path.startswith("/mcp/"):
            return self._mcp(asked)
        if path == "/api/v1/apps/":
            return Reply({"total": 1, "page": 1, "page_size": 10, "apps": []})
        if user is not None and user not in self.users:
            return Reply({"detail": "User not found"}, 404)
        if path == "/api/v1/stats/":
            return Reply({"total_memories": len(self.rows), "total_apps": 1, "apps": []})
        if asked.what == "POST /api/v1/memories/":
            return await self._create(asked.body)
        if asked.what == "POST /api/v1/memories/filter":
            return self._page(asked.body)
        if asked.what == "GET /api/v1/memories/":
            return self._page(asked.params)
        if asked.what == "DELETE /api/v1/memories/":
            return self._delete(asked.body["memory_ids"])
        if found := re.fullmatch(r"/api/v1/memories/([^/]+)(/related)?", path):
            return self._related(found[1]) if found[2] else self._one(found[1])
        return Reply({"detail": "Not Found"}, 404)

    async def _create(self, body: dict[str, Any]) -> Reply:
        if not body["text"].strip():
            return Reply(None)
        if self.create_seconds:
            # It goes on when the client has hung up: shielded from the connection's end.
            await asyncio.shield(asyncio.ensure_future(self._slowly(body)))
            return Reply(self._flat(self.rows[-1]))
        self.add(body["text"], body.get("metadata"))
        return Reply(self._flat(self.rows[-1]))

    async def _slowly(self, body: dict[str, Any]) -> None:
        await asyncio.sleep(self.create_seconds)
        self.add(body["text"], body.get("metadata"))

    @staticmethod
    def _flat(row: dict[str, Any]) -> dict[str, Any]:
        created = datetime.fromtimestamp(row["created_at"], UTC).replace(tzinfo=None).isoformat()
        return {**row, "created_at": created, "vector": None}

    def _page(self, asked: dict[str, Any]) -> Reply:
        page, size = int(asked.get("page", 1)), int(asked.get("size", 10))
        if size > 100 or page < 1:
            return Reply(b"Internal Server Error", 500, "text/plain; charset=utf-8")
        hidden = {"deleted"} if asked.get("show_archived") else {"deleted", "archived"}
        needle = asked.get("search_query") or ""
        found = [
            row
            for row in self.rows
            if row["state"] not in hidden and ilike(needle, row["content"], dialect=self.dialect)
        ]
        found.sort(key=lambda row: row["created_at"], reverse=asked.get("sort_direction", "desc") == "desc")
        items = found[(page - 1) * size : page * size]
        pages = -(-len(found) // size)
        return Reply({"items": items, "total": len(found), "page": page, "size": size, "pages": pages})

    def _row(self, ref: str) -> dict[str, Any] | None:
        return next((row for row in self.rows if row["id"] == ref), None)

    def _one(self, ref: str) -> Reply:
        row = self._row(ref)
        if row is None:
            return Reply({"detail": "Memory not found"}, 404)
        return Reply({("text" if name == "content" else name): value for name, value in row.items()})

    def _related(self, ref: str) -> Reply:
        items = [row for row in self.rows if row["id"] != ref and row["state"] == "active"][:5]
        return Reply({"items": items, "total": len(items), "page": 1, "size": 5, "pages": 1})

    def _delete(self, refs: list[str]) -> Reply:
        rows = [self._row(ref) for ref in refs]
        if None in rows:
            return Reply({"detail": "Memory not found"}, 404)
        for row in rows:
            assert row is not None
            row["state"] = "deleted"
        return Reply({"message": f"Successfully deleted {len(refs)} memories"})

    def _mcp(self, asked: Asked) -> Reply:
        user = unquote(asked.path.rpartition("/")[2])
        call = asked.body["params"]
        if call["name"] == "add_memories":
            self.users.add(user)
            ref = self.add(call["arguments"]["text"])
            text = json.dumps({"results": [{"id": ref, "memory": call["arguments"]["text"], "event": "ADD"}]})
        else:
            text = self.meaning if isinstance(self.meaning, str) else json.dumps(self.meaning)
        result = {"content": [{"type": "text", "text": text}], "isError": False}
        return Reply({"jsonrpc": "2.0", "id": 1, "result": result})


class FakeMem0(FakeServer):
    """A mem0 server as the captured pairs show it, in memory; its score is the share of the query's words."""

    def __init__(self, api_key: str | None = None) -> None:
        super().__init__()
        self.api_key = api_key
        self.rows: list[dict[str, Any]] = []
        self.create_seconds = 0.0
        self.down = False
        self._clock = 1_795_441_560.0

    def add(self, memory: str, metadata: dict[str, Any] | None = None, *, user: str = "drj", **more: Any) -> str:
        self._clock += 1
        created = datetime.fromtimestamp(self._clock, UTC).isoformat()
        row = {"id": str(uuid.uuid4()), "memory": memory, "metadata": metadata or {}, "user_id": user} | more
        self.rows.append({**row, "created_at": created, "updated_at": created})
        return str(row["id"])

    async def reply(self, asked: Asked) -> Reply:
        if self.api_key and asked.headers.get("x-api-key") != self.api_key:
            return Reply({"detail": "Invalid API key"}, 401)
        if self.down and asked.method == "POST":
            return Reply({"detail": "Provider is unreachable.", "code": "provider_unavailable"}, 502)
        if asked.what == "POST /memories":
            return await self._create(asked.body)
        if asked.what == "POST /search":
            return self._search(asked.body)
        if asked.what == "GET /memories":
            own = [row for row in self.rows if row["user_id"] == asked.params.get("user_id")]
            return Reply({"results": own[: int(asked.params.get("top_k", 20))]})
        if found := re.fullmatch(r"/memories/([^/]+)", asked.path):
            return self._one(asked.method, found[1])
        return Reply({"detail": "Not Found"}, 404)

    async def _create(self, body: dict[str, Any]) -> Reply:
        content = body["messages"][0]["content"]

        async def create() -> str:
            await asyncio.sleep(self.create_seconds)
            return self.add(content, body.get("metadata"), user=body["user_id"], agent_id=body.get("agent_id"))

        ref = await asyncio.shield(asyncio.ensure_future(create()))
        return Reply({"results": [{"id": ref, "memory": content, "event": "ADD"}]})

    def _search(self, body: dict[str, Any]) -> Reply:
        filters = dict(body["filters"])
        user, words = filters.pop("user_id"), set(body["query"].lower().split())
        found = []
        for row in self.rows:
            if row["user_id"] == user and all(row["metadata"].get(name) == value for name, value in filters.items()):
                score = len(words & set(row["memory"].lower().split())) / len(words)
                found.append({**row, "score": score})
        found.sort(key=lambda row: -row["score"])
        return Reply({"results": found[: body["top_k"]]})

    def _one(self, method: str, ref: str) -> Reply:
        try:
            uuid.UUID(ref)
        except ValueError:
            return Reply({"detail": "Upstream provider error.", "code": "unknown"}, 502)
        row = next((row for row in self.rows if row["id"] == ref), None)
        if method == "GET":
            return Reply({**row, "score": None} if row else None)
        if row is None:
            return Reply({"detail": f"Memory with id {ref} not found"}, 404)
        self.rows.remove(row)
        return Reply({"message": "Memory deleted successfully"})


class Stopwatch:
    """How long a block took."""

    def __enter__(self) -> "Stopwatch":
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began

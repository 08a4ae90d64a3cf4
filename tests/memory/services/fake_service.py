"""Memory services as the captured pairs show them, over real HTTP on a loopback port."""

import asyncio
import json
import re
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from bench.fake_server import Asked, FakeServer, Reply


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

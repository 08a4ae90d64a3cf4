"""A project beside a memory service, either kind over real HTTP, and what is kept in both."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from harness import TestWorkspace, new_project
from memory.services.fake_service import FakeMem0, FakeOpenMemory

from bmad_mcp.call import Caller, OpenProject
from bmad_mcp.db import Transaction, uuid7
from bmad_mcp.memory.delivery import Deliveries
from bmad_mcp.memory.services.answers import tag_of
from bmad_mcp.memory.services.choosing import MemoryServices

CALLER = Caller("local", "test", "human")
USER = "bmad"
INSERT = """
INSERT INTO mcp_memories (project_id, id, text, category, agent, author_kind, principal, confidence, created_at,
    delivery, provider, service_ref, attempts, attempted_at, failure)
VALUES (bmad_project(), $1, $2, $3, $4, 'agent', $5, 0.7, $6, $7, $8, $9, $10, $11, $12)
"""
ALL = "SELECT * FROM mcp_memories WHERE project_id = bmad_project() ORDER BY id"
TRAIL = """
SELECT operation, subject, principal, detail FROM bmad_agent_activity
WHERE project_id = bmad_project() AND operation LIKE 'memory%' ORDER BY at, id
"""


@asynccontextmanager
async def one_service(kind: str) -> AsyncIterator[Any]:
    """A FakeOpenMemory or a FakeMem0 that serves."""
    async with FakeOpenMemory(USER) if kind == "openmemory" else FakeMem0() as server:
        server.kind = kind
        yield server


@dataclass
class Kept:
    """A project, its service, and short ways to fill and to read both."""

    opened: OpenProject
    server: Any

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        db = Transaction(self.opened.pool, self.opened.id)
        try:
            return await db.fetch(statement, *values)
        finally:
            await db.end("COMMIT")

    async def add(self, text: str, **more: Any) -> uuid.UUID:
        """A memory of this database in any state."""
        values = {
            "category": "AGENT_CONTEXT",
            "agent": None,
            "principal": "local",
            "created_at": datetime.now(UTC),
            "delivery": "stored",
            "provider": None,
            "service_ref": None,
            "attempts": 0,
            "attempted_at": None,
            "failure": None,
        } | more
        ref = uuid7()
        await self.sql(INSERT, ref, text, *values.values())
        return ref

    def add_there(self, text: str, key: str | None = None, *, project: str | None = None, **metadata: Any) -> str:
        """A memory of the service, as a database of the project (or of another) delivered it."""
        project, key = project or self.opened.key, key or str(uuid7())
        told = {"bmad_project": project, "bmad_key": key, "category": "AGENT_CONTEXT", **metadata}
        more = {} if self.server.kind == "openmemory" else {"user": USER}
        return self.server.add(f"{text} {tag_of(project, key)}", told, **more)

    async def delivered(self, text: str, *, known: bool = True, **more: Any) -> tuple[uuid.UUID, str]:
        """A memory that is here and there; with `known` False this database never heard the service's answer."""
        values = {"delivery": "delivered", "provider": self.server.kind, "attempts": 1}
        values["attempted_at"] = datetime.now(UTC) - timedelta(hours=1)
        key = await self.add(text, **{**values, **more})
        ref = self.add_there(text, str(key), category=more.get("category", "AGENT_CONTEXT"))
        if known:
            await self.sql("UPDATE mcp_memories SET service_ref = $2 WHERE id = $1", key, ref)
        return key, ref

    async def here(self) -> list[str]:
        return [row["text"] for row in await self.sql(ALL)]

    def there(self) -> list[str]:
        """The texts that the service still gives out."""
        kind = "content" if self.server.kind == "openmemory" else "memory"
        alive = [row for row in self.server.rows if row.get("state", "active") != "deleted"]
        return [row[kind].rpartition(" [bmad:")[0] for row in alive]

    async def trail(self) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.sql(TRAIL)]

    def services(self, **more: Any) -> MemoryServices:
        """Connections of another process to the same service."""
        return MemoryServices(
            self.server.url, **{"user": USER, "setting": self.server.kind, "read_seconds": 0.3, **more}
        )

    def beside(self, services: MemoryServices | None) -> OpenProject:
        """The project as a process with these services sees it."""
        return replace(self.opened, services=services)

    @asynccontextmanager
    async def another_process(self) -> AsyncIterator[Deliveries]:
        """A worker that has begun elsewhere, with connections and locks of its own."""
        services = self.services()
        try:
            yield Deliveries(self.opened.pool, services, settle_seconds=0.0)
        finally:
            await services.aclose()

    @property
    def workspace(self) -> TestWorkspace:
        return TestWorkspace(self.opened)


@asynccontextmanager
async def kept_project(pool: asyncpg.Pool, server: Any, **more: Any) -> AsyncIterator[Kept]:
    """A new project whose memories go to this server."""
    kept = Kept(await new_project(pool), server)
    services = kept.services(**more)
    kept.opened = replace(kept.opened, services=services)
    yield kept
    await services.aclose()

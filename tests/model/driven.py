"""A real server process with a real MCP client on it, driven from code that is not async; emptied between examples."""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import asyncpg
from processes import assistant, held

# All that a project collects; its agents and other definitions stay.
COLLECTED = (
    "bmad_task_dependencies", "bmad_agent_collaborations", "bmad_tasks", "bmad_workflow_stages", "bmad_workflows",
    "bmad_stories", "bmad_epics", "bmad_agent_sessions", "bmad_agent_activity", "bmad_memory_integrations",
    "mcp_memories", "mcp_memory_vectors", "mcp_memory_centres", "mcp_memory_cache", "mcp_idempotency", "mcp_counters",
    "mcp_tallies",
)  # fmt: skip


@dataclass
class Answer:
    """What a tool answered: a structured result, or the code and field of a refusal."""

    told: dict[str, Any]
    code: str | None = None
    field: str | None = None

    def __str__(self) -> str:
        return f"refused: {self.code}, {self.told['text']}" if self.code else str(self.told)


class Driven:
    """The server of one project, and the database beside it as a superuser sees it."""

    def __init__(self, env: Mapping[str, str], project: str, admin: Mapping[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self._wait_for(self._begin(env, project, admin))

    async def _begin(self, env: Mapping[str, str], project: str, admin: Mapping[str, Any]) -> None:
        options = ("--toolsets", "all")
        self._client = (await self._stack.enter_async_context(held(assistant(env, project, *options)))).client
        # The first call makes the project.
        await self._client.call_tool("project_status", {})
        self._sql = await asyncpg.connect(**admin)
        self._stack.push_async_callback(self._sql.close)
        # Rows of the trail are never deleted, but here they are.
        await self._sql.execute("SET session_replication_role = replica")
        self._project_id = await self._sql.fetchval("SELECT id FROM bmad_projects WHERE key = $1", project)

    def _wait_for(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def close(self) -> None:
        self._wait_for(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _call(self, tool: str, arguments: Mapping[str, Any]) -> Answer:
        result = await self._client.call_tool(tool, dict(arguments))
        if result.is_error:
            meta = result.meta or {}
            return Answer({"text": result.content[0].text}, meta.get("bmad/code"), meta.get("bmad/field"))
        return Answer(result.structured_content)

    def call(self, tool: str, **arguments: Any) -> Answer:
        """The answer to one call."""
        return self._wait_for(self._call(tool, arguments))

    def read(self, *calls: tuple[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The results of several reads that are under way at once."""

        async def gathered() -> list[Answer]:
            return await asyncio.gather(*(self._call(*one) for one in calls))

        answers = self._wait_for(gathered())
        assert not [str(one) for one in answers if one.code]
        return [one.told for one in answers]

    def execute(self, sql: str, *values: Any) -> str:
        """A statement on the database; $1 is the project."""
        return self._wait_for(self._sql.execute(sql, self._project_id, *values))

    def fetch(self, sql: str, *values: Any) -> list[Any]:
        """Rows of the database; $1 is the project."""
        return self._wait_for(self._sql.fetch(sql, self._project_id, *values))

    def empty(self) -> None:
        """Make the project as it was when it was new."""
        for table in COLLECTED:
            self.execute(f"DELETE FROM {table} WHERE project_id = $1")
        self.execute("UPDATE bmad_agents SET status = 'idle' WHERE project_id = $1")

"""A caller that sends any text, and sees what each call answered and which rows it wrote."""

import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg
import httpx
from auth_server import MCP_HEADERS, result_of

from bmad_mcp.operation import Operation

TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND a.attname = 'project_id' ORDER BY c.relname
"""
# These rows are added up when some call comes upon it.
FOLDED = "mcp_tallies"
# Of which transaction a row is tells who wrote it last.
NOW = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
ROWS = "SELECT '{0}', count(*), count(*) FILTER (WHERE xmin::text::bigint >= $2) FROM {0} WHERE project_id = $1"
WRITTEN = "SELECT to_jsonb(t)::text FROM {} t WHERE project_id = $1 AND xmin::text::bigint >= $2"
HASH = "SELECT '{0}', md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {0} t WHERE project_id = $1"
# Also what belongs to no project, or is one.
OTHER_ROWS = """
SELECT string_agg(relname, ' ' ORDER BY relname), (SELECT md5(string_agg(p::text, '' ORDER BY id)) FROM bmad_projects p)
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
"""


@dataclass
class Told:
    """What a call was answered with: a result, or the code and field of a refusal; and the rows that it wrote."""

    result: dict[str, Any] | None
    code: str = ""
    field: str = ""
    text: str = ""
    # The transaction before which nothing of it was written.
    since: int = 0
    rows: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    @property
    def is_refused(self) -> bool:
        return self.result is None


class HostileCaller:
    """Calls operations, over MCP where they are tools and else over REST; fails for what is neither result nor refusal.

    `canary` stands in another project and may be in no answer.
    """

    def __init__(self, client: httpx.AsyncClient, sql: asyncpg.Connection, project_id: Any, canary: str) -> None:
        self._client, self._sql, self._project_id, self._canary = client, sql, project_id, canary
        # Agents are activated in a session; each field has its own.
        self.session = "first"
        self._since = 0
        self._tables: list[str] = []

    async def call(self, operation: Operation, arguments: Mapping[str, Any]) -> Told:
        """The answer to one call."""
        told = await (self._over_mcp if operation.toolset else self._over_rest)(operation, dict(arguments))
        assert self._canary not in json.dumps([told.result, told.text]), (operation.name, arguments, told)
        assert told.code not in ("error", "unavailable", "internal"), (operation.name, arguments, told)
        return told

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[dict[str, tuple[int, int]]]:
        """What was written in between: for each such table how many rows there are more, and how many are new or others."""
        written: dict[str, tuple[int, int]] = {}
        self._since = await self._sql.fetchval(NOW)
        before = await self._rows()
        yield written
        for table, (count, others) in (await self._rows()).items():
            if others or count != before[table][0]:
                written[table] = (count - before[table][0], others)

    async def watched(self, operation: Operation, arguments: Mapping[str, Any]) -> Told:
        """The answer to one call, with the rows that it wrote."""
        async with self.watching() as written:
            told = await self.call(operation, arguments)
        told.since, told.rows = self._since, written
        return told

    async def _over_mcp(self, operation: Operation, arguments: dict[str, Any]) -> Told:
        answer = await self.post("tools/call", {"name": operation.name, "arguments": arguments})
        if answer.status_code == 400:
            # The framing refuses what is no text, such as half of a surrogate pair.
            assert answer.json()["error"]["code"] in (-32700, -32600), answer.text
            return Told(None, "framing", text=answer.text)
        result = result_of(answer)
        text = result["content"][0]["text"]
        if result["isError"]:
            return Told(None, result["_meta"]["bmad/code"], result["_meta"].get("bmad/field", ""), text)
        return Told(result["structuredContent"])

    async def _over_rest(self, operation: Operation, arguments: dict[str, Any]) -> Told:
        assert operation.verb == "GET", "an operation without a tool that writes wants a body here"
        path = "/api/v1/bmad" + operation.route.partition(" ")[2]
        for name in [name for name in arguments if f"{{{name}}}" in path]:
            path = path.replace(f"{{{name}}}", quote(str(arguments.pop(name)), safe="", errors="surrogatepass"))
        query = urlencode(arguments, doseq=True, errors="surrogatepass")
        answer = await self._client.get(f"{path}?{query}")
        if answer.status_code == 200:
            return Told(answer.json())
        assert 400 <= answer.status_code < 500, (path, query, answer.text)
        problem = answer.json()
        if problem["code"] == "bad_request" or "no such path" in problem["detail"]:
            # No text in UTF-8, or a path with nothing where a name has to be.
            return Told(None, "framing", text=answer.text)
        return Told(None, problem["code"], problem.get("field", ""), answer.text)

    async def post(self, method: str, params: Mapping[str, Any]) -> httpx.Response:
        """The HTTP answer to an MCP request."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        headers = MCP_HEADERS | {"x-bmad-session": self.session}
        answer = await self._client.post("/mcp", content=body, headers=headers)
        assert answer.status_code in (200, 400), (method, params, answer.status_code, answer.text[:500])
        assert self._canary not in answer.text, (method, params, answer.text)
        return answer

    async def _rows(self) -> dict[str, tuple[int, int]]:
        if not self._tables:
            self._tables = [row[0] for row in await self._sql.fetch(TABLES) if row[0] != FOLDED]
        union = " UNION ALL ".join(ROWS.format(table) for table in self._tables)
        return {
            table: (count, written)
            for table, count, written in await self._sql.fetch(union, self._project_id, self._since)
        }


async def hashed(sql: asyncpg.Connection, project_id: Any) -> dict[str, str]:
    """All rows of a project, and the tables and projects that there are, as hashes."""
    tables = [row[0] for row in await sql.fetch(TABLES)]
    found = dict(await sql.fetch(" UNION ALL ".join(HASH.format(table) for table in tables), project_id))
    found["tables"], found["projects"] = await sql.fetchrow(OTHER_ROWS)
    return found

"""OpenMemory's search by meaning, which only its MCP endpoint has and which is broken in most installations."""

from typing import Any
from urllib.parse import quote

from bmad_mcp.memory.services.answers import ref_of
from bmad_mcp.memory.services.breaker import Guards
from bmad_mcp.memory.services.http import Allowance, Garbage, JsonClient, Refused, Resting, ServiceError, parse_json

APP = "bmad-mcp"
PROBE_SECONDS = 3.0
OFF_SECONDS = 3_600.0
MOST_NEAR = 20


class MeaningSearch:
    """Off until `probe` has seen it work: a failing search holds the whole service up for a second and a half."""

    def __init__(self, client: JsonClient, *, user: str, guards: Guards) -> None:
        self._client = client
        self._user = user
        self._guards = guards

    async def probe(self) -> bool:
        """Try it once; it is used from now on, or left alone for an hour."""
        try:
            with self._guards.search.attempt():
                await self._search("project", Allowance(PROBE_SECONDS))
        except Resting:
            return False
        except ServiceError:
            self._guards.search.rest(OFF_SECONDS)
            self._guards.finds_meaning = False
            return False
        self._guards.finds_meaning = True
        return True

    async def near(self, text: str, allowance: Allowance) -> dict[str, float]:
        """Scores from 0 to 1 by reference, of any project; empty while it is off or when it fails."""
        if not self._guards.finds_meaning or not text.strip():
            return {}
        try:
            with self._guards.search.attempt():
                return await self._search(text, allowance)
        except ServiceError:
            # The terms answer anyway.
            return {}

    async def _search(self, text: str, allowance: Allowance) -> dict[str, float]:
        found = await self.call_tool("search_memory", {"query": text}, allowance)
        results = found.get("results") if isinstance(found, dict) else found
        if not isinstance(results, list):
            raise Garbage("The memory service's search sent no list")
        scores = {}
        for one in results[:MOST_NEAR]:
            ref, score = (ref_of(one.get("id")), one.get("score")) if isinstance(one, dict) else (None, None)
            if ref and isinstance(score, int | float) and not isinstance(score, bool) and 0 < score <= 1:
                scores[ref] = float(score)
        return scores

    async def call_tool(self, name: str, arguments: dict[str, Any], allowance: Allowance) -> Any:
        """The JSON in a tool's text; raises Refused(200) for text that is none, as its errors come without a flag."""
        answer = await self._client.ask(
            "POST",
            f"/mcp/{APP}/http/{quote(self._user, safe='')}",
            allowance=allowance,
            body={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}},
        )
        try:
            result = answer["result"]
            text, failed = result["content"][0]["text"], result.get("isError", False)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise Garbage("The memory service's tool sent no text") from None
        if failed or not isinstance(text, str) or not text.lstrip().startswith(("{", "[")):
            raise Refused(200)
        return parse_json(text.encode("utf-8", "replace"))

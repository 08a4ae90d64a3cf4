"""Every text that a tool takes, over HTTP as JSON: characters of all planes, and what would be SQL if it were pasted."""

import base64
import itertools
import json
import os
from typing import Any

import asyncpg
import httpx
import pytest
from auth_server import MCP_HEADERS, guarded_server, result_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.catalog import CATALOG
from bmad_mcp.sample import FOLDER
from bmad_mcp.server.listing import lean
from bmad_mcp.server.rest.openapi import examples

MOST = 5000 if os.environ.get("BMAD_TEST_EXAMPLES") == "new" else 250
EXAMPLES = examples()
TOOLS = [one for one in CATALOG if one.toolset]
PAYLOADS = (
    "'; DROP TABLE bmad_tasks; --",
    "' OR '1'='1",
    "\\'; SELECT pg_sleep(9); --",
    "x' UNION SELECT key, name FROM bmad_projects --",
    "$$; RESET ROLE; DROP TABLE bmad_stories; $$",
    'key" DESC NULLS LAST; DELETE FROM bmad_agents; --',
    "%s %(x)s $1 :name {0} {name}",
    "1); UPDATE bmad_tasks SET status = 'completed'; COMMIT; --",
    "%_\\",
    "E'\\x27' || current_user",
)
# Each begins with what a list's sort key may be, so that some pass the check of their types.
CURSORS = tuple(
    base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")
    for payload in PAYLOADS[:5]
    for position in ([payload], [payload, payload], [1, payload], [1.5, payload, payload], [None, payload])
)


def texts(schema: dict[str, Any], path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of the texts in a schema of arguments; 0 stands for a list's first item."""
    found = []
    for name, field in schema.get("properties", {}).items():
        for one in field.get("anyOf", [field]):
            if one.get("type") == "string":
                found.append((*path, name))
            elif one.get("type") == "array" and one.get("items", {}).get("type") == "string":
                found.append((*path, name, 0))
            elif one.get("type") == "array":
                found += texts(one.get("items", {}), (*path, name, 0))
            elif one.get("type") == "object":
                found += texts(one, (*path, name))
    return found


def fields_of(operation) -> list[tuple[Any, ...]]:
    return texts(lean(operation.arguments.model_json_schema()))


FIELDS = [(one, path) for one in TOOLS for path in fields_of(one)]


def placed(arguments: dict[str, Any], path: tuple[Any, ...], value: str) -> dict[str, Any]:
    """The arguments with one text in them replaced."""
    copy = json.loads(json.dumps(arguments))
    at = copy
    for step, following in itertools.pairwise(path):
        if isinstance(step, int):
            while len(at) <= step:
                at.append({} if not isinstance(following, int) else [])
            at = at[step]
        else:
            at = at.setdefault(step, [] if isinstance(following, int) else {})
    if isinstance(path[-1], int):
        at[:1] = [value]
    else:
        at[path[-1]] = value
    return copy


class Server:
    """A client that sends what it is told to, and knows an answer from a failure."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.refused = self.done = 0

    async def __call__(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """The structured result, or None for a refusal; fails for anything that is neither."""
        params = {"name": tool, "arguments": arguments}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        answer = await self._client.post("/mcp", content=body, headers=MCP_HEADERS)
        if answer.status_code == 400:
            # The framing refuses what is no text, such as half of a surrogate pair.
            assert answer.json()["error"]["code"] in (-32700, -32600), answer.text
            self.refused += 1
            return None
        assert answer.status_code == 200, (tool, arguments, answer.status_code, answer.text[:500])
        result = result_of(answer)
        if result.get("isError"):
            code = result["_meta"]["bmad/code"]
            assert code not in ("error", "unavailable"), (tool, arguments, result)
            self.refused += 1
            return None
        assert "structuredContent" in result, (tool, arguments, result)
        self.done += 1
        return result["structuredContent"]


@pytest.fixture
async def server(workspace):
    await import_folder(workspace.opened, FOLDER)
    async with guarded_server(workspace, is_authenticated=False) as serving:
        yield Server(serving.client)


TABLES = """
SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
"""


def example(operation) -> dict[str, Any]:
    return dict(EXAMPLES[operation.name]["arguments"])


def test_there_are_texts_in_most_tools():
    assert len({operation.name for operation, _ in FIELDS}) > 35
    assert len(FIELDS) > 130
    assert any(len(path) > 2 for _, path in FIELDS)


@pytest.mark.parametrize("some", [1, pytest.param(len(PAYLOADS), marks=pytest.mark.soak)])
async def test_nothing_of_a_text_is_ever_sql(server, database, some):
    connection = await asyncpg.connect(**database.admin)
    try:
        tables = await connection.fetchval(TABLES)
        others = "SELECT count(*) FROM bmad_projects"
        projects = await connection.fetchval(others)
        # In the suite each field gets another one of them, in turn.
        turns = itertools.cycle(PAYLOADS)
        for operation, path in FIELDS:
            for payload in itertools.islice(turns, some):
                await server(operation.name, placed(example(operation), path, payload))
        for operation in TOOLS:
            if "cursor" in operation.arguments.model_fields:
                for cursor in CURSORS if some > 1 else CURSORS[::4]:
                    await server(operation.name, example(operation) | {"cursor": cursor})
        assert await connection.fetchval(TABLES) == tables
        assert await connection.fetchval(others) == projects
    finally:
        await connection.close()
    # Both happened: texts were stored, and keys were refused.
    assert server.done > 30
    assert server.refused > 30


@pytest.mark.parametrize("payload", ["' OR '1'='1", "%", "_", "%' OR TRUE --"])
async def test_a_filter_looks_for_what_it_says(server, payload):
    found = await server("story_list", {"query": payload, "limit": 100})
    assert found == {"items": [], "next_cursor": None}


ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(
    st.sampled_from("\x00\x01\x1b\x7f\u0085\u202e\u2066\ud800\udfff\ufeff\uffff\U000e0041\U0010ffff'\"\\%_${}"),
    min_size=1,
)


@settings(max_examples=MOST, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FIELDS), ANY_TEXT)
async def test_any_character_in_any_text_is_stored_or_refused(server, field, text):
    operation, path = field
    await server(operation.name, placed(example(operation), path, text))

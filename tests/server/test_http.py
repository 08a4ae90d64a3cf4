"""The HTTP surface through a real server on loopback: both protocol eras, the guard, health and the first page."""

import asyncio
import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import asyncpg
import httpx
import httpx2
import pytest
import uvicorn
from harness import TestWorkspace, new_project
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult, ListToolsResult

from bench.fake_server import free_port
from bmad_mcp import schema_version
from bmad_mcp.commands.serve_http import Uvicorn
from bmad_mcp.db import open_pool
from bmad_mcp.errors import Unavailable
from bmad_mcp.server import health
from bmad_mcp.server.first_page import FirstPage
from bmad_mcp.server.guard import refuse
from bmad_mcp.server.headers import MCP_SESSION_HEADER, SESSION_HEADER
from bmad_mcp.server.host_snippets import HOSTS, StdioCommand
from bmad_mcp.server.http import build_app, caller_of
from bmad_mcp.server.mcp import McpFace

MCP_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


class Served:
    """A running application and a client on it."""

    def __init__(self, address: str, client: httpx.AsyncClient) -> None:
        self.address = address
        self.client = client


class Serving:
    """An application served on a free port for as long as the block lasts."""

    def __init__(self, workspace, start: StdioCommand | None = None, face: McpFace | None = None) -> None:
        self.workspace = workspace
        self.start = start or StdioCommand("/opt/bin/bmad-mcp", ("serve", "--project", "x"))
        self.face = face or McpFace(workspace, caller_of, toolsets=("core", "planning"))

    async def __aenter__(self) -> Served:
        listener = free_port()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        page = FirstPage(self.workspace, "x", address, self.start)
        app = build_app(self.face, self.workspace, page)
        self.server = Uvicorn(
            uvicorn.Config(app, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=1)
        )
        self.task = asyncio.create_task(self.server.serve(sockets=[listener]))
        self.client = httpx.AsyncClient(base_url=address, timeout=10)
        return Served(address, self.client)

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        self.server.should_exit = True
        await self.task


@pytest.fixture
async def served(workspace):
    async with Serving(workspace) as served:
        yield served


class AwayWorkspace:
    """A workspace whose database cannot be had."""

    async def project(self):
        raise Unavailable("The database is away for <this> test.")

    async def mend(self):
        return False


def connect(served: Served, mode: str, session: str | None = None) -> Client:
    headers = {SESSION_HEADER: session} if session else {}
    http_client = httpx2.AsyncClient(headers=headers)
    return Client(streamable_http_client(f"{served.address}/mcp", http_client=http_client), mode=mode)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_of_either_era_lists_calls_and_reads(served, mode):
    async with connect(served, mode) as client:
        assert {"project_status", "task_claim"} <= {tool.name for tool in (await client.list_tools()).tools}
        made = await client.call_tool("task_create", {"title": "First"})
        key = made.structured_content["task"]["key"]
        assert (
            json.loads((await client.read_resource(f"bmad://tasks/{key}")).contents[0].text)["task"]["title"] == "First"
        )
        refused = await client.call_tool("task_get", {"task": "T-999"})
        assert refused.is_error
        assert "There is no task T-999" in refused.content[0].text


async def test_two_clients_at_once_get_their_own_answers(served):
    async def work(mode: str, number: int) -> None:
        async with connect(served, mode, f"assistant-{number}") as client:
            for turn in range(20):
                title = f"Task {number}.{turn}"
                made = await client.call_tool("task_create", {"title": title})
                read = await client.call_tool("task_get", {"task": made.structured_content["task"]["key"]})
                assert read.structured_content["task"]["title"] == title

    await asyncio.gather(work("auto", 1), work("legacy", 2))


async def test_the_session_header_tells_assistants_apart(served):
    async with connect(served, "auto", "one") as first, connect(served, "legacy", "two") as second:
        await first.call_tool("agent_activate", {"agent": "dev"})
        await second.call_tool("agent_activate", {"agent": "sm"})
        offered = await first.call_tool("handoff_offer", {"to": "qa", "note": "From the first"})
        assert offered.structured_content["handoff"]["from"] == "dev"
        offered = await second.call_tool("handoff_offer", {"to": "qa", "note": "From the second"})
        assert offered.structured_content["handoff"]["from"] == "sm"


@pytest.mark.parametrize("session", [None, "claude-code-1a2b3c"])
async def test_two_windows_with_one_snippet_are_two_assistants(served, session):
    async with connect(served, "legacy", session) as second:
        async with connect(served, "legacy", session) as first:
            await first.call_tool("agent_activate", {"agent": "dev"})
            begun = (await second.call_tool("agent_activate", {"agent": "qa"})).structured_content
            assert "ended" not in begun
            offered = await first.call_tool("handoff_offer", {"to": "sm", "note": "From the first"})
            assert offered.structured_content["handoff"]["from"] == "dev"
        # The first one said goodbye.
        still = (await second.call_tool("agent_list", {"status": "active"})).structured_content["items"]
        assert [agent["agent"] for agent in still] == ["qa"]


async def test_a_session_id_names_a_connection_at_any_server(served, workspace):
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    ids = [
        (await served.client.post("/mcp", headers=MCP_HEADERS, json=hello)).headers[MCP_SESSION_HEADER] for _ in "12"
    ]
    assert ids[0] != ids[1]
    assert MCP_SESSION_HEADER not in (await served.client.post("/mcp", headers=MCP_HEADERS, json=PING)).headers
    session = {MCP_SESSION_HEADER: ids[0]}
    async with Serving(workspace) as other:
        answer = await other.client.post("/mcp", headers=MCP_HEADERS | session, json=PING)
        assert answer.status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS", "HEAD"])
async def test_mcp_takes_posts_only(guarded, method):
    answer = await asyncio.wait_for(guarded.client.request(method, "/mcp", headers={"accept": "text/event-stream"}), 5)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


ROUTES = ["/", "/connect", "/mcp", "/health/live", "/health/ready", "/nothing"]


FOREIGN_HOSTS = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0", "[::2]", ""]
FOREIGN_ORIGINS = [
    "http://evil.example",
    "https://127.0.0.1",
    "http://localhost:1",
    "null",
    "http://127.0.0.1.evil.example",
    "file://",
]


@pytest.fixture
async def guarded():
    """A server whose guard is what matters: nothing behind it needs a database."""
    async with Serving(AwayWorkspace()) as served:
        yield served


@pytest.mark.parametrize("path", ROUTES)
async def test_a_foreign_host_is_refused_on_every_route(guarded, path):
    for host in FOREIGN_HOSTS:
        for method in ("GET", "POST"):
            answer = await guarded.client.request(method, path, headers={**MCP_HEADERS, "host": host}, json=PING)
            assert answer.status_code == 421, (host, method)
            assert "bmad" not in answer.text.lower()


@pytest.mark.parametrize("path", ROUTES)
async def test_a_page_of_another_origin_is_refused_on_every_route(guarded, path):
    for origin in FOREIGN_ORIGINS:
        for method in ("GET", "POST"):
            answer = await guarded.client.request(method, path, headers={**MCP_HEADERS, "origin": origin}, json=PING)
            assert answer.status_code == 403, (origin, method)
            assert "access-control-allow-origin" not in answer.headers


async def test_the_page_of_this_server_may_use_it_under_every_name_of_this_machine(guarded):
    port = guarded.address.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::1]"):
        headers = {"host": f"{host}:{port}", "origin": f"http://localhost:{port}"}
        assert (await guarded.client.get("/health/live", headers=headers)).status_code == 200


def test_a_request_without_or_with_two_hosts_is_refused():
    assert refuse([])[0] == 421
    assert refuse([(b"host", b"localhost"), (b"host", b"localhost")])[0] == 421
    assert refuse([(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://evil")])[0] == 403
    assert refuse([(b"host", b"localhost"), (b"origin", b"http://localhost:80")]) is None


@pytest.mark.parametrize("path", ["/mcp", "/health/live"])
async def test_a_body_over_four_mebibytes_is_refused_told_or_untold(guarded, path):
    body = b" " * (4 << 20) + b"1"
    answer = await guarded.client.post(path, content=body, headers=MCP_HEADERS)
    assert answer.status_code == 413

    async def chunks():
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    answer = await guarded.client.post(path, content=chunks(), headers=MCP_HEADERS)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("body", "code", "request_id"),
    [
        (b"not JSON", -32700, None),
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":{"a":1,"a":2}}', -32600, 4),
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":{"a":NaN}}', -32600, 4),
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":{"a":"\xff"}}', -32700, 4),
        (b'{"jsonrpc":"2.0","id":4,"method":"ping","params":{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}}", -32700, 4),
    ],
)
async def test_json_that_means_two_things_or_none_is_refused(guarded, body, code, request_id):
    answer = await guarded.client.post("/mcp", content=body, headers=MCP_HEADERS)
    assert answer.status_code == 400
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (request_id, code)


async def test_a_form_of_a_foreign_page_cannot_speak_mcp(guarded):
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = await guarded.client.post("/mcp", json=PING, headers={**MCP_HEADERS, "content-type": kind})
        assert answer.status_code == 400


@pytest.mark.parametrize("mode", ["auto"])
async def test_a_call_whose_client_goes_away_is_cancelled(workspace, mode):
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def call_tool(*_):
        began.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return CallToolResult(content=[])

    async def list_tools(*_):
        return ListToolsResult(tools=[])

    face = McpFace(workspace, caller_of)
    face.server = Server("slow", version="0", on_list_tools=list_tools, on_call_tool=call_tool)
    async with Serving(workspace, face=face) as served, connect(served, mode) as client:
        calling = asyncio.create_task(client.call_tool("slow", {}))
        await asyncio.wait_for(began.wait(), 5)
        calling.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_call_that_is_under_way_is_finished_when_the_server_ends(workspace):
    began = asyncio.Event()

    async def call_tool(*_):
        began.set()
        await asyncio.sleep(0.4)
        return CallToolResult(content=[], structured_content={"done": True})

    async def list_tools(*_):
        return ListToolsResult(tools=[])

    face = McpFace(workspace, caller_of)
    face.server = Server("slow", version="0", on_list_tools=list_tools, on_call_tool=call_tool)
    serving = Serving(workspace, face=face)
    async with serving as served:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "slow"}}
        calling = asyncio.create_task(served.client.post("/mcp", json=message, headers=MCP_HEADERS))
        await asyncio.wait_for(began.wait(), 5)
        serving.server.should_exit = True
        answer = await calling
        assert '"done":true' in answer.text.replace(" ", "")


async def test_alive_and_ready_are_told_as_json(served):
    live, ready = await served.client.get("/health/live"), await served.client.get("/health/ready")
    assert (live.status_code, live.json()["status"]) == (200, "live")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.headers["cache-control"] == "no-store"


async def test_without_its_database_it_is_alive_and_not_ready_and_says_why():
    async with Serving(AwayWorkspace()) as served:
        assert (await served.client.get("/health/live")).status_code == 200
        ready = await served.client.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json() == {"status": "not ready", "reasons": ["The database is away for <this> test."]}


class Proxy:
    """A way to the database that a test can freeze and cut."""

    def __init__(self, host: str, port: int | str) -> None:
        self.target = (host, port)
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.cut()

    def cut(self) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()

    async def _accept(self, reader, writer) -> None:
        if str(self.target[0]).startswith("/"):
            there = await asyncio.open_unix_connection(f"{self.target[0]}/.s.PGSQL.{self.target[1]}")
        else:
            there = await asyncio.open_connection(*self.target)
        for source, sink in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _pump(self, source, sink) -> None:
        try:
            while data := await source.read(1 << 16):
                await self.flowing.wait()
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()


@pytest.fixture
async def proxied(database):
    """A workspace that reaches its database through a proxy."""
    connection = await asyncpg.connect(**database.app)
    address = connection._addr
    await connection.close()
    host, port = address if isinstance(address, tuple) else (address.rpartition("/")[0], 5432)
    async with Proxy(host, port) as proxy:
        connect = {**database.app, "host": "127.0.0.1", "port": proxy.port}
        pool = await open_pool(**connect)

        yield proxy, TestWorkspace(await new_project(pool))
        pool.terminate()


async def test_a_database_that_is_lost_or_frozen_makes_it_not_ready_within_half_a_second(proxied):
    proxy, workspace = proxied
    async with Serving(workspace) as served:
        assert (await served.client.get("/health/ready")).status_code == 200
        proxy.flowing.clear()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        answers = await asyncio.gather(*(served.client.get("/health/ready") for _ in range(5)))
        assert {answer.status_code for answer in answers} == {503}
        assert loop.time() - begun < health.PING_SECONDS + 0.5
        assert (await served.client.get("/health/live")).status_code == 200
        proxy.flowing.set()
        async with asyncio.timeout(5):
            while (await served.client.get("/health/ready")).status_code != 200:
                await asyncio.sleep(0.02)
        proxy.cut()
        async with asyncio.timeout(5):
            while (answer := await served.client.get("/health/ready")).status_code == 200:
                await asyncio.sleep(0.02)
        assert "database" in answer.json()["reasons"][0]


async def test_an_older_schema_makes_it_not_ready(served, monkeypatch):
    monkeypatch.setattr(schema_version, "newest_revision", lambda: "9999")
    answer = await served.client.get("/health/ready")
    assert answer.status_code == 503
    assert "bmad-mcp db upgrade" in answer.json()["reasons"][0]


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def having(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if name in attributes]


def snippets(text: str) -> dict[str, str]:
    return {
        name: html.unescape(body)
        for name, body in re.findall(r'<code id="text-([\w-]+)">(.*?)</code>', text, re.DOTALL)
    }


async def test_the_page_shows_the_state_now(served, run):
    await run("epic_create", title="Epic")
    await run("story_create", epic="1", title="Story")
    await run("task_create", title="Task", story="1.1")
    text = (await served.client.get("/connect")).text
    figures = dict(re.findall(r"<dt>(\w+)</dt><dd>(\d+)", text))
    assert (figures["Epics"], figures["Stories"], figures["Tasks"]) == ("1", "1", "1")
    assert "1 draft" in text
    assert "What comes next" in text


async def test_every_host_has_both_snippets_and_they_are_json(guarded):
    found = snippets((await guarded.client.get("/connect")).text)
    for host in HOSTS:
        start = json.loads(found[f"{host.name}-stdio"])[host.container]["bmad"]
        assert (start["command"], start["args"]) == ("/opt/bin/bmad-mcp", ["serve", "--project", "x"])
        assert f"{guarded.address}/mcp" in json.dumps(json.loads(found[f"{host.name}-http"])[host.container]["bmad"])
    assert found["stdio"] == "/opt/bin/bmad-mcp serve --project x"


async def test_stored_and_configured_text_cannot_become_markup(pool, workspace):
    evil = "</code><script>alert(1)</script>&amp;\"'><img src=x onerror=alert(1)>"
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.project', $1, true)", str(workspace.opened.id))
        await connection.execute("UPDATE bmad_projects SET name = $1 WHERE id = $2", evil, workspace.opened.id)
    start = StdioCommand(evil, (evil,), {"BMAD_X": evil}, {})
    async with Serving(workspace, start) as served:
        text = (await served.client.get("/connect")).text
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in page.tags}
    assert not page.having("onerror")
    assert html.escape(evil) in text
    assert json.loads(snippets(text)["claude-code-stdio"])["mcpServers"]["bmad"]["env"] == {"BMAD_X": evil}


async def test_the_page_shows_no_secret(workspace):
    start = StdioCommand("bmad-mcp", ("serve",), {}, {"BMAD_DATABASE_URL": "postgresql://u:s3cret@db/x"})
    async with Serving(workspace, start) as served:
        text = (await served.client.get("/connect")).text
    assert "s3cret" not in text
    assert "${BMAD_DATABASE_URL}" in snippets(text)["claude-code-stdio"]
    assert "${env:BMAD_DATABASE_URL}" in snippets(text)["vscode-stdio"]


async def test_the_page_loads_nothing_from_elsewhere_and_its_policy_lets_nothing_in(guarded):
    answer = await guarded.client.get("/connect")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert policy["frame-ancestors"] == "'none'"
    page = Page(answer.text)
    assert not page.having("style"), "a style attribute would be refused by the policy"
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert {link.partition(":")[0] for link in page.having("href")} <= {
        "data",
        "/",
        "#connect",
        "/health/ready",
        "/health/live",
    }
    assert not page.having("src")
    for tag in ("style", "script"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)[1]
        wanted = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"'sha256-{wanted}'" in policy[f"{tag}-src"], f"the browser would refuse the page's own {tag}"


async def test_the_page_can_be_used_with_a_keyboard_and_a_screen_reader(guarded):
    page = Page((await guarded.client.get("/connect")).text)
    names = {tag for tag, _ in page.tags}
    assert {"main", "header", "footer", "h1", "h2", "legend"} <= names
    assert ("html", {"lang": "en"}) in page.tags
    ids = page.having("id")
    assert len(ids) == len(set(ids))
    for reference in (*page.having("for"), *page.having("aria-labelledby"), *page.having("data-copies")):
        assert reference in ids
    labels = page.having("aria-label")
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag in ("button", "pre"))
    assert len([label for label in labels if label.startswith("Copy")]) == 2 * len(HOSTS) + 2


async def test_without_the_database_the_page_still_helps():
    async with Serving(AwayWorkspace()) as served:
        answer = await served.client.get("/connect")
    assert answer.status_code == 200
    assert "The database is away for &lt;this&gt; test." in answer.text
    assert "Not ready" in answer.text
    assert set(snippets(answer.text)) >= {"claude-code-stdio", "stdio"}

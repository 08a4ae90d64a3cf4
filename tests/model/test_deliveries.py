"""Requests that come twice, whose answers are lost, or whose clients go away: one effect, whole, and nothing left open."""

import asyncio
import random
import time
import uuid

import asyncpg
import httpx
import pytest
from auth_server import MCP_HEADERS, result_of
from faulty_wire import FaultyWire
from model.write_cases import CASES
from processes import fresh_key
from server.http_process import HttpServer

from bmad_mcp.catalog import CATALOG
from bmad_mcp.operation import IDEMPOTENCY_FIELD

WRITES = [operation.name for operation in CATALOG if IDEMPOTENCY_FIELD in operation.arguments.model_fields]
# What a call may change. A server's own jobs write elsewhere.
TABLES = (
    "bmad_agent_activity", "bmad_agent_collaborations", "bmad_agent_sessions", "bmad_agents", "bmad_artifacts",
    "bmad_checklists", "bmad_epics", "bmad_memory_integrations", "bmad_stories", "bmad_task_dependencies",
    "bmad_tasks", "bmad_templates", "bmad_workflow_stages", "bmad_workflows", "mcp_counters", "mcp_idempotency",
    "mcp_memories",
)  # fmt: skip
VERSIONED = """
SELECT table_name FROM information_schema.columns
WHERE column_name = 'version' AND table_schema = 'public' AND table_name = ANY($1)
"""
# Of the server's connections those that do something, or hold a transaction open.
AT_WORK = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'bmad-mcp' AND datname = current_database() AND state <> 'idle' AND backend_type = 'client backend'
"""

AT_ONCE = 4


class Served:
    """Two servers of one project, and the database beside them."""

    def __init__(self, ports: list[int], sql: asyncpg.Connection, project_id: uuid.UUID) -> None:
        self.ports = ports
        self.sql = sql
        self.project_id = project_id
        self.clients = [httpx.AsyncClient(trust_env=False, timeout=60) for _ in range(2)]
        self._numbers = iter(range(10**9))

    def message(self, tool: str, arguments: dict) -> dict:
        params = {"name": tool, "arguments": arguments}
        return {"jsonrpc": "2.0", "id": next(self._numbers), "method": "tools/call", "params": params}

    async def send(self, tool: str, arguments: dict, *, port: int | None = None, client: int = 0) -> dict:
        """The structured result; fails on a refusal."""
        address = f"http://127.0.0.1:{port or self.ports[0]}/mcp"
        answer = await self.clients[client].post(address, json=self.message(tool, arguments), headers=MCP_HEADERS)
        result = result_of(answer)
        assert not result.get("isError"), f"{tool} {arguments}: {result['content']}"
        return result["structuredContent"]

    async def call(self, tool: str, **arguments) -> dict:
        return await self.send(tool, arguments)

    async def counted(self) -> dict[str, int]:
        """How many rows each table has, and the sum of their versions."""
        versioned = {row["table_name"] for row in await self.sql.fetch(VERSIONED, list(TABLES))}
        found = {}
        for table in TABLES:
            version = "coalesce(sum(version), 0)" if table in versioned else "0"
            row = await self.sql.fetchrow(
                f"SELECT count(*), {version}::bigint FROM {table} WHERE project_id = $1", self.project_id
            )
            found[table] = (row[0], row[1])
        return found

    async def change(self, work) -> dict[str, tuple[int, int]]:
        """How many rows and versions more there are when the work is done."""
        before = await self.counted()
        await work
        after = await self.counted()
        return {
            table: (after[table][0] - before[table][0], after[table][1] - before[table][1])
            for table in TABLES
            if after[table] != before[table]
        }


@pytest.fixture(scope="module")
def servers(server_env):
    """The project, and the ports of two servers of it."""
    project = fresh_key("twice")
    env = {**server_env, "BMAD_MEMORY_PROVIDER": "builtin"}
    both = [HttpServer(env, "--project", project, "--port", "0", "--toolsets", "all") for _ in range(2)]
    yield project, [int(one.ready().rpartition(":")[2]) for one in both]
    for one in both:
        one.kill()


@pytest.fixture
async def served(servers, server_env, cluster):
    project, ports = servers
    database = server_env.get("BMAD_DATABASE_URL", "/bmad").rpartition("/")[2]
    sql = await asyncpg.connect(**{**cluster.admin, "database": database})
    found = Served(ports, sql, await sql.fetchval("SELECT id FROM bmad_projects WHERE key = $1", project))
    yield found
    for client in found.clients:
        await client.aclose()
    await sql.close()


def test_every_operation_that_takes_a_key_has_a_case():
    assert sorted(CASES) == sorted(WRITES)


async def test_what_is_sent_twice_or_again_has_one_effect_and_equal_answers(served):
    async with FaultyWire(served.ports[0]) as wire:
        for name in WRITES:
            # What is only so at the first time is not compared.
            await served.send(name, await CASES[name](served.call))
            asked = {**await CASES[name](served.call), IDEMPOTENCY_FIELD: uuid.uuid4().hex}
            once = await served.change(served.send(name, asked))
            assert once["mcp_idempotency"] == (1, 0), name

            asked = {**await CASES[name](served.call), IDEMPOTENCY_FIELD: uuid.uuid4().hex}
            answers: list[dict] = []

            async def at_once(asked=asked, name=name, answers=answers) -> None:
                both = (served.send(name, asked, port=port, client=at) for at, port in enumerate(served.ports))
                answers += await asyncio.gather(*both)

            assert await served.change(at_once()) == once, name
            assert answers[0] == answers[1], name

            for cut_after in (0, 200):
                asked = {**await CASES[name](served.call), IDEMPOTENCY_FIELD: uuid.uuid4().hex}

                async def lost_and_again(asked=asked, name=name, cut_after=cut_after) -> None:
                    wire.cut_after = cut_after
                    with pytest.raises(httpx.TransportError):
                        await served.send(name, asked, port=wire.port)
                    wire.cut_after = None
                    first = await served.send(name, asked, port=wire.port)
                    assert await served.send(name, asked, port=served.ports[1], client=1) == first

                assert await served.change(lost_and_again()) == once, (name, cut_after)


async def vanish(port: int, body: bytes, after: float) -> None:
    """Send a request, and be gone some seconds later."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "".join(f"{name}: {value}\r\n" for name, value in MCP_HEADERS.items())
    writer.write(
        f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body
    )
    await writer.drain()
    await asyncio.sleep(after)
    writer.transport.abort()


HALF_DONE = {
    "tasks without their trail": """
        SELECT count(*) FROM bmad_tasks t WHERE t.project_id = $1 AND NOT EXISTS (SELECT FROM bmad_agent_activity a
            WHERE a.project_id = $1 AND a.subject = 'task T-' || t.number AND a.operation = 'task_create')""",
    "tasks that do not wait": """
        SELECT count(*) FROM bmad_tasks t WHERE t.project_id = $1 AND t.title LIKE 'gone %' AND (t.open_dependencies <> 1
            OR NOT EXISTS (SELECT FROM bmad_task_dependencies d WHERE d.project_id = $1 AND d.task_id = t.id))""",
    "runs without their trail or stages": """
        SELECT count(*) FROM bmad_workflows w WHERE w.project_id = $1 AND w.title LIKE 'gone %' AND NOT (
            EXISTS (SELECT FROM bmad_agent_activity a WHERE a.project_id = $1 AND a.subject = 'workflow W-' || w.number)
            AND EXISTS (SELECT FROM bmad_workflow_stages s WHERE s.project_id = $1 AND s.workflow_id = w.id
                AND s.status = 'active'))""",
    "keys without their result": "SELECT count(*) FROM mcp_idempotency WHERE project_id = $1 AND result IS NULL",
}


@pytest.mark.parametrize("times", [40, pytest.param(2000, marks=pytest.mark.soak)])
async def test_a_client_that_goes_away_in_a_call_leaves_nothing_half_done_and_no_connection_at_work(served, times):
    generator = random.Random(7)
    story, task = (await CASES["story_update"](served.call))["story"], (await CASES["task_claim"](served.call))["task"]
    sent: list[tuple[str, dict]] = []
    for number in range(times):
        title = f"gone {number}"
        many = {"title": title, "story": story, "depends_on": [task]}
        name, asked = [("task_create", many), ("workflow_start", {"type": "brownfield-service", "title": title})][
            number % 2
        ]
        sent.append((name, {**asked, IDEMPOTENCY_FIELD: title}))
    port = served.ports[0]
    # However busy the machine is, the moments lie before, in and after a call.
    began = time.perf_counter()
    await asyncio.gather(*(served.call("workflow_start", type="brownfield-service") for _ in range(AT_ONCE)))
    longest = 1.5 * (time.perf_counter() - began)

    async def client(own: list[tuple[str, dict]]) -> None:
        for name, asked in own:
            await vanish(
                port,
                httpx.Request("POST", "http://x", json=served.message(name, asked)).content,
                generator.uniform(0, longest),
            )

    await asyncio.gather(*(client(sent[at::AT_ONCE]) for at in range(AT_ONCE)))
    async with asyncio.timeout(20):
        quiet = 0
        while quiet < 10:
            quiet = 0 if await served.sql.fetchval(AT_WORK) else quiet + 1
            await asyncio.sleep(0.05)
    for what, sql in HALF_DONE.items():
        assert await served.sql.fetchval(sql, served.project_id) == 0, what
    done = "SELECT count(*) FROM mcp_idempotency WHERE project_id = $1 AND key LIKE 'gone %'"
    kept = await served.sql.fetchval(done, served.project_id)
    assert 0 < kept < times, "some were done and some were not: else the moments were not random"
    # And each that its client sends again is there once.
    for name, asked in sent:
        await served.send(name, asked)
    for table in ("bmad_tasks", "bmad_workflows"):
        rows = f"SELECT count(*), count(DISTINCT title) FROM {table} WHERE project_id = $1 AND title LIKE 'gone %'"
        assert tuple(await served.sql.fetchrow(rows, served.project_id)) == (times // 2, times // 2)
    print(f"{times} clients gone: {kept} calls done before, {times - kept} not; each once after the retry")

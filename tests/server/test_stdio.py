"""`serve` over stdio as hosts see it: real processes, both protocol eras, and lines that no client library would send."""

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from processes import assistant, fresh_key
from server.wire import HELLO, WireChild

from bmad_mcp.embedded.data_home import DataHome, find_home
from bmad_mcp.embedded.file_lock import exclusive
from bmad_mcp.embedded.postmaster import Postmaster

SERVE = ["-m", "bmad_mcp", "serve", "--project"]
# Refused at once: what these tests look at needs no database.
NO_DATABASE = {"BMAD_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none", "BMAD_LOG_LEVEL": "error"}


@pytest.fixture(scope="module")
def child():
    """A server without a database, after the handshake; whatever it is sent, it has to live on for the next test."""
    child = WireChild([*SERVE, "wire"], NO_DATABASE)
    child.hello()
    yield child
    child.kill()


def embedded_home(data_dir) -> DataHome:
    return find_home(Path(data_dir) / "postgres")


@pytest.fixture
def start():
    """Starts servers that are killed at the end."""
    started = []

    def start_one(env, *options, **more) -> WireChild:
        started.append(WireChild([*SERVE, fresh_key("stdio"), *options], env, **more))
        return started[-1]

    yield start_one
    for one in started:
        one.kill()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_of_either_era_lists_calls_and_reads(server_env, mode):
    async with assistant(server_env, fresh_key("era"), mode=mode) as call:
        tools = {tool.name for tool in (await call.client.list_tools()).tools}
        assert {"project_status", "task_claim"} <= tools
        assert (await call("task_create", title="First"))["task"]["key"] == "T-1"
        assert json.loads(await call.read("bmad://tasks/T-1"))["task"]["title"] == "First"
        assert "dev" in {prompt.name for prompt in (await call.client.list_prompts()).prompts}


def test_every_unusable_line_is_answered_and_the_server_goes_on(child):
    beginning = b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x","arguments":{"t":'
    lines = [
        (b"this is not JSON", None),
        (b"\xff\xfe", None),
        (beginning + b'"' + b"x" * (5 << 20) + b'"}}}', 5),
        (beginning + b'"\\ud800"}}}', 5),
        (beginning + b'1,"t":2}}}', 5),
        (beginning + b"NaN}}}", 5),
        (beginning + b"[" * 50_000 + b"]" * 50_000 + b"}}}", 5),
        (b'[{"jsonrpc":"2.0","id":5,"method":"tools/list"}]', None),
        (b'{"jsonrpc":"2.0","id":5,"method":17}', 5),
        (b'{"jsonrpc":"2.0","id":[],"method":"tools/list"}', None),
        (b"null", None),
    ]
    for line, request_id in lines:
        child.send(line)
        answer = json.loads(child.line())
        assert answer["id"] == request_id, line[:80]
        assert answer["error"]["code"] in (-32700, -32600)
        assert answer["error"]["message"].endswith(".")
    child.send(b"", b"   ")
    child.request("tools/list", {}, "after")
    assert json.loads(child.line())["id"] == "after"


def test_wrong_requests_that_are_well_formed_are_answered_by_the_protocol(child):
    for method, params in (
        ("no/such", {}),
        ("tools/call", {}),
        ("tools/call", {"name": 5}),
        ("tools/call", {"name": "task_get", "arguments": []}),
        ("resources/read", {}),
        ("prompts/get", {"name": ["dev"]}),
    ):
        child.request(method, params, method)
        answer = child.answer(method)
        assert answer["error"]["code"] in (-32601, -32602), answer
    child.request("tools/call", {"name": "task_get", "arguments": {"tusk": "T-1"}}, "tool")
    result = child.answer("tool")["result"]
    assert result["isError"]
    assert "`tusk` is not known" in result["content"][0]["text"]


@pytest.mark.parametrize("text", ["\x00", "a\x00b"])
def test_text_that_cannot_be_stored_is_refused_naming_the_field(child, text):
    result = child.call("task_create", title=text)
    assert result["isError"]
    assert "`title` holds a NUL character" in result["content"][0]["text"]


def test_tools_are_listed_before_the_database_is_up(tmp_path, start):
    # A listener that never answers: the database stays away for as long as the test wants.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x"
        child = start({"BMAD_DATABASE_URL": url})
        child.hello()
        child.request("tools/list", {}, "list")
        assert len(child.answer("list")["result"]["tools"]) == 29
        code, seconds = child.stop()
    assert code == 0
    assert seconds < 3


def test_the_first_call_waits_for_the_database_that_another_process_still_starts(server_env, start):
    if "BMAD_DATA_DIR" not in server_env:
        pytest.skip("the embedded PostgreSQL is what is started")
    with exclusive(embedded_home(server_env["BMAD_DATA_DIR"]).control_lock, seconds=10):
        child = start(server_env)
        child.hello()
        child.request("tools/call", {"name": "project_status", "arguments": {}}, "call")
        child.request("tools/list", {}, "list")
        assert child.answer("list")["result"]["tools"]
    result = child.answer("call")["result"]
    assert not result.get("isError"), result


def test_nothing_but_json_rpc_reaches_stdout_whatever_a_handler_prints(start, tmp_path):
    script = tmp_path / "noisy.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, subprocess, sys, warnings
            import asyncio
            from mcp.server.lowlevel import Server
            from mcp_types import CallToolResult, ListToolsResult, TextContent
            from bmad_mcp.server.stdio import serve_stdio

            async def list_tools(*_):
                print("printed")
                sys.stdout.write("written\\n"); sys.stdout.flush()
                os.write(1, b"through the descriptor\\n")
                subprocess.run(["echo", "by a child"], check=True)
                subprocess.run([sys.executable, "-c", "print(input())"], check=False)
                warnings.warn("a warning")
                return ListToolsResult(tools=[])

            asyncio.run(serve_stdio(Server("noisy", version="0", on_list_tools=list_tools)))
            """
        )
    )
    child = WireChild([str(script)], {})
    try:
        child.hello()
        for number in range(3):
            child.request("tools/list", {}, number)
            child.answer(number)
        assert child.close() == 0
        lines = [*child.seen, *child.rest().splitlines()]
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in lines)
        told = child.errors()
        for word in ("printed", "written", "through the descriptor", "by a child", "a warning"):
            assert word in told
    finally:
        child.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_code_0_within_three_seconds(server_env, start, number):
    child = start(server_env)
    child.hello()
    assert not child.call("project_status").get("isError")
    code, seconds = child.stop(number)
    assert code == 0, child.errors()
    assert seconds < 3
    assert "Traceback" not in child.errors()


def test_a_signal_while_the_database_is_still_starting_ends_it_too(server_env, start):
    if "BMAD_DATA_DIR" not in server_env:
        pytest.skip("the embedded PostgreSQL is what is started")
    with exclusive(embedded_home(server_env["BMAD_DATA_DIR"]).control_lock, seconds=10):
        child = start(server_env)
        child.hello()
        code, seconds = child.stop()
    assert code == 0
    assert seconds < 3


def test_when_the_host_goes_the_server_goes(server_env, start):
    child = start(server_env)
    child.hello()
    begun = time.monotonic()
    assert child.close() == 0
    assert time.monotonic() - begun < 3
    assert "Traceback" not in child.errors()


def test_when_the_host_dies_in_the_middle_of_an_answer_the_server_ends_quietly(server_env, start):
    child = start(server_env)
    child.hello()
    child.process.stdout.close()
    for number in range(50):
        child.request("tools/list", {}, number)
    assert child.close() == 0
    assert "Traceback" not in child.errors()


@pytest.mark.parametrize("end", [WireChild.close, WireChild.stop])
def test_a_clients_sessions_end_with_its_server_and_its_tasks_stay_held(server_env, start, end):
    key = fresh_key("left")
    child, beside = (start(server_env, "--project", key, "--toolsets", "core,analytics") for _ in range(2))
    for one in (child, beside):
        one.hello()
    child.call("task_create", title="one")
    child.call("task_create", title="two")
    child.call("agent_activate", agent="dev")
    beside.call("agent_activate", agent="qa")
    claim = child.call("task_claim", agent="dev")["structuredContent"]
    end(child)
    assert "Traceback" not in child.errors()
    status = {one["agent"]: one["status"] for one in beside.call("agent_list")["structuredContent"]["items"]}
    assert (status["dev"], status["qa"]) == ("busy", "active")
    freed = beside.call("task_update", task="T-1", lease=claim["lease"], status="pending")
    assert not freed.get("isError")
    dev = next(one for one in beside.call("agent_list")["structuredContent"]["items"] if one["agent"] == "dev")
    assert dev["status"] == "idle"
    (ended, begun) = beside.call("activity_list", subject="dev")["structuredContent"]["items"]
    assert (ended["operation"], ended.get("agent")) == ("agent_deactivate", None)
    assert ended["note"] == "ended by the server: its client is gone"
    assert begun["operation"] == "agent_activate"


def test_what_was_asked_before_stdin_closed_is_still_answered(server_env, start):
    warm = start(server_env)
    warm.hello()
    warm.call("project_status")
    child = start(server_env)
    child.request("initialize", HELLO, 1)
    child.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    child.request("tools/list", {}, 2)
    child.request("tools/call", {"name": "project_status", "arguments": {}}, 3)
    assert child.close() == 0
    answers = {message["id"]: message for message in map(json.loads, child.rest().splitlines())}
    assert set(answers) == {1, 2, 3}
    assert "result" in answers[3]


def test_ctrl_c_in_a_terminal_ends_a_waiting_server_at_once():
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *SERVE, "terminal"],
        env={**os.environ, **NO_DATABASE},
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        os.write(leader, b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        assert process.wait(10) == 0
        # The forced end would take longer: the reading of a terminal must not need it.
        assert time.monotonic() - begun < 1.5
    finally:
        process.kill()
        process.communicate()
        os.close(leader)
        os.close(follower)


def test_a_file_as_stdin_is_served_to_its_end(tmp_path):
    script = tmp_path / "in.jsonl"
    script.write_bytes(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\nnonsense\n')
    with script.open("rb") as source:
        done = subprocess.run(
            [sys.executable, *SERVE, "file"],
            env={**os.environ, **NO_DATABASE},
            stdin=source,
            capture_output=True,
            timeout=20,
        )
    assert done.returncode == 0
    assert {json.loads(line)["id"] for line in done.stdout.splitlines()} == {1, None}


async def test_one_socket_for_both_directions_carries_long_answers(server_env):
    ours, theirs = socket.socketpair()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *SERVE, fresh_key("socket"), "--toolsets", "all",
        env={**os.environ, **server_env}, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 24)
    for number in range(40):
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/list", "params": {}}
        if number == 0:
            message |= {"method": "initialize", "params": HELLO}
        writer.write(json.dumps(message).encode() + b"\n")
        if number == 0:
            assert json.loads(await reader.readline())["id"] == 0
            writer.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
    # Nothing is read for a moment, so that the socket fills up and writing would block.
    await asyncio.sleep(0.5)
    answered = {json.loads(await asyncio.wait_for(reader.readline(), 20))["id"] for _ in range(39)}
    assert answered == set(range(1, 40))
    writer.write_eof()
    assert await asyncio.wait_for(process.wait(), 10) == 0
    writer.close()


async def test_the_last_server_out_stops_the_embedded_database(data_dir):
    env = {"BMAD_DATA_DIR": str(data_dir), "BMAD_LOG_LEVEL": "error", "BMAD_DATABASE_URL": ""}
    command = StdioServerParameters(command=sys.executable, args=[*SERVE, "out"], env={**os.environ, **env})
    server = Postmaster(embedded_home(data_dir))
    async with Client(stdio_client(command)) as first:
        assert not (await first.call_tool("project_status", {})).is_error
        async with Client(stdio_client(command)) as second:
            assert not (await second.call_tool("project_status", {})).is_error
        assert server.is_alive()
        assert not (await first.call_tool("project_status", {})).is_error
    assert not server.is_alive()

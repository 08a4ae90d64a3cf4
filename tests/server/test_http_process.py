"""`serve --http` as a process: where it listens, what it tells, what it refuses, and how it ends."""

import asyncio
import os
import signal
import socket
import subprocess
import time

import httpx
import pytest
from http_process import SERVE, HttpServer
from mcp.client import Client
from processes import fresh_key

from bmad_mcp.commands.exposure import check_start
from bmad_mcp.commands.serve_http import GRACE_SECONDS, listen
from bmad_mcp.settings import Settings


@pytest.fixture
def start():
    started = []

    def start_one(env, *options: str) -> HttpServer:
        started.append(HttpServer(env, "--project", fresh_key("http"), *options))
        return started[-1]

    yield start_one
    for one in started:
        one.kill()


def run(*options: str, command=SERVE) -> subprocess.CompletedProcess[str]:
    """A command that has to end by itself; there is no database for it."""
    env = {**os.environ, "BMAD_DATABASE_URL": "postgresql://x@127.0.0.1:9/x"}
    return subprocess.run([*command, *options], env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_tells_its_progress_serves_and_ends_with_code_0(server_env, start, number):
    server = start(server_env, "--port", "0")
    address = server.ready()
    if "BMAD_DATA_DIR" in server_env:
        # The suite's PostgreSQL runs already.
        assert "starting PostgreSQL …" not in server.told
    assert (await _status(address, "/health/ready")) == 200
    assert (await _status(address, "/")) == 200
    assert (await _status(address, "/metrics")) == 200
    async with Client(f"{address}/mcp") as client:
        assert not (await client.call_tool("project_status", {})).is_error
    assert server.stop(number) == 0
    assert server.process.stdout.read() == ""
    assert "Traceback" not in "\n".join(server.told)


async def _status(address: str, path: str) -> int:
    async with httpx.AsyncClient() as client:
        return (await client.get(address + path)).status_code


async def test_health_answers_while_the_database_is_still_away(start):
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        url = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x"
        server = start({"BMAD_DATABASE_URL": url}, "--port", str(port))
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 20
        while True:
            try:
                if await _status(address, "/health/live") == 200:
                    break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
        assert await _status(address, "/health/ready") == 503
        assert server.stop() == 0
        assert not any(line.startswith("ready:") for line in server.told)


def test_a_database_that_refuses_ends_it_with_a_sentence():
    done = run("--port", "0")
    assert done.returncode == 1
    assert "The database cannot be reached" in done.stderr
    assert "bmad-mcp doctor" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told_with_the_option_that_changes_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--port", str(port))
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"bmad-mcp: Port {port} of 127.0.0.1 is in use. Stop what uses it, or choose another port with --port."
    )


def test_it_listens_on_every_loopback_address(server_env, start):
    for host, shown in (("localhost", "127.0.0.1"), ("::1", "[::1]")):
        server = start(server_env, "--host", host, "--port", "0")
        address = server.ready()
        assert address.startswith(f"http://{shown}:")
        assert httpx.get(f"{address}/health/live").status_code == 200


@pytest.mark.parametrize("options", [("--port", "1"), ("--host", "::1"), ("--auth",), ("--allowed-hosts", "x.example")])
def test_options_of_http_without_it_are_refused(options):
    done = run(*options, command=SERVE[:-1])
    assert done.returncode == 2
    assert f"{options[0]} belongs to --http: `bmad-mcp serve --http`." in done.stderr


async def test_clients_that_listen_are_told_of_the_end_and_do_not_delay_it(server_env, start):
    server = start(server_env, "--port", "0")
    listening = asyncio.Event()

    async def listen(address: str) -> str:
        async with Client(address) as client, client.listen(resource_subscriptions=["bmad://project"]) as events:
            listening.set()
            async for _ in events:
                raise AssertionError("nothing was changed")
        return "ended by the server"

    waiting = asyncio.create_task(listen(f"{server.ready()}/mcp"))
    await asyncio.wait_for(listening.wait(), 20)
    begun = time.monotonic()
    assert await asyncio.to_thread(server.stop) == 0
    assert time.monotonic() - begun < GRACE_SECONDS
    assert await asyncio.wait_for(waiting, 10) == "ended by the server"


async def test_small_packets_leave_at_once(monkeypatch):
    # Without this, an answer in two parts waits 40 ms for the client's acknowledgement of the first.
    for name in [name for name in os.environ if name.startswith("BMAD_")]:
        monkeypatch.delenv(name)
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def connected(_, writer) -> None:
        told.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listen(check_start(Settings(project="x"), "127.0.0.1"), 0) as listener:
        async with await asyncio.start_server(connected, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            assert await asyncio.wait_for(told, 10)
            writer.close()

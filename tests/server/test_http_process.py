"""`serve --http` as a process: where it listens, what it tells, what it refuses, and how it ends."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from mcp.client import Client
from processes import fresh_key

from bmad_mcp.commands.serve_http import GRACE_SECONDS

SERVE = [sys.executable, "-m", "bmad_mcp", "serve", "--http"]


class HttpServer:
    """A server process; what it tells on stderr is read as it comes."""

    def __init__(self, env, *options: str, command=SERVE) -> None:
        self.process = subprocess.Popen(
            [*command, *options], env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.told: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            with self._more:
                self.told.append(line.rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self.told.append("<end>")
            self._more.notify_all()

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """The first line that matches; fails when none comes."""
        with self._more:
            for line in iter(self._lines(time.monotonic() + seconds)):
                if found := re.search(pattern, line):
                    return found
        raise AssertionError(f"{pattern!r} was not told: {self.told}")

    def _lines(self, deadline: float):
        number = 0
        while True:
            while number < len(self.told):
                yield self.told[number]
                number += 1
            if self.told[-1:] == ["<end>"] or not self._more.wait(deadline - time.monotonic()):
                return

    def ready(self) -> str:
        """Its address, once it is ready."""
        return self.wait_for(r"^ready: (http://\S+)$")[1]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


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
        assert "starting PostgreSQL …" in server.told
    assert (await _status(address, "/health/ready")) == 200
    assert (await _status(address, "/")) == 200
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


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_it_refuses_to_listen_where_other_machines_are(host):
    done = run("--host", host, "--port", "0")
    assert done.returncode == 2
    assert "--host" in done.stderr
    assert "no login" in done.stderr


def test_it_listens_on_every_loopback_address(server_env, start):
    for host, shown in (("localhost", "127.0.0.1"), ("::1", "[::1]")):
        server = start(server_env, "--host", host, "--port", "0")
        address = server.ready()
        assert address.startswith(f"http://{shown}:")
        assert httpx.get(f"{address}/health/live").status_code == 200


def test_host_and_port_without_http_are_refused():
    done = run("--port", "1", command=SERVE[:-1])
    assert done.returncode == 2
    assert "--http" in done.stderr


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

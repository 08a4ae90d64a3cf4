"""The guarded client: where it goes, what it sends, and what it counts."""

import asyncio
import random
import time
from contextlib import suppress

import psutil
import pytest

from bench.fake_server import FakeServer, Reply
from bmad_mcp.memory.services import connections
from bmad_mcp.memory.services.http import MOST_BYTES, Allowance, Garbage, JsonClient, TimedOut, base_address, parse_json


class Echo(FakeServer):
    """Answers `reply` and sets a cookie."""

    answer = Reply({"ok": True}, headers={"set-cookie": "session=canary; Path=/"})

    async def reply(self, asked):
        return self.answer


@pytest.fixture
async def server():
    async with Echo() as running:
        yield running


@pytest.fixture
async def client(server):
    found = JsonClient(server.url, headers={"X-API-Key": "k"})
    yield found
    await found.aclose()


async def test_what_is_sent(server, client):
    body = {"text": "naïve \U0001f600", "n": [1, None]}
    answer = await client.ask("POST", "/a", params={"user_id": "a&b=c"}, body=body, allowance=Allowance(5))
    assert answer == {"ok": True}
    (asked,) = server.asked
    assert (asked.what, asked.params, asked.body) == ("POST /a", {"user_id": "a&b=c"}, body)
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["x-api-key"] == "k"


async def test_no_cookie_is_kept(server, client):
    for _ in range(2):
        await client.ask("GET", "/a", allowance=Allowance(5))
    assert ["cookie" in one.headers for one in server.asked] == [False, False]


async def test_the_environments_proxy_is_not_used(server, elsewhere, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, elsewhere.url)
    client = JsonClient(server.url)
    await client.ask("GET", "/a", allowance=Allowance(5))
    await client.aclose()
    assert (len(server.asked), elsewhere.asked) == (1, [])


async def test_a_netrc_gives_no_password_away(server, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password canary\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    client = JsonClient(server.url)
    await client.ask("GET", "/a", allowance=Allowance(5))
    await client.aclose()
    assert "authorization" not in server.asked[0].headers


async def test_an_allowance_is_for_all_requests_together(server, client):
    server.answer = Reply({"text": "x" * 500_000})
    allowance = Allowance(5)
    for _ in range(3):
        await client.ask("GET", "/a", allowance=allowance)
    with pytest.raises(Garbage, match="too much"):
        await client.ask("GET", "/a", allowance=allowance)
    assert MOST_BYTES < 2 * 1024 * 1024

    server.answer = Reply({"ok": True}, after=0.2)
    allowance = Allowance(0.3)
    await client.ask("GET", "/a", allowance=allowance)
    with pytest.raises(TimedOut):
        await client.ask("GET", "/a", allowance=allowance)


async def test_a_spent_allowance_sends_nothing(server, client):
    allowance = Allowance(5, most_bytes=5)
    for _ in range(2):
        with pytest.raises(Garbage):
            await client.ask("GET", "/a", allowance=allowance)
    allowance.bytes_left = 0
    with pytest.raises(Garbage):
        await client.ask("GET", "/a", allowance=allowance)
    assert len(server.asked) == 2


async def test_a_caller_that_is_cancelled_is_cancelled(server, client):
    server.answer = Reply({"ok": True}, after=30)
    task = asyncio.create_task(client.ask("GET", "/a", allowance=Allowance(30)))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.answer = Reply({"ok": True})
    assert await client.ask("GET", "/a", allowance=Allowance(5)) == {"ok": True}


def connections_to(port: int) -> int:
    """How many this process has open."""
    return sum(bool(one.raddr) and one.raddr.port == port for one in psutil.Process().net_connections("tcp"))


async def test_requests_that_are_cut_off_at_any_moment_keep_no_place(server, client):
    chance = random.Random(3)

    async def cut() -> None:
        asking = asyncio.create_task(client.ask("GET", "/a", allowance=Allowance(chance.uniform(0.0002, 0.006))))
        if chance.random() < 0.3:
            await asyncio.sleep(chance.uniform(0, 0.004))
            asking.cancel()
        with suppress(TimedOut, asyncio.CancelledError):
            await asking

    for _ in range(60):
        await asyncio.gather(*(cut() for _ in range(6)))
    # All places at once are there for who comes next.
    answers = await asyncio.gather(*(client.ask("GET", "/a", allowance=Allowance(3)) for _ in range(6)))
    assert answers == [{"ok": True}] * 6


async def test_connections_that_nobody_uses_are_closed(server, client, monkeypatch):
    monkeypatch.setattr(connections, "UNUSED_SECONDS", 0.05)
    await client.ask("GET", "/a", allowance=Allowance(3))
    port = int(server.url.rpartition(":")[2])
    assert connections_to(port) == 1
    async with asyncio.timeout(3):
        while connections_to(port):
            await asyncio.sleep(0.01)
    assert await client.ask("GET", "/a", allowance=Allowance(3)) == {"ok": True}


async def test_connections_are_given_back_after_failures(server):
    client = JsonClient(server.url, connections=1)
    server.answer = Reply({"ok": True}, after=30)
    for _ in range(5):
        with pytest.raises(TimedOut):
            await client.ask("GET", "/a", allowance=Allowance(0.05))
    for reply in (Reply(b"x" * 100_000, 500), Reply(b"x" * 100_000), Reply({"ok": True})):
        server.answer = reply
        try:
            answer = await client.ask("GET", "/a", allowance=Allowance(5))
        except Exception as error:
            answer = type(error).__name__
    assert answer == {"ok": True}
    await client.aclose()


@pytest.mark.parametrize(
    ("address", "used"),
    [
        ("http://localhost:8765", "http://localhost:8765"),
        ("http://localhost:8765/", "http://localhost:8765"),
        (" http://host:8765/api/v1 ", "http://host:8765"),
        ("http://host:8765/api/v1/", "http://host:8765"),
        ("https://host/memory", "https://host/memory"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_an_address_is_taken_as_people_write_it(address, used):
    assert base_address(address) == used


@pytest.mark.parametrize(
    "address",
    ["", "localhost:8765", "ftp://host", "file:///etc/passwd", "http://", "http://u:canary@host", "http://h/?a=1", "x"],
)
def test_an_address_that_cannot_be_used_is_refused_without_telling_it(address):
    with pytest.raises(ValueError, match="memory service's address") as refused:
        JsonClient(address)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("text", ['{"a": "[[[[\\"[["}', '"' + "[" * 100 + '"', "[" * 32 + "]" * 32, '{"a": "\\\\"}'])
def test_brackets_inside_strings_are_no_depth(text):
    parse_json(text.encode())


def test_a_hostile_text_is_looked_through_once():
    for body in (b'"' + b'\\"' * 70_000, b'"' * 150_000, b"\\" * 150_000, b'["' * 70_000, b'"a\\' * 50_000):
        began = time.process_time()
        with pytest.raises(Garbage):
            parse_json(body)
        assert time.process_time() - began < 1


def test_the_limits_of_a_structure():
    assert parse_json(b"[" * 32 + b"]" * 32)
    for body, why in (
        (b"[" * 33 + b"]" * 33, "too deep"),
        (b"[" + b"[]," * 60_000 + b"[]]", "too many parts"),
        (b"NaN", "broken"),
        (b'{"a": -Infinity}', "broken"),
        (b"\xff", "broken"),
    ):
        with pytest.raises(Garbage, match=why):
            parse_json(body)


@pytest.mark.parametrize("packing", ["gzip", "deflate", "br", "zstd", "x", "identity, gzip"])
async def test_a_packed_body_is_refused_for_being_packed(server, client, packing):
    server.answer = Reply({"ok": True}, headers={"content-encoding": packing})
    with pytest.raises(Garbage, match="packed"):
        await client.ask("GET", "/a", allowance=Allowance(5))

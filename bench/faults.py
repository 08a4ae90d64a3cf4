"""Everything a memory service may do wrong, by name; each body carries a canary that must not come out."""

import asyncio
import functools
import gzip
import json
from collections.abc import Callable
from typing import Any

from bench.fake_server import Connection, Fault, Reply

CANARY = "sk-canary-7f3a"
MOMENT = 1_795_441_560


def plainly(reply: Reply) -> Fault:
    async def send(connection: Connection) -> None:
        await connection.send(reply.encoded())

    return send


def head(**headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode()


async def hang_before_headers(connection: Connection) -> None:
    await asyncio.sleep(60)


async def hang_in_headers(connection: Connection) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: appl")
    await asyncio.sleep(60)


async def hang_in_body(connection: Connection) -> None:
    await connection.send(head(content_type="application/json", content_length="500") + b'{"items": [')
    await asyncio.sleep(60)


async def drip(connection: Connection) -> None:
    await connection.send(head(content_type="application/json", content_length="5000"))
    for _ in range(5000):
        await connection.send(b" ")
        await asyncio.sleep(0.02)


async def interim_answers_without_end(connection: Connection) -> None:
    while True:
        await connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.01)


async def gigabyte(connection: Connection) -> None:
    await connection.send(head(content_type="application/json", content_length=str(2**30)))
    for _ in range(2**14):
        await connection.send(b" " * 2**16)


async def gigabyte_in_chunks(connection: Connection) -> None:
    await connection.send(head(content_type="application/json", transfer_encoding="chunked"))
    for _ in range(2**14):
        await connection.send(b"10000\r\n" + b" " * 2**16 + b"\r\n")


async def gigabyte_until_it_closes(connection: Connection) -> None:
    await connection.send(head(content_type="application/json"))
    for _ in range(2**14):
        await connection.send(b"[" * 2**16)


async def gigabyte_of_headers(connection: Connection) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\n")
    for _ in range(2**14):
        await connection.send(b"x: " + b"y" * 2**16 + b"\r\n")


async def close_before_answer(connection: Connection) -> None:
    connection.writer.close()


async def close_in_body(connection: Connection) -> None:
    await connection.send(head(content_type="application/json", content_length="500") + b'{"items": [')
    connection.writer.close()


async def not_http(connection: Connection) -> None:
    await connection.send(b"SSH-2.0-OpenSSH_9.2 " + CANARY.encode() + b"\r\n\r\n")


@functools.cache
def bomb() -> bytes:
    return gzip.compress(b" " * 50_000_000)


def everywhere(value: Any) -> dict[str, Any]:
    """A body in which every field that either service may send has this value."""
    one = dict.fromkeys(
        ("id", "content", "text", "memory", "created_at", "state", "metadata_", "metadata", "score", "categories"),
        value,
    )
    return {**one, "items": [one], "results": [one], "total_memories": value, "apps": value, "message": value}


def item(text: str, **more: Any) -> dict[str, Any]:
    """A body that is right for both services, but for what is named."""
    metadata = {"bmad_project": "tidepool", "category": "AGENT_CONTEXT"}
    one = {
        "id": "1a105c40-5f68-4de9-898e-d20750832610",
        "content": text,
        "text": text,
        "memory": text,
        "created_at": MOMENT,
        "state": "active",
        "metadata_": metadata,
        "metadata": metadata,
        "score": 0.5,
    } | more
    return {**one, "items": [one], "results": [one], "total_memories": 1, "message": "Successfully deleted 1 memories"}


GARBAGE: dict[str, Callable[[], Any]] = {
    "json_null": lambda: Reply(None),
    "json_list": lambda: Reply([CANARY]),
    "json_text": lambda: Reply(CANARY),
    "json_number": lambda: Reply(17),
    "json_empty_object": lambda: Reply({}),
    "items_are_an_object": lambda: Reply({"items": {CANARY: 1}, "results": {CANARY: 1}}),
    "items_are_texts": lambda: Reply({"items": [CANARY], "results": [CANARY]}),
    "not_json": lambda: Reply(b"<html>" + CANARY.encode()),
    "half_json": lambda: Reply(b'{"items": [{"id": "' + CANARY.encode()),
    "empty_body": lambda: Reply(b""),
    "not_utf8": lambda: Reply(b'{"items": "\xff\xfe"}'),
    "utf16": lambda: Reply(json.dumps(item(CANARY)).encode("utf-16")),
    "deep": lambda: Reply(b'{"items": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "deeper_than_allowed": lambda: Reply(b"[" * 33 + b"]" * 33),
    "many_parts": lambda: Reply(b"[" + b"[],[]," * 100_000 + b"[]]"),
    "not_a_number": lambda: Reply(b'{"items": NaN, "results": NaN, "total_memories": Infinity}'),
    "number_of_a_million_digits": lambda: Reply(b'{"total_memories": ' + b"9" * 1_000_000 + b"}"),
    "escapes_without_end": lambda: Reply(b'{"items": "' + b'\\"' * 500_000),
    "text_of_html": lambda: Reply(item(CANARY), type="text/html"),
    "no_type": lambda: Reply(item(CANARY), type=""),
    "packed": lambda: Reply(bomb(), headers={"content-encoding": "gzip"}),
    "packed_twice": lambda: Reply(gzip.compress(bomb()), headers={"content-encoding": "gzip, gzip"}),
    "packed_with_brotli": lambda: Reply(b"\x0b\x02\x80{}\x03", headers={"content-encoding": "br"}),
    **{
        f"fields_are_{name}": lambda value=value: Reply(everywhere(value))
        for name, value in {
            "null": None,
            "true": True,
            "text": f"{CANARY}/../..",
            "minus": -1,
            "huge_float": 1e308,
            "infinite": float("1e308") * 10,
            "huge_integer": 10**400,
            "list": [CANARY],
            "object": {CANARY: CANARY},
        }.items()
    },
}

TIMED_OUT: dict[str, Fault] = {
    "hang_before_headers": hang_before_headers,
    "hang_in_headers": hang_in_headers,
    "hang_in_body": hang_in_body,
    "drip": drip,
    "interim_answers_without_end": interim_answers_without_end,
}
TOO_MUCH: dict[str, Fault] = {
    "gigabyte": gigabyte,
    "gigabyte_in_chunks": gigabyte_in_chunks,
    "gigabyte_until_it_closes": gigabyte_until_it_closes,
}
AWAY: dict[str, Fault] = {
    "close_before_answer": close_before_answer,
    "close_in_body": close_in_body,
    "not_http": not_http,
    "gigabyte_of_headers": gigabyte_of_headers,
}

"""What no client sends: each is refused as a problem, nothing is written, and the server goes on."""

import asyncio
import json
from urllib.parse import quote

import pytest

from bmad_mcp.server.rest.arguments import NESTING, QUERY_BYTES, QUERY_PARAMETERS
from bmad_mcp.server.rest.ways import PREFIX


async def raw(rest, target: bytes, *, method=b"GET", headers=(), body=b""):
    """The status line, the headers and the body of an answer to bytes that no HTTP library would send."""
    host, port = rest.origin.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [method + b" " + target + b" HTTP/1.1", f"Host: {host}:{port}".encode(), b"Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}".encode())
    writer.write(b"\r\n".join([*lines, b"", body]))
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head.lower(), content


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/tasks/%", 400),
        ("/tasks/%zz", 400),
        ("/tasks/%c3%28", 400),
        ("/tasks/%ed%a0%80", 400),
        ("/tasks/%ff", 400),
        ("/tasks/T-1%00", 422),
        ("/tasks/%20", 422),
        ("/tasks/%0A", 422),
        ("/agents/a%0Ab/context", 422),
        ("/tasks/..%2f..%2fetc%2fpasswd", 422),
        ("/tasks/../../../etc/passwd", 404),
        ("/tasks/T-%d9%a1", 404),
        ("/tasks/" + "9" * 400, 422),
        ("/tasks/T-999999999", 404),
        ("/stories/" + "9" * 400 + ".1", 422),
        ("/agents/" + "a" * 4000, 422),
        ("/tasks?limit=%", 400),
        ("/tasks?limit=%c3", 400),
        ("/tasks?limit=%ed%a0%80", 400),
        ("/tasks?limit=" + "9" * 400, 422),
        ("/tasks?limit=" + "9" * 18, 422),
        ("/tasks?limit=-1", 422),
        ("/tasks?limit=1.0", 422),
        ("/tasks?limit=1e2", 422),
        ("/tasks?limit=+5", 422),
        ("/tasks?limit=%205", 422),
        ("/tasks?limit=0x10", 422),
        ("/tasks?limit=1_0", 422),
        ("/tasks?limit=%d9%a5", 422),
        ("/tasks?limit=", 422),
        ("/tasks?limit", 422),
        ("/tasks?limit=5&limit=5", 422),
        ("/tasks?limit=NaN", 422),
        ("/tasks?limit[]=5", 422),
        ("/tasks?ready=yes", 422),
        ("/tasks?ready=1", 422),
        ("/tasks?ready=True", 422),
        ("/tasks?ready=true", 200),
        ("/tasks?status=Pending", 422),
        ("/tasks?colour=red", 422),
        ("/tasks?idempotency_key=x", 422),
        ("/tasks?=5", 422),
        ("/tasks?&&", 200),
        ("/tasks?;limit=5", 422),
        ("/tasks?%6cimit=5", 200),
        ("/tasks?cursor=%00", 422),
        ("/tasks?cursor=", 422),
        ("/tasks?cursor=' OR 1=1 --".replace(" ", "%20"), 422),
        ("/stories?query=%00", 422),
        ("/stories?query=" + quote("'; DROP TABLE bmad_stories; --"), 200),
        ("/stories?query=" + quote("😀 ‮ \u202e"), 200),
        ("/stories?query=" + "%25" * 300, 200),
        ("/status?x", 422),
        ("/status?", 200),
    ],
)
async def test_hostile_addresses(rest, target, status):
    found, head, content = await raw(rest, (PREFIX + target).encode())
    assert found == status, content[:500]
    if found >= 400:
        assert b"content-type: application/problem+json" in head
        told = json.loads(content)
        assert told["status"] == status
        assert len(told["detail"]) < 2000


async def test_a_huge_query_is_refused_quickly(rest):
    for query in ("x=" + "a" * QUERY_BYTES, "limit=" + "1" * 60_000):
        status, _, _ = await raw(rest, f"{PREFIX}/tasks?{query}".encode())
        assert status in (400, 414), status
    status, _, content = await raw(rest, f"{PREFIX}/tasks?{'&'.join(['a=1'] * (QUERY_PARAMETERS + 1))}".encode())
    assert status == 400
    assert json.loads(content)["code"] == "bad_request"
    assert (await rest.get("/status")).status_code == 200


def nested(levels):
    return b'{"values":' + b"[" * levels + b"]" * levels + b"}"


BODIES = [
    (b"not JSON", 400),
    (b"{", 400),
    (b"[]", 400),
    (b"null", 400),
    (b'"text"', 400),
    (b'{"title": "\xff"}', 400),
    (b'{"title": "a", "title": "b"}', 400),
    (b'{"title": NaN}', 400),
    (b'{"title": "x", "priority": Infinity}', 400),
    (b'{"title": "x", "depends_on": 1e400}', 400),
    (b'{"title": "\\u0000"}', 422),
    (b'{"title": "\\ud800"}', 422),
    (b'{"\\ud800": "x", "title": "x"}', 422),
    (b'{"\\u0000": "x", "title": "x"}', 422),
    (b'{"title": 5}', 422),
    (b'{"title": null}', 422),
    (b'{"title": ["x"]}', 422),
    (b'{"title": {"a": 1}}', 422),
    (b'{"title": ""}', 422),
    (b'{"title": " \\u200b "}', 422),
    (b'{"title": "x", "depends_on": "T-1"}', 422),
    (b'{"title": "x", "depends_on": ["T-' + b"9" * 400 + b'"]}', 422),
    (b'{"title": "x", "depends_on": [' + b"9" * 400 + b"]}", 422),
    (b'{"title": "x", "__proto__": {"a": 1}}', 422),
    (b'{"title": "x", "call": {}}', 422),
    (b'{"title": "x", "idempotency_key": ""}', 422),
    (b'{"title": "x", "idempotency_key": 5}', 422),
    (b'{"title": "' + b"x" * 301 + b'"}', 422),
    (b"\xef\xbb\xbf{}", 400),
    (nested(NESTING + 1), 400),
    (nested(900), 400),
    (nested(200_000), 400),
]


@pytest.mark.parametrize(("body", "status"), BODIES, ids=[repr(body[:40]) for body, _ in BODIES])
async def test_hostile_bodies(rest, body, status):
    headers = [b"Content-Type: application/json"]
    found, head, content = await raw(
        rest, f"{PREFIX}/tasks/create".encode(), method=b"POST", headers=headers, body=body
    )
    assert found == status, content[:500]
    assert b"content-type: application/problem+json" in head
    assert json.loads(content)["detail"]
    assert (await rest.json("GET", "/tasks"))["items"] == []


async def test_numbers_that_no_database_has(rest):
    await rest.json("POST", "/tasks/create", 201, json={"title": "Task"})
    huge = b"9" * 400
    for path, member, status in (
        (b"/tasks/T-1/heartbeat", b"lease", {409}),
        (b"/tasks/T-1/complete", b"lease", {409}),
        (b"/memory/store", b"confidence", {422}),
    ):
        body = b'{"text": "x", "' if b"memory" in path else b'{"'
        body += member + b'": ' + huge + b"}"
        status_line, _, content = await raw(
            rest, PREFIX.encode() + path, method=b"POST", headers=[b"Content-Type: application/json"], body=body
        )
        assert status_line in status, (path, content)
    longer = await rest.post(
        "/tasks/T-1/heartbeat", content=b'{"lease": ' + b"9" * 5000 + b"}", headers={"content-type": "application/json"}
    )
    assert longer.status_code == 400
    answer = await rest.patch("/tasks/T-1", json={"expected_version": 10**300, "note": "x"})
    assert answer.status_code == 409


async def test_nesting_below_the_bound_is_stored_data_not_a_fault(rest):
    body = {"values": {"title": "x"}}
    for _ in range(NESTING - 4):
        body["values"] = {"a": body["values"]}
    answer = await rest.post("/templates/story/render", json=body)
    assert answer.status_code in (200, 422), answer.text


async def test_a_body_over_the_bound_is_refused(rest):
    answer = await rest.post(
        "/tasks/create", content=b" " * ((4 << 20) + 1), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.headers["content-type"] == "application/problem+json"

    async def chunks():
        for _ in range(5):
            yield b" " * (1 << 20)

    answer = await rest.post("/tasks/create", content=chunks(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_refusal_quotes_no_more_than_it_must(rest):
    answer = await rest.post("/tasks/create", json={"x" * 100_000: 1, "title": "x"})
    told = await rest.get("/tasks?" + "y" * 10_000 + "=1")
    missing = await rest.get("/templates/" + "z" * 10_000)
    for refused in (answer, told, missing):
        assert refused.status_code == 422
        assert len(refused.content) < 3000


async def test_a_client_that_goes_away_leaves_the_server_well(rest):
    host, port = rest.origin.removeprefix("http://").split(":")
    for _ in range(10):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST {PREFIX}/tasks/create HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            'Content-Length: 100\r\n\r\n{"title":'.encode()
        )
        await writer.drain()
        writer.close()
    assert (await rest.get("/status")).status_code == 200
    assert (await rest.json("GET", "/tasks"))["items"] == []

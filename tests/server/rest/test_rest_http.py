"""HTTP itself: verbs, media types, compression, pages of other origins, and pages of lists."""

import gzip

import pytest
from pydantic import ValidationError
from rest_server import RestClient, serving

from bmad_mcp.identity.verifying import StaticTokens
from bmad_mcp.server.rest.ways import PREFIX
from bmad_mcp.settings import Settings

BOARD = "https://board.example"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/status", "GET, HEAD, OPTIONS"),
        ("/tasks/T-1", "GET, HEAD, OPTIONS, PATCH"),
        ("/stories", "GET, HEAD, OPTIONS, POST"),
        ("/tasks/claim", "OPTIONS, POST"),
        ("/stories/next", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_path_takes_its_verbs_and_names_them_to_the_others(rest, path, allowed):
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - set(allowed.split(", ")):
        answer = await rest.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed), method
        assert answer.headers["content-type"] == "application/problem+json"
    asked = await rest.options(path)
    assert (asked.status_code, asked.headers["allow"], asked.content) == (204, allowed, b"")


async def test_head_has_the_headers_of_get_and_no_body(rest):
    await rest.json("POST", "/tasks/create", 201, json={"title": "Task"})
    for path in ("/tasks/T-1", "/status", "/openapi.json", "/tasks/T-9"):
        get, head = await rest.get(path), await rest.head(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        for name in ("content-type", "content-length", "etag", "content-encoding"):
            assert head.headers.get(name) == get.headers.get(name), (path, name)


@pytest.mark.parametrize("path", ["", "/", "/nothing", "/status/", "//status", "/tasks/T-1/no", "/stories//x", "/.."])
async def test_a_path_that_there_is_not_is_a_problem(rest, path):
    answer = await rest.get(f"{rest.origin}{PREFIX}{path}")
    if path == "/..":
        assert answer.status_code == 404
        return
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("*/*", 200),
        ("application/*", 200),
        ("application/json", 200),
        ("application/json;q=0.5, text/html", 200),
        ("application/problem+json", 200),
        ("text/html", 406),
        ("application/json;q=0", 406),
        ("*/*, application/json;q=0, application/problem+json;q=0.0", 406),
        ("text/*;q=1, application/xml", 406),
        ("nonsense", 406),
    ],
)
async def test_accept_matrix(rest, accept, status):
    del rest.headers["accept"]
    answer = await rest.get("/status", headers={} if accept is None else {"accept": accept})
    assert answer.status_code == status
    assert answer.headers["content-type"] == ("application/json" if status == 200 else "application/problem+json")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 201),
        ({"content-type": "application/json; charset=UTF-8"}, 201),
        ({"content-type": 'Application/JSON; charset="utf-8"'}, 201),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/jsonp"}, 415),
        ({}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
    ],
)
async def test_content_type_matrix(rest, headers, status):
    answer = await rest.post("/tasks/create", content=b'{"title": "x"}', headers=headers)
    assert answer.status_code == status, answer.text
    if status == 415:
        assert answer.headers["accept"] == "application/json"


async def test_a_write_without_arguments_needs_no_body(rest):
    await rest.json("POST", "/workflows/start", 201, json={"type": "greenfield-ui"})
    assert (await rest.post("/workflows/W-1/pause")).status_code == 200
    assert (await rest.post("/workflows/W-1/resume", content=b"{}")).status_code == 415
    assert (await rest.post("/workflows/W-1/resume", json={})).status_code == 200


async def test_long_answers_are_compressed_for_who_takes_it(rest):
    async with rest.stream("GET", "/agents/dev", headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in answer.headers["vary"].lower()
    plain = await rest.get("/agents/dev", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 2
    short = await rest.get("/tasks", headers={"accept-encoding": "gzip"})
    assert len(short.content) < 1024
    assert "content-encoding" not in short.headers
    tagged = await rest.get("/agents/dev", headers={"accept-encoding": "gzip"})
    assert tagged.headers["etag"] == plain.headers["etag"]


async def test_a_list_is_walked_by_its_links(rest):
    for number in range(23):
        await rest.json("POST", "/tasks/create", 201, json={"title": f"Task {number}", "agent": "dev"})
    for path in ("/tasks?limit=5&agent=dev", "/agents/dev/tasks?limit=5"):
        found, following, pages = [], path, 0
        while following:
            answer = await rest.get(following)
            found += [item["key"] for item in answer.json()["items"]]
            pages += 1
            link = answer.links.get("next")
            assert (link is None) == (answer.json()["next_cursor"] is None)
            following = rest.origin + link["url"] if link else None
        assert pages == 5
        assert found == [f"T-{number}" for number in range(1, 24)]
    assert "link" not in (await rest.get("/tasks?limit=100")).headers


@pytest.fixture
async def crossed(workspace):
    """A server that lets pages of one other origin in."""
    async with serving(workspace, rest_origins=(BOARD,)) as address, RestClient(address) as client:
        yield client


def preflight(origin, method="PATCH", headers="content-type, if-match, idempotency-key, authorization"):
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": headers,
    }


async def test_a_page_of_an_allowed_origin_may_ask_read_and_write(crossed):
    asked = await crossed.options("/tasks/T-1", headers=preflight(BOARD))
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == BOARD
    assert {"GET", "POST", "PATCH"} <= set(asked.headers["access-control-allow-methods"].split(", "))
    answer = await crossed.post("/tasks/create", json={"title": "x"}, headers={"origin": BOARD})
    assert answer.status_code == 201
    assert answer.headers["access-control-allow-origin"] == BOARD
    assert {"etag", "link", "location"} <= set(answer.headers["access-control-expose-headers"].split(", "))
    assert "origin" in answer.headers["vary"].lower()
    refused = await crossed.get("/tasks/T-9", headers={"origin": BOARD})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (404, BOARD)
    assert "access-control-allow-credentials" not in {*asked.headers, *answer.headers}


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://board.example",
        "https://board.example:8443",
        "https://board.example.evil.example",
        "https://evilboard.example",
        "null",
        "*",
        "https://BOARD.example",
    ],
)
async def test_a_page_of_another_origin_may_not(crossed, rest, origin):
    for client in (crossed, rest):
        for headers, method in ((preflight(origin), "OPTIONS"), ({"origin": origin}, "GET")):
            answer = await client.request(method, "/status", headers=headers)
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
            assert answer.headers["content-type"] == "application/problem+json"


async def test_without_the_setting_no_page_may_and_with_it_only_rest_is_open(crossed, rest):
    assert (await rest.get("/status", headers={"origin": BOARD})).status_code == 403
    for path in ("/", "/mcp", "/docs", "/health/live", f"{PREFIX}x"):
        answer = await crossed.get(crossed.origin + path, headers={"origin": BOARD})
        assert answer.status_code == 403, path
    odd = await crossed.options("/status", headers=preflight(BOARD, headers="x-strange"))
    assert odd.status_code == 400
    assert (await crossed.options("/status", headers=preflight(BOARD, method="DELETE"))).status_code == 400


async def test_its_own_page_may_use_it_without_the_setting(rest):
    answer = await rest.get("/status", headers={"origin": rest.origin})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "https://*.example",
        "board.example",
        "https://board.example/",
        "https://a b",
        "ftp://x",
        "https://x:0",
        "null",
    ],
)
def test_a_setting_that_is_no_origin_is_refused(monkeypatch, origins):
    monkeypatch.setenv("BMAD_CORS_ORIGINS", origins)
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings()


def test_the_setting_is_a_list_and_empty_by_default(monkeypatch):
    monkeypatch.delenv("BMAD_CORS_ORIGINS", raising=False)
    assert Settings().cors_origins == ()
    monkeypatch.setenv("BMAD_CORS_ORIGINS", " https://Board.example , http://localhost:5173,,http://[::1]:3000")
    assert Settings().cors_origins == ("https://board.example", "http://localhost:5173", "http://[::1]:3000")


async def test_where_tokens_are_asked_for_a_page_may_ask_first_and_reads_the_refusal(workspace):
    """A browser sends no token with its preflight, and shows a page no answer without the header."""
    options = {"verifier": StaticTokens(workspace), "rest_origins": (BOARD,)}
    async with serving(workspace, **options) as address, RestClient(address) as client:
        assert (await client.options("/tasks/T-1", headers=preflight(BOARD))).status_code == 200
        answer = await client.get("/status", headers={"origin": BOARD})
        assert (answer.status_code, answer.json()["status"]) == (401, 401)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert answer.headers["access-control-allow-origin"] == BOARD
        evil = await client.options("/tasks/T-1", headers=preflight("https://evil.example"))
        assert evil.status_code == 403

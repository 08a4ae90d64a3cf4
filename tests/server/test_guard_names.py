"""Host and Origin for every kind of start: this machine only, named hosts, and behind a proxy that ends TLS."""

import pytest
from auth_server import guarded_server

from bmad_mcp.server.auth import METADATA_PATH
from bmad_mcp.server.guard import Names

EVIL_HOSTS = [
    "evil.example",
    "bmad.example.com.evil.example",
    "evil.bmad.example.com",
    "bmad.example.com@evil.example",
    "bmad.example.com:evil",
    "bmad.example.com:80:80",
    "xbmad.example.com",
    "bmad_example_com",
    "*",
    "",
    " ",
    "0.0.0.0",
    "[::]",
    "bmad.example.com,evil.example",
]
EVIL_ORIGINS = [
    "https://evil.example",
    "http://bmad.example.com",
    "https://bmad.example.com.evil.example",
    "https://bmad.example.com:8443",
    "https://bmad.example.com/",
    "https://x@bmad.example.com",
    "null",
    "",
    "*",
    "bmad.example.com",
    "file://",
    "chrome-extension://abc",
]
OWN = {"host": "bmad.example.com", "origin": "https://bmad.example.com"}
NAMED = Names.of(["bmad.example.com", "Second.example:8443"], "https")
ROUTES = ["/", "/mcp", "/health/live", "/health/ready", METADATA_PATH, "/api/v1/bmad/tasks", "/docs", "/nothing"]


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in values.items()]


@pytest.mark.parametrize(
    "host", [*EVIL_HOSTS, "localhost", "127.0.0.1", "[::1]", "second.example", "second.example:8444"]
)
def test_a_server_with_names_answers_to_no_other(host):
    assert NAMED.refuse(headers(host=host))[0] == 421


@pytest.mark.parametrize(
    "host",
    ["bmad.example.com", "BMAD.example.COM", "bmad.example.com:8770", "second.example:8443", "SECOND.example:8443"],
)
def test_a_server_with_names_answers_to_them_with_any_port_or_the_named_one(host):
    assert NAMED.refuse(headers(host=host)) is None


@pytest.mark.parametrize("origin", EVIL_ORIGINS)
def test_a_page_of_another_origin_is_refused(origin):
    assert NAMED.refuse(headers(host="bmad.example.com", origin=origin))[0] == 403


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("bmad.example.com", "https://bmad.example.com"),
        ("bmad.example.com:443", "https://BMAD.example.com"),
        ("bmad.example.com:8770", "https://bmad.example.com:8770"),
    ],
)
def test_a_page_of_the_server_itself_may_use_it(host, origin):
    assert NAMED.refuse(headers(host=host, origin=origin)) is None


def test_one_bad_origin_among_good_ones_is_enough():
    good = (b"origin", b"https://bmad.example.com")
    host = (b"host", b"bmad.example.com")
    assert NAMED.refuse([host, good]) is None
    assert NAMED.refuse([host, good, (b"origin", b"https://evil.example")])[0] == 403
    assert NAMED.refuse([host, host])[0] == 421


@pytest.mark.parametrize("host", ["*", "a b", "https://x", "x/y", "", "x:y", "a,b"])
def test_what_is_no_host_name_cannot_be_allowed(host):
    with pytest.raises(ValueError, match="host name"):
        Names.of([host], "https")


@pytest.fixture
async def named(workspace):
    async with guarded_server(workspace, names=NAMED) as serving:
        yield serving


@pytest.mark.parametrize("path", ROUTES)
async def test_on_every_route_host_and_origin_come_before_the_token(named, path):
    token = await named.token("alice", "admin", role="admin")
    for method in ("GET", "POST"):
        for authorization in ({}, {"authorization": f"Bearer {token}"}):
            for host in [one for one in EVIL_HOSTS if one.strip()]:
                answer = await named.client.request(method, path, headers={"host": host} | authorization)
                assert answer.status_code == 421, (method, host)
                assert "www-authenticate" not in answer.headers
            for origin in EVIL_ORIGINS:
                sent = {"host": OWN["host"], "origin": origin} | authorization
                answer = await named.client.request(method, path, headers=sent)
                assert answer.status_code == 403, (method, origin)
                assert "access-control-allow-origin" not in answer.headers
        answer = await named.client.request(method, path, headers=OWN | {"authorization": f"Bearer {token}"})
        assert answer.status_code not in (401, 421), (method, answer.text)
        assert answer.status_code != 403, (method, answer.text)

"""The start matrix: what may listen where, what is missing otherwise, and the addresses that clients are told."""

import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bmad_mcp.commands.exposure import browser_sign_in, check_start, provider_tokens, scope_words
from bmad_mcp.server.auth import Resource
from bmad_mcp.server.host_snippets import stdio_command
from bmad_mcp.settings import Settings

TLS = {
    "none": {},
    "files": {"tls_cert": Path(__file__), "tls_key": Path(__file__)},
    "proxy": {"behind_tls_proxy": True},
}
AUTH = {"none": {}, "tokens": {"auth_required": True}, "issuer": {"auth_issuer": "https://id.example.com"}}
NAMES = {"none": {}, "own": {"allowed_hosts": ("localhost",)}, "public": {"allowed_hosts": ("bmad.example.com",)}}
HOSTS = {
    "127.0.0.1": True,
    "localhost": True,
    "::1": True,
    "127.9.9.9": True,
    "0.0.0.0": False,
    "::": False,
    "192.0.2.7": False,
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in [name for name in os.environ if name.startswith("BMAD_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("host", HOSTS)
def test_every_start_that_lets_others_in_needs_all_three(host):
    for auth, names, tls in itertools.product(AUTH, NAMES, TLS):
        settings = Settings(project="x", **AUTH[auth], **NAMES[names], **TLS[tls])
        is_remote = not HOSTS[host] or names == "public" or tls == "proxy"
        missing = [auth == "none", names == "none", tls == "none"]
        cell = (host, auth, names, tls)
        if is_remote and any(missing):
            with pytest.raises(click.UsageError) as refused:
                check_start(settings, host)
            said = refused.value.message
            named = ["BMAD_AUTH_ISSUER" in said, "--allowed-hosts" in said, "--tls-cert" in said]
            assert named == missing, (cell, said)
        else:
            exposure = check_start(settings, host)
            assert exposure.is_authenticated == (auth != "none"), cell
            assert exposure.names.scheme == ("http" if tls == "none" else "https"), cell
            assert bool(exposure.names.allowed) == (names != "none"), cell


@pytest.mark.parametrize("host", ["example.com", "", "localhost.evil.example", "1.2.3", "*"])
def test_a_name_is_no_address_to_listen_on(host):
    with pytest.raises(click.BadParameter, match="address to listen on"):
        check_start(Settings(project="x", **AUTH["tokens"], **NAMES["public"], **TLS["proxy"]), host)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tls_cert": Path(__file__)}, "belong together"),
        ({"tls_key": Path(__file__)}, "belong together"),
        (
            TLS["files"] | {"behind_tls_proxy": True, "auth_required": True, "allowed_hosts": ("x.example",)},
            "elsewhere",
        ),
        ({"tls_cert": Path("/nowhere"), "tls_key": Path(__file__)}, "--tls-cert: there is no file"),
        ({"allowed_hosts": ("*",), "auth_required": True, "behind_tls_proxy": True}, "host name"),
        ({"public_url": "http://bmad.example.com"}, "BMAD_PUBLIC_URL must begin with https://"),
    ],
)
def test_what_contradicts_itself_is_refused(more, said):
    with pytest.raises(click.UsageError, match=said):
        check_start(Settings(project="x", **more), "127.0.0.1")


@pytest.mark.parametrize(
    ("more", "host", "url"),
    [
        ({}, "127.0.0.1", "http://127.0.0.1:8770"),
        ({}, "::1", "http://[::1]:8770"),
        (TLS["proxy"] | NAMES["public"] | AUTH["tokens"], "127.0.0.1", "https://bmad.example.com"),
        (TLS["files"] | NAMES["public"] | AUTH["tokens"], "0.0.0.0", "https://bmad.example.com:8770"),
        (TLS["files"] | {"allowed_hosts": ("a.example:1", "b.example")} | AUTH["tokens"], "::", "https://a.example:1"),
        (
            TLS["proxy"] | NAMES["public"] | AUTH["tokens"] | {"public_url": "https://x.example/bmad/"},
            "::",
            "https://x.example/bmad",
        ),
    ],
)
def test_the_address_that_clients_are_told(more, host, url):
    assert check_start(Settings(project="x", **more), host).url(8770) == url


def test_the_provider_is_pinned_by_the_settings():
    assert provider_tokens(Settings(project="x"), "https://b.example/mcp") is None
    pinned = provider_tokens(Settings(project="x", **AUTH["issuer"]), "https://b.example/mcp")._pinned
    assert (pinned.issuer, pinned.audience, pinned.token_type) == (
        "https://id.example.com",
        "https://b.example/mcp",
        "at+jwt",
    )
    assert pinned.algorithms == ("RS256", "ES256", "PS256", "EdDSA")
    chosen = Settings(project="x", **AUTH["issuer"], auth_audience="api://b", auth_scopes="read=a:r, write=a:w")
    pinned = provider_tokens(chosen, "https://b.example/mcp")._pinned
    assert (pinned.audience, dict(pinned.scopes)) == ("api://b", {"read": "a:r", "write": "a:w", "admin": "admin"})


def test_the_dashboard_is_a_client_of_the_provider_only_where_there_is_one():
    resource = Resource("https://b.example")
    assert browser_sign_in(Settings(project="x", **AUTH["issuer"]), resource) is None
    with pytest.raises(click.UsageError, match="BMAD_AUTH_ISSUER"):
        browser_sign_in(Settings(project="x", auth_client_id="dashboard"), resource)
    assert browser_sign_in(Settings(project="x", auth_client_id="dashboard", **AUTH["issuer"]), resource) is not None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"auth_algorithms": ("HS256",)}, "HS256"),
        ({"auth_algorithms": ("RS256", "none")}, "none"),
        ({"auth_algorithms": ()}, "BMAD_AUTH_ALGORITHMS"),
        ({"auth_issuer": "http://id.example.com"}, "https://"),
        ({"auth_jwks_url": "http://id.example.com/keys"}, "https://"),
        ({"auth_scopes": "root=x"}, "root=x"),
        ({"auth_scopes": "read="}, "read="),
        ({"auth_scopes": 'read=a"b'}, "without spaces"),
        ({"auth_scopes": "read=write"}, "same word"),
    ],
)
def test_a_provider_that_would_be_no_check_is_refused(more, said):
    with pytest.raises(click.UsageError, match=said):
        provider_tokens(Settings(project="x", **AUTH["issuer"] | more), "https://b.example/mcp")


def test_without_a_mapping_the_words_are_the_scopes():
    assert scope_words(Settings(project="x")) == {"read": "read", "write": "write", "admin": "admin"}


def test_the_snippet_for_stdio_has_nothing_of_http():
    settings = Settings(project="x", **AUTH["issuer"], **NAMES["public"], **TLS["files"], log_level="info")
    assert dict(stdio_command(settings).env) == {"BMAD_LOG_LEVEL": "info"}


def start(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A start that has to end by itself: there is no database for it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BMAD_")}
    return subprocess.run(
        [sys.executable, "-m", "bmad_mcp", "serve", "--http", *options],
        env=clean | {"BMAD_DATABASE_URL": "postgresql://x@127.0.0.1:9/x"} | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--host", "0.0.0.0"),
        ("--host", "::"),
        ("--host", "0.0.0.0", "--auth"),
        ("--host", "0.0.0.0", "--auth", "--allowed-hosts", "x.example"),
        ("--host", "0.0.0.0", "--allowed-hosts", "x.example", "--behind-tls-proxy"),
        ("--behind-tls-proxy",),
        ("--allowed-hosts", "x.example"),
    ],
)
def test_a_process_that_would_let_others_in_ends_before_it_listens(options):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    done = start("--port", str(port), *options)
    assert done.returncode == 2
    assert "lets other machines in" in done.stderr
    assert "cannot be reached" not in done.stderr, "it must not even look for its database"


def test_a_variable_that_is_wrong_is_named():
    assert "BMAD_AUTH_TOKEN_TYPE" in start(BMAD_AUTH_TOKEN_TYPE="opaque").stderr
    assert "BMAD_AUTH_ALGORITHMS" in start(BMAD_AUTH_ISSUER="https://i.example", BMAD_AUTH_ALGORITHMS="none").stderr

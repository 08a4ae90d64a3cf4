"""A server for a team, as a process: over TLS, with tokens of the command line, and no token anywhere in what it keeps."""

import asyncio
import datetime
import ipaddress
import os
import re
import ssl
import subprocess
import sys

import httpx
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from http_process import HttpServer
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from processes import fresh_key

from bmad_mcp.embedded.binaries import find_binaries


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost, its key, and a context that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(1)
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder, ssl.create_default_context(cafile=folder / "cert.pem")


@pytest.fixture
def start():
    started = []

    def start_one(env, *options: str) -> HttpServer:
        started.append(HttpServer(env, *options))
        return started[-1]

    yield start_one
    for one in started:
        one.kill()


def bmad(env, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bmad_mcp", *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def succeeds(env, *arguments: str) -> str:
    done = bmad(env, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(env, *arguments: str) -> str:
    done = bmad(env, *arguments)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


async def test_a_server_on_every_address_over_tls_lets_in_a_token_of_the_command_line(server_env, start, certificate):
    folder, trust = certificate
    project = fresh_key("team")
    server = start(
        server_env,
        *("--project", project, "--host", "0.0.0.0", "--port", "0", "--auth", "--allowed-hosts", "localhost,127.0.0.1"),
        *("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")),
    )
    address = server.ready()
    assert re.fullmatch(r"https://localhost:\d+", address)
    token = succeeds(server_env, "token", "create", "alice", "--scope", "write", "--project", project).strip()
    http_client = httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, verify=trust)
    async with Client(streamable_http_client(f"{address}/mcp", http_client=http_client)) as client:
        assert not (await client.call_tool("task_create", {"title": "Over TLS"})).is_error
    async with httpx.AsyncClient(verify=trust) as client:
        answer = await client.get(f"{address}/connect")
        assert answer.status_code == 401
        assert (
            f'resource_metadata="{address}/.well-known/oauth-protected-resource/mcp"'
            in answer.headers["www-authenticate"]
        )
        assert (await client.get(f"{address}/health/live", headers={"host": "evil.example"})).status_code == 421
        with pytest.raises(httpx.TransportError):
            await client.get(address.replace("https:", "http:"))
    assert server.stop() == 0


def test_a_key_that_does_not_fit_is_told(server_env, start, certificate, tmp_path):
    folder, _ = certificate
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    server = start(
        server_env,
        "--project",
        "x",
        "--port",
        "0",
        "--auth",
        "--tls-cert",
        str(folder / "cert.pem"),
        "--tls-key",
        str(bad),
    )
    assert server.wait_for("--tls-cert and --tls-key cannot be used")
    assert not any("Requests need a token" in line for line in server.told)
    assert server.process.wait(20) == 1


async def test_no_token_is_in_the_database_or_in_the_log(server_env, start, cluster):
    env = server_env | {"BMAD_LOG_LEVEL": "debug"}
    project = fresh_key("leak")
    server = start(env, "--project", project, "--port", "0", "--auth")
    address = server.ready()
    created = bmad(env, "token", "create", "alice", "--scope", "write", "--project", project)
    token = created.stdout.strip()
    assert re.fullmatch(r"bmad_[0-9a-f]{16}_[\w-]{49}", token)
    async with httpx.AsyncClient(base_url=address, headers={"authorization": f"Bearer {token}"}) as client:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        headers = {"accept": "application/json, text/event-stream"}
        made = {"name": "task_create", "arguments": {"title": "x", "idempotency_key": "k"}}
        assert (await client.post("/mcp", json=message | {"params": made}, headers=headers)).status_code == 200
        assert (await client.get(f"/connect?access_token={token}")).status_code == 401
        assert (await client.get("/connect", headers={"authorization": f"Bearer {token[:-1]}x"})).status_code == 401
        assert (await client.get(f"/{token}")).status_code == 404
    listed = succeeds(env, "token", "list", "--project", project)
    listed += succeeds(env, "token", "list", "--json", "--project", project)
    assert server.stop() == 0
    dump = await asyncio.to_thread(dumped, server_env, cluster)
    secret = token.split("_", 2)[2]
    assert token.split("_")[1] in dump, "the dump has to hold the token's row"
    assert any(" DEBUG " in line or " INFO " in line for line in server.told), "the log has to be one of everything"
    kept = {
        "the database": dump,
        "the log": "\n".join(server.told),
        "the list": listed,
        "what create told": created.stderr,
    }
    for where, text in kept.items():
        for part in (token, secret, secret[:43], secret[:20]):
            assert part not in text, where


def dumped(server_env, cluster) -> str:
    """Everything in the database that the server process used."""
    if "BMAD_DATABASE_URL" in server_env:
        where = [server_env["BMAD_DATABASE_URL"]]
    else:
        admin = cluster.owner
        where = ["-h", admin["host"], "-p", str(admin["port"]), "-U", cluster.admin["user"], admin["database"]]
    done = subprocess.run([find_binaries().bin_dir / "pg_dump", *where], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def project(server_env):
    """A project that exists, by its key."""
    key = fresh_key("cli")

    async def make() -> None:
        from bmad_mcp.app import open_workspace
        from bmad_mcp.settings import Settings

        with pytest.MonkeyPatch.context() as patch:
            for name, value in server_env.items():
                patch.setenv(name, value)
            async with open_workspace(Settings(project=key)) as workspace:
                await workspace.project()

    asyncio.run(make())
    return key


def test_tokens_are_made_listed_and_revoked_by_commands(server_env, project):
    def run(*arguments):
        return succeeds(server_env, *arguments, "--project", project)

    assert "There are no tokens" in run("token", "list")
    first = bmad(server_env, "token", "create", "alice", "--scope", "read", "--days", "7", "--project", project)
    assert first.stdout.count("\n") == 1
    assert "alice is viewer" in first.stderr
    assert "not shown again" in first.stderr
    again = bmad(server_env, "token", "create", "alice", "--scope", "admin", "--project", project)
    assert "allows no admin" in again.stderr
    listed = run("token", "list").splitlines()
    assert len(listed) == 3
    assert "alice" in listed[1]
    assert "valid" in listed[1]
    token_id = first.stdout.split("_")[1]
    assert f"Revoked token {token_id} of alice" in run("token", "revoke", token_id)
    assert "revoked" in next(line for line in run("token", "list").splitlines() if line.startswith(token_id))
    assert "token list" in fails(server_env, "token", "revoke", "nothing", "--project", project)


def test_members_are_added_listed_and_removed_by_commands(server_env, project):
    def run(*arguments):
        return succeeds(server_env, *arguments, "--project", project)

    subject = "https://id.example.com#42"
    assert "is admin" in run("member", "add", "alice", "--role", "admin")
    assert "is viewer" in run("member", "add", subject, "--role", "viewer")
    assert "was viewer" in run("member", "add", subject, "--role", "member")
    assert subject in run("member", "list")
    assert "last admin" in fails(server_env, "member", "remove", "alice", "--project", project)
    assert "no member" in run("member", "remove", subject)
    assert subject not in run("member", "list", "--json")


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "create", "a", "--scope", "read"),
        ("token", "list"),
        ("token", "revoke", "x"),
        ("member", "add", "a", "--role", "viewer"),
        ("member", "list"),
        ("member", "remove", "a"),
    ],
)
def test_a_project_that_is_not_there_is_not_made(server_env, cluster, arguments):
    key = fresh_key("absent")
    assert f"There is no project '{key}'" in fails(server_env, *arguments, "--project", key)
    assert f"There is no project '{key}'" in fails(server_env, "token", "list", "--project", key)


def test_a_further_project_that_is_not_there_leaves_no_token(server_env, project):
    told = fails(
        server_env, "token", "create", "a", "--scope", "read", "--also-project", "absent-x", "--project", project
    )
    assert "no token was made" in told
    assert "There are no tokens" in succeeds(server_env, "token", "list", "--project", project)


@pytest.mark.parametrize("scope", ["root", "READ", ""])
def test_an_unknown_scope_is_refused(server_env, scope):
    done = bmad(server_env, "token", "create", "a", "--scope", scope)
    assert done.returncode == 2
    assert "--scope" in done.stderr

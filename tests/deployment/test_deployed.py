"""What `deploy` describes, run without containers: Caddy, two servers, PgBouncer and PostgreSQL from its own files."""

import asyncio
import os
import re
import shutil
import ssl
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import httpx
import pytest
from commands.command import CLEAN, succeeds
from deployment.container_files import DEPLOY, read_compose
from deployment.pgbouncer import PROGRAM, wait_for
from own_postgresql import free_port_number, own_postgresql
from processes import COMMAND, fresh_key
from server.http_process import HttpServer

CADDY = shutil.which("caddy")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(None in (CADDY, PROGRAM), reason="needs caddy and pgbouncer (apt-get install them)"),
]

API = "/api/v1/bmad"


@contextmanager
def running(command, **options):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """The text with the names and ports of containers replaced by those of this machine; each has to be there."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def database_and_pooler(folder):
    """PostgreSQL as the image prepares it, and PgBouncer with our file; gives the secrets as they are on this machine."""
    shutil.copy(DEPLOY / "make-secrets.sh", folder)
    subprocess.run([folder / "make-secrets.sh"], check=True)
    secrets = folder / "secrets"
    with own_postgresql() as server:
        server.run("createdb", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "bmad")
        script = replaced((DEPLOY / "make-login.sh").read_text(), ("/run/secrets/", f"{secrets}/"))
        places = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PATH": f"{server.bin_dir}:{os.environ['PATH']}"}
        subprocess.run(
            ["sh", "-c", script], check=True, env={"POSTGRES_USER": "postgres", "POSTGRES_DB": "bmad", **places}
        )
        # From here on passwords count, as they do in the image.
        hba = server.data / "pg_hba.conf"
        hba.write_text(hba.read_text().replace("trust", "scram-sha-256"))
        password = (secrets / "postgres_password").read_text()
        server.run("psql", "-q", "-d", server.url(), "-c", f"ALTER ROLE postgres PASSWORD '{password}'")
        server.run("pg_ctl", "reload", "-D", str(server.data))
        port = free_port_number()
        configuration = server.folder / "pgbouncer.ini"
        users = server.folder / "pgbouncer_users"
        shutil.copy(secrets / "pgbouncer_users", users)
        configuration.write_text(
            replaced(
                (DEPLOY / "pgbouncer.ini").read_text(),
                ("host=postgres port=5432", f"host=127.0.0.1 port={server.port}"),
                ("listen_addr = *", "listen_addr = 127.0.0.1"),
                ("listen_port = 6432", f"listen_port = {port}"),
                ("/run/secrets/pgbouncer_users", str(users)),
            )
        )
        for one in secrets.glob("*_url"):
            text = one.read_text().replace("@pgbouncer:6432/", f"@127.0.0.1:{port}/")
            one.unlink()
            one.write_text(text.replace("@postgres:5432/", f"@127.0.0.1:{server.port}/"))
        with running([PROGRAM, "-q", str(configuration)], **server.as_its_user()):
            wait_for(port)
            yield secrets


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """All of it; gives the address that clients have, the proxy's certificate, a token and the two servers."""
    folder = tmp_path_factory.mktemp("deployed")
    project, port = fresh_key("shop"), free_port_number()
    compose = read_compose(DEPLOY / "compose.yaml", {"BMAD_HOST": "localhost", "BMAD_PROJECT": project})
    service = compose["services"]["bmad-1"]
    with database_and_pooler(folder) as secrets, ExitStack() as stack:
        own = CLEAN | {name: str(value) for name, value in service["environment"].items()}
        own["BMAD_SECRETS_DIR"] = str(secrets)
        owner = {"BMAD_DATABASE_DIRECT_URL": (secrets / "owner_database_direct_url").read_text().strip()}
        assert "The schema is at revision" in succeeds(own | owner, *compose["services"]["upgrade"]["command"])
        ports, servers = [free_port_number(), free_port_number()], []
        for one in ports:
            command = [{"0.0.0.0": "127.0.0.1", "8770": str(one)}.get(word, word) for word in service["command"]]
            servers.append(HttpServer(own, command=[*COMMAND, *command]))
            stack.callback(servers[-1].kill)
        for server in servers:
            server.wait_for('"ready: https://localhost"')
        token = re.search(r"bmad_\S+", succeeds(own, "token", "create", "alice", "--scope", "write"))[0]
        caddyfile = folder / "Caddyfile"
        text = replaced(
            (DEPLOY / "Caddyfile").read_text(),
            *zip(("bmad-1:8770", "bmad-2:8770"), (f"127.0.0.1:{one}" for one in ports), strict=True),
        )
        # A certificate authority of its own instead of one in the internet, and no ports below 1024.
        own_authority = "{\n\tadmin off\n\tlocal_certs\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"
        caddyfile.write_text(own_authority + text)
        data = folder / "caddy"
        env = {
            "BMAD_HOST": f"localhost:{port}",
            "XDG_DATA_HOME": str(data),
            "XDG_CONFIG_HOME": str(data),
            "HOME": str(data),
            "PATH": os.environ["PATH"],
        }
        stack.enter_context(running([CADDY, "run", "--config", str(caddyfile), "--adapter", "caddyfile"], env=env))
        authority = data / "caddy/pki/authorities/local/root.crt"
        deadline = time.monotonic() + 20
        while not authority.exists():
            assert time.monotonic() < deadline, "Caddy has made no certificate"
            time.sleep(0.02)
        wait_for(port)
        yield SimpleNamespace(url=f"https://localhost:{port}", authority=str(authority), token=token, servers=servers)


def client(deployed, **headers: str) -> httpx.AsyncClient:
    trust = ssl.create_default_context(cafile=deployed.authority)
    return httpx.AsyncClient(base_url=deployed.url, verify=trust, headers=headers, timeout=20)


async def ready(web: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        while True:
            with suppress(httpx.TransportError):
                if (await web.get("/health/ready")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def test_work_goes_through_proxy_and_pooler_and_goes_on_without_one_of_the_servers(deployed):
    async with client(deployed, authorization=f"Bearer {deployed.token}") as web, client(deployed) as stranger:
        await ready(web)
        made = await asyncio.gather(
            *(web.post(f"{API}/tasks/create", json={"title": f"T{number}", "agent": "dev"}) for number in range(10))
        )
        assert [one.status_code for one in made] == [201] * 10
        claims = await asyncio.gather(*(web.post(f"{API}/tasks/claim", json={"agent": "dev"}) for _ in range(10)))
        assert len({one.json()["task"]["key"] for one in claims}) == 10
        assert (await stranger.get(f"{API}/status")).status_code == 401
        deployed.servers[0].kill()
        after = [await web.get(f"{API}/tasks", params={"limit": 100}) for _ in range(10)]
        assert [one.status_code for one in after] == [200] * 10
        assert all(len(one.json()["items"]) == 10 for one in after)

"""The files of `deploy` agree with the program and with each other; no container engine is needed to know it."""

import configparser
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from deployment.container_files import DEPLOY, ROOT, in_context, read_compose, read_dockerfile
from packaging.specifiers import SpecifierSet

from bmad_mcp.__main__ import cli
from bmad_mcp.commands.exposure import check_start
from bmad_mcp.commands.serve import PORT
from bmad_mcp.commands.serve_http import FORCE_SECONDS
from bmad_mcp.server import http
from bmad_mcp.settings import Settings

VARIABLES = {"BMAD_HOST": "bmad.example.com", "BMAD_PROJECT": "shop"}
SERVERS = ("bmad-1", "bmad-2")
DOCKERFILES = (DEPLOY / "Dockerfile", DEPLOY / "pgbouncer.Dockerfile")
CONTEXTS = {"Dockerfile": ROOT, "pgbouncer.Dockerfile": DEPLOY}


@pytest.fixture(scope="module")
def compose():
    return read_compose(DEPLOY / "compose.yaml", VARIABLES)


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """What the script makes, in a folder of its own: {file: content}."""
    folder = tmp_path_factory.mktemp("deploy")
    shutil.copy(DEPLOY / "make-secrets.sh", folder)
    subprocess.run([folder / "make-secrets.sh"], check=True, capture_output=True)
    made = {one.name: one.read_text() for one in (folder / "secrets").iterdir()}
    # Run again it keeps what the database was made with.
    subprocess.run([folder / "make-secrets.sh"], check=True, capture_output=True)
    assert {one.name: one.read_text() for one in (folder / "secrets").iterdir()} == made
    return made


@pytest.fixture(scope="module")
def proxy():
    return (DEPLOY / "Caddyfile").read_text()


@pytest.fixture(scope="module")
def pgbouncer():
    found = configparser.ConfigParser(inline_comment_prefixes=None, comment_prefixes=(";", "#"))
    found.read(DEPLOY / "pgbouncer.ini")
    return found


def parsed(arguments) -> dict:
    """The options of a command line of bmad-mcp, as click reads them; fails for one that it would refuse."""
    command, found, rest = cli, {}, list(arguments)
    while True:
        context = command.make_context("bmad-mcp", rest)
        found |= context.params
        if not isinstance(command, click.Group):
            return found
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


def path_exists(path: str) -> bool:
    return f'Route("{path}"' in inspect.getsource(http.build_app)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_what_a_dockerfile_copies_is_there_and_let_through(file):
    given = set(in_context(CONTEXTS[file.name], file))
    instructions = read_dockerfile(file)
    stages = {one.stage for one in instructions}
    for one in (one for one in instructions if one.word == "COPY"):
        sources = [word for word in one.words[:-1] if not word.startswith("--")]
        if "from" in one.options:
            assert one.options["from"] in stages
            continue
        for source in sources:
            place = CONTEXTS[file.name] / source
            assert place.exists(), f"{source} is not there"
            assert any(path == place or place in path.parents for path in given), f"{source} is ignored"
    copied = {word.split("/")[0] for one in instructions if one.word == "COPY" for word in one.words[:-1]}
    assert {path.relative_to(CONTEXTS[file.name]).parts[0] for path in given} <= copied, "nothing else is sent"
    assert not [path for path in given if "secrets" in path.parts or path.suffix in (".pyc", ".pem", ".env")]


def test_the_image_is_of_a_python_that_the_package_takes_and_runs_it_as_nobody_special():
    instructions = read_dockerfile(DEPLOY / "Dockerfile")
    takes = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    for one in instructions:
        if one.word == "FROM":
            version = re.match(r"python:(\d+\.\d+)-slim", one.text)
            assert version
            assert version[1] in takes
            assert f"Python :: {version[1]}" in (ROOT / "pyproject.toml").read_text()
    final = [one for one in instructions if one.stage == instructions[-1].stage]
    assert [one.text for one in final if one.word == "USER"][-1] == "bmad"
    assert "useradd --uid 10001 --create-home --home-dir /var/lib/bmad-mcp" in next(
        one.text for one in final if one.word == "RUN"
    )
    installs = [one.text for one in instructions if one.word == "RUN" and "pip install" in one.text]
    assert all("--require-hashes" in text or "--no-deps" in text for text in installs)
    assert len(installs) == 2
    assert next(one.text for one in final if one.word == "EXPOSE") == str(PORT)
    words = {one.word: one.words for one in final if one.word in ("ENTRYPOINT", "CMD")}
    assert words["ENTRYPOINT"] == ["bmad-mcp"]
    assert parsed(words["CMD"])["over_http"] is True


def test_the_healthcheck_asks_what_a_server_answers():
    check = next(one.text for one in read_dockerfile(DEPLOY / "Dockerfile") if one.word == "HEALTHCHECK")
    address = urlsplit(re.search(r"http://[^']+", check)[0])
    assert (address.hostname, address.port) == ("127.0.0.1", PORT)
    assert path_exists(address.path)


def test_what_the_compose_file_names_is_there(compose, services):
    for name, service in services.items():
        assert ("image" in service) or ("build" in service), name
        if "build" in service:
            context = (DEPLOY / service["build"]["context"]).resolve()
            assert context == CONTEXTS[Path(service["build"]["dockerfile"]).name]
            assert (context / service["build"]["dockerfile"]).is_file()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in compose["volumes"]
        needed = service.get("depends_on", {})
        for other in needed:
            assert other in services
            if isinstance(needed, dict) and needed[other]["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"], f"{name} waits for the health of {other}"
        for secret in service.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in compose["secrets"]


def test_nothing_but_the_proxy_is_reached_from_outside_and_nothing_has_more_rights_than_it_needs(services):
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    for name in (*SERVERS, "upgrade", "pgbouncer", "proxy"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
    for file in DOCKERFILES:
        assert [one.text for one in read_dockerfile(file) if one.word == "USER"][-1] in ("bmad", "postgres")
    text = "".join(path.read_text() for path in DEPLOY.iterdir() if path.is_file() and path.suffix != ".sh")
    assert not re.search(r"(?i)(password|secret|token)\s*[:=]\s*[\"']?(?!/run/secrets|%)[a-z0-9]{8,}", text)
    assert not re.search(r"postgresql://\S+:\S+@", text)


def environment(service) -> dict[str, str]:
    return {name: str(value) for name, value in service["environment"].items()}


@pytest.mark.parametrize("name", [*SERVERS, "upgrade"])
def test_a_server_starts_with_what_the_compose_file_gives_it(services, secrets, name, monkeypatch, tmp_path):
    service = services[name]
    given = environment(service)
    assert {one.removeprefix("BMAD_").lower() for one in given} <= Settings.model_fields.keys()
    assert given["BMAD_SECRETS_DIR"] == "/run/secrets"
    for secret in service["secrets"]:
        source, target = (secret, secret) if isinstance(secret, str) else (secret["source"], secret["target"])
        assert target.removeprefix("bmad_") in Settings.model_fields
        (tmp_path / target).write_text(secrets[source])
    for variable, value in (given | {"BMAD_SECRETS_DIR": str(tmp_path)}).items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    options = parsed(service["command"])
    pooled, direct = (urlsplit(one.get_secret_value()) for one in (settings.database_url, settings.database_direct_url))
    assert (pooled.hostname, pooled.username) == ("pgbouncer", "bmad_server")
    assert (direct.hostname, direct.username) == ("postgres", "postgres" if name == "upgrade" else "bmad_server")
    if name == "upgrade":
        return
    exposure = check_start(settings, options["host"])
    assert exposure.is_authenticated
    assert exposure.url(options["port"]) == "https://bmad.example.com"
    # Docker gives it this long before it kills; the server ends by itself within the other.
    assert int(service["stop_grace_period"].removesuffix("s")) > FORCE_SECONDS


def test_both_servers_are_the_same_and_wait_for_the_schema(services):
    assert services["bmad-1"] == services["bmad-2"]
    assert services["bmad-1"]["depends_on"] == {"upgrade": {"condition": "service_completed_successfully"}}
    assert services["upgrade"]["restart"] == "no"


def test_hosts_ports_and_passwords_agree(services, secrets, pgbouncer, proxy):
    listening = pgbouncer["pgbouncer"]
    behind = dict(re.findall(r"(\w+)=(\S+)", pgbouncer["databases"]["bmad"]))
    name = services["postgres"]["environment"]["POSTGRES_DB"]
    assert behind == {"host": "postgres", "port": "5432", "dbname": name}
    assert listening["pool_mode"] == "transaction"
    assert listening["auth_file"] == "/run/secrets/pgbouncer_users"
    for secret in ("bmad_database_url", "bmad_database_direct_url", "owner_database_direct_url"):
        address = urlsplit(secrets[secret].strip())
        assert address.path == f"/{name}"
        assert address.hostname in services
        assert str(address.port) == (listening["listen_port"] if address.hostname == "pgbouncer" else "5432")
        owner = address.username == "postgres"
        assert address.password == secrets["postgres_password" if owner else "server_password"].strip()
    assert secrets["pgbouncer_users"].strip() == f'"bmad_server" "{secrets["server_password"].strip()}"'
    for one in read_dockerfile(DEPLOY / "pgbouncer.Dockerfile"):
        if one.word == "EXPOSE":
            assert one.text == listening["listen_port"]
    port = parsed(services["bmad-1"]["command"])["port"]
    assert re.search(r"reverse_proxy ([^{]*)\{", proxy)[1].split() == [f"{one}:{port}" for one in SERVERS]
    assert port == PORT


def test_the_proxy_asks_for_a_health_that_the_servers_tell_it(services, proxy):
    assert path_exists(re.search(r"health_uri (\S+)", proxy)[1])
    host = re.search(r"health_headers \{\s*Host (\S+)", proxy)[1]
    allowed = services["bmad-1"]["environment"]["BMAD_ALLOWED_HOSTS"].split(",")
    assert allowed == ["bmad.example.com", host]
    assert services["proxy"]["environment"]["BMAD_HOST"] == allowed[0]


def test_every_secret_is_made_by_the_script_and_kept_out_of_git(compose, secrets):
    assert {f"secrets/{name}" for name in secrets} == {one["file"] for one in compose["secrets"].values()}
    assert len(secrets["postgres_password"]) == len(secrets["server_password"]) == 48
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "server_password" in (DEPLOY / "make-login.sh").read_text()


def test_the_unit_starts_a_command_that_there_is_and_names_settings(tmp_path):
    unit = (DEPLOY / "bmad-mcp.service").read_text()
    program, *arguments = re.search(r"(?m)^ExecStart=(.+)$", unit)[1].split()
    assert parsed(arguments)["over_http"] is True
    named = set(re.findall(r"\bBMAD_([A-Z_]+)\b", unit)) | {
        one.upper() for one in re.findall(r"LoadCredential=bmad_(\w+):", unit)
    }
    assert {"DATA_DIR", "SECRETS_DIR", "DATABASE_URL"} <= named
    assert {one.lower() for one in named} <= Settings.model_fields.keys()
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here, so the unit's own words are not checked")
    here = tmp_path / "bmad-mcp.service"
    # The commented lines are part of what people use.
    here.write_text(unit.replace(program, sys.executable).replace("#LoadC", "LoadC").replace("#Env", "Env"))
    done = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

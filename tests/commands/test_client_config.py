"""The snippets, started the way a host starts them: from another folder, without the shell's environment."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from commands.command import NO_DATABASE, bmad, fails, succeeds
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from processes import fresh_key

from bmad_mcp.server.headers import SESSION_HEADER
from bmad_mcp.server.host_snippets import HOSTS, http_snippet, stdio_command, stdio_snippet
from bmad_mcp.settings import Settings

NAMES = [host.name for host in HOSTS]
ROOT = Path(__file__).parents[2]
# The package under test may be on the path only, and not in the interpreter's own packages.
PACKAGE_PATH = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}


def entry_of(name: str, text: str) -> dict:
    host = next(host for host in HOSTS if host.name == name)
    found = json.loads(text)
    assert list(found) == [host.container]
    return found[host.container]["bmad"]


async def listed_by(entry: dict, cwd: Path) -> set[str]:
    """The tools of a server that is started as the entry says."""
    start = StdioServerParameters(
        command=entry["command"], args=entry["args"], env={**PACKAGE_PATH, **entry.get("env", {})}, cwd=cwd
    )
    async with Client(stdio_client(start)) as client:
        return {tool.name for tool in (await client.list_tools()).tools}


def filled_in(entry: dict, values: dict[str, str]) -> dict:
    """The entry after the host has put in the variables of its own environment."""
    env = dict(entry.get("env", {}))
    for name, value in values.items():
        env = {key: text.replace(f"${{env:{name}}}", value).replace(f"${{{name}}}", value) for key, text in env.items()}
    return {**entry, "env": env}


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_printed_starts_the_server_from_any_folder(tmp_path, name):
    done = bmad(NO_DATABASE, "client-config", name, "--project", "shop")
    entry = entry_of(name, done.stdout)
    assert Path(entry["command"]).is_absolute()
    assert entry["args"][-3:] == ["serve", "--project", "shop"]
    host = next(host for host in HOSTS if host.name == name)
    assert host.file in done.stderr
    assert "task_claim" in await listed_by(filled_in(entry, NO_DATABASE), tmp_path)


async def test_the_options_in_force_are_in_the_snippet(tmp_path, data_dir):
    options = ["--read-only", "--toolsets", "core,planning", "--data-dir", str(data_dir)]
    entry = entry_of("cursor", succeeds({"BMAD_LOG_LEVEL": "error"}, *options, "client-config", "cursor"))
    assert entry["env"]["BMAD_LOG_LEVEL"] == "error"
    assert entry["env"]["BMAD_DATA_DIR"] == str(data_dir)
    tools = await listed_by(entry, tmp_path)
    assert "epic_list" in tools
    assert "task_claim" not in tools


def test_without_other_settings_the_snippet_has_no_environment():
    assert "env" not in entry_of("claude-code", succeeds({}, "client-config", "claude-code"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("claude-code", "${BMAD_DATABASE_URL}"),
        ("cursor", "${env:BMAD_DATABASE_URL}"),
        ("vscode", "${env:BMAD_DATABASE_URL}"),
        ("claude-desktop", NO_DATABASE["BMAD_DATABASE_URL"]),
    ],
)
def test_a_database_address_stays_in_the_environment_where_the_host_can_read_it_there(name, shown):
    done = bmad(NO_DATABASE, "client-config", name)
    assert entry_of(name, done.stdout)["env"] == {"BMAD_DATABASE_URL": shown}
    assert "BMAD_DATABASE_URL" in done.stderr or "password" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_over_http_the_snippet_names_the_address(name):
    done = bmad({}, "client-config", name, "--http", "--port", "9001")
    entry = entry_of(name, done.stdout)
    assert "http://127.0.0.1:9001/mcp" in (entry.get("url"), *entry.get("args", ()))
    assert "serve --http" in done.stderr


@pytest.mark.parametrize("host", HOSTS, ids=NAMES)
def test_each_snippet_over_http_has_a_session_header_of_its_own(host):
    sent = []
    for _ in range(2):
        entry = entry_of(host.name, http_snippet(host, "http://127.0.0.1:1"))
        told = entry.get("headers") or dict([entry["args"][entry["args"].index("--header") + 1].split(":")])
        assert list(told) == [SESSION_HEADER]
        assert re.fullmatch(rf"{host.name}-[0-9a-f]{{6}}", told[SESSION_HEADER])
        sent.append(told[SESSION_HEADER])
    assert sent[0] != sent[1]


def test_an_unknown_host_is_refused_with_the_known_ones():
    told = fails({}, "client-config", "emacs", code=2)
    assert all(name in told for name in NAMES)


def test_snippets_survive_any_path(monkeypatch):
    odd = '/opt/a b/"quoted"/é/back\\slash/$HOME'
    monkeypatch.setattr(sys, "executable", odd)
    start = stdio_command(Settings(project="x", data_dir=odd))
    for host in HOSTS:
        entry = entry_of(host.name, stdio_snippet(host, start))
        assert (entry["command"], entry["env"]["BMAD_DATA_DIR"]) == (odd, odd)
        entry_of(host.name, http_snippet(host, "http://127.0.0.1:1"))


async def test_the_example_works_when_pasted(tmp_path, server_env):
    example = json.loads((ROOT / "mcp.json.example").read_text())["mcpServers"]
    over_stdio = next(entry for entry in example.values() if "command" in entry)
    over_http = next(entry for entry in example.values() if "url" in entry)
    assert over_http == {"type": "http", "url": "http://127.0.0.1:8770/mcp"}
    folder = tmp_path / fresh_key("pasted")
    folder.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    start = StdioServerParameters(
        command=over_stdio["command"],
        args=over_stdio["args"],
        env={**PACKAGE_PATH, **server_env, **over_stdio.get("env", {}), "PATH": path},
        cwd=folder,
    )
    async with Client(stdio_client(start)) as client:
        status = await client.call_tool("project_status", {})
    assert status.structured_content["project"]["key"] == folder.name

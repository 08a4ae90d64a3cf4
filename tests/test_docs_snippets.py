"""Every fenced block of the docs is tried, by its language: as a setting, a request, a program, or what is answered.

Diagrams are drawn by tests/test_docs.py.
"""

import ast
import json
import re
import shutil
import subprocess
import tomllib
import uuid
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
import httpx2
import jsonschema
import pytest
import yaml
from bmad_installs import V4, V6, add_v4_docs, add_v6_docs, installed
from commands.command import succeeds
from docs_blocks import COMMANDS, PAGES, ROOT, blocks_of
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from processes import assistant, fresh_key
from server.http_process import SERVE, HttpServer

from bmad_mcp import sample
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.server.listing import output_schema

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
# Blocks that another file tries; it has to name the page, or what is in the block.
ELSEWHERE = {
    "docs/how-to/add-a-tracker.md python 1": ("tests/interchange/test_trackers.py", "docs/how-to/add-a-tracker.md"),
    "docs/how-to/add-a-tracker.md python 2": ("tests/interchange/test_trackers.py", "docs/how-to/add-a-tracker.md"),
    "docs/how-to/use-your-own-postgresql.md sql 2": (
        "tests/commands/test_db.py",
        "docs/how-to/use-your-own-postgresql.md",
    ),
    "docs/how-to/connect-a-host.md text 1": ("tests/server/test_made_twice.py", "docs/how-to/connect-a-host.md"),
    "docs/how-to/keep-memories.md text 1": ("tests/memory/test_vectors.py", "How much does the cloud cost us?"),
}


def block(name: str) -> str:
    """The text of a block; a test that asks for it is what tries it."""
    [text] = [one.text for one in BLOCKS if one.name == name]
    return text


def test_every_block_has_a_language_and_a_test():
    source = Path(__file__).read_text()
    tried = set(re.findall(r'block\(\s*"([^"]+)"', source)) | set(ELSEWHERE)
    here = {one.name for one in BLOCKS if one.language not in (*COMMANDS, "mermaid")}
    assert here == tried
    # A fence that the pattern did not understand would be left out.
    fences = sum(len(re.findall(r"^ *`{3,}", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * len(BLOCKS)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_is_tried_elsewhere_is(name):
    file, words = ELSEWHERE[name]
    assert words in (ROOT / file).read_text()
    assert block(name)


@pytest.mark.parametrize("one", [one for one in BLOCKS if one.language in COMMANDS], ids=lambda one: one.name)
def test_a_block_of_commands_has_some_and_what_they_answer_in_json_is_json(one):
    # tests/test_docs_commands.py runs them.
    assert one.commands
    for line in one.text.splitlines():
        if found := re.fullmatch(r"(?:data: )?(\{.*\})", line):
            json.loads(found[1])


def test_the_files_in_the_drawing_of_the_architecture_exist():
    drawn = (ROOT / "docs/images/parts.svg").read_text()
    paths = set(re.findall(r">(bmad_files/\w+|server/\w+\.py)<", drawn))
    assert len(paths) == 2
    assert all((ROOT / "bmad_mcp" / path).exists() for path in paths)


class Served(NamedTuple):
    """A server for a team on the sample project, and a token that may write."""

    address: str
    token: str
    told: list[str]


@pytest.fixture(scope="module")
def served(server_env, tmp_path_factory):
    key = fresh_key("docs")
    folder = shutil.copytree(sample.FOLDER, tmp_path_factory.mktemp("docs") / "tidepool")
    succeeds(server_env, "import", str(folder), "--project", key)
    token = succeeds(server_env, "token", "create", "alice", "--scope", "write", "--project", key).split()[-1]
    quiet = {**server_env, "BMAD_MEMORY_PROVIDER": "builtin"}
    server = HttpServer(quiet, "--project", key, "--port", "0", "--auth", command=SERVE)
    try:
        yield Served(server.ready(), token, server.told)
        assert server.stop() == 0
    finally:
        server.kill()


@pytest.fixture
def rest(served):
    with httpx.Client(
        base_url=f"{served.address}/api/v1/bmad",
        headers={"Authorization": f"Bearer {served.token}"},
        trust_env=False,
    ) as client:
        yield client


def headers_of(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.strip().splitlines() if not line.startswith("HTTP/"))


def test_what_a_server_tells_when_it_is_ready(served):
    shape = re.sub(r"\d+$", r"\\d+", block("docs/getting-started.md text 1").strip())
    assert any(re.fullmatch(shape, line) for line in served.told)


async def test_the_configuration_of_a_host_with_a_token_connects(served):
    entry = json.loads(block("docs/how-to/run-for-a-team.md json 1"))["mcpServers"]["bmad"]
    assert entry["type"] == "http"
    url = entry["url"].replace("https://bmad.example.com", served.address)
    filled = {name: value.replace("${BMAD_TOKEN}", served.token) for name, value in entry["headers"].items()}
    async with (
        httpx2.AsyncClient(headers=filled, trust_env=False) as client,
        Client(streamable_http_client(url, http_client=client)) as connected,
    ):
        assert "task_claim" in {tool.name for tool in (await connected.list_tools()).tools}


def test_the_answers_that_the_page_on_rest_shows(rest):
    listed = rest.get("/tasks", params={"story": "2.3", "ready": "true", "limit": "2"})
    cursor = r"cursor=[\w-]+"
    shown = headers_of(block("docs/how-to/use-rest.md text 1"))["link"]
    assert re.sub(cursor, "", listed.headers["link"]) == re.sub(cursor, "", shown)
    made = rest.post("/tasks/create", json={"title": "Write the file in UTF-8", "story": "2.3", "agent": "dev"})
    text = block("docs/how-to/use-rest.md text 2")
    assert f"HTTP/1.1 {made.status_code} {made.reason_phrase}" == text.splitlines()[0]
    assert {name: made.headers[name] for name in headers_of(text)} == headers_of(text)
    refused = rest.get("/tasks/T-999")
    assert refused.json() == json.loads(block("docs/how-to/use-rest.md json 1"))
    assert refused.headers["content-type"] == "application/problem+json"


async def test_the_marks_of_a_checklist_are_taken(server_env):
    arguments = json.loads(block("docs/how-to/check-quality.md json 1"))
    async with assistant(server_env, fresh_key("docs"), "--toolsets", "core,quality") as call:
        marked = await call("checklist_run", **arguments)
    assert marked["subject"] == arguments["subject"]


def test_the_answer_of_a_replica_is_what_the_tool_says_it_answers():
    answer = json.loads(block("docs/how-to/grow-past-one-machine.md json 1"))
    schema = output_schema(BY_NAME["activity_list"])
    jsonschema.validate(answer, schema)
    assert set(answer) == set(schema["properties"])


async def gate_is_asked_for(run, workspace, folder) -> bool:
    await import_folder(workspace.opened, folder)
    [story, *_] = (await run("story_list")).items
    return (await run("gate_get", story=story.key)).required


async def test_a_v4_project_asks_for_its_gates(run, workspace, tmp_path):
    setting = block("docs/how-to/check-quality.md yaml 1")
    folder = add_v4_docs(installed(V4, tmp_path / "shop"))
    config = folder / ".bmad-core/core-config.yaml"
    assert not await gate_is_asked_for(run, workspace, folder)
    config.write_text(re.sub(r"^qa:\n", setting, config.read_text(), flags=re.MULTILINE))
    assert yaml.safe_load(config.read_text())["qa"]["gateRequired"] is True
    assert await gate_is_asked_for(run, workspace, folder)


async def test_a_v6_project_asks_for_its_gates(run, workspace, tmp_path):
    setting = block("docs/how-to/check-quality.md toml 1")
    assert tomllib.loads(setting)
    folder = add_v6_docs(installed(V6, tmp_path / "shop"))
    assert not await gate_is_asked_for(run, workspace, folder)
    custom = folder / "_bmad/custom"
    custom.mkdir(exist_ok=True)
    (custom / "config.toml").write_text(setting)
    assert await gate_is_asked_for(run, workspace, folder)


def test_the_scrape_job_is_one():
    [job] = yaml.safe_load(block("docs/how-to/observe.md yaml 1"))["scrape_configs"]
    # The names of Prometheus's own configuration.
    assert set(job) <= {"job_name", "scheme", "authorization", "static_configs", "metrics_path", "scrape_interval"}
    assert set(job["authorization"]) <= {"type", "credentials", "credentials_file"}
    assert all(re.fullmatch(r"[\w.]+:\d+", target) for one in job["static_configs"] for target in one["targets"])


async def test_the_roles_that_an_administrator_makes(database):
    connection = await asyncpg.connect(**database.admin)
    transaction = connection.transaction()
    await transaction.start()
    try:
        names = {name: f"{name}_{uuid.uuid4().hex[:8]}" for name in ("bmad_app", "bmad_server", "owner")}
        await connection.execute(f"CREATE ROLE {names['owner']} LOGIN")
        for sql in (
            block("docs/how-to/use-your-own-postgresql.md sql 1"),
            block("docs/how-to/use-your-own-postgresql.md sql 3"),
        ):
            await connection.execute(re.sub(r"\b(bmad_app|bmad_server|owner)\b", lambda one: names[one[0]], sql))
        made = await connection.fetch(
            "SELECT rolcanlogin, rolsuper OR rolbypassrls AS unbound, pg_has_role($1, oid, 'MEMBER') AS given"
            " FROM pg_roles WHERE rolname = ANY($2) ORDER BY rolname",
            *(names["owner"], [names["bmad_app"], names["bmad_server"]]),
        )
        assert [tuple(row) for row in made] == [(False, False, True), (True, False, False)]
    finally:
        await transaction.rollback()
        await connection.close()


def test_the_proxy_passes_what_the_server_needs(tmp_path):
    location = block("docs/how-to/run-for-a-team.md nginx 1")
    assert re.search(r"proxy_set_header Host \$host;", location)
    assert re.search(r"proxy_buffering off;", location)
    if (nginx := shutil.which("nginx")) is None:
        pytest.skip("its directives were read; nginx is not here to try them")
    whole = f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; server {{ {location} }} }}"
    (tmp_path / "nginx.conf").write_text(whole)
    done = subprocess.run([nginx, "-t", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_way_of_a_call_names_files_and_functions_that_there_are():
    steps = re.findall(r"→ (\S+?\.(?:py|perform)) +(\w+)?", block("docs/architecture.md text 1"))
    assert len(steps) >= 4
    for file, _ in steps:
        path = ROOT / "bmad_mcp" / (file if file.endswith(".py") else f"{file.partition('.')[0]}.py")
        assert path.is_file(), file
    tree = ast.parse((ROOT / "bmad_mcp/tasks/operations.py").read_text())
    assert "task_complete" in {one.name for one in tree.body if isinstance(one, ast.AsyncFunctionDef)}


def test_the_layers_are_those_of_the_contract():
    text = block("docs/architecture.md text 2")
    [contract, *_] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    order = [{one.strip().removeprefix("bmad_mcp.") for one in re.split("[|:]", row)} for row in contract["layers"]]
    place = {name: at for at, row in enumerate(order) for name in row}
    whole, _, features = text.partition("features, top to bottom:")
    for part in (whole, features):
        told = [[name.strip() for name in step.split("·")] for step in part.replace("\n", " ").split("→")]
        places = [{place[name] for name in step if name not in ("features", "catalog")} for step in told]
        places = [one for one in places if one]
        assert all(max(one) < min(later) for one, later in pairwise(places)), told

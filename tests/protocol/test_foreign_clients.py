"""Clients that others wrote: the Inspector's command line and the TypeScript SDK, over stdio and HTTP."""

import asyncio
import json
import os
import re
from pathlib import Path

import pytest
from bmad_installs import newest_node, npm_installed
from processes import COMMAND, fresh_key

from bmad_mcp.catalog import CATALOG

INSPECTOR = "2.12.0"
MODERN = "2026-07-28"
LISTS = ("tools/list", "resources/list", "prompts/list")
SOME_LISTS = [LISTS[0], *(pytest.param(one, marks=pytest.mark.soak) for one in LISTS[1:])]
ERAS = ("legacy", "modern")
VERIFIED = r"Verified \d+ skills and \d+ files: no conformance errors\."
CLIENT = Path(__file__).with_name("sdk_client.mjs")
ALL = {one.name for one in CATALOG if one.toolset}
CORE = {one.name for one in CATALOG if one.toolset == "core"}


async def told_by(*command: str, env: dict[str, str] | None = None, said: str = "") -> str:
    """What the client printed; fails when it fails, or writes anything but `said` beside it."""
    process = await asyncio.create_subprocess_exec(
        newest_node(),
        *command,
        env={**os.environ, **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, (process.returncode, errors.decode()[-3000:], out.decode()[-1000:])
    assert re.fullmatch(said, errors.decode().strip())
    return out.decode()


@pytest.fixture
def inspector(tmp_path):
    """Runs the Inspector's command line; it keeps its files to itself."""
    program = npm_installed("@modelcontextprotocol/inspector", INSPECTOR)
    entry = json.loads((program / "package.json").read_text())["bin"]["mcp-inspector"]

    async def inspect(*options: str, said: str = "") -> str:
        return await told_by(str(program / entry), "--cli", *options, env={"HOME": str(tmp_path)}, said=said)

    return inspect


def result_of(told: str):
    return json.loads(told)["result"]


def options_of(method: str, era: str) -> list[str]:
    strict = ["--strict"] if method == "tools/list" else []
    return ["--format", "json", "--method", method, "--protocol-era", era, *strict]


def handed_on(variables: dict[str, str]) -> list[str]:
    """The Inspector hands a server only the variables that it is told to."""
    return [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]


def names_of(answer) -> set[str]:
    return {one["name"] for one in answer["tools"]}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("method", SOME_LISTS)
async def test_the_inspector_finds_nothing_to_say_about_the_lists_over_http(inspector, real_address, method, era):
    answer = result_of(await inspector(f"{real_address}/mcp", *options_of(method, era)))
    assert answer[method.split("/")[0]]
    if method == "tools/list":
        assert names_of(answer) == ALL


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("method", SOME_LISTS)
async def test_the_inspector_finds_nothing_to_say_about_the_lists_over_stdio(inspector, server_env, method, era):
    command = [*COMMAND, "serve", "--project", fresh_key("inspect")]
    variables = handed_on(server_env)
    answer = result_of(await inspector(*options_of(method, era), *variables, "--", *command))
    assert answer[method.split("/")[0]]
    if method == "tools/list":
        assert names_of(answer) == CORE


async def the_main_job(inspector, era: str, target: list[str], command: list[str]) -> None:
    """Make a task, start it, finish it with the lease and read it; each call is an Inspector of its own."""

    async def call(tool: str, **arguments):
        named = ["--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
        return result_of(await inspector(*target, *options_of("tools/call", era), *named, *command))[
            "structuredContent"
        ]

    key = (await call("task_create", title="From the Inspector", priority="high"))["task"]["key"]
    started = await call("task_start", task=key, agent="dev")
    assert (started["task"]["key"], started["task"]["status"]) == (key, "in_progress")
    done = await call("task_complete", task=key, lease=started["lease"], summary="Done by the Inspector.")
    assert done["task"]["status"] == "completed"
    read = (await call("task_get", task=key))["task"]
    assert (read["status"], read["priority"], read["summary"]) == ("completed", "high", "Done by the Inspector.")


# Four starts of Node, and over stdio of the server, are too much to do in each way each time.
@pytest.mark.parametrize("era", [pytest.param("legacy", marks=pytest.mark.soak), "modern"])
async def test_the_inspector_does_the_main_job_over_http(inspector, real_address, era):
    await the_main_job(inspector, era, [f"{real_address}/mcp"], [])


@pytest.mark.soak
@pytest.mark.parametrize("era", ERAS)
async def test_the_inspector_does_the_main_job_over_stdio(inspector, server_env, era):
    # Each call has a server process of its own: what it did is in the database.
    command = ["--", *COMMAND, "serve", "--project", fresh_key("inspect")]
    await the_main_job(inspector, era, handed_on(server_env), command)


@pytest.mark.parametrize("era", ["legacy", pytest.param("modern", marks=pytest.mark.soak)])
async def test_the_inspector_verifies_every_skill(inspector, server_env, era):
    command = [*COMMAND, "serve", "--project", fresh_key("skills")]
    options = ["--method", "skills/list", "--verify", "--require-digests", "--protocol-era", era]
    told = await inspector(
        *options, "--connect-timeout", "60000", *handed_on(server_env), "--", *command, said=VERIFIED
    )
    reports = [json.loads(line) for line in told.splitlines()]
    assert len(reports) >= 14
    assert {report["outcome"] for report in reports} == {"verified"}
    assert [report["conformance"] + report["frontmatter"] for report in reports if report["conformance"]] == []


def check(answer, tools: set[str], version: str | None) -> None:
    assert answer["server"] == "bmad-mcp"
    assert answer["version"] == version
    assert set(answer["tools"]) == tools
    assert answer["again"] == answer["key"] == answer["read"]
    assert answer["status"] == "completed"
    assert answer["late"]["isError"] is True
    assert answer["completed"] == [answer["key"]]
    assert answer["prompt"] is True
    assert answer["heard"] == (f"bmad://tasks/{answer['key']}" if version == MODERN else None)


# Version 1 of the SDK speaks 2025 versions; version 2 either, and finds out which when it is told `auto`.
SDKS = {
    "1 legacy": ("legacy", "@modelcontextprotocol/sdk", "1.32.2", None),
    "2 modern": ("modern", "@modelcontextprotocol/client", "2.4.0", MODERN),
    "2 auto": ("auto", "@modelcontextprotocol/client", "2.4.0", MODERN),
    "2 legacy": ("legacy", "@modelcontextprotocol/client", "2.4.0", "2025-11-25"),
}
SOME_SDKS = [
    pytest.param(*SDKS[one], id=one, marks=pytest.mark.soak if one in ("2 auto", "2 legacy") else ()) for one in SDKS
]


@pytest.mark.parametrize(("era", "package", "release", "version"), SOME_SDKS)
async def test_the_typescript_sdk_works_over_http(real_address, era, package, release, version):
    sdk = await asyncio.to_thread(npm_installed, package, release)
    check(json.loads(await told_by(str(CLIENT), era, str(sdk), f"{real_address}/mcp")), ALL, version)


@pytest.mark.parametrize(("era", "package", "release", "version"), SOME_SDKS)
async def test_the_typescript_sdk_works_over_stdio(server_env, era, package, release, version):
    sdk = await asyncio.to_thread(npm_installed, package, release)
    command = [*COMMAND, "serve", "--project", fresh_key("typescript")]
    check(json.loads(await told_by(str(CLIENT), era, str(sdk), *command, env=server_env)), CORE, version)

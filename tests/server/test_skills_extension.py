"""The Skills extension over MCP, in both protocol eras, and as the real Inspector sees it."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any, Literal

import pytest
from bmad_installs import CACHE, _made, _npm
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, Request, RequestParams
from processes import fresh_key
from pydantic import TypeAdapter

from bmad_mcp.call import Caller
from bmad_mcp.server.mcp import McpFace

INSPECTOR = "2.12.0"
NODE = "22"
LAUNCHER = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
ANYTHING = TypeAdapter(dict[str, Any])


class ListSkills(Request[RequestParams | None, Literal["skills/list"]]):
    method: Literal["skills/list"] = "skills/list"
    params: RequestParams | None = None


class GetSkillParams(RequestParams):
    uri: str


class GetSkill(Request[GetSkillParams, Literal["skills/get"]]):
    method: Literal["skills/get"] = "skills/get"
    params: GetSkillParams


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_skills_are_listed_with_digests_that_their_texts_have(workspace, mode):
    face = McpFace(workspace, lambda _: Caller())
    async with Client(face.server, mode=mode) as client:
        listed = await client.session.send_request(ListSkills(), ANYTHING)
        assert ("ttlMs" in listed) == (mode == "auto")
        entry = next(one for one in listed["skills"] if one["frontmatter"]["name"] == "dev")
        assert entry["uri"] == "skill://bmad/dev/SKILL.md"
        (file,) = entry["resources"]
        text = (await client.read_resource(file["uri"])).contents[0].text.encode()
        assert file == {
            "uri": entry["uri"],
            "digest": f"sha256:{hashlib.sha256(text).hexdigest()}",
            "size": len(text),
        }
        got = await client.session.send_request(GetSkill(params=GetSkillParams(uri=entry["uri"])), ANYTHING)
        assert got["skill"] == entry
        for uri in ("skill://bmad/nobody/SKILL.md", "skill://bmad/dev/OTHER.md", "skill://other/dev/SKILL.md"):
            with pytest.raises(MCPError) as refused:
                await client.session.send_request(GetSkill(params=GetSkillParams(uri=uri)), ANYTHING)
            assert refused.value.error.code == INVALID_PARAMS
            with pytest.raises(MCPError):
                await client.read_resource(uri)
        # Who knows no skills finds the same persona as a prompt.
        assert "dev" in {prompt.name for prompt in (await client.list_prompts()).prompts}


def _install(version, made):
    """The Inspector, and a Node that is new enough for it where this machine has none."""
    work = CACHE / f"work-inspector-{version}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "package.json").write_text('{"private": true}')
    wanted = [f"@modelcontextprotocol/inspector@{version}"]
    if _node_version() < (22, 19):
        wanted.append(f"node@{NODE}")
    _npm(work, "install", "--no-audit", "--no-fund", "--silent", *wanted)
    work.rename(made)


def _node_version() -> tuple[int, ...]:
    told = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    return tuple(int(part) for part in re.findall(r"\d+", told)[:2])


@pytest.mark.parametrize("era", ["legacy", pytest.param("modern", marks=pytest.mark.soak)])
async def test_the_inspector_finds_nothing_wrong(server_env, era):
    home = _made(f"inspector-{INSPECTOR}", INSPECTOR, _install)
    node = home / "node_modules/.bin/node"
    process = await asyncio.create_subprocess_exec(
        *(str(node) if node.exists() else "node", str(home / LAUNCHER), "--cli", "--protocol-era", era),
        *(part for name, value in server_env.items() for part in ("-e", f"{name}={value}")),
        *("--method", "skills/list", "--verify", "--require-digests", "--connect-timeout", "60000"),
        *(sys.executable, "-m", "bmad_mcp", "serve", "--project", fresh_key("skills")),
        env=os.environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    reports = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, err.decode()
    assert len(reports) >= 14
    assert {report["outcome"] for report in reports} == {"verified"}
    assert [report["conformance"] + report["frontmatter"] for report in reports if report["conformance"]] == []

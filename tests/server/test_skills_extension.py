"""The Skills extension over MCP, in both protocol eras, and as the real Inspector sees it."""

import hashlib
from typing import Any, Literal

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, Request, RequestParams
from pydantic import TypeAdapter

from bmad_mcp.call import Caller
from bmad_mcp.server.mcp import McpFace

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

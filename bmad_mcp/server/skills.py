"""The Skills extension (SEP-2640): the project's personas and workflows as `skill://` files with their digests."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import RequestParams, TextResourceContents
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from bmad_mcp.errors import NotFound
from bmad_mcp.skills.schemas import SkillBrief

EXTENSION = "io.modelcontextprotocol/skills"
MEDIA_TYPE = "text/markdown"
PAGE = 50
# An import changes them; hosts check each text against its digest, so a stale entry does no harm.
FRESH_MS = 60_000

Perform = Callable[..., Awaitable[Any]]
_URI = re.compile(r"skill://bmad/([a-z0-9-]{1,64})/SKILL\.md")


class GetSkillParams(RequestParams):
    """The parameters of `skills/get`."""

    uri: str


def uri_of(skill: str) -> str:
    """The address of a skill's text."""
    return f"skill://bmad/{skill}/SKILL.md"


async def declare(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """The SDK's middleware: says to clients of earlier versions, too, that there are skills; the SDK leaves that out."""
    result = await call_next(ctx)
    if ctx.method == "initialize" and isinstance(result, dict):
        told = result["capabilities"]
        told["extensions"] = {**told.get("extensions", {}), EXTENSION: {}}
    return result


async def list_skills(perform: Perform, cursor: str | None, version: str) -> dict[str, Any]:
    """The result of `skills/list`; `perform(operation, **input)` reads."""
    page = await perform("skill_list", limit=PAGE, cursor=cursor)
    result: dict[str, Any] = {"skills": [_entry(one) for one in page.items]}
    return _cached(result | ({"nextCursor": page.next_cursor} if page.next_cursor else {}), version)


async def get_skill(perform: Perform, uri: str, version: str) -> dict[str, Any]:
    """The result of `skills/get`; raises NotFound."""
    return _cached({"skill": _entry(await _find(perform, uri))}, version)


async def read(perform: Perform, uri: str) -> TextResourceContents | None:
    """What `resources/read` answers for a skill's text; None when the address is no skill's. Raises NotFound."""
    if not uri.startswith("skill://"):
        return None
    found = await _find(perform, uri)
    return TextResourceContents(uri=uri, text=found.text, mime_type=MEDIA_TYPE)


async def _find(perform: Perform, uri: str) -> Any:
    matched = _URI.fullmatch(uri)
    if matched is None:
        raise NotFound(f"No skill is served at {uri[:200]!r}. skills/list shows them.", field="uri")
    return await perform("skill_get", skill=matched[1])


def _entry(skill: SkillBrief) -> dict[str, Any]:
    uri = uri_of(skill.skill)
    return {
        "uri": uri,
        "frontmatter": {"name": skill.skill, "description": skill.description},
        "resources": [{"uri": uri, "digest": f"sha256:{skill.digest}", "size": skill.bytes}],
    }


def _cached(result: dict[str, Any], version: str) -> dict[str, Any]:
    # The versions before know no such fields.
    if version in MODERN_PROTOCOL_VERSIONS:
        result |= {"ttlMs": FRESH_MS, "cacheScope": "private"}
    return result

"""Which story a turn of the development loop is about."""

import re
from collections.abc import Mapping
from typing import Any

from bmad_mcp.call import Call
from bmad_mcp.errors import NotFound
from bmad_mcp.workflows import queries

# A bare number in a note may be a version or a price: only a key that begins the note or follows "story" counts.
_NAMED = re.compile(r"(?:^\s*|\bstory[ \t:]+)(\d{1,6}\.\d{1,6}[a-z]?)(?![\w.]*\d)", re.IGNORECASE)
_IN_PATH = re.compile(r"(?:^|/)(\d{1,6})[.-](\d{1,6})([a-z]?)[.-][^/]*$")


def story_named(note: str | None) -> str | None:
    """The key of the story that a note names: `1.2`, `1.2: go on`, `we take story 1.2`."""
    match = _NAMED.search(note or "")
    return match[1].lower() if match else None


def story_of_path(path: str | None) -> str | None:
    """The key in a story file's name: 1.2 for `docs/stories/1.2.login.md` and for `1-2-login.md`."""
    match = _IN_PATH.search(path or "")
    return f"{match[1]}.{match[2]}{match[3]}" if match else None


async def next_story(call: Call, run: Mapping[str, Any], note: str | None) -> str | None:
    """The story of the next turn: the one that the note names, else the next in order; raises NotFound."""
    named = story_named(note)
    if named is None:
        return await next_in_order(call, run)
    if not await _exists(call, named):
        raise NotFound(
            f"`note` names story {named}, which this project does not have. story_list shows them.", field="note"
        )
    return named


async def next_in_order(call: Call, run: Mapping[str, Any]) -> str | None:
    """The first story that is to be built and that neither this run nor another one has had; None without one."""
    found: str | None = await call.db.fetchval(queries.NEXT_STORY, run["id"])
    return found


async def settle(call: Call, run: Mapping[str, Any], stage: Any, note: str | None, artifact: str | None) -> Any:
    """The stage with its turn's story, when the stage that writes the story is closed: the one it names, or the next."""
    for named in (story_named(note), story_of_path(artifact)):
        if named is not None and named != stage["story_key"] and await _exists(call, named):
            return await about(call, run, stage, named)
    return stage if stage["story_key"] else await about(call, run, stage, await next_in_order(call, run))


async def about(call: Call, run: Mapping[str, Any], stage: Any, story: str | None) -> Any:
    """The stage with this story, which it and the stages of its turn that are still to be done are about from now on."""
    if story is None:
        return stage
    await call.db.execute(queries.SET_STORY, run["id"], story)
    return {**stage, "story_key": story}


async def _exists(call: Call, story: str) -> bool:
    return await call.db.fetchval(queries.STORY_ID, story) is not None

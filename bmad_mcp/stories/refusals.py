"""Why something cannot be done with a story, in sentences."""

from typing import Any

from bmad_mcp.db import Transaction
from bmad_mcp.errors import InvalidMove, NotFound, VersionConflict
from bmad_mcp.stories.queries import TOLD_OF_FILES


def unknown_story(story: str) -> NotFound:
    """The error for a key that no story of the project has."""
    return NotFound(f"There is no story {story}. story_list shows the stories.", field="story")


async def changed_meanwhile(db: Transaction, now: Any, expected: int) -> VersionConflict:
    """The error for a stale version; `now` is the row of STATE and tells who changed it."""
    when = f"at {now['updated_at']:%Y-%m-%d %H:%M:%S} UTC"
    if expected > now["version"]:
        who = "it never had that version"
    else:
        told = now
        if now["told_at"] != now["updated_at"]:
            told = await db.fetchrow(TOLD_OF_FILES, now["updated_at"])
        # A claimed task takes its story along and is told under the task.
        who = (
            f"{await db.person(told['told_by'])} changed it {when} ({told['told_operation']})"
            if told
            else f"it changed {when}"
        )
    return VersionConflict(
        f"Story {now['key']} is at version {now['version']}, not {expected}: {who}."
        " Read it with story_get and try again with that version.",
        field="expected_version",
    )


def gate_missing(asked: Any) -> InvalidMove:
    """The error for a story that may not be done before its gate; `asked` is the row of GATE_ASKED."""
    has = f"its gate is {asked['word']}" if asked["word"] else "it has no gate"
    wanted = "PASS, WAIVED or CONCERNS" if asked["accepts"] == "concerns" else "PASS or WAIVED"
    return InvalidMove(
        f"Story {asked['key']} cannot become done: the project's configuration asks for a gate of {wanted}, and {has}."
        f" Record one with gate_record (agent qa, toolset quality) or `POST /gates`, then call story_update again.",
        field="status",
    )

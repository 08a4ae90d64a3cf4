"""What can be asked about skills: the project's personas and workflows as texts for assistants."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from bmad_mcp.call import Call
from bmad_mcp.errors import NotFound
from bmad_mcp.operation import Operation
from bmad_mcp.shapes import Cursor, DefinitionName, Limit, decode_cursor, encode_cursor
from bmad_mcp.skills import queries
from bmad_mcp.skills.schemas import SkillBrief, SkillOut, SkillPage
from bmad_mcp.skills.writing import description_of, skill_text


async def skill_list(call: Call, limit: Limit = 20, cursor: Cursor | None = None) -> SkillPage:
    """List the personas and workflows that assistants can load as skills."""
    after = decode_cursor(cursor, str, str) if cursor else ("", "")
    rows = await call.db.fetch(queries.LIST, *after, limit + 1)
    following = encode_cursor(rows[limit - 1]["kind"], rows[limit - 1]["skill"]) if len(rows) > limit else None
    briefs = [SkillBrief.of(_facts(row, skill_text(row))) for row in rows[:limit]]
    return SkillPage(items=briefs, next_cursor=following)


async def skill_get(
    call: Call, skill: Annotated[DefinitionName, Field(description="A persona or workflow, such as dev.")]
) -> SkillOut:
    """Read a skill: how to work as this persona or to run this workflow."""
    row = await call.db.fetchrow(queries.ONE, skill)
    if row is None:
        raise NotFound(f"There is no skill {skill!r}. skill_list shows them.", field="skill")
    text = skill_text(row)
    return SkillOut.of(_facts(row, text), text=text)


def _facts(row: Mapping[str, Any], text: str) -> dict[str, Any]:
    written = text.encode()
    return {
        "skill": row["skill"],
        "kind": row["kind"],
        "description": description_of(row["kind"], row["skill"]),
        "digest": hashlib.sha256(written).hexdigest(),
        "bytes": len(written),
    }


OPERATIONS = (
    Operation(skill_list, "GET /skills", toolset=None),
    Operation(skill_get, "GET /skills/{skill}", toolset=None),
)

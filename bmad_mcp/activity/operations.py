"""What can be asked of the activity trail."""

import re
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from bmad_mcp.activity import queries
from bmad_mcp.activity.record import FIRST_ID
from bmad_mcp.activity.schemas import ActivityItem, ActivityPage
from bmad_mcp.activity.since import Since, moment_by
from bmad_mcp.call import Call
from bmad_mcp.errors import Invalid
from bmad_mcp.operation import Operation
from bmad_mcp.shapes import AgentName, Cursor, Limit, decode_cursor, encode_cursor

_NOUNS = {"T": "task", "W": "workflow", "H": "handoff", "A": "artifact"}


def subject_of(key: str) -> str:
    """A subject as the trail names it: `task T-41` for `T-41`, `story 1.2` for `1.2`; anything else as it is."""
    text = key.strip()
    if numbered := re.fullmatch(r"([TWHA])-?(\d{1,9})", text, re.IGNORECASE):
        letter = numbered[1].upper()
        return f"{_NOUNS[letter]} {letter}-{int(numbered[2])}"
    if re.fullmatch(r"\d{1,6}\.\d{1,6}[a-z]?", text):
        return f"story {text}"
    if re.fullmatch(r"\d{1,6}", text):
        return f"epic {int(text)}"
    return text if " " in text else f"agent {text}"


async def activity_list(
    call: Call,
    agent: AgentName | None = None,
    subject: Annotated[str | None, Field(min_length=1, max_length=200, description="A key: T-41, 1.2, W-3.")] = None,
    since: Since | None = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> ActivityPage:
    """List what happened, newest first."""
    sql, values, order = queries.LIST, list[Any](), "a.id DESC"
    if agent is not None:
        values.append(agent)
        order = f"a.agent DESC, {order}"
        sql += queries.BY_AGENT.format(value=f"${len(values)}")
    if subject is not None:
        values.append(subject_of(subject))
        sql += f" AND a.subject = ${len(values)}::text"
    if since is not None:
        values.append(await moment_by(call.db, since))
        sql += f" AND a.at >= ${len(values)}::timestamptz"
        # Rows are read by their ids, so only a bound on those ends the search.
        sql += f" AND a.id >= {FIRST_ID.format(moment=f'${len(values)}::timestamptz')}"
    if cursor is not None:
        values.append(_position(cursor))
        sql += f" AND a.id < ${len(values)}::uuid"
    rows = await call.db.fetch(f"{sql} ORDER BY {order} LIMIT {limit + 1}", *values)
    page = rows[:limit]
    following = encode_cursor(str(page[-1]["id"])) if len(rows) > limit else None
    return ActivityPage(items=[ActivityItem.of(await _readable(call, row)) for row in page], next_cursor=following)


async def _readable(call: Call, row: Any) -> Any:
    """The row with the names of people: of who called, and those that its subject and its note may have."""
    if call.db.vault is None:
        return row
    row = {**row, "by": await call.db.person(row["by"])}
    noun, _, name = row["subject"].partition(" ")
    if noun not in ("member", "token"):
        return row
    if noun == "token":
        return {**row, "note": await call.db.person(row["note"])}
    return {**row, "subject": f"{noun} {await call.db.person(name)}"}


def _position(cursor: str) -> UUID:
    (position,) = decode_cursor(cursor, str)
    try:
        return UUID(position)
    except ValueError:
        raise Invalid(
            "`cursor` is not one that a list gave you. Leave it out to start at the first page.", field="cursor"
        ) from None


OPERATIONS = (
    Operation(activity_list, "GET /activity", toolset="analytics", resource="bmad://activity", may_be_old=True),
)

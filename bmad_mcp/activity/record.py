"""Writes the trail: one row for each change, in the change's own transaction."""

from typing import Any

from bmad_mcp.activity.acting import ACTING_AGENT
from bmad_mcp.call import Call

# For the CTEs of hot paths: $-parameters are the caller's to number.
COLUMNS = "(project_id, operation, subject, agent, principal, call_id, detail)"

RECORD = f"""
INSERT INTO bmad_agent_activity {COLUMNS}
VALUES (bmad_project(), $1, $2, coalesce($3::text, {ACTING_AGENT.format(caller="$7")}), $4, $5, $6)
"""

# The lowest id of a row that was written at a moment or after it: ids begin with the milliseconds of their making.
FIRST_ID = "(lpad(to_hex(floor(extract(epoch FROM {moment}) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid"

# `Caller.mark` of a connection as sessions keep it, for a row of this principal; the row's call ends with it.
MARK = """left(encode(sha256(convert_to(CASE WHEN starts_with({caller}, 'http:' || {principal})
    THEN substr({caller}, length('http:' || {principal}) + 1) ELSE {caller} END, 'UTF8')), 'hex'), 8)"""

# Longer notes belong into what the trail tells of.
LONGEST_NOTE = 300


def noted(call: Call, text: str) -> str:
    """The beginning of a text that the trail may keep; nothing where texts are encrypted, as the trail never changes."""
    return text[:LONGEST_NOTE] if call.db.vault is None else ""


async def record(call: Call, subject: str, *, agent: str | None = None, **detail: Any) -> None:
    """Add a row: the subject is a key with its noun, such as `task T-41`; the detail is small JSON, no long texts.

    Without `agent` it is the one in session of the caller, if any is.
    """
    kept = {name: value for name, value in detail.items() if value is not None}
    caller = call.caller
    await call.db.execute(RECORD, call.operation, subject, agent, caller.principal, call.id, kept, caller.connection)

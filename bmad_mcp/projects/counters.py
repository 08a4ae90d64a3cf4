"""Numbers for keys that people read."""

from bmad_mcp.call import Call

# The row lock makes numbers unique; it is held to the end of the transaction.
NEXT_NUMBER = """
INSERT INTO mcp_counters AS c (project_id, kind, value) VALUES (bmad_project(), $1, $2)
ON CONFLICT (project_id, kind) DO UPDATE SET value = c.value + $2
RETURNING value
"""


async def next_number(call: Call, kind: str, count: int = 1) -> int:
    """The next free number of a kind (`task`, `workflow`, `handoff`, `artifact`); with `count`, the first of a run."""
    last: int = await call.db.fetchval(NEXT_NUMBER, kind, count)
    return last - count + 1

"""The guard against making a thing twice: a host that waited too long asks again, without an `idempotency_key`."""

import hashlib
import json
import unicodedata
from typing import Any, NoReturn

from bmad_mcp.activity.acting import ACTING_AGENT
from bmad_mcp.call import Call
from bmad_mcp.errors import Conflict


def _key(of: str, connection: str) -> str:
    """SQL of the row's key: the mark of the thing, and the agent in session on the connection."""
    return f"{of}::text || coalesce(' ' || {ACTING_AGENT.format(caller=connection)}, '')"


# What was made is found by the call that made it: the trail has its row of the same moment.
MADE = f"""
SELECT a.subject, extract(epoch FROM clock_timestamp() - i.created_at)::float8 AS seconds
FROM mcp_idempotency i LEFT JOIN bmad_agent_activity a ON a.project_id = i.project_id AND a.at = i.created_at
    AND a.call_id = i.request_hash AND starts_with(a.subject, $5::text)
WHERE i.project_id = bmad_project() AND i.principal = $1::text AND i.operation = $2::text AND i.key = {_key("$3", "$4")}
ORDER BY a.id LIMIT 1
"""


def unless_similar(first: int) -> str:
    """The CTE `fresh`, which has one row; none where the same was made a moment ago. The values of `marks` begin at $`first`.

    Of two at once the second waits for the first: they write the same row.
    """
    principal, operation, of, connection, call_id, seconds = (f"${number}" for number in range(first, first + 6))
    return f"""fresh AS (
    INSERT INTO mcp_idempotency AS i (project_id, principal, operation, key, request_hash)
    SELECT bmad_project(), {principal}::text, {operation}::text,
        {_key(of, connection)}, {call_id}::text
    ON CONFLICT (project_id, principal, operation, key)
    DO UPDATE SET request_hash = excluded.request_hash, created_at = excluded.created_at
    WHERE i.created_at <= clock_timestamp() - make_interval(secs => {seconds}::int)
    RETURNING true
)"""


CHECK = f"WITH {unless_similar(1)} SELECT true FROM fresh"


def marks(call: Call, title: str, *place: str | None) -> tuple[Any, ...]:
    """The values for `unless_similar`: what makes it the same thing is its title and where it belongs. Empty: no guard."""
    if call.similar_seconds is None:
        return ()
    words = unicodedata.normalize("NFKC", title).casefold().split()
    of = hashlib.sha256(json.dumps([" ".join(words), *place]).encode()).hexdigest()
    # No call with a key has an operation of that name.
    return (
        call.caller.principal,
        f"similar {call.operation}",
        of,
        call.caller.connection,
        call.id,
        call.similar_seconds,
    )


async def refuse_similar(call: Call, same: tuple[Any, ...]) -> NoReturn:
    """Raises Conflict, naming what was made a moment ago."""
    kind = call.operation.partition("_")[0]
    row = await call.db.fetchrow(MADE, *same[:4], f"{kind} ")
    made = row["subject"] if row is not None and row["subject"] else f"a {kind}"
    ago = f"{max(row['seconds'], 0):.0f} s ago" if row is not None else "just now"
    raise Conflict(
        f"You made {made} {ago} under the same title, and this call has no `idempotency_key`: nothing was made. If the"
        f" first answer was lost, go on with {made}. To make another one, give another title or an `idempotency_key`.",
        field="title",
    )


async def check_similar(call: Call, title: str, *place: str | None) -> None:
    """The guard as a statement of its own, in the transaction that makes the thing."""
    same = marks(call, title, *place)
    if same and await call.db.fetchval(CHECK, *same) is None:
        await refuse_similar(call, same)

"""Ends sessions whose assistants are gone: at the end of their server, and when nothing was heard of them for long."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bmad_mcp.agents import queries
from bmad_mcp.call import Call, Caller, OpenProject
from bmad_mcp.memory.keeping import call_on

# A session in which nothing was done for so long, and whose agent holds no task, is over.
SILENT = timedelta(hours=8)
OPERATION = "agent_deactivate"
CLIENT_LEFT = "ended by the server: its client is gone"
WAS_SILENT = f"ended by the server: nothing was done in it for {SILENT // timedelta(hours=1)} hours"


async def end_sessions_of(opened: OpenProject, caller: Caller) -> int:
    """End what this caller has open, as its client is gone; held tasks stay until their leases pass."""
    async with call_on(opened, caller, OPERATION) as call:
        return await _end(call, await call.db.fetch(queries.OPEN_SESSIONS, caller.connection), CLIENT_LEFT)


async def end_silent_sessions(opened: OpenProject, caller: Caller) -> int:
    """End the sessions in which nothing was done for `SILENT`; how many that were."""
    async with call_on(opened, caller, OPERATION) as call:
        return await _end(call, await call.db.fetch(queries.SILENT_SESSIONS, SILENT), WAS_SILENT)


async def _end(call: Call, sessions: Sequence[Any], why: str) -> int:
    if not sessions:
        return 0
    await call.db.execute(queries.LOCK_SESSIONS)
    ids = [session["id"] for session in sessions]
    ended: int = await call.db.fetchval(queries.END_SESSIONS, ids, call.caller.principal, call.id, why)
    return ended

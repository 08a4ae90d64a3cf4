"""The agent that acts: the one named, or the one that the caller's connection activated last."""

from bmad_mcp.agents.lookup import agent_name
from bmad_mcp.call import Call
from bmad_mcp.errors import Forbidden
from bmad_mcp.stories import queries


async def acting_agent(call: Call, named: str | None = None) -> str | None:
    """The name of the agent in session, or None when a person acts.

    A named agent must have an open session in this project: raises Forbidden without one, NotFound when unknown.
    """
    if named is None:
        found: str | None = await call.db.fetchval(queries.AGENT_IN_SESSION, call.caller.connection)
        return found
    agent = await agent_name(call, named)
    if not await call.db.fetchval(queries.HAS_SESSION, agent):
        raise Forbidden(f"{agent} is not in session. Call agent_activate with agent={agent!r} first.", field="agent")
    return agent

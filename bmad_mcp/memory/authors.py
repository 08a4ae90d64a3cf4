"""Finds whose memory it is: the agent that is named, or the one in session."""

from bmad_mcp.call import Call
from bmad_mcp.errors import NotFound
from bmad_mcp.memory import queries


async def author_of(call: Call, agent: str | None) -> str | None:
    """The agent's own name, or that of the caller's session when none is named; raises NotFound naming the agents."""
    row = await call.db.fetchrow(queries.AUTHOR, agent, call.caller.connection)
    if agent is None:
        in_session: str | None = row["in_session"]
        return in_session
    if row["named"] is None:
        raise NotFound(
            f"There is no agent {agent!r} in this project. There are: {row['known'] or 'none'}.", field="agent"
        )
    named: str = row["named"]
    return named

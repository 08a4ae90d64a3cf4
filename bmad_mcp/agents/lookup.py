"""Finds an agent by its name or by any name it answers to."""

from bmad_mcp.call import Call
from bmad_mcp.errors import NotFound

FIND = """
SELECT name FROM bmad_agents
WHERE project_id = bmad_project() AND (name = $1::text OR $1::text = ANY(aliases))
ORDER BY name <> $1::text, name LIMIT 1
"""
NAMES = "SELECT array_agg(name ORDER BY name) FROM bmad_agents WHERE project_id = bmad_project()"


async def agent_name(call: Call, agent: str) -> str:
    """The name of the agent that answers to `agent` (`bmad-agent-dev` → `dev`); raises NotFound naming those there are."""
    name: str | None = await call.db.fetchval(FIND, agent)
    if name is None:
        known = ", ".join(await call.db.fetchval(NAMES) or []) or "none"
        raise NotFound(f"There is no agent {agent!r} in this project. There are: {known}.", field="agent")
    return name

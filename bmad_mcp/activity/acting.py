"""Who acts: the agent in session of the caller, whatever role the work is meant for."""

# For statements of any feature: `caller` is their parameter with the call's connection. Agents and their sessions lie
# above the trail and are only read here.
ACTING_AGENT = """(SELECT a.name FROM bmad_agent_sessions n JOIN bmad_agents a
        ON a.project_id = n.project_id AND a.id = n.agent_id
     WHERE n.project_id = bmad_project() AND n.caller = {caller}::text AND n.ended_at IS NULL
     ORDER BY n.started_at DESC, n.id DESC LIMIT 1)"""

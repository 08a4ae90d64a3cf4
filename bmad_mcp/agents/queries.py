"""SQL of agents, their sessions and their work; tasks, stories, stages and handoffs are read to show what waits."""

from bmad_mcp.activity.record import COLUMNS, FIRST_ID, MARK
from bmad_mcp.agents.persona import MAY_EDIT
from bmad_mcp.encryption.queries import beginning_of
from bmad_mcp.lifecycles import AGENT, HANDOFF_OVER, TASK_HELD, TASK_LEFT, TASK_TO_REVIEW, AgentStatus


def held_by(agent: str, fields: str, most: int | None = None) -> str:
    """SQL of the tasks that an agent holds, the first `most` of them by their numbers.

    In two parts: tasks stay under review when their lease has passed, and only the end of the lease finds the few others.
    """
    first = f" ORDER BY t.number LIMIT {most}" if most else ""
    parts = (
        f"(SELECT {fields} FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.lease_agent = {agent}"
        f" AND {only} AND {TASK_HELD}{first})"
        for only in (
            "t.status IN ('active', 'in_progress')",
            "t.status = 'review' AND t.lease_until > statement_timestamp()",
        )
    )
    return f"(SELECT t.* FROM ({' UNION ALL '.join(parts)}) t{first})"


# No status says that the work of an open handoff has ended, so such ones stay; only the newest open ones are looked at.
HANDOFFS_LOOKED_AT = 100


def waiting_handoffs(most: int, which: str = "") -> str:
    """SQL of the open handoffs that somebody has to take up, the first `most` of them by their numbers."""
    return f"""(SELECT h.* FROM (
        SELECT h.* FROM bmad_agent_collaborations h
        WHERE h.project_id = bmad_project() {which} AND h.status = 'offered'
        ORDER BY h.number DESC LIMIT {HANDOFFS_LOOKED_AT}) h
    WHERE NOT {HANDOFF_OVER} ORDER BY h.number LIMIT {most})"""


# `agent_status` of lifecycles, in SQL.
STATUS = "CASE WHEN a.status IN ('idle', 'active') AND held.key IS NOT NULL THEN 'busy' ELSE a.status::text END"
HELD_TASK = f"""
LEFT JOIN LATERAL (
    SELECT 'T-' || t.number AS key FROM {held_by("a.name", "t.number", 1)} t
) held ON true
"""
# In an array, the name is no constant of the order: else the planner reads the trail by time for the rows of a rare agent.
LAST_SEEN = """
date_trunc('second', greatest(a.last_seen_at, (
    SELECT y.at FROM bmad_agent_activity y
    WHERE y.project_id = bmad_project() AND y.agent = ANY(ARRAY[a.name])
    ORDER BY y.agent DESC, y.id DESC LIMIT 1))) AS last_seen
"""

LIST = f"""
SELECT a.name AS agent, a.display_name AS name, a.title, {STATUS} AS status, held.key AS task, {LAST_SEEN}
FROM bmad_agents a {HELD_TASK}
WHERE a.project_id = bmad_project() AND ($1::text IS NULL OR {STATUS} = $1::text)
  AND ($2::text IS NULL OR a.name > $2::text)
ORDER BY a.name LIMIT $3::int
"""

_HELD_TASKS = f"""(
    SELECT jsonb_agg(jsonb_build_object('key', t.key, 'title', t.title, 'status', t.status, 'story', t.story,
        'lease', t.lease, 'lease_until', t.lease_until) ORDER BY t.number)
    FROM (SELECT t.number, 'T-' || t.number AS key, left(t.title, 120) AS title, t.status::text AS status, t.lease,
            date_trunc('second', t.lease_until) AS lease_until,
            (SELECT s.key FROM bmad_stories s WHERE s.project_id = bmad_project() AND s.id = t.story_id) AS story
          FROM {held_by("a.name", "t.number, t.title, t.status, t.lease, t.lease_until, t.story_id", 10)} t) t
) AS held"""
# What it had when its lease passed and nobody took over; what waits for a reviewer.
_LISTED = """(
    SELECT jsonb_agg(jsonb_build_object('key', 'T-' || t.number, 'title', left(t.title, 120), 'priority', t.priority,
        'story', (SELECT s.key FROM bmad_stories s WHERE s.project_id = bmad_project() AND s.id = t.story_id))
        ORDER BY t.number)
    FROM (SELECT t.number, t.title, t.priority, t.story_id FROM bmad_tasks t
          WHERE t.project_id = bmad_project() AND {those} ORDER BY t.number LIMIT 5) t
)"""
_LAPSED = f"{_LISTED.format(those=f't.lease_agent = a.name AND {TASK_LEFT}')} AS lapsed"
_REVIEW = f"CASE a.name WHEN 'qa' THEN {_LISTED.format(those=TASK_TO_REVIEW)} END AS review"
_READY_OF = """(SELECT t.number, t.title, t.priority, t.story_id FROM bmad_tasks t
           WHERE t.project_id = bmad_project() AND t.status = 'pending' AND t.open_dependencies = 0 AND t.story_open
             AND t.agent = {role} ORDER BY t.priority DESC, t.number LIMIT 5)"""
_READY = f"""(
    SELECT jsonb_agg(jsonb_build_object('key', 'T-' || t.number, 'title', left(t.title, 120), 'priority', t.priority,
        'story', (SELECT s.key FROM bmad_stories s WHERE s.project_id = bmad_project() AND s.id = t.story_id))
        ORDER BY t.priority DESC, t.number)
    FROM (SELECT r.* FROM ({_READY_OF.format(role="a.name")} UNION ALL {_READY_OF.format(role="''")}) r
          ORDER BY r.priority DESC, r.number LIMIT 5) t
) AS ready"""
# In hand: the story of a task it holds; else the one under review for the reviewer, the first draft for who completes it,
# the one in progress for the rest.
_PLANNERS = ", ".join(f"'{agent}'" for agent, sections in MAY_EDIT.items() if "Story" in sections)
_STORY_FIELDS = "jsonb_build_object('key', s.key, 'title', left(s.title, 120), 'status', s.status)"
_FIRST_STORY = f"""(SELECT {_STORY_FIELDS} FROM bmad_stories s
    WHERE s.project_id = bmad_project() AND s.status = '{{status}}'
    ORDER BY s.epic_number, s.number, s.suffix LIMIT 1)"""
# OFFSET 0: the few tasks that it holds come first, and then the story of each.
_STORY_HELD = f"""(SELECT {_STORY_FIELDS} FROM {held_by("a.name", "t.story_id")} t CROSS JOIN LATERAL (
        SELECT x.* FROM bmad_stories x WHERE x.project_id = bmad_project() AND x.id = t.story_id OFFSET 0) s
    ORDER BY s.epic_number, s.number, s.suffix LIMIT 1)"""
_STORY = f"""coalesce({_STORY_HELD}, CASE WHEN a.name = 'qa' THEN {_FIRST_STORY.format(status="review")}
    WHEN a.name IN ({_PLANNERS}) THEN {_FIRST_STORY.format(status="draft")} END,
    CASE WHEN a.name <> 'qa' THEN {_FIRST_STORY.format(status="in_progress")} END) AS story"""
_HANDOFFS = f"""(
    SELECT jsonb_agg(jsonb_build_object('key', 'H-' || h.number, 'id', h.id, 'from', h.from_agent, 'note', h.note, 'task', h.task,
        'story', h.story) ORDER BY h.number)
    FROM (SELECT c.number, c.id, c.from_agent, {beginning_of("c.note", 300)} AS note,
            (SELECT 'T-' || t.number FROM bmad_tasks t WHERE t.project_id = c.project_id AND t.id = c.task_id) AS task,
            (SELECT s.key FROM bmad_stories s WHERE s.project_id = c.project_id AND s.id = c.story_id) AS story
          FROM {waiting_handoffs(5, "AND h.to_agent = a.name")} c) h
) AS handoffs"""
# A stage names one role, or several as `pm/architect`, perhaps by a name that the agent also answers to.
_STAGES = """(
    SELECT jsonb_agg(jsonb_build_object('workflow', g.workflow, 'position', g.position, 'do', g.do,
        'creates', g.creates, 'story', g.story_key) ORDER BY g.number, g.position)
    FROM (SELECT w.number, 'W-' || w.number AS workflow, st.position, left(coalesce(st.action, st.step), 160) AS do,
            left(st.creates, 160) AS creates, st.story_key
          FROM bmad_workflow_stages st
          JOIN bmad_workflows w ON w.project_id = st.project_id AND w.id = st.workflow_id AND w.status = 'active'
          WHERE st.project_id = bmad_project() AND st.status = 'active'
            AND string_to_array(lower(replace(st.agent, ' ', '')), '/') && (a.aliases || a.name)
          ORDER BY w.number, st.position, st.iteration LIMIT 5) g
) AS stages"""

WITH_WORK = f"""
SELECT a.id, a.name AS agent, a.display_name AS name, a.title, a.icon, {STATUS} AS status, a.persona, a.commands,
    a.aliases, a.when_to_use, a.dependencies, a.source, a.source_path, a.content, a.version, held.key AS task,
    {LAST_SEEN},
    (SELECT count(*) FROM bmad_agent_sessions x
     WHERE x.project_id = a.project_id AND x.agent_id = a.id AND x.ended_at IS NULL) AS sessions,
    {_HELD_TASKS}, {_LAPSED}, {_REVIEW}, {_READY}, {_STORY}, {_HANDOFFS}, {_STAGES}
FROM bmad_agents a {HELD_TASK}
WHERE a.project_id = bmad_project() AND (a.name = $1 OR $1 = ANY(a.aliases))
ORDER BY a.name <> $1, a.name LIMIT 1
"""

# Sessions open and close one after another in a project: whether an agent has another open session is then certain.
LOCK_SESSIONS = "SELECT pg_advisory_xact_lock(hashtextextended('bmad sessions ' || bmad_project(), 0))"

KEEP_SUMMARY = """
UPDATE bmad_agent_sessions SET summary = $2 WHERE project_id = bmad_project() AND id = $1::uuid
"""


def _ended(which: str, besides: str = "") -> str:
    """CTEs that end sessions `s`; agents without another one are idle then, but those that `besides` leaves out."""
    return f"""earlier AS (
    UPDATE bmad_agent_sessions AS s SET ended_at = clock_timestamp()
    WHERE s.project_id = bmad_project() AND {which} AND s.ended_at IS NULL
    RETURNING s.id, s.agent_id
), settled AS (
    UPDATE bmad_agents AS a SET {AGENT.set_sql(AgentStatus.IDLE)}, updated_at = now(), version = a.version + 1
    WHERE a.project_id = bmad_project() {besides} AND a.id IN (SELECT agent_id FROM earlier)
      AND {AGENT.may_sql(AgentStatus.IDLE, "a.status")}
      AND NOT EXISTS (SELECT FROM bmad_agent_sessions o
        WHERE o.project_id = a.project_id AND o.agent_id = a.id AND o.ended_at IS NULL
          AND o.id NOT IN (SELECT id FROM earlier))
)"""


OPEN_SESSIONS = """
SELECT id FROM bmad_agent_sessions WHERE project_id = bmad_project() AND caller = $1::text AND ended_at IS NULL
"""
# Life is a row of the trail by the session's caller, or a task whose lease its heartbeats keep up.
SILENT_SESSIONS = f"""
SELECT s.id FROM bmad_agent_sessions s JOIN bmad_agents a ON a.project_id = s.project_id AND a.id = s.agent_id
WHERE s.project_id = bmad_project() AND s.ended_at IS NULL AND s.started_at < now() - $1::interval
  AND NOT EXISTS (SELECT FROM bmad_tasks t
    WHERE t.project_id = bmad_project() AND t.lease_agent = a.name AND {TASK_HELD})
  AND NOT EXISTS (SELECT FROM bmad_agent_activity y
    WHERE y.project_id = bmad_project() AND y.agent = ANY(ARRAY[a.name]) AND y.at >= now() - $1::interval
      AND y.id >= {FIRST_ID.format(moment="now() - $1::interval")}
      AND right(y.call_id, 8) = {MARK.format(caller="s.caller", principal="y.principal")})
"""
# No agent did this, so none was seen by it.
END_SESSIONS = f"""
WITH {_ended("s.id = ANY($1::uuid[])")}, audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT bmad_project(), 'agent_deactivate', 'agent ' || a.name, NULL, $2::text, $3::text,
        jsonb_build_object('note', $4::text)
    FROM earlier JOIN bmad_agents a ON a.project_id = bmad_project() AND a.id = earlier.agent_id
)
SELECT count(*) FROM earlier
"""

ACTIVATE = f"""
WITH {_ended("s.caller = $3::text", "AND a.id <> $1::uuid")}, activated AS (
    UPDATE bmad_agents AS a SET {AGENT.set_sql(AgentStatus.ACTIVE)}, last_seen_at = clock_timestamp(),
        updated_at = now(), version = a.version + 1
    WHERE a.project_id = bmad_project() AND a.id = $1::uuid AND {AGENT.may_sql(AgentStatus.ACTIVE, "a.status")}
    RETURNING a.id, a.name
), session AS (
    INSERT INTO bmad_agent_sessions (project_id, id, agent_id, caller, focus, started_at)
    SELECT bmad_project(), $2::uuid, activated.id, $3::text, $4::text, clock_timestamp() FROM activated
    RETURNING started_at
), audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT bmad_project(), 'agent_activate', 'agent ' || activated.name, activated.name, $5::text, $6::text,
        jsonb_strip_nulls(jsonb_build_object('note', nullif($7::text, '')))
    FROM activated
)
SELECT date_trunc('second', started_at) AS started_at, (
    SELECT array_agg(a.name ORDER BY a.name) FROM bmad_agents a
    WHERE a.project_id = bmad_project() AND a.id <> $1::uuid AND a.id IN (SELECT agent_id FROM earlier)) AS ended
FROM session
"""

# By the session's own caller: others may be in session as the same agent.
_DONE_IN_SESSION = f"""FROM bmad_agent_activity y
        WHERE y.project_id = bmad_project() AND y.agent = a.name AND y.at >= session.started_at
          AND y.id >= {FIRST_ID.format(moment="session.started_at")}
          AND right(y.call_id, 8) = {MARK.format(caller="session.caller", principal="y.principal")}"""
# The caller's own session of the agent; without one, the latest that anybody opened.
DEACTIVATE = f"""
WITH agent AS (
    SELECT a.id, a.name FROM bmad_agents a
    WHERE a.project_id = bmad_project() AND (a.name = $1::text OR $1::text = ANY(a.aliases))
    ORDER BY a.name <> $1::text, a.name LIMIT 1
), session AS (
    UPDATE bmad_agent_sessions AS s SET ended_at = clock_timestamp(), summary = nullif($3::text, '')
    WHERE s.project_id = bmad_project() AND s.id = (
        SELECT o.id FROM bmad_agent_sessions o JOIN agent ON o.agent_id = agent.id
        WHERE o.project_id = bmad_project() AND o.ended_at IS NULL
        ORDER BY o.caller = $2::text DESC, o.started_at DESC, o.id DESC LIMIT 1)
    RETURNING s.id, s.agent_id, s.caller, s.started_at, s.ended_at
), others AS (
    SELECT count(*) AS sessions FROM bmad_agent_sessions o, session
    WHERE o.project_id = bmad_project() AND o.agent_id = session.agent_id AND o.ended_at IS NULL AND o.id <> session.id
), settled AS (
    UPDATE bmad_agents AS a SET {AGENT.set_sql(AgentStatus.IDLE)}, last_seen_at = clock_timestamp(), updated_at = now(),
        version = a.version + 1
    FROM session, others
    WHERE a.project_id = bmad_project() AND a.id = session.agent_id AND others.sessions = 0
      AND {AGENT.may_sql(AgentStatus.IDLE, "a.status")}
    RETURNING a.status::text AS status
), audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT bmad_project(), 'agent_deactivate', 'agent ' || agent.name, agent.name, $4::text, $5::text,
        jsonb_strip_nulls(jsonb_build_object('note', nullif($6::text, '')))
    FROM session, agent
)
SELECT session.id, date_trunc('second', session.started_at) AS started_at,
    date_trunc('second', session.ended_at) AS ended_at, others.sessions, a.name AS agent, a.display_name AS name,
    a.title, coalesce((SELECT status FROM settled), a.status::text) AS status,
    (SELECT jsonb_object_agg(d.operation, d.times) FROM (
        SELECT y.operation, count(DISTINCT y.call_id) AS times {_DONE_IN_SESSION}
          AND y.operation NOT IN ('agent_activate', 'agent_deactivate') GROUP BY y.operation) d) AS done,
    (SELECT array_agg(DISTINCT substr(y.subject, 6)) {_DONE_IN_SESSION} AND y.operation = 'task_complete') AS completed,
    {_HELD_TASKS}
FROM session JOIN bmad_agents a ON a.project_id = bmad_project() AND a.id = session.agent_id, others
"""

"""SQL of handoffs."""

from bmad_mcp.activity.acting import ACTING_AGENT
from bmad_mcp.activity.record import COLUMNS
from bmad_mcp.agents.queries import HANDOFFS_LOOKED_AT
from bmad_mcp.encryption.queries import beginning_of
from bmad_mcp.lifecycles import HANDOFF, HANDOFF_OVER, HandoffStatus

FIELDS = """
    'H-' || h.number AS key, h.status, h.from_agent, h.to_agent AS to, h.accepted_by,
    date_trunc('second', h.created_at) AS created_at, date_trunc('second', h.accepted_at) AS accepted_at,
    (SELECT 'T-' || t.number FROM bmad_tasks t WHERE t.project_id = h.project_id AND t.id = h.task_id) AS task,
    (SELECT s.key FROM bmad_stories s WHERE s.project_id = h.project_id AND s.id = h.story_id) AS story
"""

# Offers of one work come one after another, so that of two at once the second finds the first.
# Who hands over: the agent in session of this caller, else whoever holds the task, else the user.
OFFERED = f"""
SELECT (SELECT a.name FROM bmad_agents a
        WHERE a.project_id = bmad_project() AND (a.name = $1::text OR $1::text = ANY(a.aliases))
        ORDER BY a.name <> $1::text, a.name LIMIT 1) AS to_agent,
    (SELECT string_agg(a.name, ', ' ORDER BY a.name) FROM bmad_agents a WHERE a.project_id = bmad_project()) AS known,
    {ACTING_AGENT.format(caller="$2")} AS in_session,
    t.id AS task_id, t.status::text AS task_status, t.story_id AS task_story_id,
    y.key AS task_story, coalesce(s.key, y.key) AS of_story, coalesce(s.status, y.status)::text AS story_status,
    CASE WHEN t.lease_until > clock_timestamp() THEN t.lease_agent END AS holder, s.id AS story_id,
    CASE WHEN $3::int IS NOT NULL OR $4::text IS NOT NULL THEN pg_advisory_xact_lock(
        hashtextextended(concat_ws(' ', 'bmad handoff', bmad_project(), coalesce('T-' || $3::int, $4::text)), 0)) END
FROM (SELECT 1) AS one
LEFT JOIN bmad_tasks t ON t.project_id = bmad_project() AND t.number = $3::int
LEFT JOIN bmad_stories y ON y.project_id = t.project_id AND y.id = t.story_id
LEFT JOIN bmad_stories s ON s.project_id = bmad_project() AND s.key = $4::text
"""

# A task is offered to one agent at a time and a story to each once: who offers it again changes the open handoff.
# That one takes the new id, as the note is sealed for it before anybody knows whether there is an open one.
OFFER = f"""
WITH was AS (
    SELECT o.number, o.to_agent FROM (
        SELECT h.* FROM bmad_agent_collaborations h WHERE h.project_id = bmad_project() AND h.status = 'offered'
        ORDER BY h.number DESC LIMIT {HANDOFFS_LOOKED_AT}) o
    WHERE o.from_agent = $2::text AND (o.task_id = $4::uuid
        OR ($4::uuid IS NULL AND o.task_id IS NULL AND o.story_id = $5::uuid AND o.to_agent = $3::text))
    ORDER BY o.number DESC LIMIT 1
), again AS (
    UPDATE bmad_agent_collaborations AS h SET id = $1::uuid, to_agent = $3::text, note = $6::text, updated_at = now(),
        version = h.version + 1
    FROM was WHERE h.project_id = bmad_project() AND h.number = was.number AND h.status = 'offered'
    RETURNING h.*
), counter AS (
    INSERT INTO mcp_counters AS c (project_id, kind, value)
    SELECT bmad_project(), 'handoff', 1 WHERE NOT EXISTS (SELECT FROM again)
    ON CONFLICT (project_id, kind) DO UPDATE SET value = c.value + 1
    RETURNING value
), made AS (
    INSERT INTO bmad_agent_collaborations (project_id, id, number, from_agent, to_agent, task_id, story_id, note)
    SELECT bmad_project(), $1::uuid, counter.value, $2::text, $3::text, $4::uuid, $5::uuid, $6::text FROM counter
    RETURNING *
), h AS (
    SELECT made.*, NULL::text AS was_to FROM made UNION ALL SELECT again.*, was.to_agent FROM again, was
), audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT h.project_id, 'handoff_offer', 'handoff H-' || h.number, $10::text, $7::text, $8::text,
        jsonb_strip_nulls(jsonb_build_object('note', nullif($9::text, ''), 'to', h.to_agent,
            'from', nullif(h.from_agent, $10::text), 'was_to', nullif(h.was_to, h.to_agent)))
    FROM h
)
SELECT {FIELDS}, h.note, h.was_to FROM h
"""

# Who accepts: the agent that is named, else the one in session, else the one it is offered to.
ACCEPT = f"""
WITH accepter AS (
    SELECT coalesce($2::text, {ACTING_AGENT.format(caller="$3")}) AS name
), h AS (
    UPDATE bmad_agent_collaborations AS h SET {HANDOFF.set_sql(HandoffStatus.ACCEPTED)},
        accepted_by = coalesce(accepter.name, h.to_agent), accepted_at = now(), updated_at = now(),
        version = h.version + 1
    FROM accepter
    WHERE h.project_id = bmad_project() AND h.number = $1::int AND {HANDOFF.may_sql(HandoffStatus.ACCEPTED, "h.status")}
      AND h.to_agent = coalesce(accepter.name, h.to_agent)
    RETURNING h.*
), audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT h.project_id, 'handoff_accept', 'handoff H-' || h.number, h.accepted_by, $4::text, $5::text,
        jsonb_strip_nulls(jsonb_build_object('from', h.from_agent, 'quality', $6::int))
    FROM h
)
SELECT {FIELDS}, h.id, h.note, h.task_id, extract(epoch FROM h.accepted_at - h.created_at)::float8 AS waited,
    EXISTS (SELECT FROM bmad_agent_sessions x JOIN bmad_agents a ON a.project_id = x.project_id AND a.id = x.agent_id
            WHERE x.project_id = bmad_project() AND a.name = h.to_agent AND x.caller = $3::text
              AND x.ended_at IS NULL) AS in_session
FROM h
"""
STATE = f"""
SELECT {FIELDS}, {ACTING_AGENT.format(caller="$2")} AS in_session
FROM bmad_agent_collaborations h WHERE h.project_id = bmad_project() AND h.number = $1::int
"""

# A statement of its own: after the lock the status is what it really is, and which write follows depends on it.
TASK_LOCKED = """
SELECT t.id, t.number, t.status::text AS status, t.agent FROM bmad_tasks t
WHERE t.project_id = bmad_project() AND t.id = $1::uuid FOR NO KEY UPDATE
"""
REASSIGN = """
UPDATE bmad_tasks SET agent = $2::text, lease_agent = NULL, lease_until = NULL, updated_at = now(),
    version = version + 1
WHERE project_id = bmad_project() AND id = $1::uuid
"""

LIST = f"""
SELECT h.number, h.id, {FIELDS}, nullif(h.status = 'offered' AND {HANDOFF_OVER}, false) AS is_over,
    {beginning_of("h.note", 120)} AS note
FROM bmad_agent_collaborations h WHERE h.project_id = bmad_project()
"""

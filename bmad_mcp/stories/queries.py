"""SQL of epics and stories; tasks and sessions are read where a story shows them."""

from bmad_mcp.activity.acting import ACTING_AGENT
from bmad_mcp.activity.record import COLUMNS
from bmad_mcp.activity.similar import unless_similar
from bmad_mcp.agents.queries import held_by
from bmad_mcp.encryption.people import told
from bmad_mcp.lifecycles import EPIC, STORY, TASK_CLAIMABLE, TASK_HELD, TASK_LEFT, TASK_READY, StoryStatus

GATE_HISTORY = 20
# How many open tasks are told when their story closes.
OPEN_TOLD = 20
GATE_NOTE = 200

AGENT_IN_SESSION = f"SELECT {ACTING_AGENT.format(caller='$1')} AS agent"
HAS_SESSION = """
SELECT EXISTS (
    SELECT FROM bmad_agents a
    JOIN bmad_agent_sessions x ON x.project_id = a.project_id AND x.agent_id = a.id
    WHERE a.project_id = bmad_project() AND a.name = $1 AND x.ended_at IS NULL
)
"""

_WHERE_FRESH = " CROSS JOIN fresh"
# Two epics made at once would both take the next number.
LOCK_EPICS = "SELECT pg_advisory_xact_lock(hashtextextended('bmad epics ' || bmad_project(), 0))"


def _create_epic(guard: str = "", fresh: str = "") -> str:
    return f"""
WITH {guard}e AS (
    INSERT INTO bmad_epics (project_id, key, number, title, goal)
    SELECT bmad_project(), n.number::text, n.number, $1, $2
    FROM (SELECT coalesce(max(x.number), 0) + 1 AS number FROM bmad_epics x WHERE x.project_id = bmad_project()) n{fresh}
    RETURNING *
), audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT e.project_id, 'epic_create', 'epic ' || e.key, $3, $4, $5, jsonb_build_object('title', e.title) FROM e
)
SELECT e.key, e.title, e.goal, e.status::text AS status, e.version FROM e
"""


CREATE_EPIC = _create_epic()
# Makes nothing, and answers nothing, where the same was made a moment ago.
CREATE_EPIC_UNLESS_SIMILAR = _create_epic(f"{unless_similar(6)}, ", _WHERE_FRESH)
STORY_COUNTS = """
    (SELECT jsonb_object_agg(c.status, c.stories) FROM (
        SELECT s.status::text AS status, count(*) AS stories FROM bmad_stories s
        WHERE s.project_id = bmad_project() AND s.epic_id = e.id GROUP BY s.status) c) AS stories
"""
LIST_EPICS = f"""
SELECT e.number, e.key, e.title, e.status::text AS status, {STORY_COUNTS}
FROM bmad_epics e WHERE e.project_id = bmad_project()
"""
GET_EPIC = """
SELECT e.id, e.key, e.title, e.goal, e.status::text AS status, e.version, e.source_path AS file
FROM bmad_epics e WHERE e.project_id = bmad_project() AND e.key = $1
"""
EPIC_KEYS = """
SELECT array_agg(e.key ORDER BY e.number, e.key) FROM (
    SELECT x.key, x.number FROM bmad_epics x WHERE x.project_id = bmad_project() ORDER BY x.number, x.key LIMIT 51) e
"""

# The lock makes the next number ours; the number is read by the next statement, whose snapshot is fresh.
LOCK_EPIC = (
    "SELECT e.id, e.number FROM bmad_epics e WHERE e.project_id = bmad_project() AND e.key = $1 FOR NO KEY UPDATE"
)


def _create(guard: str = "", fresh: str = "") -> str:
    return f"""
WITH {guard}s AS (
    INSERT INTO bmad_stories (project_id, id, epic_id, key, epic_number, number, title, role, want, benefit,
        acceptance, sections, points, priority)
    SELECT bmad_project(), $1::uuid, $2::uuid, $3::int || '.' || n.number, $3::int, n.number, $4, $5, $6, $7,
        $8::jsonb, $9::jsonb, $10::int, $11::text::bmad_task_priority
    FROM (SELECT coalesce(max(x.number), 0) + 1 AS number FROM bmad_stories x
          WHERE x.project_id = bmad_project() AND x.epic_number = $3::int) n{fresh}
    RETURNING *
), audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT s.project_id, 'story_create', 'story ' || s.key, $12, $13, $14, jsonb_build_object('title', s.title) FROM s
)
SELECT s.key, s.title, s.status::text AS status, s.version FROM s
"""


CREATE = _create()
CREATE_UNLESS_SIMILAR = _create(f"{unless_similar(15)}, ", _WHERE_FRESH)

# Tasks belong to a higher feature; a story shows how many of its own are done.
TASK_PROGRESS = """
    (SELECT nullif(count(*) FILTER (WHERE t.status = 'completed') || '/' || count(*), '0/0') FROM bmad_tasks t
     WHERE t.project_id = s.project_id AND t.story_id = s.id AND t.status <> 'cancelled') AS tasks
"""
# In the text and not as $n: under row-level security a status can only choose an index whose own condition names it.
LIST_STATUS = {status: f" AND s.status = '{status}'" for status in StoryStatus}
LIST = f"""
SELECT s.epic_number, s.number, s.suffix, s.key, s.title, s.status::text AS status, s.points, {TASK_PROGRESS}
FROM bmad_stories s WHERE s.project_id = bmad_project()
"""
HELD_BY = f"CASE WHEN {TASK_HELD} THEN t.lease_agent END"
GET = f"""
SELECT s.id, s.key, s.title, s.status::text AS status, s.version, s.role, s.want, s.benefit, s.acceptance, s.sections,
    s.points, s.priority::text AS priority, s.gate, s.source_path AS file, s.raw_status AS file_status,
    s.tracker_status, date_trunc('second', s.updated_at) AS updated_at,
    date_trunc('second', s.completed_at) AS completed_at, e.key AS epic, e.title AS epic_title,
    (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('key', 'T-' || t.number, 'title', t.title,
        'status', t.status, 'agent', nullif(t.agent, ''), 'held_by', {HELD_BY},
        'ready', nullif({TASK_CLAIMABLE}, false))) ORDER BY t.number)
     FROM bmad_tasks t WHERE t.project_id = s.project_id AND t.story_id = s.id) AS tasks
FROM bmad_stories s
JOIN bmad_epics e ON e.project_id = s.project_id AND e.id = s.epic_id
WHERE s.project_id = bmad_project() AND s.key = $1
"""

STATE = f"""
SELECT s.id, s.key, s.status::text AS status, s.version, s.sections, s.updated_at,
    a.at AS told_at, coalesce(a.agent, {told("a.principal")}) AS told_by, a.operation AS told_operation
FROM bmad_stories s
LEFT JOIN LATERAL (
    SELECT x.at, x.agent, x.principal, x.operation FROM bmad_agent_activity x
    WHERE x.project_id = s.project_id AND x.subject = 'story ' || s.key ORDER BY x.id DESC LIMIT 1
) a ON true
WHERE s.project_id = bmad_project() AND s.key = $1
"""
# An import or export is told under the project, at the moment at which it changed the story.
TOLD_OF_FILES = f"""
SELECT coalesce(a.agent, {told("a.principal")}) AS told_by, a.operation AS told_operation FROM bmad_agent_activity a
WHERE a.project_id = bmad_project() AND a.subject = 'project' AND a.at = $1 ORDER BY a.id DESC LIMIT 1
"""
# Claims lock a task and then its story; a move of the story takes the same order.
LOCK_TASKS = """
SELECT count(*) FROM (
    SELECT t.id FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.story_id = $1
    ORDER BY t.id FOR NO KEY UPDATE) locked
"""
# What the project's own files say of gates, as the import keeps them: v4 `qa: {gateRequired: …}` in core-config.yaml, v6
# `gate_required: …` in a module's configuration. `true` takes PASS and WAIVED, `concerns` takes CONCERNS too; of two that
# differ the stricter holds. Null where the project asks for none.
GATE_ACCEPTS = """
    (SELECT max(CASE WHEN c.word IN ('true', 'yes', 'on') THEN 'pass' WHEN c.word = 'concerns' THEN c.word END)
     FROM bmad_projects p, LATERAL (VALUES (lower(p.settings #>> '{bmad,config,v4,qa,gateRequired}')),
        (lower(p.settings #>> '{bmad,config,v6,gate_required}'))) AS c(word)
     WHERE p.id = bmad_project())
"""
GATE_PASSES = f"""
    (CASE {GATE_ACCEPTS} WHEN 'pass' THEN coalesce(s.gate ->> 'gate', '') IN ('PASS', 'WAIVED')
     WHEN 'concerns' THEN coalesce(s.gate ->> 'gate', '') IN ('PASS', 'WAIVED', 'CONCERNS') ELSE true END)
"""
GATE_ASKED = f"""
SELECT s.key, s.gate ->> 'gate' AS word, {GATE_ACCEPTS} AS accepts, {GATE_PASSES} AS passes
FROM bmad_stories s WHERE s.project_id = bmad_project() AND s.key = $1
"""
GET_GATE = f"""
SELECT s.key, s.status::text AS status, s.version, s.gate, {GATE_ACCEPTS} AS accepts, {GATE_PASSES} AS passes
FROM bmad_stories s WHERE s.project_id = bmad_project() AND s.key = $1
"""
# In one statement, so that of two gates at once the second finds the first and puts it into the history. What a gate
# always says is replaced ($3 names it, $2 has it); what else stands in it, such as its file, stays.
RECORD_GATE = f"""
WITH s AS (
    UPDATE bmad_stories AS s SET updated_at = now(), version = s.version + 1,
        gate = (o.gate - $3::text[]) || $2::jsonb || jsonb_strip_nulls(jsonb_build_object('history', (
            SELECT jsonb_agg(h.one ORDER BY h.place) FROM (
                SELECT e.one, e.place FROM jsonb_array_elements(
                    CASE WHEN jsonb_typeof(o.gate -> 'history') = 'array' THEN o.gate -> 'history' ELSE '[]' END
                    || CASE WHEN o.gate ? 'gate' THEN jsonb_build_array(jsonb_build_object('at', o.gate -> 'updated',
                        'gate', o.gate -> 'gate', 'note', left(o.gate ->> 'reason', {GATE_NOTE}))) ELSE '[]' END
                ) WITH ORDINALITY AS e(one, place) ORDER BY e.place DESC LIMIT {GATE_HISTORY}) h)))
    FROM (SELECT b.id, CASE WHEN jsonb_typeof(b.gate) = 'object' THEN b.gate ELSE '{{}}' END AS gate
        FROM bmad_stories b WHERE b.project_id = bmad_project() AND b.key = $1 FOR NO KEY UPDATE) o
    WHERE s.project_id = bmad_project() AND s.id = o.id AND ($4::int IS NULL OR s.version = $4::int)
    RETURNING s.*
), audit AS (
    INSERT INTO bmad_agent_activity {COLUMNS}
    SELECT s.project_id, 'gate_record', 'story ' || s.key, $5::text, $6::text, $7::text,
        jsonb_strip_nulls(jsonb_build_object('gate', s.gate -> 'gate', 'score', s.gate -> 'score',
            'was', s.gate #> '{{history,-1,gate}}')) FROM s
)
SELECT s.key, s.status::text AS status, s.version, {GATE_PASSES} AS passes FROM s
"""
UPDATE = f"""
UPDATE bmad_stories AS s SET
    {STORY.set_from_parameter_sql("coalesce($3::text, s.status::text)")},
    sections = coalesce($4::jsonb, s.sections), acceptance = coalesce($5::jsonb, s.acceptance),
    role = coalesce($6::text, s.role), want = coalesce($7::text, s.want), benefit = coalesce($8::text, s.benefit),
    title = coalesce($9::text, s.title), points = coalesce($10::int, s.points),
    priority = coalesce($11::text::bmad_task_priority, s.priority),
    completed_at = CASE WHEN $3::text = 'done' THEN now() ELSE s.completed_at END,
    updated_at = now(), version = s.version + 1
WHERE s.project_id = bmad_project() AND s.key = $1 AND s.version = $2::int
  AND ($3::text IS NULL OR {STORY.may_from_parameter_sql("$3", "s.status")})
  AND CASE WHEN $3::text = 'done' THEN {GATE_PASSES} ELSE true END
RETURNING s.id, s.epic_id, s.key, s.title, s.status::text AS status, s.version
"""
# A statement of its own: only its fresh snapshot sees a task that was added while the story's row was waited for.
TASKS_FOLLOW = f"""
WITH followed AS (
    UPDATE bmad_tasks AS t SET story_open = $2::boolean, updated_at = now(), version = t.version + 1
    WHERE t.project_id = bmad_project() AND t.story_id = $1 AND t.story_open <> $2::boolean
)
SELECT 'T-' || t.number AS key, t.status::text AS status, {HELD_BY} AS held_by FROM bmad_tasks t
WHERE t.project_id = bmad_project() AND t.story_id = $1 AND t.status NOT IN ('completed', 'cancelled')
ORDER BY t.number LIMIT {OPEN_TOLD}
"""
# An epic has no moves of its own: it starts with its first story, from wherever it waits.
EPIC_STARTS = f"""
UPDATE bmad_epics AS e SET {EPIC.set_sql(StoryStatus.IN_PROGRESS)}, updated_at = now(), version = e.version + 1
WHERE e.project_id = bmad_project() AND e.id = $1 AND e.status IN ('draft', 'ready')
  AND {EPIC.may_sql(StoryStatus.IN_PROGRESS, "e.status")}
RETURNING e.key, e.status::text AS status
"""

OF_STORY = "FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.story_id = s.id"


# The ranks are told in `advice.py`. One part for each rank, in their order: the first that has a story ends the search,
# and each goes through the stories of its status in their order.
def _first(rank: int, status: StoryStatus, more: str = "true") -> str:
    return f"""(SELECT s.key, {rank} AS rank FROM bmad_stories s
    WHERE s.project_id = bmad_project() AND s.status = '{status}' AND {more}
    ORDER BY s.epic_number, s.number, s.suffix LIMIT 1)"""


_IN_PROGRESS = StoryStatus.IN_PROGRESS
# The agent in session, or null.
_ASKS = "(SELECT w.agent FROM who w)"
# Who has no session is anybody, and may become whoever a task is for.
_FOR_WHO_ASKS = f"({_ASKS} IS NULL OR t.agent IN ({_ASKS}, ''))"
# OFFSET 0: the few tasks that the agent holds come first, and then the story of each.
_MINE = f"""(SELECT s.key, 2 AS rank FROM {held_by(_ASKS, "t.story_id")} t CROSS JOIN LATERAL (
        SELECT x.* FROM bmad_stories x WHERE x.project_id = bmad_project() AND x.id = t.story_id OFFSET 0) s
    WHERE s.status = '{_IN_PROGRESS}' ORDER BY s.epic_number, s.number, s.suffix LIMIT 1)"""
_RANKED = " UNION ALL ".join(
    (
        _first(1, StoryStatus.REVIEW, f"{_ASKS} = 'qa'"),
        _MINE,
        _first(3, _IN_PROGRESS, f"EXISTS (SELECT {OF_STORY} AND {TASK_CLAIMABLE} AND {_FOR_WHO_ASKS})"),
        _first(4, _IN_PROGRESS, f"EXISTS (SELECT {OF_STORY} AND ({TASK_HELD} OR {TASK_CLAIMABLE}))"),
        _first(5, _IN_PROGRESS),
        _first(6, StoryStatus.READY),
        _first(7, StoryStatus.REVIEW, f"{_ASKS} IS DISTINCT FROM 'qa'"),
        _first(8, StoryStatus.DRAFT),
    )
)
# The best task of each role, its own and nobody's first: beside the stories there may be tasks without one.
_TASK = "t.number, t.title, t.status, t.agent, t.priority"
_OF_ROLE = f"SELECT {_TASK} FROM bmad_tasks t WHERE t.project_id = bmad_project() AND t.agent = r.role"
_ROLES = f"""
    (SELECT a.name AS role FROM bmad_agents a WHERE a.project_id = bmad_project() UNION ALL SELECT '') r CROSS JOIN LATERAL (
        ({_OF_ROLE} AND {TASK_READY} ORDER BY t.priority DESC, t.number LIMIT 1)
        UNION ALL
        ({_OF_ROLE} AND {TASK_LEFT} AND t.lease_until <= statement_timestamp() ORDER BY t.lease_until LIMIT 1)) t"""
_BESIDE = f"""(SELECT jsonb_strip_nulls(jsonb_build_object('key', 'T-' || b.number, 'title', b.title, 'status', b.status,
        'agent', nullif(b.agent, ''), 'held_by', b.held_by, 'ready', nullif(b.held_by IS NULL, false)))
    FROM (SELECT t.*, {_ASKS} AS held_by, 1 AS place FROM {held_by(_ASKS, _TASK, 1)} t
        UNION ALL
        SELECT t.*, NULL, CASE WHEN r.role IN ({_ASKS}, '') THEN 2 ELSE 3 END FROM {_ROLES}) b
    ORDER BY b.place, b.priority DESC, b.number LIMIT 1)"""
_HOW_MUCH = """jsonb_build_object(
    'epics', (SELECT count(*) FROM bmad_epics e WHERE e.project_id = bmad_project()),
    'stories', (SELECT count(*) FROM bmad_stories s WHERE s.project_id = bmad_project()))"""
# Where the story leaves an agent no task: the one to take instead, and how much there is. A statement of its own: in the
# other it would be planned by everybody who asks.
BESIDE = f"""
WITH who AS MATERIALIZED (SELECT $1::text AS agent)
SELECT {_BESIDE} AS beside, {_HOW_MUCH} AS how_much
"""
# In one round trip: who asks on this connection, the story that comes first for them, and what they need of it.
NEXT = f"""
WITH who AS MATERIALIZED ({AGENT_IN_SESSION}),
chosen AS MATERIALIZED (SELECT key, rank FROM ({_RANKED}) AS one LIMIT 1)
SELECT who.agent AS asks, chosen.rank, story.* FROM who LEFT JOIN chosen ON true LEFT JOIN LATERAL (
SELECT s.key, s.title, s.status::text AS status, s.version, s.points, s.priority::text AS priority, e.key AS epic, e.title AS epic_title,
    s.role, s.want, s.benefit, s.acceptance, s.sections, s.gate ->> 'gate' AS gate, {TASK_PROGRESS},
    (SELECT jsonb_agg(jsonb_strip_nulls(to_jsonb(o) - 'place' - 'priority' - 'number') ORDER BY
        o.place, o.priority DESC, o.number)
     FROM (SELECT t.number, t.priority, 'T-' || t.number AS key, t.title, t.status::text AS status,
               nullif(t.agent, '') AS agent, {HELD_BY} AS held_by,
               CASE WHEN {TASK_CLAIMABLE} THEN true END AS ready,
               CASE WHEN {TASK_CLAIMABLE} AND t.agent IN ({_ASKS}, '') THEN 1 WHEN {TASK_CLAIMABLE} THEN 2
                    WHEN {TASK_HELD} AND t.lease_agent = {_ASKS} THEN 3 WHEN {TASK_HELD} THEN 4 ELSE 5 END AS place
           FROM bmad_tasks t
           WHERE t.project_id = s.project_id AND t.story_id = s.id AND t.status NOT IN ('completed', 'cancelled')
           ORDER BY place, t.priority DESC, t.number LIMIT 10) o) AS open_tasks
FROM bmad_stories s
JOIN bmad_epics e ON e.project_id = s.project_id AND e.id = s.epic_id
WHERE s.project_id = bmad_project() AND s.key = chosen.key
) AS story ON true
"""

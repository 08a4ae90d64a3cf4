"""SQL that finds names of people in the clear, and puts their pseudonyms in the place."""


# $1, everywhere: the principals that are no person.
def _is_name(column: str) -> str:
    return f"NOT starts_with({column}, '~') AND {column} <> ALL($1::text[])"


# A call's connection: `http:NAME SESSION`, or `http:SESSION` without authentication, which names nobody.
_CALLER = "CASE WHEN starts_with(s.caller, 'http:') THEN split_part(substr(s.caller, 6), ' ', 1) END"

# Who may come in, or is remembered for a repeated call: such a person is moved in one transaction.
SIGNING_IN = f"""
SELECT principal AS name FROM mcp_members WHERE project_id = bmad_project() AND {_is_name("principal")}
UNION SELECT name FROM mcp_tokens WHERE project_id = bmad_project() AND {_is_name("name")}
UNION SELECT principal FROM mcp_idempotency WHERE project_id = bmad_project() AND {_is_name("principal")}
ORDER BY name
"""
# Of somebody who became a member anew in the middle there are two rows: the later one counts.
MOVE_MEMBER = """
UPDATE mcp_members m SET principal = $2 WHERE m.project_id = bmad_project() AND m.principal = $1
  AND NOT EXISTS (SELECT FROM mcp_members o WHERE o.project_id = bmad_project() AND o.principal = $2)
"""
DROP_MEMBER = "DELETE FROM mcp_members WHERE project_id = bmad_project() AND principal = $1"
MOVE_TOKENS = "UPDATE mcp_tokens SET name = $2 WHERE project_id = bmad_project() AND name = $1"
# $1: {name: pseudonym} of everybody who is known.
MOVE_SESSIONS = f"""
UPDATE bmad_agent_sessions s SET caller = 'http:' || v.pseudonym || substr(s.caller, 6 + length(v.name))
FROM jsonb_each_text($1::jsonb) v(name, pseudonym)
WHERE s.project_id = bmad_project() AND {_CALLER} = v.name
"""
MOVE_RUNS = """
UPDATE bmad_checklists c SET runs = (
    SELECT jsonb_agg(CASE WHEN $1::jsonb ? (r.run ->> 'principal')
        THEN r.run || jsonb_build_object('principal', $1::jsonb ->> (r.run ->> 'principal')) ELSE r.run END ORDER BY r.place)
    FROM jsonb_array_elements(c.runs) WITH ORDINALITY AS r (run, place))
WHERE c.project_id = bmad_project() AND EXISTS (
    SELECT FROM jsonb_array_elements(c.runs) AS r (run) WHERE $1::jsonb ? (r.run ->> 'principal'))
"""
RESULTS_OF = """
SELECT operation, key, result FROM mcp_idempotency
WHERE project_id = bmad_project() AND principal = $1 ORDER BY operation, key FOR UPDATE
"""
MOVE_RESULTS = """
UPDATE mcp_idempotency i SET principal = $2, result = v.result::jsonb
FROM unnest($3::text[], $4::text[], $5::text[]) v(operation, key, result)
WHERE i.project_id = bmad_project() AND i.principal = $1 AND i.operation = v.operation AND i.key = v.key
  AND NOT EXISTS (SELECT FROM mcp_idempotency o
      WHERE o.project_id = bmad_project() AND o.principal = $2 AND o.operation = v.operation AND o.key = v.key)
"""
DROP_RESULTS = "DELETE FROM mcp_idempotency WHERE project_id = bmad_project() AND principal = $1"

# For each page, as statistics know little of one project: a page sorted out of all the rest would be quadratic.
IN_ORDER = "SET LOCAL enable_sort = off"
# Each page begins behind the last row of the one before: $2 that row, $3 how many.
MEMORIES = f"""
SELECT m.id AS position, ARRAY[m.principal] AS names FROM mcp_memories m
WHERE m.project_id = bmad_project() AND m.id > $2::uuid AND {_is_name("m.principal")}
ORDER BY m.id LIMIT $3::int
"""
CHANGE_MEMORIES = """
UPDATE mcp_memories m SET principal = v.pseudonym FROM jsonb_each_text($2::jsonb) v(name, pseudonym)
WHERE m.project_id = bmad_project() AND m.id = ANY($1::uuid[]) AND m.principal = v.name
"""


def _in_row(row: str) -> str:
    """The names that a row of the trail has, also as JSON in the archive: who did it, which member, whose token."""
    return f"""ARRAY(SELECT n.name FROM (VALUES
        ({row}principal'),
        (CASE WHEN starts_with({row}subject', 'member ') THEN substr({row}subject', 8) END),
        (CASE WHEN starts_with({row}subject', 'token ') THEN {row}title' END)) n(name)
        WHERE n.name IS NOT NULL AND {_is_name("n.name")})"""


# Fields of `to_jsonb(a)`, flattened: the title stands in the detail.
_FIELDS = "(jsonb_build_object('principal', {p}, 'subject', {s}, 'title', {d} ->> 'title'))"
_OF_TRAIL = _FIELDS.format(p="a.principal", s="a.subject", d="a.detail")
_OF_ARCHIVE = _FIELDS.format(p="a.content ->> 'principal'", s="a.content ->> 'subject'", d="a.content -> 'detail'")


def _rows(table: str, fields: str, more: str) -> str:
    return f"""
SELECT * FROM (
    SELECT a.id AS position, {_in_row(fields + " ->> '")} AS names FROM {table} a
    WHERE a.project_id = bmad_project() AND a.id > $2::uuid {more}
) t WHERE names <> '{{}}' ORDER BY position LIMIT $3::int
"""


# Most rows name nobody: they are passed by before their JSON is taken apart.
_MAY_NAME = f"""AND ({_is_name("a.principal")} OR starts_with(a.subject, 'token ')
        OR (starts_with(a.subject, 'member ') AND NOT starts_with(a.subject, 'member ~')))"""
TRAIL = _rows("bmad_agent_activity", _OF_TRAIL, _MAY_NAME)
ARCHIVE = _rows("mcp_archive", _OF_ARCHIVE, "AND a.kind IN ('activity', 'memories')")
# Only the owner may, and the trail's trigger lets nothing else of a row change.
MAY_MOVE = "SELECT set_config('app.people', 'on', true)"
_MOVED = "coalesce($2::jsonb ->> {0}, {0})"
_SUBJECT = (
    "CASE WHEN starts_with({0}, 'member ') THEN 'member ' || " + _MOVED.format("substr({0}, 8)") + " ELSE {0} END"
)
_DETAIL = (
    "CASE WHEN starts_with({0}, 'token ') AND $2::jsonb ? ({1} ->> 'title')"
    " THEN {1} || jsonb_build_object('title', $2::jsonb ->> ({1} ->> 'title')) ELSE {1} END"
)
CHANGE_TRAIL = f"""
UPDATE bmad_agent_activity a SET principal = {_MOVED.format("a.principal")}, subject = {_SUBJECT.format("a.subject")},
    detail = {_DETAIL.format("a.subject", "a.detail")}
WHERE a.project_id = bmad_project() AND a.id = ANY($1::uuid[])
"""
_CONTENT = f"""b.content || jsonb_build_object('principal', {_MOVED.format("(b.content ->> 'principal')")})
        || CASE WHEN b.kind = 'activity' THEN jsonb_build_object(
            'subject', {_SUBJECT.format("(b.content ->> 'subject')")},
            'detail', {_DETAIL.format("(b.content ->> 'subject')", "(b.content -> 'detail')")}) ELSE '{{}}'::jsonb END"""
CHANGE_ARCHIVE = f"""
UPDATE mcp_archive a SET content = v.content, checksum = sha256(convert_to(v.content::text, 'UTF8'))
FROM (
    SELECT b.kind, b.id, {_CONTENT} AS content FROM mcp_archive b
    WHERE b.project_id = bmad_project() AND b.kind IN ('activity', 'memories') AND b.id = ANY($1::uuid[])
) v
WHERE a.project_id = bmad_project() AND a.kind = v.kind AND a.id = v.id
"""
# Counts of a day go to the pseudonym's row of that day.
METRIC_NAMES = f"""
SELECT DISTINCT label AS name FROM mcp_daily_metrics
WHERE project_id = bmad_project() AND metric = 'principal' AND {_is_name("label")}
"""
MOVE_METRICS = """
WITH gone AS (
    DELETE FROM mcp_daily_metrics d WHERE d.project_id = bmad_project() AND d.metric = 'principal' AND d.label = $1
    RETURNING d.*
)
INSERT INTO mcp_daily_metrics AS d (project_id, day, metric, agent, label, count, total)
SELECT g.project_id, g.day, g.metric, g.agent, $2::text, g.count, g.total FROM gone g
ON CONFLICT (project_id, day, metric, agent, label)
DO UPDATE SET count = d.count + EXCLUDED.count, total = d.total + EXCLUDED.total
"""

# Rows that name people in the clear: `trail` are those that only the owner can change.
LEFT = f"""
SELECT
    (SELECT count(*) FROM mcp_members WHERE project_id = bmad_project() AND {_is_name("principal")})
    + (SELECT count(*) FROM mcp_tokens WHERE project_id = bmad_project() AND {_is_name("name")})
    + (SELECT count(*) FROM mcp_idempotency WHERE project_id = bmad_project() AND {_is_name("principal")})
    + (SELECT count(*) FROM mcp_memories WHERE project_id = bmad_project() AND {_is_name("principal")}) AS rows,
    (SELECT count(*) FROM bmad_agent_activity a WHERE a.project_id = bmad_project()
        AND ({_is_name("a.principal")} OR (starts_with(a.subject, 'member ') AND NOT starts_with(a.subject, 'member ~'))
            OR (starts_with(a.subject, 'token ') AND NOT starts_with(a.detail ->> 'title', '~')))) AS trail
"""

# The rows of people themselves, when the key changes.
PEOPLE = """
SELECT p.id AS position, p.id || ' ' || p.name AS told FROM mcp_people p
WHERE p.project_id = bmad_project() AND p.id > $2::text AND NOT starts_with(p.name, $1::text)
ORDER BY p.id LIMIT $3::int
"""
CHANGE_PEOPLE = """
UPDATE mcp_people p SET name = v.name, mark = v.mark
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) v(id, old, name, mark)
WHERE p.project_id = bmad_project() AND p.id = v.id AND p.name = v.old
"""

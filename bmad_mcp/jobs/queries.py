"""SQL of the schedule: what is due, who runs it, and how it went."""

# Seen by the schedule's transactions only: which projects there are.
SEE_ALL = "SELECT set_config('app.jobs', 'on', true)"
PROJECTS = "SELECT id, key FROM bmad_projects ORDER BY key"

# The lock goes with its connection, so the job of a process that was killed is free at once.
_LOCK = "hashtextextended('bmad job ' || {project_id} || ' ' || {name}, 0)"

_UNITS = """
WITH jobs AS (
    SELECT name, is_of_database, rank FROM unnest($1::text[], $2::bool[]) WITH ORDINALITY j (name, is_of_database, rank)
), units AS (
    SELECT p.id AS project_id, p.key, j.name, j.rank FROM bmad_projects p CROSS JOIN jobs j WHERE NOT j.is_of_database
    UNION ALL
    SELECT '00000000-0000-0000-0000-000000000000'::uuid, NULL, j.name, j.rank FROM jobs j WHERE j.is_of_database
)"""
DUE = f"""{_UNITS}
SELECT u.project_id, u.key, u.name FROM units u
LEFT JOIN mcp_jobs s ON s.project_id = u.project_id AND s.name = u.name
WHERE coalesce(s.next_run, '-infinity') <= now()
ORDER BY s.next_run NULLS FIRST, u.key NULLS FIRST, u.rank
"""
# $3 is a project's key, or NULL for all of them; a lock says that a process runs it just now.
ALL = f"""{_UNITS}
SELECT u.project_id, u.key, u.name, s.next_run, s.started_at, s.ended_at, s.seconds, coalesce(s.failures, 0) AS failures,
    s.error, coalesce(s.result, '{{}}') AS result,
    EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (l.classid::bigint << 32 | l.objid::bigint)
            = {_LOCK.format(project_id="u.project_id", name="u.name")}) AS is_running
FROM units u LEFT JOIN mcp_jobs s ON s.project_id = u.project_id AND s.name = u.name
WHERE $3::text IS NULL OR u.key IS NULL OR u.key = $3::text
ORDER BY u.key NULLS FIRST, u.rank
"""

_THIS_LOCK = _LOCK.format(project_id="$1::uuid", name="$2::text")
TRY_LOCK = f"SELECT pg_try_advisory_lock({_THIS_LOCK})"
UNLOCK = f"SELECT pg_advisory_unlock({_THIS_LOCK})"
# A process that froze loses its lock, too.
FREE_WHEN_FROZEN = "SELECT set_config('idle_session_timeout', $1, false)"

# After the first failure a minute, then twice as long each time, up to about four hours.
_WAIT = "make_interval(secs => 60 * 2 ^ least({failures} - 1, 8))"
_INTERRUPTED = "j.failures + (j.started_at IS NOT NULL)::int"
# A run that is still marked as begun ended with its process. The first time it is due again at once.
CLAIM = f"""
INSERT INTO mcp_jobs AS j (project_id, name, started_at) VALUES ($1::uuid, $2::text, clock_timestamp())
ON CONFLICT (project_id, name) DO UPDATE SET
    failures = {_INTERRUPTED},
    error = CASE WHEN j.started_at IS NOT NULL THEN $4::text ELSE j.error END,
    next_run = CASE WHEN {_INTERRUPTED} = 0 THEN now() ELSE now() + {_WAIT.format(failures=f"({_INTERRUPTED})")} END,
    started_at = clock_timestamp()
WHERE $3::bool OR j.next_run <= now()
RETURNING j.failures
"""
FINISH = """
UPDATE mcp_jobs SET started_at = NULL, ended_at = clock_timestamp(), seconds = $3::float8, failures = 0, error = NULL,
    result = $4::jsonb, next_run = clock_timestamp() + $5::interval
WHERE project_id = $1::uuid AND name = $2::text
"""
FAIL = f"""
UPDATE mcp_jobs SET started_at = NULL, ended_at = clock_timestamp(), seconds = $3::float8, failures = failures + 1,
    error = $4::text, next_run = clock_timestamp() + {_WAIT.format(failures="(failures + 1)")}
WHERE project_id = $1::uuid AND name = $2::text
"""
# Broken off because the process ends in good order: that is no failure, and somebody else may have it at once.
GIVE_BACK = """
UPDATE mcp_jobs SET started_at = NULL, next_run = least(next_run, now()) WHERE project_id = $1::uuid AND name = $2::text
"""
RESULT = "SELECT result FROM mcp_jobs WHERE project_id = $1::uuid AND name = $2::text AND failures = 0"

# --- What the jobs do.

# This month and the next $1, and what the trail has of them.
_MONTHS = """
SELECT to_char(m, 'YYYY-MM') AS month FROM generate_series(date_trunc('month', now() AT TIME ZONE 'UTC'),
    date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => $1::int), '1 month') m
WHERE to_regclass('bmad_agent_activity_' || to_char(m, 'YYYY_MM'))"""
NEWEST_PARTITION = f"{_MONTHS} IS NOT NULL ORDER BY m DESC LIMIT 1"
MISSING_PARTITIONS = f"{_MONTHS} IS NULL ORDER BY m"
IS_OWNER = """
SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = 'bmad_agent_activity'::regclass
"""

FORGET_RESULTS = """
DELETE FROM mcp_idempotency WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM mcp_idempotency
    WHERE project_id = bmad_project() AND created_at < now() - make_interval(days => $1::int) LIMIT $2::int))
  AND project_id = bmad_project()
"""
FORGET_ANSWERS = """
DELETE FROM mcp_memory_cache
WHERE project_id = bmad_project() AND looked_up_at < now() - make_interval(days => $1::int)
"""

# A bucket that is full again is as good as one that is not there.
FORGET_BUCKETS = "DELETE FROM mcp_rate_buckets WHERE full_at < now()"

# What a queue's log tells of jobs that are still there stays with them.
FORGET_LOG = """
DELETE FROM mcp_pgqueuer_log WHERE id = ANY(ARRAY(
    SELECT l.id FROM mcp_pgqueuer_log l
    WHERE l.created < now() - make_interval(days => $1::int)
      AND NOT EXISTS (SELECT FROM mcp_pgqueuer q WHERE q.id = l.job_id)
    ORDER BY l.created LIMIT $2::int))
"""
FORGET_DONE = """
DELETE FROM mcp_pgqueuer
WHERE status IN ('successful', 'canceled', 'deleted', 'exception') AND updated < now() - make_interval(days => $1::int)
"""
HELD_PAYLOADS = """
SELECT DISTINCT payload FROM mcp_pgqueuer
WHERE status = 'failed' AND entrypoint = $1::text AND updated < now() - make_interval(days => $2::int)
"""
NOTHING_WAITS = """
SELECT NOT EXISTS (SELECT FROM mcp_memories
    WHERE project_id = bmad_project() AND delivery = 'queued' AND agent IS NOT DISTINCT FROM $1::text)
"""
FORGET_HELD = """
DELETE FROM mcp_pgqueuer
WHERE status = 'failed' AND entrypoint = $1::text AND payload = $2::bytea
  AND updated < now() - make_interval(days => $3::int)
"""

# {kind: days} beside the project's other settings.
RETENTION = "SELECT settings -> 'retention' FROM bmad_projects WHERE id = bmad_project()"
SET_RETENTION = """
UPDATE bmad_projects SET settings = settings || jsonb_build_object('retention', $1::jsonb), updated_at = now()
WHERE id = bmad_project()
"""

# How many of the kept counts were wrong.
RECOUNT = "SELECT bmad_recount()"

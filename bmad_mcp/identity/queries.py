"""SQL of tokens, members and rates."""

from bmad_mcp.encryption.people import told

# Row-level security shows a token by its id, whatever the project.
SEEK = "SELECT set_config('app.token', $1, true)"
ENTER_PROJECT = "SELECT set_config('app.project', $1, true)"

# The database's clock decides: hosts disagree.
FIND = """
SELECT project_id, name, secret_hash, scopes,
    (last_used_at IS NULL OR last_used_at < now() - interval '1 minute') AS is_unnoted
FROM mcp_tokens WHERE id = $1 AND revoked_at IS NULL AND expires_at > now()
"""
NOTE_USE = """
UPDATE mcp_tokens SET last_used_at = now()
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""
CREATE = """
INSERT INTO mcp_tokens (project_id, id, name, secret_hash, scopes, expires_at)
VALUES (bmad_project(), $1, $2, $3, $4, now() + make_interval(days => $5)) RETURNING expires_at
"""
LIST = f"""
SELECT t.id, {told("t.name")} AS name, t.scopes, created_at, expires_at, last_used_at, revoked_at,
    CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'valid' END AS state
FROM mcp_tokens t WHERE project_id = bmad_project() ORDER BY created_at, id
"""
# In every project at once: a token that leaked is of no use anywhere.
REVOKE = """
UPDATE mcp_tokens SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING project_id, name
"""

# To every server, with the commit; it says nothing but that.
TELL_CHANGE = "SELECT pg_notify('bmad_access', '')"

# $1 is a name or a pseudonym; $2 are the marks of the name where people have pseudonyms: one look for both.
MEMBER = """
SELECT m.role, m.principal FROM mcp_members m
WHERE m.project_id = bmad_project() AND m.principal = ANY(ARRAY[$1::text,
    (SELECT p.id FROM mcp_people p WHERE p.project_id = bmad_project() AND p.mark = ANY($2::text[]) LIMIT 1)])
ORDER BY starts_with(m.principal, '~') DESC LIMIT 1
"""
LIST_MEMBERS = f"""
SELECT {told("m.principal")} AS principal, m.role, m.created_at, m.updated_at
FROM mcp_members m WHERE m.project_id = bmad_project() ORDER BY m.principal
"""
# Two who each take a right from another admin wait for each other here.
LOCK_ADMINS = """
SELECT principal FROM mcp_members WHERE project_id = bmad_project() AND role = 'admin' ORDER BY principal FOR UPDATE
"""
SET_ROLE = """
INSERT INTO mcp_members (project_id, principal, role) VALUES (bmad_project(), $1, $2)
ON CONFLICT (project_id, principal) DO UPDATE SET role = excluded.role, updated_at = now()
"""
ADD_IF_ABSENT = """
INSERT INTO mcp_members (project_id, principal, role) VALUES (bmad_project(), $1, $2) ON CONFLICT DO NOTHING
"""
# What `people.told` gives for a pseudonym.
PERSON = f"SELECT {told('$1::text')}"
MAY_COME_IN = """
SELECT EXISTS (SELECT FROM mcp_tokens
    WHERE project_id = bmad_project() AND name = $1 AND revoked_at IS NULL AND expires_at > now())
"""
REMOVE_MEMBER = "DELETE FROM mcp_members WHERE project_id = bmad_project() AND principal = $1 RETURNING role"

# A bucket is when it will be full again. A call takes one step off it, if no more than a minute's calls are then gone;
# so one statement counts and decides, and the row's own lock lets one of two at once go first. The second bucket is
# asked only after the first had one. What a bucket had before is of the statement's snapshot, good enough for a hint.
TAKE = """
WITH first AS (
    INSERT INTO mcp_rate_buckets AS b (id, full_at) VALUES ($1::uuid, now() + $2::interval)
    ON CONFLICT (id) DO UPDATE SET full_at = greatest(b.full_at, now()) + $2::interval
    WHERE greatest(b.full_at, now()) + $2::interval <= now() + interval '1 minute'
    RETURNING full_at
), second AS (
    INSERT INTO mcp_rate_buckets AS b (id, full_at)
    SELECT $3::uuid, now() + $4::interval FROM first WHERE $3::uuid IS NOT NULL
    ON CONFLICT (id) DO UPDATE SET full_at = greatest(b.full_at, now()) + $4::interval
    WHERE greatest(b.full_at, now()) + $4::interval <= now() + interval '1 minute'
    RETURNING full_at
)
SELECT (SELECT full_at - now() FROM first) AS first, (SELECT full_at - now() FROM second) AS second,
    (SELECT b.full_at - now() FROM mcp_rate_buckets b WHERE b.id = $1::uuid) AS first_before,
    (SELECT b.full_at - now() FROM mcp_rate_buckets b WHERE b.id = $3::uuid) AS second_before
"""

"""SQL of the figures in /metrics that the analytics have not."""

# In a transaction that sees which projects there are: the served one first, then the newest.
PROJECTS = """
SELECT id, key FROM bmad_projects ORDER BY id <> $1::uuid, created_at DESC, key LIMIT $2::int
"""
HOW_MANY = "SELECT count(*) FROM bmad_projects"
# Rows of the queue belong to no project and hold only ids.
QUEUE = """
SELECT coalesce(jsonb_object_agg(q.status, q.jobs), '{}') AS jobs,
    coalesce((SELECT extract(epoch FROM now() - min(greatest(created, execute_after)))::float8 FROM mcp_pgqueuer
        WHERE status = 'queued' AND execute_after <= now()), 0) AS oldest_seconds,
    pg_database_size(current_database()) AS size_bytes
FROM (SELECT status::text AS status, count(*) AS jobs FROM mcp_pgqueuer GROUP BY status) q
"""
MEMORIES = """
SELECT count(*) AS kept, count(*) FILTER (WHERE delivery = 'queued') AS queued,
    count(*) FILTER (WHERE delivery = 'dead') AS dead,
    coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE delivery = 'queued'))::float8, 0) AS oldest_seconds
FROM mcp_memories WHERE project_id = bmad_project()
"""

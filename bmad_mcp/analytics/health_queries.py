"""SQL of the server's health as its database sees it."""

# One row. Rows of the queue belong to no project and hold only ids: its counts are those of the whole server.
HEALTH = """
SELECT current_setting('server_version') AS server_version, current_setting('transaction_read_only') = 'on' AS read_only,
    pg_database_size(current_database()) AS size_bytes,
    (SELECT version_num FROM bmad_alembic_version) AS revision,
    obj_description('bmad_alembic_version'::regclass, 'pg_class') AS revision_note,
    (SELECT rolled_until FROM mcp_rollups WHERE project_id = bmad_project()) AS rolled_until, now() AS now,
    (SELECT count(*) FROM mcp_memories m WHERE m.project_id = bmad_project() AND m.delivery = 'queued') AS waiting,
    (SELECT count(*) FROM mcp_memories m WHERE m.project_id = bmad_project() AND m.delivery = 'dead') AS given_up,
    (SELECT jsonb_build_object('provider', x.provider, 'outcome', x.outcome, 'at', x.created_at) FROM (
        SELECT m.provider, m.outcome, m.created_at FROM bmad_memory_integrations m
        WHERE m.project_id = bmad_project() AND m.direction = 'recall' ORDER BY m.created_at DESC LIMIT 1) x) AS last,
    (SELECT jsonb_object_agg(q.status, q.jobs) FROM (
        SELECT status::text AS status, count(*) AS jobs FROM mcp_pgqueuer GROUP BY status) q) AS jobs,
    (SELECT extract(epoch FROM now() - min(greatest(created, execute_after)))::float8 FROM mcp_pgqueuer
     WHERE status = 'queued' AND execute_after <= now()) AS oldest_seconds
"""

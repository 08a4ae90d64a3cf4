"""The fifteen tables, the six enum types, row-level security and the append-only trail.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from bmad_mcp.uuid7_function import BUILT_IN, FIRST_MAJOR, PUT_TOGETHER

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PROJECT_TABLES = (
    "bmad_agents",
    "bmad_agent_sessions",
    "bmad_agent_activity",
    "bmad_agent_collaborations",
    "bmad_workflows",
    "bmad_workflow_stages",
    "bmad_tasks",
    "bmad_task_dependencies",
    "bmad_epics",
    "bmad_stories",
    "bmad_checklists",
    "bmad_templates",
    "bmad_artifacts",
    "bmad_memory_integrations",
    "mcp_counters",
    "mcp_idempotency",
    "mcp_memories",
)
ENUM_TYPES = (
    "bmad_agent_status",
    "bmad_workflow_status",
    "bmad_task_status",
    "bmad_task_priority",
    "bmad_story_status",
    "bmad_workflow_type",
)

CREATE_UUID7 = f"""
DO $do$
BEGIN
    IF current_setting('server_version_num')::int >= {FIRST_MAJOR}0000 THEN
        CREATE FUNCTION bmad_uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
            RETURN {BUILT_IN};
    ELSE
        CREATE FUNCTION bmad_uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
            RETURN {PUT_TOGETHER};
    END IF;
END
$do$
"""

# After a transaction the setting is '' and not NULL, so the empty text must not reach the cast.
CREATE_PROJECT_SCOPE = """
CREATE FUNCTION bmad_project() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.project', true), '')::uuid
"""

CREATE_APPEND_ONLY = """
CREATE FUNCTION bmad_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION 'bmad_agent_activity is append-only: % is refused', TG_OP USING ERRCODE = '42501';
END
$body$
"""


def scope_rows(table: str, condition: str) -> None:
    """Show and take only rows that meet the condition, for the table's owner too."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY bmad_project_scope ON {table} USING ({condition}) WITH CHECK ({condition})")


def upgrade() -> None:
    op.execute(CREATE_UUID7)
    op.execute(CREATE_PROJECT_SCOPE)
    op.execute(CREATE_APPEND_ONLY)
    create_tables()
    op.execute("CREATE TABLE bmad_agent_activity_other PARTITION OF bmad_agent_activity DEFAULT")
    op.execute(
        "CREATE TRIGGER bmad_append_only BEFORE UPDATE OR DELETE ON bmad_agent_activity"
        " FOR EACH ROW EXECUTE FUNCTION bmad_refuse_change()"
    )
    for table in (*PROJECT_TABLES, "bmad_agent_activity_other"):
        scope_rows(table, "project_id = bmad_project()")
    # A project is found by its key before its id is known.
    scope_rows(
        "bmad_projects", "id = bmad_project() OR key = nullif(current_setting('app.project_key', true), '')"
    )


def downgrade() -> None:
    for table in reversed((*PROJECT_TABLES,)):
        op.execute(f"DROP TABLE {table} CASCADE")
    op.execute("DROP TABLE bmad_projects CASCADE")
    for enum_type in ENUM_TYPES:
        op.execute(f"DROP TYPE {enum_type}")
    op.execute("DROP FUNCTION bmad_refuse_change()")
    op.execute("DROP FUNCTION bmad_project()")
    op.execute("DROP FUNCTION bmad_uuid7()")


def create_tables() -> None:
    op.create_table('bmad_agent_activity',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('operation', sa.Text(), nullable=False),
    sa.Column('subject', sa.Text(), nullable=False),
    sa.Column('agent', sa.Text(), nullable=True),
    sa.Column('principal', sa.Text(), nullable=False),
    sa.Column('call_id', sa.Text(), nullable=False),
    sa.Column('detail', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.PrimaryKeyConstraint('project_id', 'at', 'id', name=op.f('pk_bmad_agent_activity')),
    postgresql_partition_by='RANGE (at)'
    )
    op.create_index(op.f('ix_bmad_agent_activity_project_id_agent_id'), 'bmad_agent_activity', ['project_id', 'agent', 'id'], unique=False)
    op.create_index(op.f('ix_bmad_agent_activity_project_id_id'), 'bmad_agent_activity', ['project_id', 'id'], unique=False)
    op.create_index(op.f('ix_bmad_agent_activity_project_id_subject_id'), 'bmad_agent_activity', ['project_id', 'subject', 'id'], unique=False)
    op.create_table('bmad_projects',
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('settings', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('imported_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_bmad_projects')),
    sa.UniqueConstraint('key', name=op.f('uq_bmad_projects_key'))
    )
    op.create_table('bmad_agents',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('aliases', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
    sa.Column('display_name', sa.Text(), nullable=False),
    sa.Column('title', sa.Text(), nullable=False),
    sa.Column('icon', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('when_to_use', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('status', sa.Enum('idle', 'active', 'busy', 'offline', 'paused', name='bmad_agent_status'), server_default=sa.text("'idle'"), nullable=False),
    sa.Column('persona', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('commands', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('dependencies', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('source', sa.Text(), server_default=sa.text("'builtin'"), nullable=False),
    sa.Column('source_path', sa.Text(), nullable=True),
    sa.Column('content', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('content_hash', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('last_seen_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_agents_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_agents')),
    sa.UniqueConstraint('project_id', 'name', name=op.f('uq_bmad_agents_project_id_name'))
    )
    op.create_index(op.f('ix_bmad_agents_aliases'), 'bmad_agents', ['aliases'], unique=False, postgresql_using='gin')
    op.create_index(op.f('ix_bmad_agents_project_id_status_name'), 'bmad_agents', ['project_id', 'status', 'name'], unique=False)
    op.create_table('bmad_artifacts',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('title', sa.Text(), nullable=False),
    sa.Column('path', sa.Text(), nullable=True),
    sa.Column('content', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('encoding', sa.Text(), server_default=sa.text("'utf-8'"), nullable=False),
    sa.Column('content_hash', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('generation', sa.Text(), nullable=True),
    sa.Column('source', sa.Text(), server_default=sa.text("'tool'"), nullable=False),
    sa.Column('story_id', sa.Uuid(), nullable=True),
    sa.Column('task_id', sa.Uuid(), nullable=True),
    sa.Column('workflow_id', sa.Uuid(), nullable=True),
    sa.Column('agent', sa.Text(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.CheckConstraint("encoding IN ('utf-8', 'base64')", name=op.f('ck_bmad_artifacts_encoding_word')),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_artifacts_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_artifacts')),
    sa.UniqueConstraint('project_id', 'number', name=op.f('uq_bmad_artifacts_project_id_number')),
    sa.UniqueConstraint('project_id', 'path', name=op.f('uq_bmad_artifacts_project_id_path'))
    )
    op.create_index(op.f('ix_bmad_artifacts_project_id_kind_number'), 'bmad_artifacts', ['project_id', 'kind', 'number'], unique=False)
    op.create_table('bmad_checklists',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('title', sa.Text(), nullable=False),
    sa.Column('items', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('runs', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('source', sa.Text(), server_default=sa.text("'builtin'"), nullable=False),
    sa.Column('source_path', sa.Text(), nullable=True),
    sa.Column('content', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('content_hash', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_checklists_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_checklists')),
    sa.UniqueConstraint('project_id', 'name', name=op.f('uq_bmad_checklists_project_id_name'))
    )
    op.create_table('bmad_epics',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('title', sa.Text(), nullable=False),
    sa.Column('goal', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('status', sa.Enum('draft', 'ready', 'in_progress', 'review', 'done', 'cancelled', name='bmad_story_status'), server_default=sa.text("'draft'"), nullable=False),
    sa.Column('raw_status', sa.Text(), nullable=True),
    sa.Column('source_path', sa.Text(), nullable=True),
    sa.Column('extra', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_epics_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_epics')),
    sa.UniqueConstraint('project_id', 'key', name=op.f('uq_bmad_epics_project_id_key'))
    )
    op.create_index(op.f('ix_bmad_epics_project_id_number_key'), 'bmad_epics', ['project_id', 'number', 'key'], unique=False)
    op.create_table('bmad_memory_integrations',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('direction', sa.Text(), nullable=False),
    sa.Column('provider', sa.Text(), nullable=False),
    sa.Column('category', sa.Text(), nullable=True),
    sa.Column('agent', sa.Text(), nullable=True),
    sa.Column('outcome', sa.Text(), nullable=False),
    sa.Column('items', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('latency_ms', sa.Double(), nullable=True),
    sa.Column('detail', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("direction IN ('recall', 'store')", name=op.f('ck_bmad_memory_integrations_direction_word')),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_memory_integrations_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_memory_integrations'))
    )
    op.create_index(op.f('ix_bmad_memory_integrations_project_id_created_at'), 'bmad_memory_integrations', ['project_id', 'created_at'], unique=False)
    op.create_table('bmad_templates',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('title', sa.Text(), nullable=False),
    sa.Column('edition', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('body', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('source', sa.Text(), server_default=sa.text("'builtin'"), nullable=False),
    sa.Column('source_path', sa.Text(), nullable=True),
    sa.Column('content', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('content_hash', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.CheckConstraint("kind IN ('document', 'workflow', 'task', 'data', 'team', 'skill')", name=op.f('ck_bmad_templates_kind_word')),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_templates_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_templates')),
    sa.UniqueConstraint('project_id', 'kind', 'name', name=op.f('uq_bmad_templates_project_id_kind_name'))
    )
    op.create_table('mcp_counters',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('value', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_mcp_counters_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'kind', name=op.f('pk_mcp_counters'))
    )
    op.create_table('mcp_idempotency',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('principal', sa.Text(), nullable=False),
    sa.Column('operation', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('request_hash', sa.Text(), nullable=False),
    sa.Column('result', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_mcp_idempotency_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'principal', 'operation', 'key', name=op.f('pk_mcp_idempotency'))
    )
    op.create_index(op.f('ix_mcp_idempotency_created_at'), 'mcp_idempotency', ['created_at'], unique=False)
    op.create_table('mcp_memories',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('category', sa.Text(), nullable=False),
    sa.Column('agent', sa.Text(), nullable=True),
    sa.Column('author_kind', sa.Text(), nullable=False),
    sa.Column('principal', sa.Text(), nullable=False),
    sa.Column('confidence', sa.Double(), server_default=sa.text('0.7'), nullable=False),
    sa.Column('identifiers', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
    sa.Column('search', postgresql.TSVECTOR(), sa.Computed("to_tsvector('english', text)", persisted=True), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('confidence BETWEEN 0 AND 1', name=op.f('ck_mcp_memories_confidence_in_range')),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_mcp_memories_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_mcp_memories'))
    )
    op.create_index(op.f('ix_mcp_memories_identifiers'), 'mcp_memories', ['identifiers'], unique=False, postgresql_using='gin')
    op.create_index(op.f('ix_mcp_memories_project_id_agent_created_at'), 'mcp_memories', ['project_id', 'agent', 'created_at'], unique=False)
    op.create_index(op.f('ix_mcp_memories_project_id_category_created_at'), 'mcp_memories', ['project_id', 'category', 'created_at'], unique=False)
    op.create_index(op.f('ix_mcp_memories_search'), 'mcp_memories', ['search'], unique=False, postgresql_using='gin')
    op.create_table('bmad_agent_sessions',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('agent_id', sa.Uuid(), nullable=False),
    sa.Column('caller', sa.Text(), nullable=False),
    sa.Column('focus', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('summary', sa.Text(), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['project_id', 'agent_id'], ['bmad_agents.project_id', 'bmad_agents.id'], name=op.f('fk_bmad_agent_sessions_project_id_agent_id_bmad_agents'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_agent_sessions_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_agent_sessions'))
    )
    op.create_index('ix_bmad_agent_sessions_open', 'bmad_agent_sessions', ['project_id', 'caller', 'started_at'], unique=False, postgresql_where=sa.text('ended_at IS NULL'))
    op.create_index(op.f('ix_bmad_agent_sessions_project_id_agent_id_started_at'), 'bmad_agent_sessions', ['project_id', 'agent_id', 'started_at'], unique=False)
    op.create_table('bmad_stories',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('epic_id', sa.Uuid(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('epic_number', sa.Integer(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('suffix', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('title', sa.Text(), nullable=False),
    sa.Column('role', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('want', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('benefit', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('acceptance', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('sections', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'::jsonb"), nullable=False),
    sa.Column('status', sa.Enum('draft', 'ready', 'in_progress', 'review', 'done', 'cancelled', name='bmad_story_status'), server_default=sa.text("'draft'"), nullable=False),
    sa.Column('raw_status', sa.Text(), nullable=True),
    sa.Column('tracker_key', sa.Text(), nullable=True),
    sa.Column('tracker_status', sa.Text(), nullable=True),
    sa.Column('priority', sa.Enum('low', 'medium', 'high', 'critical', name='bmad_task_priority'), server_default=sa.text("'medium'"), nullable=False),
    sa.Column('points', sa.Integer(), nullable=True),
    sa.Column('gate', postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    sa.Column('source_path', sa.Text(), nullable=True),
    sa.Column('content_hash', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('extra', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('completed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('search', postgresql.TSVECTOR(), sa.Computed("to_tsvector('english', key || ' ' || title || ' ' || role || ' ' || want || ' ' || benefit)", persisted=True), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.CheckConstraint('points BETWEEN 0 AND 1000', name=op.f('ck_bmad_stories_points_in_range')),
    sa.ForeignKeyConstraint(['project_id', 'epic_id'], ['bmad_epics.project_id', 'bmad_epics.id'], name=op.f('fk_bmad_stories_project_id_epic_id_bmad_epics'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_stories_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_stories')),
    sa.UniqueConstraint('project_id', 'key', name=op.f('uq_bmad_stories_project_id_key'))
    )
    op.create_index(op.f('ix_bmad_stories_project_id_epic_id_number_suffix'), 'bmad_stories', ['project_id', 'epic_id', 'number', 'suffix'], unique=False)
    op.create_index(op.f('ix_bmad_stories_project_id_epic_number_number_suffix'), 'bmad_stories', ['project_id', 'epic_number', 'number', 'suffix'], unique=False)
    op.create_index(op.f('ix_bmad_stories_project_id_status_epic_number_number_suffix'), 'bmad_stories', ['project_id', 'status', 'epic_number', 'number', 'suffix'], unique=False)
    op.create_index('ix_bmad_stories_open', 'bmad_stories', ['project_id', 'epic_number', 'number', 'suffix'], unique=False, postgresql_where=sa.text("status IN ('ready', 'in_progress', 'review')"))
    op.create_index(op.f('ix_bmad_stories_search'), 'bmad_stories', ['search'], unique=False, postgresql_using='gin')
    op.create_table('bmad_workflows',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('type', sa.Enum('greenfield-fullstack', 'greenfield-service', 'greenfield-ui', 'brownfield-fullstack', 'brownfield-service', 'brownfield-ui', 'custom', name='bmad_workflow_type'), nullable=False),
    sa.Column('definition', sa.Text(), nullable=False),
    sa.Column('title', sa.Text(), nullable=False),
    sa.Column('status', sa.Enum('draft', 'active', 'paused', 'completed', 'cancelled', 'error', name='bmad_workflow_status'), server_default=sa.text("'draft'"), nullable=False),
    sa.Column('story_id', sa.Uuid(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('settings', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('completed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.ForeignKeyConstraint(['project_id', 'story_id'], ['bmad_stories.project_id', 'bmad_stories.id'], name=op.f('fk_bmad_workflows_project_id_story_id_bmad_stories'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_workflows_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_workflows')),
    sa.UniqueConstraint('project_id', 'number', name=op.f('uq_bmad_workflows_project_id_number'))
    )
    op.create_index(op.f('ix_bmad_workflows_project_id_status_number'), 'bmad_workflows', ['project_id', 'status', 'number'], unique=False)
    op.create_index(op.f('ix_bmad_workflows_project_id_story_id'), 'bmad_workflows', ['project_id', 'story_id'], unique=False)
    op.create_table('bmad_tasks',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('title', sa.Text(), nullable=False),
    sa.Column('description', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('status', sa.Enum('pending', 'active', 'in_progress', 'review', 'completed', 'blocked', 'cancelled', name='bmad_task_status'), server_default=sa.text("'pending'"), nullable=False),
    sa.Column('raw_status', sa.Text(), nullable=True),
    sa.Column('priority', sa.Enum('low', 'medium', 'high', 'critical', name='bmad_task_priority'), server_default=sa.text("'medium'"), nullable=False),
    sa.Column('agent', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('story_id', sa.Uuid(), nullable=True),
    sa.Column('workflow_id', sa.Uuid(), nullable=True),
    sa.Column('open_dependencies', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('story_open', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('lease', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('lease_agent', sa.Text(), nullable=True),
    sa.Column('lease_seconds', sa.Integer(), nullable=True),
    sa.Column('lease_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('note', sa.Text(), nullable=True),
    sa.Column('summary', sa.Text(), nullable=True),
    sa.Column('quality', sa.Integer(), nullable=True),
    sa.Column('source', sa.Text(), server_default=sa.text("'tool'"), nullable=False),
    sa.Column('source_ref', sa.Text(), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('completed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.CheckConstraint('open_dependencies >= 0', name=op.f('ck_bmad_tasks_open_dependencies_counted')),
    sa.CheckConstraint('quality BETWEEN 0 AND 100', name=op.f('ck_bmad_tasks_quality_in_range')),
    sa.ForeignKeyConstraint(['project_id', 'story_id'], ['bmad_stories.project_id', 'bmad_stories.id'], name=op.f('fk_bmad_tasks_project_id_story_id_bmad_stories'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id', 'workflow_id'], ['bmad_workflows.project_id', 'bmad_workflows.id'], name=op.f('fk_bmad_tasks_project_id_workflow_id_bmad_workflows'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_tasks_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_tasks')),
    sa.UniqueConstraint('project_id', 'number', name=op.f('uq_bmad_tasks_project_id_number'))
    )
    op.create_index('ix_bmad_tasks_held', 'bmad_tasks', ['project_id', 'lease_until'], unique=False, postgresql_where=sa.text("status IN ('active', 'in_progress')"))
    op.create_index('ix_bmad_tasks_holder', 'bmad_tasks', ['project_id', 'lease_agent', 'number'], unique=False, postgresql_where=sa.text("status IN ('active', 'in_progress')"))
    op.create_index(op.f('ix_bmad_tasks_project_id_agent_number'), 'bmad_tasks', ['project_id', 'agent', 'number'], unique=False)
    op.create_index(op.f('ix_bmad_tasks_project_id_status_number'), 'bmad_tasks', ['project_id', 'status', 'number'], unique=False)
    op.create_index(op.f('ix_bmad_tasks_project_id_story_id_number'), 'bmad_tasks', ['project_id', 'story_id', 'number'], unique=False)
    op.create_index(op.f('ix_bmad_tasks_project_id_workflow_id_number'), 'bmad_tasks', ['project_id', 'workflow_id', 'number'], unique=False)
    op.create_index('ix_bmad_tasks_ready', 'bmad_tasks', ['project_id', 'agent', sa.literal_column('priority DESC'), 'number'], unique=False, postgresql_where=sa.text("status = 'pending' AND open_dependencies = 0 AND story_open"))
    op.create_table('bmad_workflow_stages',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('workflow_id', sa.Uuid(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('iteration', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('story_key', sa.Text(), nullable=True),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('step', sa.Text(), nullable=True),
    sa.Column('agent', sa.Text(), nullable=True),
    sa.Column('action', sa.Text(), nullable=True),
    sa.Column('creates', sa.Text(), nullable=True),
    sa.Column('updates', sa.Text(), nullable=True),
    sa.Column('validates', sa.Text(), nullable=True),
    sa.Column('uses', sa.Text(), nullable=True),
    sa.Column('requires', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
    sa.Column('optional', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('condition', sa.Text(), nullable=True),
    sa.Column('optional_steps', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
    sa.Column('repeats', sa.Text(), nullable=True),
    sa.Column('routes', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('notes', sa.Text(), server_default=sa.text("''"), nullable=False),
    sa.Column('status', sa.Text(), server_default=sa.text("'pending'"), nullable=False),
    sa.Column('outcome', sa.Text(), nullable=True),
    sa.Column('note', sa.Text(), nullable=True),
    sa.Column('artifact', sa.Text(), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('completed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.CheckConstraint("kind IN ('agent', 'guidance', 'decision', 'end')", name=op.f('ck_bmad_workflow_stages_kind_word')),
    sa.CheckConstraint("status IN ('pending', 'active', 'done', 'skipped')", name=op.f('ck_bmad_workflow_stages_status_word')),
    sa.ForeignKeyConstraint(['project_id', 'workflow_id'], ['bmad_workflows.project_id', 'bmad_workflows.id'], name=op.f('fk_bmad_workflow_stages_project_id_workflow_id_bmad_workflows'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_workflow_stages_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_workflow_stages')),
    sa.UniqueConstraint('project_id', 'workflow_id', 'position', 'iteration', name=op.f('uq_bmad_workflow_stages_project_id_workflow_id_position_iteration'))
    )
    op.create_index(op.f('ix_bmad_workflow_stages_project_id_status_workflow_id'), 'bmad_workflow_stages', ['project_id', 'status', 'workflow_id'], unique=False)
    op.create_table('bmad_agent_collaborations',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), server_default=sa.text('bmad_uuid7()'), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('from_agent', sa.Text(), nullable=False),
    sa.Column('to_agent', sa.Text(), nullable=False),
    sa.Column('task_id', sa.Uuid(), nullable=True),
    sa.Column('story_id', sa.Uuid(), nullable=True),
    sa.Column('note', sa.Text(), nullable=False),
    sa.Column('status', sa.Text(), server_default=sa.text("'offered'"), nullable=False),
    sa.Column('accepted_by', sa.Text(), nullable=True),
    sa.Column('accepted_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('version', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.CheckConstraint("status IN ('offered', 'accepted')", name=op.f('ck_bmad_agent_collaborations_status_word')),
    sa.ForeignKeyConstraint(['project_id', 'story_id'], ['bmad_stories.project_id', 'bmad_stories.id'], name=op.f('fk_bmad_agent_collaborations_project_id_story_id_bmad_stories'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id', 'task_id'], ['bmad_tasks.project_id', 'bmad_tasks.id'], name=op.f('fk_bmad_agent_collaborations_project_id_task_id_bmad_tasks'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_agent_collaborations_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'id', name=op.f('pk_bmad_agent_collaborations')),
    sa.UniqueConstraint('project_id', 'number', name=op.f('uq_bmad_agent_collaborations_project_id_number'))
    )
    op.create_index(op.f('ix_bmad_agent_collaborations_project_id_status_number'), 'bmad_agent_collaborations', ['project_id', 'status', 'number'], unique=False)
    op.create_index(op.f('ix_bmad_agent_collaborations_project_id_to_agent_status_number'), 'bmad_agent_collaborations', ['project_id', 'to_agent', 'status', 'number'], unique=False)
    op.create_table('bmad_task_dependencies',
    sa.Column('project_id', sa.Uuid(), nullable=False),
    sa.Column('task_id', sa.Uuid(), nullable=False),
    sa.Column('depends_on_id', sa.Uuid(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('task_id <> depends_on_id', name=op.f('ck_bmad_task_dependencies_not_itself')),
    sa.ForeignKeyConstraint(['project_id', 'depends_on_id'], ['bmad_tasks.project_id', 'bmad_tasks.id'], name=op.f('fk_bmad_task_dependencies_project_id_depends_on_id_bmad_tasks'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id', 'task_id'], ['bmad_tasks.project_id', 'bmad_tasks.id'], name=op.f('fk_bmad_task_dependencies_project_id_task_id_bmad_tasks'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id'], ['bmad_projects.id'], name=op.f('fk_bmad_task_dependencies_project_id_bmad_projects'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('project_id', 'task_id', 'depends_on_id', name=op.f('pk_bmad_task_dependencies'))
    )
    op.create_index(op.f('ix_bmad_task_dependencies_project_id_depends_on_id_task_id'), 'bmad_task_dependencies', ['project_id', 'depends_on_id', 'task_id'], unique=False)

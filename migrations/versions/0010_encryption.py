"""Encryption: the wrapped keys of each project, and a search column that may hold marks instead of words.

Revision: 0010
"""

import sqlalchemy as sa
from alembic import op

from bmad_mcp.migration_steps import each_alone, is_there

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
# Programs of before know no keys, and what a key has sealed they would hand out as it is.
serves_from = "0010"

IN_PROJECT = "project_id = bmad_project()"
SEALED = r"'^v1\.[a-z0-9][a-z0-9-]{0,31}\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]{22,}$'"

# Nothing is sealed with a key that is retired or gone: whoever still has it reads the keys again and repeats the write.
# FOR SHARE makes a key that is being retired or dropped wait for this transaction. The archive only copies.
KEY_SERVES = """
CREATE OR REPLACE FUNCTION bmad_key_serves() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
    sealed text := to_jsonb(NEW) #>> TG_ARGV[0]::text[];
BEGIN
    PERFORM FROM mcp_data_keys k
    WHERE k.project_id = NEW.project_id AND k.id = split_part(sealed, '.', 2)
      AND (k.retired_at IS NULL OR TG_TABLE_NAME = 'mcp_archive')
    FOR SHARE;
    IF NOT FOUND AND EXISTS (SELECT FROM mcp_data_keys k WHERE k.project_id = NEW.project_id) THEN
        RAISE EXCEPTION 'the encryption key of % is not in use', TG_TABLE_NAME USING ERRCODE = '40001';
    END IF;
    RETURN NULL;
END
$body$
"""
# (table, columns, what holds the text, when it may be sealed)
KEYED = (
    ("mcp_memories", "text", "{text}", f"NEW.text ~ {SEALED}"),
    ("bmad_agent_sessions", "summary", "{summary}", f"NEW.summary ~ {SEALED}"),
    ("bmad_agent_sessions", "focus", "{focus}", f"NEW.focus ~ {SEALED}"),
    ("bmad_tasks", "summary", "{summary}", f"NEW.summary ~ {SEALED}"),
    ("bmad_agent_collaborations", "note", "{note}", f"NEW.note ~ {SEALED}"),
    ("mcp_idempotency", "result", "{result}", "jsonb_typeof(NEW.result) = 'string'"),
    ("mcp_archive", "content", "{content,text}", f"NEW.kind = 'memories' AND NEW.content ->> 'text' ~ {SEALED}"),
)
FILL_SEARCH = """
CREATE FUNCTION bmad_fill_search() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    NEW.search := to_tsvector('english', NEW.text);
    RETURN NEW;
END
$body$
"""


def upgrade() -> None:
    """Add the keys; what is in the search column stays. No row is rewritten."""
    if not is_there("mcp_data_keys"):
        add_keys()
    with each_alone():
        op.execute(KEY_SERVES)
        for table, column, path, condition in KEYED:
            op.execute(
                f"CREATE OR REPLACE TRIGGER bmad_key_of_{column} AFTER INSERT OR UPDATE OF {column} ON {table}"
                f" FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION bmad_key_serves('{path}')"
            )


def add_keys() -> None:
    """In one transaction: between the end of the expression and the trigger no memory could be written."""
    op.create_table(
        "mcp_data_keys",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("master_key", sa.Text(), nullable=False),
        sa.Column("wrapped", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["bmad_projects.id"], ondelete="CASCADE", name=op.f("fk_mcp_data_keys_project_id_bmad_projects")
        ),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_mcp_data_keys")),
    )
    op.create_index(
        "uq_mcp_data_keys_in_use", "mcp_data_keys", ["project_id"], unique=True, postgresql_where=sa.text("retired_at IS NULL")
    )
    op.execute("ALTER TABLE mcp_data_keys ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE mcp_data_keys FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY bmad_project_scope ON mcp_data_keys USING ({IN_PROJECT}) WITH CHECK ({IN_PROJECT})")
    op.add_column("mcp_memories", sa.Column("text_mark", sa.Text(), nullable=True))
    op.execute("ALTER TABLE mcp_memories ALTER COLUMN search DROP EXPRESSION")
    op.execute(FILL_SEARCH)
    op.execute(
        "CREATE TRIGGER bmad_fill_search BEFORE INSERT ON mcp_memories"
        " FOR EACH ROW WHEN (NEW.search IS NULL) EXECUTE FUNCTION bmad_fill_search()"
    )


def downgrade() -> None:
    """Make the search column of the texts again; refused while anything may be encrypted, as nothing could read it then."""
    op.execute("ALTER TABLE mcp_data_keys NO FORCE ROW LEVEL SECURITY")
    op.execute("""
        DO $do$ BEGIN
            IF EXISTS (SELECT FROM mcp_data_keys) THEN
                RAISE EXCEPTION 'projects are encrypted: an older version could not read them';
            END IF;
        END $do$
    """)
    for table, column, *_ in KEYED:
        op.execute(f"DROP TRIGGER bmad_key_of_{column} ON {table}")
    op.execute("DROP FUNCTION bmad_key_serves()")
    op.execute("DROP TRIGGER bmad_fill_search ON mcp_memories")
    op.execute("DROP FUNCTION bmad_fill_search()")
    op.drop_column("mcp_memories", "search")
    op.execute(
        "ALTER TABLE mcp_memories ADD COLUMN search tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('english', text)) STORED"
    )
    op.create_index("ix_mcp_memories_search", "mcp_memories", ["search"], postgresql_using="gin")
    op.drop_column("mcp_memories", "text_mark")
    op.drop_table("mcp_data_keys")

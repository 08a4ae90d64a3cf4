"""Find the tasks of a status by an index of that status: under row-level security a comparison cannot choose one.

Revision: 0011
"""

from bmad_mcp.migration_steps import create_index, drop_index

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

STATUSES = ("pending", "active", "in_progress", "review", "completed", "blocked", "cancelled")
BEFORE = "ix_bmad_tasks_project_id_status_number"


def upgrade() -> None:
    """Seven indexes for one: a task is in one of them, so a write costs what it did."""
    for status in STATUSES:
        create_index(
            f"ix_bmad_tasks_{status}_number", "bmad_tasks", ["project_id", "number"], where=f"status = '{status}'"
        )
    drop_index(BEFORE)


def downgrade() -> None:
    """The one index again."""
    create_index(BEFORE, "bmad_tasks", ["project_id", "status", "number"])
    for status in STATUSES:
        drop_index(f"ix_bmad_tasks_{status}_number")

"""Alembic's environment: our own version table, and eyes for our own tables only."""

import asyncio
import re
from typing import Any

from alembic import context
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from bmad_mcp.tables import METADATA

OURS = re.compile(r"(bmad|mcp)_")
PARTITION = re.compile(r"bmad_agent_activity_(\d{4}_\d{2}|other)$")
# The job queue's own tables: pgqueuer declares them.
QUEUE = "mcp_pgqueuer"


def is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Whether Alembic may look at a thing of the database: another application's tables are not its business."""
    if kind == "table" and name is not None:
        is_known = PARTITION.match(name) or name.startswith(QUEUE) or name == "bmad_alembic_version"
        return bool(OURS.match(name)) and not is_known
    return True


def migrate(connection: Connection) -> None:
    """Run the migrations on an open connection, in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        version_table="bmad_alembic_version",
        include_name=is_ours,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


def write_sql() -> None:
    """Print the migrations as SQL, without a database: `alembic upgrade --sql`."""
    context.configure(dialect_name="postgresql", literal_binds=True, version_table="bmad_alembic_version")
    with context.begin_transaction():
        context.run_migrations()


async def migrate_url(url: str) -> None:
    """Run the migrations on a database of their own connection, for the `alembic` command line."""
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


if context.is_offline_mode():
    write_sql()
elif "connection" in context.config.attributes:
    migrate(context.config.attributes["connection"])
else:
    asyncio.run(migrate_url(context.config.get_main_option("sqlalchemy.url") or ""))

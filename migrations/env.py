"""Alembic's environment: our own version table, and eyes for our own tables only.

A migration may say `serves_from = "0014"`: programs older than that revision cannot work on the schema that it makes.
Whatever drops, renames or narrows what the release before still uses has to.
"""

import asyncio
import re
from functools import partial
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from bmad_mcp.migration_steps import LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS
from bmad_mcp.schema_version import note_of
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


def note_whom_it_serves(ctx: MigrationContext, heads: Any, **_: Any) -> None:
    """In the transaction that sets the revision, write down the oldest program that the schema serves."""
    if ctx.script is None or not heads:
        return
    # From the revision down to the first; the newest word counts, and the oldest schema serves its own program.
    said = (getattr(one.module, "serves_from", None) for one in ctx.script.iterate_revisions(tuple(heads), "base"))
    serves_from = next((word for word in said if word), "0001")
    ctx.execute(f"COMMENT ON TABLE bmad_alembic_version IS '{note_of(serves_from)}'")


def migrate(connection: Connection, *, is_live: bool) -> None:
    """Run the migrations on an open connection: each by itself, or on a new database in the caller's transaction."""
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        version_table="bmad_alembic_version",
        include_name=is_ours,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=is_live,
        on_version_apply=note_whom_it_serves,
    )
    with context.begin_transaction():
        context.run_migrations()


def write_sql() -> None:
    """Print the migrations as SQL, without a database: `alembic upgrade --sql`."""
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        version_table="bmad_alembic_version",
        transaction_per_migration=True,
        on_version_apply=note_whom_it_serves,
    )
    context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_MS}ms'")
    context.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_MS}ms'")
    with context.begin_transaction():
        context.run_migrations()


async def migrate_url(url: str) -> None:
    """Run the migrations on a database of their own connection, for the `alembic` command line."""
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(partial(migrate, is_live=True))
    await engine.dispose()


if context.is_offline_mode():
    write_sql()
elif "connection" in context.config.attributes:
    attributes = context.config.attributes
    migrate(attributes["connection"], is_live=attributes["is_live"])
else:
    asyncio.run(migrate_url(context.config.get_main_option("sqlalchemy.url") or ""))

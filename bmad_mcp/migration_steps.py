"""What migrations do on a database that is in use: each step is short, or makes nobody wait, and bears being run again.

A migration that is killed goes on from its beginning, so what commits before its end has to be done twice without harm.
On a new database, and nowhere else, the same steps run in one transaction.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from alembic import op
from sqlalchemy import text

# A statement waits for a lock so long at most; whoever comes behind it waits as long. Then it gives way and comes again.
LOCK_TIMEOUT_MS = 400
# And takes so long at most, with every lock that it waits for and holds.
STATEMENT_TIMEOUT_MS = 1000
# Rows that one statement of a backfill changes, and holds meanwhile.
BATCH = 500
LONGEST_NAME = 63

_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
_CONSTRAINT = "SELECT convalidated FROM pg_constraint WHERE conrelid = to_regclass(:table) AND conname = :name"
_KIND = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass(:name)"
_UNATTACHED = """
SELECT p.inhrelid::regclass::text FROM pg_inherits p WHERE p.inhparent = to_regclass(:table) AND NOT EXISTS (
    SELECT FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid
    WHERE i.inhparent = to_regclass(:name) AND x.indrelid = p.inhrelid)
ORDER BY 1
"""


def is_live() -> bool:
    """Whether others may be at work on the database; a new one is made in one transaction."""
    return bool(op.get_context().opts.get("transaction_per_migration"))


def _asks() -> bool:
    """Whether there is a database to ask: with `--sql` the statements are only printed."""
    return is_live() and not op.get_context().as_sql


def _scalar(sql: str, **values: object) -> object:
    return op.get_bind().scalar(text(sql), values)


@contextmanager
def each_alone() -> Iterator[None]:
    """Every statement in here is committed by itself, so none holds a lock while the next one waits for another."""
    if not is_live():
        yield
        return
    with op.get_context().autocommit_block():
        yield


@contextmanager
def without_limit() -> Iterator[None]:
    """For statements that take long and make nobody wait; who ends in here leaves it to the next try to set the limits."""
    op.execute("SET lock_timeout = 0")
    op.execute("SET statement_timeout = 0")
    yield
    op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_MS}ms'")
    op.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_MS}ms'")


def is_there(name: str) -> bool:
    """Whether a table is there: made by a try that was ended after it."""
    return _asks() and _scalar("SELECT to_regclass(:name) IS NOT NULL", name=name) is True


def grant(table: str) -> None:
    """Let the server's role use a new table at once: triggers write to it long before the upgrade ends and grants all."""
    op.execute(f"""
        DO $do$ BEGIN
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'bmad_app') AND current_user <> 'bmad_app' THEN
                GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO bmad_app;
            END IF;
        END $do$
    """)


def create_index(
    name: str,
    table: str,
    columns: Sequence[str],
    *,
    unique: bool = False,
    where: str | None = None,
    include: Sequence[str] = (),
    using: str = "btree",
) -> None:
    """Make an index while others write; one that an ended try left invalid is made again. Columns are SQL."""
    rest = f"USING {using} ({', '.join(columns)})"
    if include:
        rest += f" INCLUDE ({', '.join(include)})"
    if where:
        rest += f" WHERE {where}"
    kind = "UNIQUE INDEX" if unique else "INDEX"
    if not is_live():
        op.execute(f"CREATE {kind} {name} ON {table} {rest}")
        return
    with each_alone():
        if _asks() and _scalar(_KIND, name=table) == "p":
            _index_partitions(kind, name, table, rest)
        else:
            _build(kind, name, table, rest)


def _build(kind: str, name: str, table: str, rest: str) -> None:
    with without_limit():
        if _asks() and _scalar(_VALID, name=name) is False:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {name} ON {table} {rest}")


def _index_partitions(kind: str, name: str, table: str, rest: str) -> None:
    """PostgreSQL has no CONCURRENTLY for these: the parent's index gets those of the partitions one by one."""
    op.execute(f"CREATE {kind} IF NOT EXISTS {name} ON ONLY {table} {rest}")
    for partition in op.get_bind().scalars(text(_UNATTACHED), {"table": table, "name": name}).all():
        own = name_in_partition(name, table, partition)
        _build(kind, own, partition, rest)
        op.execute(f"ALTER INDEX {name} ATTACH PARTITION {own}")


def name_in_partition(name: str, table: str, partition: str) -> str:
    """The name of an index's part on one partition: always the same, so that an ended try's part is found again."""
    found = f"{name}{partition.removeprefix(table)}"
    if len(found) <= LONGEST_NAME:
        return found
    return f"{found[: LONGEST_NAME - 9]}_{hashlib.sha256(found.encode()).hexdigest()[:8]}"


def drop_index(name: str) -> None:
    """Drop an index while others use its table. One on partitions goes at once, as PostgreSQL knows no other way."""
    if not is_live():
        op.execute(f"DROP INDEX {name}")
        return
    with each_alone():
        if _asks() and _scalar(_KIND, name=name) == "I":
            op.execute(f"DROP INDEX IF EXISTS {name}")
            return
        with without_limit():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def add_constraint(name: str, table: str, definition: str) -> None:
    """Add a CHECK or FOREIGN KEY: new rows keep it at once, those that there are get looked at while others write."""
    if not is_live():
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
        return
    with each_alone():
        state = _scalar(_CONSTRAINT, table=table, name=name) if _asks() else None
        if state is None:
            op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID")
        if not state:
            with without_limit():
                op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def backfill(table: str, assignments: str, where: str, *, batch: int = BATCH) -> None:
    """Change the rows of a project table that meet `where`, some at a time; a new database has none.

    `where` must not hold for a row that has been changed, so that another try finds what is left.
    """
    if not is_live():
        return
    if op.get_context().as_sql:
        # The owner is bound by row-level security too.
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"UPDATE {table} SET {assignments} WHERE {where}")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        return
    page = text(f"""
        WITH page AS (
            SELECT id FROM {table} WHERE project_id = :project AND id > :after ORDER BY id LIMIT :batch
        ), changed AS (
            UPDATE {table} AS t SET {assignments} FROM page
            WHERE t.project_id = :project AND t.id = page.id AND ({where})
        )
        SELECT id FROM page ORDER BY id DESC LIMIT 1
    """)
    for project in in_each_project():
        after: UUID | None = UUID(int=0)
        while after is not None:
            after = op.get_bind().scalar(page, {"project": project, "after": after, "batch": batch})


def in_each_project() -> Iterator[UUID]:
    """Go into one project after the other, for statements that commit by themselves; a new database has none.

    The owner is bound by row-level security too: it reads which projects there are, and then goes into each.
    """
    op.execute("ALTER TABLE bmad_projects NO FORCE ROW LEVEL SECURITY")
    projects = op.get_bind().scalars(text("SELECT id FROM bmad_projects ORDER BY id")).all()
    op.execute("ALTER TABLE bmad_projects FORCE ROW LEVEL SECURITY")
    enter = text("SELECT set_config('app.project', :project, false)")
    with each_alone():
        for project in projects:
            op.get_bind().execute(enter, {"project": str(project)})
            yield project
        op.get_bind().execute(enter, {"project": ""})

"""Every change of what agents edit by version gives it the next version, whichever operation makes it."""

import asyncpg
import pytest
from harness import run_sql
from model.write_cases import CASES

TABLES = """
SELECT table_name FROM information_schema.columns
WHERE column_name = 'version' AND table_schema = 'public' ORDER BY table_name
"""
# Sees each row as it is left at the end of a statement, also where a function or another trigger changed it.
WATCH = """
CREATE TABLE unversioned (changed text NOT NULL, columns text[] NOT NULL);
CREATE FUNCTION note_unversioned() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
BEGIN
    -- Nobody has seen a row yet that the same transaction made.
    IF OLD.created_at < now() THEN
        INSERT INTO unversioned SELECT TG_TABLE_NAME, array_agg(n.key ORDER BY n.key)
        FROM jsonb_each(to_jsonb(NEW)) n WHERE to_jsonb(OLD) -> n.key IS DISTINCT FROM n.value;
    END IF;
    RETURN NULL;
END
$body$;
"""
TRIGGER = """
CREATE TRIGGER watch AFTER UPDATE ON {table} FOR EACH ROW
WHEN (OLD.version = NEW.version AND OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION note_unversioned()
"""
# What is no edit: nobody who read the row before has to read it again because of these.
NO_EDIT = {
    "bmad_checklists": {"runs": "how often it was run", "updated_at": "with that"},
    "bmad_tasks": {
        "lease_until": "a lease that is renewed",
        "open_dependencies": "what it waits for has ended, or waits anew: told by `ready`",
    },
}


@pytest.fixture
async def watched(database):
    """Which columns changed without a new version: {(table, column)}."""
    admin = await asyncpg.connect(**database.admin)
    tables = [row["table_name"] for row in await admin.fetch(TABLES)]
    await admin.execute(WATCH)
    for table in tables:
        await admin.execute(TRIGGER.format(table=table))

    async def found():
        return {
            (one["changed"], column)
            for one in await admin.fetch("SELECT * FROM unversioned")
            for column in one["columns"]
        }

    yield found
    for table in tables:
        await admin.execute(f"DROP TRIGGER watch ON {table}")
    await admin.execute("DROP FUNCTION note_unversioned; DROP TABLE unversioned")
    await admin.close()


async def test_every_change_gives_the_next_version(run, watched):
    async def call(name, /, **arguments):
        return (await run(name, **arguments)).model_dump(mode="json", exclude_unset=True)

    for name, case in CASES.items():
        await run(name, **await case(call))
    story = (await run("story_create", epic="1", title="A tide table")).story
    await run("task_create", title="Draw it", story=story.key)
    await run("story_update", story=story.key, expected_version=1, status="ready")
    assert await watched() == {(table, column) for table, columns in NO_EDIT.items() for column in columns}


async def test_a_change_without_a_version_is_noticed(run, database, workspace, watched):
    await run("task_create", title="one")
    change = f"UPDATE bmad_tasks SET title = 'two' WHERE project_id = '{workspace.opened.id}'"
    await run_sql(database.admin, change)
    assert await watched() == {("bmad_tasks", "title")}

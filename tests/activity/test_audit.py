"""The trail for auditors: complete, append-only, exported whole, and with what was refused."""

import csv
import hashlib
import io
import json
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from auth_server import guarded_server
from server.rest.example_calls import CALLS, answers_of
from stored_rows import change, fetch

from bmad_mcp.activity.refusals import Refusals
from bmad_mcp.bmad_files.importing import import_folder
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME, CATALOG
from bmad_mcp.errors import Forbidden
from bmad_mcp.jobs.archive import Kind
from bmad_mcp.jobs.audit import FIELDS, export_trail
from bmad_mcp.operation import perform
from bmad_mcp.sample import FOLDER

# Writes that change nothing which anybody would be asked about, with the reason.
NO_CHANGE = {
    "memory_context": "it looks something up; the look-up itself is in bmad_memory_integrations",
    "task_heartbeat": "it prolongs a lease whose claim is in the trail",
    "template_render": "it computes a text and stores nothing",
}
ROWS = """
SELECT id, at, operation, subject, principal, call_id, trace_id, detail FROM bmad_agent_activity
WHERE project_id = bmad_project() ORDER BY id
"""

PARTS = "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'bmad_agent_activity'::regclass"


async def exported(opened, form="jsonl", **options):
    file = io.BytesIO()
    done = await export_trail(opened, file, form, **options)
    assert done.sha256 == hashlib.sha256(file.getvalue()).hexdigest()
    return done, file.getvalue().decode()


async def test_every_write_of_the_catalogue_leaves_a_row_of_its_call(workspace):
    await import_folder(workspace.opened, FOLDER)
    rows_of, seen = {}, len(await fetch(workspace.opened, ROWS))

    async def call(name, arguments):
        nonlocal seen
        result = await perform(BY_NAME[name], arguments, Caller(f"who-{name}", "here"), workspace)
        rows = await fetch(workspace.opened, ROWS)
        rows_of[name], seen = rows[seen:], len(rows)
        return result.model_dump(mode="json", exclude_unset=True)

    await answers_of(call)
    writes = {one.name for one in CATALOG if one.scope != "read"}
    assert writes <= rows_of.keys(), "the examples have to call every write"
    for name, rows in rows_of.items():
        if name not in writes or name in NO_CHANGE:
            assert rows == [], name
            continue
        assert rows, f"{name} changed something and left no row"
        assert {row["principal"] for row in rows} == {f"who-{name}"}
        assert len({row["call_id"] for row in rows}) == 1
        assert name in {row["operation"] for row in rows}
        assert all(row["subject"] for row in rows)
    assert len(CALLS) >= len(writes)


async def test_the_app_can_neither_change_nor_empty_the_trail(workspace, run, database):
    await run("task_create", title="x")
    connection = await asyncpg.connect(**database.app)
    await connection.execute("SELECT set_config('app.project', $1, false)", str(workspace.opened.id))
    try:
        tables = ["bmad_agent_activity", *(row["name"] for row in await connection.fetch(PARTS))]
        assert len(tables) >= 4
        for table in tables:
            for statement in ("UPDATE {} SET operation = 'y'", "DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement.format(table))
    finally:
        await connection.close()
    assert [row["operation"] for row in await fetch(workspace.opened, ROWS)] == ["task_create"]


async def test_what_is_exported_is_the_trail(workspace, run):
    await run("task_create", title="Task", caller=Caller("=alice"))
    for number in range(4):
        await run("task_update", task="T-1", note=f'Note, "number" {number}\nnext line', caller=Caller("=alice"))
    rows = await fetch(workspace.opened, ROWS)
    done, text = await exported(workspace.opened)
    told = [json.loads(line) for line in text.splitlines()]
    assert done.rows == len(told) == 5
    assert [tuple(one) for one in told] == [FIELDS] * 5
    assert [(one["id"], one["call_id"], one["subject"]) for one in told] == [
        (str(row["id"]), row["call_id"], row["subject"]) for row in rows
    ]
    assert {one["outcome"] for one in told} == {"done"}
    assert told[1]["detail"]["note"] == 'Note, "number" 0\nnext line'
    done, text = await exported(workspace.opened, "csv")
    cells = list(csv.DictReader(io.StringIO(text, newline="")))
    assert done.rows == len(cells) == 5
    assert [{**one, "detail": json.loads(one["detail"])}["detail"] for one in cells] == [one["detail"] for one in told]
    assert cells[0]["principal"] == "=alice"
    assert await exported(workspace.opened) == await exported(workspace.opened)


async def test_a_span_of_time_can_be_exported(workspace, run):
    for number in range(3):
        await run("task_create", title=f"Task {number}")
    rows = await fetch(workspace.opened, ROWS)
    middle = rows[1]["at"]
    _, text = await exported(workspace.opened, since=middle, until=middle + timedelta(microseconds=1))
    assert [json.loads(line)["id"] for line in text.splitlines()] == [str(rows[1]["id"])]
    done, _ = await exported(workspace.opened, until=rows[0]["at"])
    assert done.rows == 0


async def test_archived_rows_come_too_when_asked_for_and_once(workspace, run):
    await run("task_create", title="Still here")
    (row,) = await fetch(workspace.opened, ROWS)
    kind: Kind = "activity"
    for at, key in ((row["at"], row["id"]), (row["at"] - timedelta(days=400), UUID(int=7))):
        await change(
            workspace.opened,
            "INSERT INTO mcp_archive (project_id, kind, id, at, content, checksum) SELECT bmad_project(), $1, $2, $3,"
            " jsonb_build_object('operation', 'task_create', 'subject', 'task T-1', 'principal', 'old', 'call_id', 'c',"
            " 'detail', jsonb_build_object('title', 'Long gone')), ''",
            kind,
            key,
            at,
        )
    assert (await exported(workspace.opened))[0].rows == 1
    _, text = await exported(workspace.opened, archived=True)
    told = [(one["archived"], one["detail"]["title"]) for one in map(json.loads, text.splitlines())]
    assert told == [(True, "Long gone"), (False, "Still here")]


async def test_a_write_that_is_refused_leaves_a_row(workspace):
    async with guarded_server(workspace) as guarded:
        await guarded.token("root", "admin", role="admin")
        viewer = await guarded.token("eve", "read", role="viewer")
        narrow = await guarded.token("bob", "read", role="member")
        before = len(await fetch(workspace.opened, ROWS))
        await guarded.call(viewer, "task_create", {"title": "x"})
        await guarded.call(narrow, "memory_store", {"text": "x"})
        await guarded.call(viewer, "project_status", {})
    rows = (await fetch(workspace.opened, ROWS))[before:]
    found = {(row["principal"], row["subject"], row["detail"]["code"]) for row in rows if row["operation"] == "refused"}
    principals = {principal: principal for principal, *_ in found}
    assert len(found) == len(rows) == 2
    assert {(subject, code) for _, subject, code in found} == {
        ("operation task_create", "forbidden"),
        ("operation memory_store", "insufficient_scope"),
    }
    assert len(principals) == 2
    _, text = await exported(workspace.opened)
    told = [one for one in map(json.loads, text.splitlines()) if one["outcome"] == "refused"]
    assert {(one["operation"], one["subject"]) for one in told} == {("task_create", None), ("memory_store", None)}


async def test_who_is_refused_again_and_again_fills_nothing(workspace):
    refusals, operation, error = Refusals(every_seconds=60), BY_NAME["task_create"], Forbidden("No.")
    for _ in range(50):
        await refusals.record(workspace, Caller("eve"), operation, error)
    await refusals.record(workspace, Caller("bob"), operation, error)
    await refusals.record(workspace, Caller("eve"), BY_NAME["task_list"], error)
    rows = await fetch(workspace.opened, ROWS)
    assert [row["principal"] for row in rows] == ["eve", "bob"]
    at_once = Refusals(every_seconds=0)
    for _ in range(2):
        await at_once.record(workspace, Caller("eve"), operation, error)
    assert len(await fetch(workspace.opened, ROWS)) == 4

"""Logs as lines: JSON that a collector can read, text for people, and nothing in them that is not for either."""

import asyncio
import io
import json
import logging

import pytest
from harness import TestWorkspace

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.db import open_pool
from bmad_mcp.errors import NotFound
from bmad_mcp.operation import perform
from bmad_mcp.telemetry import logs
from bmad_mcp.telemetry.slow import SLOW_SECONDS, note_slower_than

SECRET = "s3cr3t-Zq9x"


@pytest.fixture
def logged(monkeypatch):
    """Logs into a text of our own: `logged("json", "info")`, and afterwards its lines."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    written = io.StringIO()

    def start(form, level="info", secrets=()):
        monkeypatch.setattr(logs.sys, "stderr", written)
        logs.log_to_stderr(level, form, secrets)
        return lambda: written.getvalue().splitlines()

    yield start
    root.handlers[:], root.level = kept


async def test_a_call_is_one_json_line_with_who_where_and_how_long(logged, workspace):
    lines = logged("json")
    caller = Caller("ann@example.com", "http:ann session-secret")
    await perform(BY_NAME["task_create"], {"title": "A title of the project"}, caller, workspace)
    with pytest.raises(NotFound):
        await perform(BY_NAME["task_get"], {"task": "T-999"}, caller, workspace)
    made, refused = (json.loads(line) for line in lines())
    assert made["message"].startswith("task_create ok in ")
    known = ("level", "logger", "operation", "principal", "project", "outcome")
    assert [made[name] for name in known] == [
        "info",
        "bmad_mcp.call",
        "task_create",
        "ann@example.com",
        workspace.opened.key,
        "ok",
    ]
    assert made["time"].endswith("+00:00")
    assert made["duration_ms"] > 0
    assert made["statements"] >= 3
    assert len(made["call"]) == 32
    assert (refused["operation"], refused["outcome"]) == ("task_get", "not_found")
    told = "\n".join(lines())
    assert "A title" not in told
    assert "session-secret" not in told


async def test_slow_statements_are_noted_by_name_with_the_call_and_never_their_values(logged, workspace):
    lines = logged("json", "warning")
    note_slower_than(0.0)
    try:
        await perform(BY_NAME["task_create"], {"title": "A title of the project"}, Caller(), workspace)
    finally:
        note_slower_than(SLOW_SECONDS)
    notes = [json.loads(line) for line in lines()]
    assert {one["logger"] for one in notes} == {"bmad_mcp.slow"}
    assert {"BEGIN", "COMMIT"} < {one["statement"] for one in notes}
    assert any(one["statement"].startswith("tasks.queries.") for one in notes)
    assert {one["operation"] for one in notes} == {"task_create"}
    assert all(one["duration_ms"] >= 0 for one in notes)
    assert "A title" not in "\n".join(lines())
    assert "INSERT" not in "\n".join(lines())


async def test_only_statements_over_the_bound_are_noted(logged, pool):
    lines = logged("json", "warning")
    note_slower_than(0.15)
    try:
        await pool.fetchval("SELECT 1")
        await pool.execute("SELECT pg_sleep(0.2)")
    finally:
        note_slower_than(SLOW_SECONDS)
    (note,) = [json.loads(line) for line in lines()]
    assert note["statement"] == "other"
    assert 200 <= note["duration_ms"] < 5_000


def test_a_record_is_one_line_whatever_is_in_it(logged):
    lines = logged("json")
    logging.getLogger("x").warning("first\nsecond \u2028 %s", '"} {"level": "forged"')
    (line,) = lines()
    assert json.loads(line)["message"] == 'first\nsecond \u2028 "} {"level": "forged"'


def test_a_text_line_cannot_be_forged_by_a_value(logged):
    lines = logged("text")
    logging.getLogger("x").warning("%s", "a\n2026-01-01 00:00:00,000 INFO bmad_mcp: forged\r\nb")
    (line,) = lines()
    assert line.endswith("WARNING x: a\\n2026-01-01 00:00:00,000 INFO bmad_mcp: forged\\r\\nb")


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_are_taken_out_of_messages_arguments_and_exceptions(logged, form):
    lines = logged(form, secrets=["Known-Secret-77"])
    logger = logging.getLogger("x")
    logger.error("connect postgresql://ann:%s@db/x", SECRET)
    logger.error("the key is Known-Secret-77")
    try:
        raise ConnectionError(f"postgresql://ann:{SECRET}@db refused Known-Secret-77")
    except ConnectionError:
        logger.exception("failed")
    told = "\n".join(lines())
    assert SECRET not in told
    assert "Known-Secret-77" not in told
    assert told.count("[hidden]") == 4
    assert "test_logs.py" in told


@pytest.mark.parametrize("form", ["json", "text"])
async def test_an_exception_of_the_database_is_told_without_the_values_of_rows(logged, pool, form):
    lines = logged(form)
    logger = logging.getLogger("x")
    try:
        await pool.fetchval("SELECT 'A text of the project'::int")
    except Exception as cause:
        try:
            raise RuntimeError("could not") from cause
        except RuntimeError:
            logger.exception("failed")
    told = "\n".join(lines())
    assert "A text of the project" not in told
    assert "InvalidTextRepresentationError (SQLSTATE 22P02)" in told
    assert "RuntimeError: could not" in told
    assert told.index("22P02") < told.index("RuntimeError")
    if form == "json":
        (line,) = lines()
        assert "which led to:" in json.loads(line)["exception"]


async def test_a_pool_without_a_database_says_so_in_one_line(logged, database):
    lines = logged("text", "warning")
    pool = await open_pool(**database.app)
    try:
        pool.set_connect_args(host="127.0.0.1", port=1, user="x", database="x")
        async with pool.acquire() as connection:
            connection.terminate()
        for _ in range(100):
            if lines():
                break
            await asyncio.sleep(0.01)
    finally:
        pool.terminate()
    (told,) = lines()
    assert "WARNING asyncpg.pool: The database is away (ConnectionRefusedError: " in told


async def test_calls_at_once_keep_their_own_names(logged, pool, workspace):
    lines = logged("json")

    async def one(name: str) -> None:
        await perform(BY_NAME["task_list"], {}, Caller(name), TestWorkspace(workspace.opened))

    await asyncio.gather(*(one(f"person-{number}") for number in range(20)))
    found = [json.loads(line) for line in lines()]
    assert sorted(line["principal"] for line in found) == sorted(f"person-{number}" for number in range(20))
    assert len({line["call"] for line in found}) == 20

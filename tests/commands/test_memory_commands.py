"""`memory list`, `export` and `forget`: what they show and erase, what they never print raw, and their exit codes."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from commands.command import succeeds
from commands.memory_commands import command_pool, commands_on, one_service
from processes import held

from bench import faults

HOSTILE = "\x1b]0;owned\x07\x1b[2JSay \u202egnihton\u202c,\u200b do \U000e0041\U000e0042\r\n# not a heading\n```\nx"


@pytest.fixture(scope="module", autouse=True)
def _migrated(server_env):
    succeeds(server_env, "db", "upgrade")


@pytest.fixture
async def pool(server_env):
    async with held(command_pool(server_env)) as found:
        yield found


# What differs between the two has tests without processes; the commands are played on both in `make soak`.
@pytest.fixture(params=["openmemory", pytest.param("mem0", marks=pytest.mark.soak)])
async def server(request):
    async with one_service(request.param) as found:
        yield found


@pytest.fixture
async def kept(pool, server_env, server):
    async with commands_on(pool, server_env, server) as found:
        yield found


@pytest.fixture
async def beside(pool, server_env):
    async with one_service("openmemory") as openmemory, commands_on(pool, server_env, openmemory) as found:
        yield found


def has_control_characters(text: str) -> bool:
    return any(not (letter.isprintable() or letter in "\n\u200c\u200d") for letter in text)


# --- list


async def test_list_tells_where_each_is_and_who_stored_it(beside):
    old = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    key, ref = await beside.delivered("Deploys need two approvals", agent="dev", principal="alice", created_at=old)
    await beside.add("Waits", delivery="queued", attempts=2, category="USER_PREFERENCES")
    await beside.add("Refused", delivery="dead", attempts=1, failure="The memory service answered 422", principal="bob")
    text = await beside.succeeds("memory", "list")
    assert text.splitlines()[-6:-1] == [
        str(key),
        "  2026-01-02 03:04 UTC  AGENT_CONTEXT  by alice (agent), for dev",
        f"  delivered to OpenMemory as {ref}",
        "  Deploys need two approvals",
        "",
    ]
    assert "  queued for the memory service, tried 2 times\n  Waits\n" in text
    assert "  dead, given up, tried once: The memory service answered 422\n  Refused\n" in text
    assert text.endswith(f"3 memories of {beside.opened.key}.\n")
    only = json.loads(await beside.succeeds("memory", "list", "--json", "--by", "bob"))
    assert [(one["text"], one["principal"], one["project"]) for one in only] == [("Refused", "bob", beside.opened.key)]
    text = await beside.succeeds("memory", "list", "--category", "user_preferences", "--since", "7d", "--limit", "1")
    assert "Waits" in text
    assert "Refused" not in text
    assert "There are no such memories." in await beside.succeeds("memory", "list", "--agent", "qa")
    assert "1 memory of" in await beside.succeeds("memory", "list", "--limit", "1")


async def test_what_a_text_hides_is_flagged_and_nothing_acts_on_the_terminal(beside):
    await beside.add(HOSTILE + "y" * 4_000, principal="eve\x1b[31m", agent="dev")
    text = await beside.succeeds("memory", "list")
    assert not has_control_characters(text)
    assert (
        "\\x1b]0;owned\\x07\\x1b[2JSay \\u202egnihton\\u202c,\\u200b do \\U000e0041\\U000e0042 # not a heading ``` xyy"
        in text
    )
    assert "invisible characters: bidi, zero_width, tags" in text
    assert "by eve\\x1b[31m (agent), for dev" in text
    assert f"({len(HOSTILE) + 4_000:,} characters)" in text
    as_json = await beside.succeeds("memory", "list", "--json")
    assert not has_control_characters(as_json)
    (one,) = json.loads(as_json)
    assert (one["text"], one["flags"]) == (HOSTILE + "y" * 4_000, ["bidi", "zero_width", "tags"])


# --- export


@pytest.mark.parametrize("form", ["jsonl", "json"])
async def test_an_export_reads_back_to_what_is_kept(kept, tmp_path, form):
    await kept.delivered(HOSTILE, principal="alice", agent="dev", category="WORKFLOW_PATTERNS")
    await kept.add(
        "Zwei 👩‍💻 freigaben – nötig ❤️", principal="bob", delivery="dead", failure="answered 422", attempts=8
    )
    file = tmp_path / "memories"
    await kept.succeeds("memory", "export", str(file), "--format", form)
    text = file.read_text("utf-8")
    assert not has_control_characters(text)
    assert "Zwei 👩‍💻 freigaben – nötig ❤️" in text
    found = [json.loads(line) for line in text.splitlines()] if form == "jsonl" else json.loads(text)["memories"]
    rows = await kept.sql("SELECT * FROM mcp_memories WHERE project_id = bmad_project() ORDER BY id")
    for one, row in zip(found, rows, strict=True):
        assert (one["id"], one["author"]) == (str(row["id"]), row["author_kind"])
        assert datetime.fromisoformat(one["created_at"]) == row["created_at"]
        assert one["attempted_at"] is None or datetime.fromisoformat(one["attempted_at"]) == row["attempted_at"]
        same = ("text", "category", "agent", "principal", "confidence", "delivery", "provider", "service_ref")
        for name in (*same, "attempts", "failure", "identifiers"):
            assert one[name] == row[name], name
    on_stdout = await kept.succeeds("memory", "export", "--format", form)
    # Only the moment of the export differs.
    assert on_stdout.splitlines()[-3:] == text.splitlines()[-3:]
    by_bob = await kept.succeeds("memory", "export", "--by", "bob")
    assert [json.loads(line)["principal"] for line in by_bob.splitlines()] == ["bob"]


async def test_an_export_of_the_service_has_all_of_its_pages_and_no_other_project(pool, kept, server_env, tmp_path):
    count = 230
    for at in range(count):
        kept.add_there(f"Of another database {at}")
    key, _ = await kept.delivered("Of Alice", principal="alice")
    async with commands_on(pool, server_env, kept.server) as other:
        await other.delivered("Of another project", principal="alice")
        text = await kept.succeeds("memory", "export", "--service", "--format", "json")
    found = json.loads(text)
    assert [one["text"] for one in found["memories"]] == ["Of Alice"]
    assert found["service"]["provider"] == kept.server.kind
    assert len(found["service"]["memories"]) == count + 1
    assert {one["project"] for one in found["service"]["memories"]} == {kept.opened.key}
    lines = (await kept.succeeds("memory", "export", "--service", "--by", "alice")).splitlines()
    assert [(one["source"], one["text"]) for one in map(json.loads, lines)] == [
        ("here", "Of Alice"),
        (kept.server.kind, "Of Alice"),
    ]
    assert json.loads(lines[1])["key"] == str(key)


async def test_a_page_for_people_cannot_be_broken_out_of(beside):
    await beside.add(HOSTILE, principal="**eve**")
    text = await beside.succeeds("memory", "export", "--format", "markdown")
    assert not has_control_characters(text)
    fence = "````"
    assert f"{fence}text\n\\x1b]0;owned" in text
    assert text.endswith(f"# not a heading\n```\nx\n{fence}\n")
    assert "- principal: \\*\\*eve\\*\\*\n" in text
    assert "- invisible characters: bidi, zero\\_width, tags\n" in text


async def test_a_file_is_never_overwritten_unasked_and_none_is_left_half_written(beside, tmp_path):
    await beside.delivered("Fact")
    file = tmp_path / "memories.jsonl"
    file.write_text("mine")
    assert "--overwrite" in await beside.fails("memory", "export", str(file))
    assert file.read_text() == "mine"
    beside.server.fault = faults.close_before_answer
    assert "Nothing was written" in await beside.fails("memory", "export", str(file), "--service", "--overwrite")
    assert file.read_text() == "mine"
    beside.server.fault = None
    await beside.succeeds("memory", "export", str(file), "--service", "--overwrite")
    assert len(file.read_text().splitlines()) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["memories.jsonl"]
    await beside.fails("memory", "export", "--overwrite", code=2)


# --- forget


async def test_forget_shows_what_will_go_and_asks(kept):
    for at in range(2):
        await kept.delivered(f"Alice {at}", principal="alice", category="TASK_COMPLETION")
    await kept.add("Alice here", principal="alice")
    await kept.delivered("Bob", principal="bob")
    done = await kept.run("memory", "forget", "--by", "alice")
    name = "OpenMemory" if kept.server.kind == "openmemory" else "mem0"
    assert done.returncode == 1
    assert f"Erase 3 memories here and 2 memories in {name} for good?" in done.stderr
    assert "nothing was erased" in done.stderr
    assert done.stdout.splitlines() == [
        "CATEGORY         HERE  IN THE SERVICE",
        "AGENT_CONTEXT    1     0",
        "TASK_COMPLETION  2     2",
    ]
    assert (len(await kept.here()), len(kept.there())) == (4, 3)
    text = await kept.succeeds("memory", "forget", "--by", "alice", "--yes")
    assert f"Erased 3 memories here and 2 memories in {name}.\n" in text
    # Neither deletes in full, and nobody is told otherwise.
    assert ("marked as deleted" if kept.server.kind == "openmemory" else "history of changes") in text
    assert (await kept.here(), kept.there()) == (["Bob"], ["Bob"])
    trail = await kept.trail()
    assert {one["operation"] for one in trail} == {"memory_forget"}
    assert "Alice" not in str(trail)
    assert "nothing to erase" in await kept.succeeds("memory", "forget", "--by", "alice", "--yes")


async def test_forget_with_the_service_away_erases_nothing_unless_it_is_told_to(kept):
    key, _ = await kept.delivered("Fact")
    kept.server.fault = faults.close_before_answer
    told = await kept.fails("memory", "forget", str(key), "--yes")
    assert "Nothing was erased" in told
    assert "--here-only" in told
    assert await kept.here() == ["Fact"]
    text = await kept.succeeds("memory", "forget", str(key), "--yes", "--here-only")
    assert "What the memory service has of them is still there." in text
    assert (await kept.here(), kept.there()) == ([], ["Fact"])


async def test_forget_asks_before_it_takes_what_only_the_archive_has(beside):
    old = datetime.now(UTC) - timedelta(days=90)
    first, second = [await beside.add(text, category="TASK_COMPLETION", created_at=old) for text in ("One", "Two")]
    await beside.succeeds("memory", "retention", "--set", "TASK_COMPLETION=30")
    assert "2" in await beside.succeeds("jobs", "run", "retention")
    assert await beside.here() == []
    done = await beside.run("memory", "forget", str(first))
    assert done.returncode == 1
    assert "Erase 1 memory from the archive for good?" in done.stderr
    text = await beside.succeeds("memory", "forget", str(first).upper(), "--yes")
    assert "Erased 1 memory that retention had archived." in text
    left = await beside.sql("SELECT id FROM mcp_archive WHERE project_id = bmad_project()")
    assert [row["id"] for row in left] == [second]


async def test_forget_needs_exactly_one_way_to_choose(beside):
    await beside.add("Fact")
    for wrong in ([], ["--all", "--by", "alice"], ["T-1", "--category", "AGENT_CONTEXT"], ["--before", "yesterday"]):
        await beside.fails("memory", "forget", *wrong, "--yes", code=2)
    assert "no memory t-1" in await beside.fails("memory", "forget", "T-1", "--yes")
    assert await beside.here() == ["Fact"]
    await beside.succeeds("memory", "forget", "--all", "--yes")
    assert await beside.here() == []


async def test_a_wrong_key_is_told(pool, server_env):
    async with one_service("mem0") as server, commands_on(pool, server_env, server) as kept:
        await kept.delivered("Fact")
        server.api_key = "right"
        told = await kept.fails("memory", "forget", "--all", "--yes", BMAD_MEMORY_API_KEY="wrong-secret")
        assert "set BMAD_MEMORY_API_KEY" in told
        assert "wrong-secret" not in told
        assert await kept.here() == ["Fact"]
        await kept.succeeds("memory", "forget", "--all", "--yes", BMAD_MEMORY_API_KEY="right")
        assert kept.there() == []


async def test_a_project_that_is_not_there_is_told_and_not_made(beside):
    for words in (["list"], ["export"], ["forget", "--all", "--yes"], ["retention"], ["retry"], ["deliver"]):
        assert "There is no project 'nobodys'" in await beside.fails("memory", *words, "--project", "nobodys")


# --- retention


async def test_retention_is_set_shown_tried_and_applied(kept):
    await kept.delivered("Old", category="TASK_COMPLETION", created_at=datetime.now(UTC) - timedelta(days=31))
    await kept.delivered("New", category="TASK_COMPLETION", created_at=datetime.now(UTC) - timedelta(days=29))
    await kept.delivered("Old context", created_at=datetime.now(UTC) - timedelta(days=400))
    text = await kept.succeeds("memory", "retention", "--set", "task_completion=30", "--dry-run", "--apply")
    assert "Nothing was erased" in text
    assert "for ever" in (await kept.succeeds("memory", "retention")).split("TASK_COMPLETION")[1].splitlines()[0]
    text = await kept.succeeds("memory", "retention", "--set", "TASK_COMPLETION=30")
    (row,) = [line.split() for line in text.splitlines() if line.startswith("TASK_COMPLETION")]
    assert (row[1:4], row[5]) == (["30", "days", "2"], "1")
    assert "1 memory over age" in text
    text = await kept.succeeds("memory", "retention", "--apply")
    assert "Erased 1 memory here and 1 memory in" in text
    assert await kept.here() == ["New", "Old context"]
    assert sorted(kept.there()) == ["New", "Old context"]
    assert "Nothing is over age." in await kept.succeeds("memory", "retention", "--apply")
    text = await kept.succeeds("memory", "retention", "--clear", "TASK_COMPLETION")
    assert "30 days" not in text
    for wrong in (
        ["--set", "TASK_COMPLETION=0"],
        ["--set", "NOTHING=3"],
        ["--set", "TASK_COMPLETION"],
        ["--here-only"],
    ):
        await kept.fails("memory", "retention", *wrong, code=2)

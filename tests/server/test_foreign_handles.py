"""Keys, leases, ids and cursors are no credentials: of another project they are as unknown as those of nothing."""

import re

import pytest
from auth_server import guarded_server, result_of, rows_of
from harness import TestWorkspace, new_project

from bmad_mcp.catalog import CATALOG
from bmad_mcp.telemetry.events import Observer, current_call, observed_by

# The same operations with what is in the other project, and with what is nowhere.
NOWHERE = {
    "task": "T-77",
    "story": "7.7",
    "epic": "7",
    "workflow": "W-77",
    "handoff": "H-77",
    "artifact": "A-77",
    "memory": "01920000-0000-7000-8000-000000000077",
}
MORE = {
    "lease": 1,
    "agent": "dev",
    "outcome": "done",
    "expected_version": 1,
    "status": "ready",
    "reason": "x",
    "gate": "FAIL",
    "title": "Mine",
    "note": "x",
    "to": "qa",
}
# These want something to change beside what they must be given.
CHANGES = {"task_update": {"title": "Mine", "lease": 1}, "story_update": {"status": "ready"}}


class Statements(Observer):
    """Counts what the database was asked for calls; what is told of earlier changes runs beside them."""

    count = 0

    def statement_ended(self, seconds: float) -> None:
        self.count += current_call.get() is not None


@pytest.fixture
async def pair(workspace, pool):
    """One server, two projects: alice works in the first, bob in the second; and what alice made."""
    other = TestWorkspace(await new_project(pool))
    # A clock that stands: a token is looked up once, so each later call costs what the call itself costs.
    async with guarded_server(workspace) as guarded, guarded_server(other, clock=lambda: 0.0) as beside:
        alice, bob = await guarded.token("alice"), await beside.token("bob")
        assert not result_of(await beside.call(bob, "task_list"))["isError"]

        async def made(tool: str, **arguments: object) -> dict:
            result = result_of(await guarded.call(alice, tool, arguments))
            assert not result["isError"], result
            return result["structuredContent"]

        await made("epic_create", title="First")
        await made("story_create", epic="1", title="Story")
        await made("story_update", story="1.1", expected_version=1, status="ready")
        await made("task_create", title="Held", story="1.1")
        claim = await made("task_claim", agent="dev", task="T-1")
        await made("workflow_start", type="greenfield-service")
        await made("agent_activate", agent="dev")
        await made("handoff_offer", to="qa", task="T-1", note="Please")
        await made("artifact_record", kind="document", title="Paper", content="x")
        memory = (await made("memory_store", text="The gate is blue"))["memory"]["id"]
        there = {
            "task": "T-1",
            "story": "1.1",
            "epic": "1",
            "workflow": "W-1",
            "handoff": "H-1",
            "artifact": "A-1",
            "memory": memory,
        }
        yield guarded, beside, alice, bob, there, claim["lease"]


def by_key():
    """Every operation that has to be given a key."""
    for operation in CATALOG:
        fields = operation.arguments.model_fields
        if operation.toolset and (keys := [name for name in NOWHERE if name in fields and fields[name].is_required()]):
            yield operation, keys[0]


async def told(guarded, token: str, operation, key: str, value: object) -> tuple[str, str, int]:
    """The code, the text without the key, and the round trips of a call with this key."""
    fields = operation.arguments.model_fields
    arguments = {name: MORE[name] for name in fields if name in MORE and fields[name].is_required()} | {key: value}
    arguments |= CHANGES.get(operation.name, {})
    seen = Statements()
    with observed_by(seen):
        result = result_of(await guarded.call(token, operation.name, arguments))
    # Not within a word: the project's own name is by chance.
    text = re.sub(rf"(?<![\w-]){re.escape(str(value))}(?![\w-])", "KEY", result["content"][0]["text"])
    return result.get("_meta", {}).get("bmad/code", ""), text, seen.count


async def test_what_is_in_another_project_looks_like_nothing_to_every_operation(pair, database):
    _, beside, _, bob, there, _ = pair
    before = await rows_of(database.admin, "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM bmad_tasks t")
    tried = []
    for operation, key in by_key():
        foreign = await told(beside, bob, operation, key, there[key])
        absent = await told(beside, bob, operation, key, NOWHERE[key])
        assert foreign == absent, operation.name
        assert foreign[0] == "not_found", (operation.name, foreign)
        tried.append(operation.name)
    assert {"task_get", "task_complete", "task_heartbeat", "workflow_advance", "handoff_accept", "story_update"} <= {
        *tried
    }
    assert await rows_of(database.admin, "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM bmad_tasks t") == before


async def test_a_cursor_of_another_project_leads_into_ones_own(pair):
    guarded, beside, alice, bob, *_ = pair
    for number in range(3):
        await guarded.call(alice, "task_create", {"title": f"Alice {number}"})
        await beside.call(bob, "task_create", {"title": f"Bob {number}"})
    page = result_of(await guarded.call(alice, "task_list", {"limit": 1}))["structuredContent"]
    follow = result_of(await beside.call(bob, "task_list", {"cursor": page["next_cursor"]}))["structuredContent"]
    assert {item["title"].split()[0] for item in follow["items"]} == {"Bob"}


async def test_within_a_project_a_lease_is_shared_work_and_the_trail_names_who_did_it(pair, database):
    guarded, _, _, _, _, lease = pair
    carol = await guarded.token("carol", role="member")
    wrong = result_of(await guarded.call(carol, "task_complete", {"task": "T-1", "lease": lease + 1}))
    assert wrong["_meta"]["bmad/code"] == "lease_lost"
    done = result_of(await guarded.call(carol, "task_complete", {"task": "T-1", "lease": lease}))
    assert not done["isError"]
    rows = await rows_of(
        database.admin,
        "SELECT operation, principal FROM bmad_agent_activity WHERE project_id = $1 AND subject = 'task T-1'"
        " AND operation IN ('task_claim', 'task_complete') ORDER BY id",
        guarded.workspace.opened.id,
    )
    assert [tuple(row) for row in rows] == [("task_claim", "alice"), ("task_complete", "carol")]

"""Every path of the contract is there, over the real HTTP server, and answers what the tool answers."""

import json
import re

import pytest
from example_calls import CALLS
from rest_server import RestClient, serving

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME, CATALOG
from bmad_mcp.operation import perform
from bmad_mcp.server.rest.openapi import examples
from bmad_mcp.server.rest.ways import PREFIX, ways_of

WAYS = {way.id: way for way in ways_of(CATALOG)}
CONTRACT = """
GET /status
GET /agents · GET /agents/active · GET /agents/{agent} · POST /agents/activate · POST /agents/{agent}/deactivate
GET /agents/{agent}/tasks
GET /workflows/types · POST /workflows/start · GET /workflows · GET /workflows/active · GET /workflows/{workflow}
POST /workflows/{workflow}/advance · POST /workflows/{workflow}/pause · POST /workflows/{workflow}/resume
POST /workflows/{workflow}/cancel
POST /epics · GET /epics · GET /epics/{epic}
POST /stories · GET /stories · GET /stories/{story} · PATCH /stories/{story} · GET /stories/next
POST /tasks/create · GET /tasks · GET /tasks/{task} · POST /tasks/claim · POST /tasks/{task}/start
POST /tasks/{task}/heartbeat · PATCH /tasks/{task} · POST /tasks/{task}/complete
POST /handoffs · POST /handoffs/{handoff}/accept · GET /handoffs
GET /checklists · GET /checklists/{checklist} · POST /checklists/{checklist}/run
POST /gates · GET /gates/{story}
GET /templates · GET /templates/{template} · POST /templates/{template}/render
POST /artifacts · GET /artifacts · GET /artifacts/{artifact}
POST /memory/context · POST /memory/store · GET /memory/search · GET /memory/{memory}/related
GET /activity
GET /agents/{agent}/analytics · GET /workflows/analytics · GET /analytics/overview · GET /health
"""
PROMISED = sorted({route.strip() for line in CONTRACT.strip().splitlines() for route in line.split("·")})
# What changes from one call to the next, though nobody changed anything.
READS = [name for name, _ in CALLS if name in BY_NAME and BY_NAME[name].scope == "read" and name != "health"]


@pytest.mark.parametrize("route", PROMISED)
def test_the_contract_s_path_leads_to_an_operation(route):
    assert route in {f"{way.verb} {way.path}" for way in WAYS.values()}


async def test_every_path_answers_for_the_example_of_its_operation(sample_rest):
    """Refusals of the state are fine; no path may be unknown, unwilling or broken."""
    for way in WAYS.values():
        arguments = examples()[way.operation.name]["arguments"]
        path = re.sub(r"\{(\w+)\}", lambda found: str(arguments.get(found[1], "dev")), way.path)  # noqa: B023
        rest = {name: value for name, value in arguments.items() if name not in {*way.in_path, *way.preset}}
        sent = {"params": _query(rest)} if way.reads else {"json": rest}
        answer = await sample_rest.request(way.verb, path, **sent)
        told = answer.json()
        if answer.is_success:
            assert answer.headers["content-type"] == "application/json"
            way.operation.result.model_validate(told)
        else:
            assert answer.status_code in (404, 409), (way.id, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert way.in_path or "task" in rest or "story" in rest, (way.id, answer.text)


def _query(arguments):
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in arguments.items()}


async def test_a_read_answers_what_the_tool_answers(sample):
    answered = set()
    async with serving(sample) as address, RestClient(address) as client:
        for way in WAYS.values():
            if not way.reads or way.operation.name not in READS:
                continue
            arguments = {**examples()[way.operation.name]["arguments"], **way.preset}
            if "agent" in way.in_path and "agent" not in arguments:
                arguments["agent"] = "dev"
            if {"memory", "artifact", "workflow"} & set(way.in_path):
                continue
            path = re.sub(r"\{(\w+)\}", lambda found: str(arguments[found[1]]), way.path)  # noqa: B023
            query = {name: value for name, value in arguments.items() if name not in {*way.in_path, *way.preset}}
            over_rest = await client.json("GET", path, params=_query(query))
            result = await perform(way.operation, arguments, Caller("local", "http"), sample)
            assert over_rest == json.loads(result.model_dump_json(exclude_unset=True)), way.id
            answered.add(way.id)
    assert len(answered) >= 24


async def test_what_was_made_is_read_at_its_location(rest):
    made = 0
    await rest.json("POST", "/epics", 201, json={"title": "First"})
    for way in WAYS.values():
        if way.makes(WAYS.values()) is None:
            continue
        given = {"title": "New"} | ({"epic": "1"} if "epic" in way.operation.arguments.model_fields else {})
        given |= {"type": "greenfield-ui"} if "type" in way.operation.arguments.model_fields else {}
        answer = await rest.post(way.path, json=given)
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"].startswith(f"{PREFIX}/")
        read = await rest.get(rest.origin + answer.headers["location"])
        assert read.status_code == 200
        key = answer.headers["location"].rpartition("/")[2]
        assert f'"key":"{key}"' in read.text
        made += 1
    assert made == 4


async def test_a_fixed_argument_cannot_be_given_again(rest):
    for path in ("/agents/active?status=idle", "/workflows/active?status=paused", "/agents/dev/tasks?agent=qa"):
        told = await rest.json("GET", path, 422)
        assert "fixed by the path" in told["detail"]
    told = await rest.json("PATCH", "/tasks/T-1", 422, json={"task": "T-2", "note": "x"})
    assert told["field"] == "task"


async def test_literal_segments_win_over_keys(sample_rest):
    following = await sample_rest.json("GET", "/stories/next")
    assert {"story", "why"} <= set(following)
    await sample_rest.json("POST", "/agents/activate", json={"agent": "dev"})
    active = await sample_rest.json("GET", "/agents/active")
    assert [one["agent"] for one in active["items"]] == ["dev"]
    types = await sample_rest.json("GET", "/workflows/types")
    assert len(types["items"]) >= 6
    answer = await sample_rest.patch("/stories/next", json={"expected_version": 1, "status": "ready"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_an_encoded_slash_stays_in_its_segment_and_encoded_letters_are_letters(rest):
    told = await rest.json("GET", "/templates/no%2Fsuch", 404)
    assert "no/such" in told["detail"]
    assert (await rest.json("GET", "/%73tatus"))["project"]
    answer = await rest.get(f"{rest.origin}/api%2Fv1/bmad/status")
    assert answer.status_code == 404

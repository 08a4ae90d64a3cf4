"""Problem responses: every error of an operation has its status, and every answer that refuses is a problem."""

import asyncio

import pytest
from rest_server import RestClient, serving

from bmad_mcp import errors
from bmad_mcp.errors import BmadError, Unavailable
from bmad_mcp.server.rest.problems import KINDS, problem_of

STATUS = {
    "NotFound": 404,
    "Conflict": 409,
    "InvalidMove": 409,
    "LeaseLost": 409,
    "VersionConflict": 409,
    "Invalid": 422,
    "Forbidden": 403,
    "KeyMissing": 503,
    "NoRoom": 503,
    "Overloaded": 503,
    "RateLimited": 429,
    "Unavailable": 503,
}
WAITING_HELPS = {"NoRoom", "Overloaded", "RateLimited", "Unavailable"}

# What these take in the place of a field.
GIVEN = {"RateLimited": {"retry_after": 7}, "KeyMissing": {"mend": "set it"}}


def kinds(error=BmadError):
    for child in error.__subclasses__():
        yield child
        yield from kinds(child)


@pytest.mark.parametrize("name", sorted(STATUS))
def test_an_error_has_its_status_and_its_kind_is_told_in_the_docs(name):
    error, given = getattr(errors, name), GIVEN.get(name, {"field": "task"})
    answer = problem_of(error("What, why, and what next.", **given))
    assert answer.status_code == STATUS[name] == KINDS[error.code][0]
    assert answer.media_type == "application/problem+json"
    assert b'"detail":"What, why, and what next.' in answer.body
    assert (b'"field":"task"' in answer.body) == ("field" in given)
    assert ("retry-after" in answer.headers) == (b'"retry_after":' in answer.body) == (name in WAITING_HELPS)
    assert answer.headers.get("retry-after") in (None, "2", "7", "60")


def test_every_error_class_is_in_the_table():
    assert {kind.__name__ for kind in kinds() if kind.__module__ == "bmad_mcp.errors"} == set(STATUS)
    # The demo is a client: its refusals are what it was told.
    mine = [kind for kind in kinds() if kind.__module__.startswith("bmad_mcp.") and ".demo." not in kind.__module__]
    assert {kind.code for kind in mine} <= set(KINDS)


async def claimed(rest):
    await rest.json("POST", "/tasks/create", 201, json={"title": "Held"})
    return await rest.json("POST", "/tasks/claim", json={"agent": "dev", "task": "T-1"})


async def test_real_refusals_are_problems_that_say_what_next(rest):
    claim = await claimed(rest)
    await rest.json("POST", "/epics", 201, json={"title": "First"})
    await rest.json("POST", "/stories", 201, json={"epic": "1", "title": "Story"})
    late = {"task": None, "lease": claim["lease"] + 1}
    cases = [
        ("GET", "/tasks/T-999", None, 404, "not_found", "task"),
        ("GET", "/tasks/nonsense", None, 422, "invalid", "task"),
        ("POST", "/tasks/T-1/complete", {"lease": late["lease"]}, 409, "lease_lost", None),
        ("PATCH", "/stories/1.1", {"expected_version": 9, "status": "ready"}, 409, "version_conflict", None),
        ("PATCH", "/stories/1.1", {"expected_version": 1, "status": "done"}, 409, "invalid_move", None),
        ("POST", "/tasks/create", {}, 422, "invalid", "title"),
        ("POST", "/tasks/create", {"title": "x", "colour": "red"}, 422, "invalid", "colour"),
    ]
    for verb, path, body, status, code, field in cases:
        answer = await rest.request(verb, path, **({"json": body} if body is not None else {}))
        told = answer.json()
        assert (answer.status_code, told["code"], told["status"]) == (status, code, status), (path, told)
        assert answer.headers["content-type"] == "application/problem+json"
        assert told["type"] == f"/docs#problem-{code}"
        assert set(told) >= {"type", "title", "status", "detail", "code"}
        assert len(told["detail"]) > 10
        assert field is None or told["field"] == field
    await rest.json("POST", "/agents/activate", json={"agent": "dev"})
    answer = await rest.post("/gates", json={"story": "1.1", "gate": "PASS", "reason": "Fine."})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


class AwayWorkspace:
    """A workspace whose database cannot be had."""

    async def project(self):
        raise Unavailable("The database is away.")

    async def mend(self):
        return False


class BrokenWorkspace(AwayWorkspace):
    """A workspace with a fault that nobody foresaw."""

    async def project(self):
        raise RuntimeError("s3cret")


async def test_without_the_database_it_says_when_to_call_again():
    async with serving(AwayWorkspace()) as address, RestClient(address) as client:
        answer = await client.get("/status")
        assert (answer.status_code, answer.json()["detail"]) == (503, "The database is away.")
        assert int(answer.headers["retry-after"]) == answer.json()["retry_after"] > 0
        assert (await client.get("/openapi.json")).status_code == 200


async def test_an_unforeseen_fault_is_told_without_its_text():
    async with serving(BrokenWorkspace()) as address, RestClient(address) as client:
        answer = await client.get("/status")
    assert answer.status_code in (500, 503)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "s3cret" not in answer.text


async def test_a_repeated_idempotency_key_answers_the_first_result_again(rest):
    key = {"Idempotency-Key": "0b0f-1"}
    first = await rest.post("/tasks/create", json={"title": "Once"}, headers=key)
    again = await rest.post("/tasks/create", json={"title": "Once"}, headers=key)
    quoted = await rest.post("/tasks/create", json={"title": "Once"}, headers={"Idempotency-Key": '"0b0f-1"'})
    inside = await rest.post("/tasks/create", json={"title": "Once", "idempotency_key": "0b0f-1"})
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json() == quoted.json() == inside.json()
    assert first.headers["location"] == again.headers["location"]
    assert len((await rest.json("GET", "/tasks"))["items"]) == 1
    other = await rest.post("/tasks/create", json={"title": "Other"}, headers=key)
    assert (other.status_code, other.json()["field"]) == (409, "idempotency_key")
    two = await rest.post("/tasks/create", json={"title": "Once", "idempotency_key": "b"}, headers=key)
    assert two.status_code == 422
    twice = await rest.post("/tasks/create", json={"title": "x"}, headers=[("Idempotency-Key", "a")] * 2)
    assert twice.status_code == 400


async def test_many_with_one_key_at_once_make_one(rest):
    sent = [rest.post("/tasks/create", json={"title": "Once"}, headers={"Idempotency-Key": "k"}) for _ in range(8)]
    answers = await asyncio.gather(*sent)
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.text for answer in answers if answer.status_code == 201}) == 1
    assert len((await rest.json("GET", "/tasks"))["items"]) == 1


async def test_a_read_only_server_takes_no_write(workspace):
    from bmad_mcp.server.auth import Resource

    resource = Resource("http://127.0.0.1", read_only=True)
    async with serving(workspace, resource=resource) as address, RestClient(address) as client:
        assert (await client.get("/status")).status_code == 200
        answer = await client.post("/tasks/create", json={"title": "x"})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "read-only" in answer.json()["detail"]


async def test_sessions_are_told_apart_by_their_header(rest):
    for session, agent in (("one", "dev"), ("two", "sm")):
        await rest.json("POST", "/agents/activate", json={"agent": agent}, headers={"x-bmad-session": session})
    for session, agent in (("one", "dev"), ("two", "sm")):
        told = await rest.json("POST", "/handoffs", json={"to": "qa", "note": "x"}, headers={"x-bmad-session": session})
        assert told["handoff"]["from"] == agent

"""ETag, If-Match and If-None-Match: nobody's change is lost, and nobody is told "not modified" who has seen less."""

import asyncio

import pytest


@pytest.fixture
async def story(rest):
    """The address of a story with a task."""
    await rest.json("POST", "/epics", 201, json={"title": "Epic"})
    made = await rest.post("/stories", json={"epic": "1", "title": "Story"})
    assert made.headers["etag"] == '"1"'
    await rest.json("POST", "/tasks/create", 201, json={"title": "Task", "story": "1.1"})
    return "/stories/1.1"


async def test_what_has_a_version_has_a_strong_tag_that_names_it(rest, story):
    for path, version in ((story, lambda told: told["version"]), ("/tasks/T-1", lambda told: told["task"]["version"])):
        answer = await rest.get(path)
        assert answer.headers["etag"].startswith(f'"{version(answer.json())}-')
        assert answer.headers["cache-control"] == "private, no-cache"
        again = await rest.get(path)
        assert again.headers["etag"] == answer.headers["etag"]
    for path in ("/status", "/stories", "/tasks"):
        answer = await rest.get(path)
        assert "etag" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("sent", ["{0}", "W/{0}", '"x", {0}', "*", '{0} , "y"'])
async def test_what_did_not_change_is_not_sent_again(rest, story, sent):
    tag = (await rest.get(story)).headers["etag"]
    answer = await rest.get(story, headers={"if-none-match": sent.format(tag)})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == tag
    head = await rest.head(story, headers={"if-none-match": sent.format(tag)})
    assert head.status_code == 304


async def test_a_change_below_the_version_is_sent(rest, story):
    """A claimed task shows in its story; a heartbeat shows in its task; neither makes a new version of it."""
    old = await rest.get(story)
    await rest.json("PATCH", story, json={"expected_version": 1, "status": "ready"})
    ready = await rest.get(story)
    claim = await rest.json("POST", "/tasks/claim", json={"agent": "dev"})
    task = await rest.get("/tasks/T-1")
    await asyncio.sleep(1.1)
    await rest.json("POST", "/tasks/T-1/heartbeat", json={"lease": claim["lease"]})
    beaten = await rest.get("/tasks/T-1", headers={"if-none-match": task.headers["etag"]})
    assert beaten.status_code == 200
    assert beaten.json()["task"]["version"] == task.json()["task"]["version"]
    assert beaten.json() != task.json()
    for earlier in (old, ready):
        assert (await rest.get(story, headers={"if-none-match": earlier.headers["etag"]})).status_code == 200


async def test_if_match_stands_for_the_expected_version(rest, story):
    read = await rest.get(story)
    first = await rest.patch(story, json={"status": "ready"}, headers={"if-match": read.headers["etag"]})
    assert (first.status_code, first.json()["story"]["version"]) == (200, 2)
    assert first.headers["etag"] == '"2"'
    late = await rest.patch(story, json={"status": "draft"}, headers={"if-match": read.headers["etag"]})
    assert (late.status_code, late.json()["code"], late.json()["status"]) == (412, "version_conflict", 412)
    second = await rest.patch(story, json={"status": "draft"}, headers={"if-match": first.headers["etag"]})
    assert (second.status_code, second.headers["etag"]) == (200, '"3"')
    in_body = await rest.patch(story, json={"status": "ready", "expected_version": 1})
    assert (in_body.status_code, in_body.json()["code"]) == (409, "version_conflict")


@pytest.mark.parametrize(
    ("sent", "body", "status"),
    [
        (None, {}, 428),
        ("*", {}, 428),
        ("*", {"expected_version": 1}, 200),
        ('"1"', {"expected_version": 1}, 200),
        ('"1"', {"expected_version": 2}, 422),
        ('"7"', {}, 412),
        ('W/"1"', {}, 412),
        ('"other"', {}, 412),
        ('"other", "1"', {}, 200),
        ('"1", "2"', {}, 400),
        ("1", {}, 400),
        ('"1', {}, 400),
        ("", {}, 400),
        ('"9999999999"', {}, 412),
        ('"1-0123456789abcdef"', {}, 200),
    ],
)
async def test_if_match_matrix(rest, story, sent, body, status):
    headers = {} if sent is None else {"if-match": sent}
    answer = await rest.patch(story, json={"status": "ready", **body}, headers=headers)
    assert answer.status_code == status, answer.text
    told = (await rest.json("GET", story))["version"]
    assert told == (2 if status == 200 else 1)


async def test_a_task_may_be_changed_without_a_version_but_not_with_a_wrong_one(rest, story):
    assert (await rest.patch("/tasks/T-1", json={"priority": "high"})).status_code == 200
    assert (await rest.patch("/tasks/T-1", json={"note": "x"}, headers={"if-match": '"1"'})).status_code == 412
    tag = (await rest.get("/tasks/T-1")).headers["etag"]
    assert (await rest.patch("/tasks/T-1", json={"note": "x"}, headers={"if-match": tag})).status_code == 200


async def test_a_condition_that_cannot_be_kept_is_refused_rather_than_ignored(rest, story):
    answer = await rest.post("/tasks/claim", json={"agent": "dev"}, headers={"if-match": '"1"'})
    assert answer.status_code == 400
    assert (await rest.json("GET", "/tasks/T-1"))["task"]["status"] == "pending"
    read = await rest.get(story, headers={"if-match": '"1-0123456789abcdef"'})
    assert read.status_code == 412
    assert (await rest.get(story, headers={"if-match": "*"})).status_code == 200
    missing = await rest.patch("/stories/9.9", json={"status": "ready"}, headers={"if-match": '"1"'})
    assert missing.status_code == 404


async def test_of_many_who_change_one_version_one_does(rest, story):
    tag = (await rest.get(story)).headers["etag"]
    sent = [rest.patch(story, json={"status": "ready"}, headers={"if-match": tag}) for _ in range(8)]
    statuses = sorted(answer.status_code for answer in await asyncio.gather(*sent))
    assert statuses[0] == 200
    assert set(statuses[1:]) == {412}

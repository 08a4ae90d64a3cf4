"""One story from its creation to done, by REST alone, as a scrum master, a developer and a reviewer."""


def session(name):
    return {"x-bmad-session": name}


async def test_a_story_from_creation_to_done(rest):
    assert (await rest.json("GET", "/health"))["version"]
    epic = await rest.post("/epics", json={"title": "Tides on the phone", "goal": "Read the next tide while walking."})
    assert epic.status_code == 201
    key = epic.json()["epic"]["key"]

    await rest.json("POST", "/agents/activate", json={"agent": "sm"}, headers=session("sm"))
    made = await rest.post(
        "/stories",
        json={"epic": key, "title": "Show the next tide", "acceptance": ["It is there within a second."]},
        headers=session("sm") | {"Idempotency-Key": "story-1"},
    )
    assert made.status_code == 201
    story = rest.origin + made.headers["location"]
    ready = await rest.patch(
        story, json={"status": "ready"}, headers=session("sm") | {"if-match": made.headers["etag"]}
    )
    assert ready.json()["story"]["status"] == "ready"
    number = made.json()["story"]["key"]
    for title in ("Compute it", "Show it"):
        await rest.json("POST", "/tasks/create", 201, json={"title": title, "story": number, "agent": "dev"})
    await rest.json("POST", "/agents/sm/deactivate", json={"summary": "The story is ready."}, headers=session("sm"))

    following = await rest.json("GET", "/stories/next")
    assert following["story"]["key"] == number
    await rest.json("POST", "/agents/activate", json={"agent": "dev", "focus": "tides"}, headers=session("dev"))
    done = None
    for _ in range(2):
        claim = await rest.json("POST", "/tasks/claim", json={"agent": "dev"}, headers=session("dev"))
        task = claim["task"]["key"]
        started = await rest.json("POST", f"/tasks/{task}/start", json={"agent": "dev", "lease": claim["lease"]})
        beat = await rest.json("POST", f"/tasks/{task}/heartbeat", json={"lease": started["lease"]})
        assert beat["lease_until"] >= started["lease_until"]
        done = await rest.json(
            "POST", f"/tasks/{task}/complete", json={"lease": started["lease"], "summary": "Done, with tests."}
        )
    assert (await rest.json("POST", "/tasks/claim", json={"agent": "dev"}))["task"] is None
    assert done["story"] == {"key": number, "status": "review", "tasks_done": 2, "tasks_total": 2}
    offered = await rest.json(
        "POST", "/handoffs", json={"to": "qa", "story": number, "note": "Please review."}, headers=session("dev")
    )

    await rest.json("POST", "/agents/activate", json={"agent": "qa"}, headers=session("qa"))
    handoff = offered["handoff"]["key"]
    accepted = await rest.json("POST", f"/handoffs/{handoff}/accept", json={"agent": "qa"}, headers=session("qa"))
    assert accepted["handoff"]["status"] == "accepted"
    gate = {"story": number, "gate": "PASS", "reason": "Every criterion is tested."}
    await rest.json("POST", "/gates", json=gate, headers=session("qa"))
    assert (await rest.json("GET", f"/gates/{number}"))["gate"]["gate"] == "PASS"
    read = await rest.get(story)
    closed = await rest.patch(
        story, json={"status": "done"}, headers=session("qa") | {"if-match": read.headers["etag"]}
    )
    assert (closed.status_code, closed.json()["story"]["status"]) == (200, "done")

    status = await rest.json("GET", "/status")
    assert status["stories"] == {"done": 1}
    assert status["tasks"] == {"completed": 2}
    trail = await rest.json("GET", "/activity?limit=100")
    assert {"story_create", "task_complete", "gate_record"} <= {one["operation"] for one in trail["items"]}

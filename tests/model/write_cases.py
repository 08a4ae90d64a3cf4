"""For each operation that writes, a call of it that goes well, on things made for that call alone."""

from collections.abc import Awaitable, Callable
from typing import Any

# Calls a tool and gives its result.
Call = Callable[..., Awaitable[dict[str, Any]]]
Case = Callable[[Call], Awaitable[dict[str, Any]]]


async def _task(call: Call, **more: Any) -> str:
    return (await call("task_create", title="Wanted", **more))["task"]["key"]


async def _held(call: Call, **more: Any) -> dict[str, Any]:
    task = await _task(call, **more)
    claimed = await call("task_claim", agent="dev", task=task)
    return {"task": task, "lease": claimed["lease"]}


async def _story(call: Call) -> str:
    epic = (await call("epic_create", title="The tide"))["epic"]["key"]
    return (await call("story_create", epic=epic, title="A gauge"))["story"]["key"]


async def _run(call: Call) -> str:
    return (await call("workflow_start", type="brownfield-service"))["workflow"]["key"]


async def agent_activate(call: Call) -> dict[str, Any]:
    return {"agent": "dev", "focus": "the gauge"}


async def agent_deactivate(call: Call) -> dict[str, Any]:
    await call("agent_activate", agent="sm")
    return {"agent": "sm", "summary": "The gauge is drawn."}


async def epic_create(call: Call) -> dict[str, Any]:
    return {"title": "The ebb"}


async def story_create(call: Call) -> dict[str, Any]:
    return {"epic": (await _story(call)).partition(".")[0], "title": "A second gauge"}


async def story_update(call: Call) -> dict[str, Any]:
    return {"story": await _story(call), "expected_version": 1, "status": "ready"}


async def gate_record(call: Call) -> dict[str, Any]:
    return {"story": await _story(call), "gate": "PASS", "reason": "All criteria are met."}


async def task_create(call: Call) -> dict[str, Any]:
    return {"title": "Wanted twice", "story": await _story(call), "depends_on": [await _task(call)]}


async def task_claim(call: Call) -> dict[str, Any]:
    return {"agent": "dev", "task": await _task(call)}


async def task_start(call: Call) -> dict[str, Any]:
    return {"agent": "dev", "task": await _task(call)}


async def task_heartbeat(call: Call) -> dict[str, Any]:
    return await _held(call)


async def task_update(call: Call) -> dict[str, Any]:
    return {**await _held(call), "note": "Half done.", "depends_on": [await _task(call)]}


async def task_complete(call: Call) -> dict[str, Any]:
    held = await _held(call)
    await _task(call, depends_on=[held["task"]])
    return {**held, "summary": "It holds.", "artifacts": [f"gauges/{held['task']}.py"]}


async def handoff_offer(call: Call) -> dict[str, Any]:
    return {"to": "qa", "note": "Half done.", "task": await _task(call)}


async def handoff_accept(call: Call) -> dict[str, Any]:
    held = await _held(call)
    offered = await call("handoff_offer", to="qa", note="Half done.", task=held["task"])
    return {"handoff": offered["handoff"]["key"], "agent": "qa"}


async def workflow_start(call: Call) -> dict[str, Any]:
    return {"type": "brownfield-service", "title": "The pump"}


async def workflow_advance(call: Call) -> dict[str, Any]:
    started = await call("workflow_start", type="greenfield-service")
    stage = started["stage"]
    outcome = sorted(stage["routes"])[0] if stage["kind"] == "decision" else "done"
    return {"workflow": started["workflow"]["key"], "outcome": outcome}


async def workflow_pause(call: Call) -> dict[str, Any]:
    return {"workflow": await _run(call)}


async def workflow_resume(call: Call) -> dict[str, Any]:
    run = await _run(call)
    await call("workflow_pause", workflow=run)
    return {"workflow": run}


async def workflow_cancel(call: Call) -> dict[str, Any]:
    return {"workflow": await _run(call)}


async def memory_context(call: Call) -> dict[str, Any]:
    return {"focus": "the gauge"}


async def memory_store(call: Call) -> dict[str, Any]:
    return {"text": "The gauge drifts at low tide."}


async def template_render(call: Call) -> dict[str, Any]:
    return {"template": "story", "values": {"role": "a diver"}}


async def checklist_run(call: Call) -> dict[str, Any]:
    checklist = (await call("checklist_list"))["items"][0]["name"]
    return {"checklist": checklist, "subject": "story 1.1", "results": [{"item": 1, "mark": "pass"}]}


async def artifact_record(call: Call) -> dict[str, Any]:
    title = f"Notes on {await _task(call)}"
    return {"kind": "notes", "title": title, "content": "Mind the tide."}


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (
        agent_activate, agent_deactivate, epic_create, story_create, story_update, gate_record, task_create, task_claim,
        task_start, task_heartbeat, task_update, task_complete, handoff_offer, handoff_accept, workflow_start,
        workflow_advance, workflow_pause, workflow_resume, workflow_cancel, memory_context, memory_store,
        template_render, checklist_run, artifact_record,
    )
}  # fmt: skip

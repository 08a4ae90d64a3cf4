"""What an agent holds, what waits for it, and what it should call next."""

from collections.abc import Mapping
from typing import Any

from bmad_mcp.agents.schemas import HeldTask, Work


def held_tasks(row: Mapping[str, Any]) -> list[HeldTask]:
    """The held tasks in a row."""
    return [HeldTask.of(task) for task in row["held"] or ()]


def work_of(row: Mapping[str, Any]) -> Work:
    """The work in a row of WITH_WORK."""
    parts = {name: _kept(row[name]) for name in ("lapsed", "review", "story", "handoffs", "stages") if row[name]}
    return Work.model_validate({"held": held_tasks(row), "ready": _kept(row["ready"] or []), **parts})


def _kept(value: Any) -> Any:
    """The same JSON without nulls."""
    if isinstance(value, list):
        return [_kept(one) for one in value]
    return {name: one for name, one in value.items() if one is not None}


def next_step(agent: str, work: Work) -> str:
    """What to call next, most urgent first: what is held or was, then handed over, to review, ready, then staged."""
    if work.held:
        task = work.held[0]
        return (
            f"You hold {task.key} (lease {task.lease}): go on with it, task_heartbeat before"
            f" {task.lease_until:%H:%M:%S} UTC, then task_complete."
        )
    if work.lapsed:
        key = work.lapsed[0].key
        return (
            f"Your lease of {key} has passed: call task_claim with agent={agent!r} and task={key!r} to go on with it."
        )
    if work.handoffs:
        return f"Call handoff_accept with handoff={work.handoffs[0].key!r}; its note says what to do."
    if work.review:
        key = work.review[0].key
        return f"{key} waits for your review: call task_claim with agent={agent!r} and task={key!r}, then task_get."
    if work.ready:
        return f"Call task_claim with agent={agent!r}, or story_next for the story with its context."
    if work.stages:
        stage = work.stages[0]
        return f"{stage.workflow} waits for you: read workflow_get, do the stage, then call workflow_advance."
    if work.story and work.story.status == "draft":
        key = work.story.key
        return f"Story {key} is a draft: story_get story={key}, complete it with story_update, then set status=ready."
    if work.story:
        return f"Call story_next, or story_get with story={work.story.key!r}."
    return f"Nothing waits for {agent}. project_status shows where the project stands and what comes next."

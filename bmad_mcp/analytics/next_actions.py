"""What to do next in a project: sentences made of keys and counts, each naming the tool to call."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from bmad_mcp.told_commands import ANY_FOLDER, on_folder

ACTIONS_SHOWN = 5


def next_actions(row: Mapping[str, Any]) -> list[str]:
    """At most five, the most pressing first; `row` is what the status query gives."""
    return list(islice(_actions(row), ACTIONS_SHOWN))


def _actions(row: Mapping[str, Any]) -> Iterator[str]:
    stories = {status: one["first"] for status, one in (row["stories"] or {}).items()}
    leases = row["leases"] or []
    passed = [lease for lease in leases if lease.get("passed")]
    if left := [lease["task"] for lease in passed if not lease.get("stuck")]:
        yield f"The lease of {', '.join(left)} has passed: task_claim takes it over."
    if stuck := [lease["task"] for lease in passed if lease.get("stuck")]:
        yield (
            f"The lease of {', '.join(stuck)} has passed, and what it waits for or its story is not open for work:"
            " task_update with status=pending releases it, status=cancelled ends it."
        )
    if ending := [lease for lease in leases if not lease.get("passed")]:
        yield f"The lease of {ending[0]['task']} ends soon: {ending[0]['agent']} calls task_heartbeat or task_complete."
    if handoffs := row["handoffs"]:
        first = handoffs[0]
        yield f"{first['key']} waits for {first['to']}: handoff_accept handoff={first['key']}."
    if tasks := row["review"]:
        yield f"{tasks[0]} waits for review: agent_activate agent=qa, then task_claim agent=qa task={tasks[0]}."
    if "review" in stories:
        yield f"Story {stories['review']} is in review: agent_activate agent=qa, then story_next."
    yield from _work(row, stories)
    for waiting in (row["waiting"] or [])[:1]:
        who = f" for {waiting['agent']}" if waiting["agent"] else ""
        yield f"{waiting['workflow']} waits{who}: workflow_get workflow={waiting['workflow']} shows the stage."
    yield from _planning(row, stories)


def _work(row: Mapping[str, Any], stories: Mapping[str, str]) -> Iterator[str]:
    ready = row["ready"] or {}
    for agent, count in sorted(ready.items(), key=lambda item: (-item[1], item[0]))[:2]:
        tasks = "1 task is ready" if count == 1 else f"{count} tasks are ready"
        whose, who = (f" for {agent}", agent) if agent else (" for any agent", "dev")
        yield f"{tasks}{whose}: agent_activate agent={who}, then story_next and task_start."
    if not ready and "in_progress" in stories:
        yield f"Story {stories['in_progress']} is in progress without a ready task: story_next says how to go on."
    elif not ready and "ready" in stories:
        yield f"Story {stories['ready']} is ready: agent_activate agent=dev, then story_next."


def _planning(row: Mapping[str, Any], stories: Mapping[str, str]) -> Iterator[str]:
    if "draft" in stories:
        yield f"Story {stories['draft']} is a draft: agent_activate agent=sm, then story_update to complete it."
    if not stories and not row["epics"]:
        brought = on_folder("import", ANY_FOLDER, row["key"])
        yield f"There is no epic yet: epic_create (toolset planning) and story_create make some, `{brought}` brings them in."
        if not row["workflows"]:
            yield "workflow_start type=greenfield-fullstack (or another type) leads from the idea to the stories."
    elif not stories:
        yield "There is no story yet: story_create adds one to an epic."
    elif not set(stories) - {"done", "cancelled"}:
        yield "All stories are closed: story_create adds more."

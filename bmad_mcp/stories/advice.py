"""Why a story is the next one, and what to call now; sentences made of keys only, never of stored texts."""

from collections.abc import Sequence
from typing import Any

from bmad_mcp.stories.rights import PLANNERS
from bmad_mcp.stories.schemas import StoryTask
from bmad_mcp.told_commands import ANY_FOLDER, on_folder

WHY = {
    1: "It waits for review, and {agent} looks at reviews first.",
    2: "{agent} holds a task of it.",
    3: "It is in progress and has tasks ready for {agent}.",
    4: "It is in progress and has open tasks.",
    5: "It is in progress.",
    6: "Nothing is in progress; it is the first ready story.",
    7: "Only stories in review are left. qa decides about it.",
    8: f"All open stories are drafts: one must become ready before work starts. {' or '.join(sorted(PLANNERS))} complete it.",
}


def why(rank: int, agent: str | None) -> str:
    """Why the story of this rank comes first."""
    return WHY[rank].format(agent=agent or "anybody")


def looks_beside(rank: int | None, agent: str | None) -> bool:
    """Whether a task beside the story of this rank may be what comes next; without a story always."""
    if rank is None:
        return True
    # Who has no session is told who works on it, whatever else there is.
    return rank >= 4 and not (agent is None and rank <= 6)


def next_call(
    agent: str | None, story: dict[str, Any], tasks: Sequence[StoryTask], beside: StoryTask | None = None
) -> str:
    """What the agent calls next for its story, or for the task `beside` it; `story` has key, status and version."""
    of_story = _of_story(agent, story, tasks)
    if beside is None or not (beside.held_by or _fits(beside, agent)):
        return of_story
    both = [take(agent, beside), of_story]
    if beside.held_by:
        return " Or: ".join(both)
    if story["status"] in ("ready", "in_progress"):
        if agent is None or any(task.ready and _fits(task, agent) for task in tasks):
            return of_story
        # What is left of the story is for others.
        return both[0] if tasks else " Or: ".join(reversed(both))
    return " Or: ".join(reversed(both) if story["status"] == "draft" and agent in PLANNERS else both)


def _of_story(agent: str | None, story: dict[str, Any], tasks: Sequence[StoryTask]) -> str:
    move = f"story_update story={story['key']} expected_version={story['version']} status="
    match story["status"]:
        case "draft" if agent in PLANNERS:
            return f"Complete it with story_update, then {move}ready."
        case "draft":
            return f"agent_activate agent=sm, complete it, then {move}ready."
        case "review" if agent == "qa":
            return f"Review it, add to the section QA Results with story_update, then {move}done or in_progress."
        case "review":
            return "agent_activate agent=qa, or handoff_offer to=qa."
    if agent is None:
        role = next((task.agent for task in tasks if task.ready and task.agent), "dev")
        return f"agent_activate agent={role}, then story_next again."
    return _work(agent, story["status"], move, tasks, story["key"])


def _fits(task: StoryTask, agent: str | None) -> bool:
    """Whether the task is for this agent; anybody may become whoever a task is for."""
    return agent is None or task.agent in (None, agent)


def take(agent: str | None, task: StoryTask) -> str:
    """How a task is taken, or gone on with by who holds it."""
    if task.held_by:
        return f"You hold {task.key}: go on, task_heartbeat in time, then task_complete."
    if agent is None:
        role = task.agent or "dev"
        return f"agent_activate agent={role}, then task_start agent={role} task={task.key}."
    if not _fits(task, agent):
        return f"{task.key} is for {task.agent}: handoff_offer to={task.agent}, or agent_activate it."
    return f"task_start agent={agent} task={task.key}, and keep its lease number."


def _work(agent: str, status: str, move: str, tasks: Sequence[StoryTask], key: str) -> str:
    mine = [task for task in tasks if task.held_by == agent]
    if own := mine or [task for task in tasks if task.ready and _fits(task, agent)]:
        return take(agent, own[0])
    review = next((task.key for task in tasks if task.status == "review" and not task.held_by), None)
    if review and agent == "qa":
        return f"{review} waits for review: task_claim agent=qa task={review}, and keep its lease number."
    if others := sorted({task.agent for task in tasks if task.ready and task.agent}):
        return f"Its ready tasks are for {', '.join(others)}: handoff_offer to={others[0]}, or agent_activate it."
    if review:
        return f"{review} waits for review: agent_activate agent=qa, then task_claim agent=qa task={review}."
    if holders := sorted({task.held_by for task in tasks if task.held_by}):
        return f"Its tasks are held by {', '.join(holders)}. story_list status=ready shows other stories."
    if tasks:
        return f"Its open tasks cannot be claimed now: task_get task={tasks[0].key} says what it waits for."
    begin = f"{move}in_progress and do it" if status == "ready" else f"Do it, then {move}review"
    return f"It has no open task. {begin}; task_create story={key} splits it up."


def about_open_tasks(status: str, keys: Sequence[str]) -> str:
    """What to do about tasks that are open behind a story that came to review, done or cancelled."""
    some = f"{', '.join(keys[:3])}{' and others are' if len(keys) > 3 else ' is' if len(keys) == 1 else ' are'}"
    if status == "review":
        return f"{some} still open: finish with task_complete, or end with task_update status=cancelled, before done."
    return (
        f"{some} still open and cannot be claimed any more: who holds one may complete it; end the rest with task_update"
        " status=cancelled."
    )


def without_story(project: str, agent: str | None, task: StoryTask | None, epics: int, stories: int) -> tuple[str, str]:
    """Why there is no story, and what to do about it: take the task that there is, else make more."""
    reason, then = _no_story(project, epics, stories)
    if task is None:
        return reason, then
    state = f"held by {task.held_by}" if task.held_by else f"ready for {task.agent or 'any agent'}"
    return f"{reason} {task.key} is {state}.", take(agent, task)


def _no_story(project: str, epics: int, stories: int) -> tuple[str, str]:
    if stories:
        closed = "The only story is" if stories == 1 else f"All {stories} stories are"
        return (
            f"{closed} done or cancelled.",
            "story_create adds one to an epic; project_status shows the rest of the project.",
        )
    if epics:
        return "There is no story yet.", "story_create adds one; its `epic` is the epic's number, such as 1."
    return (
        "There is no epic and no story yet.",
        "Make an epic with epic_create (toolset planning) and stories with story_create, or bring them in with"
        f" `{on_folder('import', ANY_FOLDER, project)}`.",
    )

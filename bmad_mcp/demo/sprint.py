"""The script: a scrum master, two developers and a tester bring a story of the sample project from open to done."""

import asyncio
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bmad_mcp.counts import counted
from bmad_mcp.demo.player import Player, Refused, Result, Score
from bmad_mcp.demo.screen import Screen
from bmad_mcp.errors import Conflict

SHORT_LEASE_SECONDS = 5
TRIES = 40
TRY_AGAIN_SECONDS = 0.25
PAGES = 20


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays."""

    sm: Player
    dev_1: Player
    dev_2: Player
    qa: Player


async def play(cast: Cast, screen: Screen, score: Score) -> None:
    """Play the sprint; raises BmadError when anything goes otherwise than it must."""
    screen.scene("1  The scrum master opens the sprint")
    before = await cast.sm("project_status", told_status)
    await cast.sm("agent_activate", told_activation, agent="sm", focus="plan the sprint")
    workflow = await cast.sm("workflow_start", told_stage, type="brownfield-service", title="Own predictions")
    key = workflow["workflow"]["key"]
    await cast.sm("workflow_advance", told_stage, workflow=key, outcome="done")

    screen.scene("2  Two developers, each with a server of its own, want the same task")
    story = await race(cast, screen)

    screen.scene("3  One falls silent, the other goes on")
    await outlast(cast, screen, story)

    screen.scene("4  The story goes to review, and changes hands")
    handoff = await hand_over(cast.dev_1, story)
    await cast.dev_2("agent_deactivate", told_session, agent="dev", summary="Lost a lease; send heartbeats next time.")
    await accept(cast.qa, story, handoff)

    screen.scene("5  The scrum master closes the sprint")
    advanced = await cast.sm("workflow_advance", told_stage, workflow=key, outcome="done")
    await cast.sm("agent_deactivate", told_session, agent="sm", summary=f"Story {story} is done.")
    after = await cast.sm("project_status", told_status)
    trail = await count_activity(cast.sm)
    rows = figures(before, after, advanced, story, trail)
    screen.figures("What the server says now", [*rows, *measured(score)])


async def race(cast: Cast, screen: Screen) -> str:
    """Both claim one task at once, one gets it and finishes it; returns the story."""
    for dev in (cast.dev_1, cast.dev_2):
        await dev("agent_activate", told_activation, agent="dev", focus="month calendar")
    chosen = await cast.dev_1("story_next", told_next)
    if chosen["story"] is None:
        raise Conflict("The sample project has no story to work on.")
    story: str = chosen["story"]["key"]
    wanted = next(task["key"] for task in chosen["tasks"] if task.get("ready"))
    answers = await asyncio.gather(
        *(dev("task_claim", told_claim, agent="dev", task=wanted) for dev in (cast.dev_1, cast.dev_2)),
        return_exceptions=True,
    )
    claims = [answer for answer in answers if isinstance(answer, dict)]
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, Refused):
            raise answer
    if len(claims) != 1:
        raise Conflict(f"{len(claims)} developers hold {wanted} at once.")
    screen.say("One holds it. The other reads who has it and until when.")
    winner = cast.dev_1 if isinstance(answers[0], dict) else cast.dev_2
    started = await winner("task_start", told_claim, task=wanted, agent="dev", lease=claims[0]["lease"])
    await winner("task_heartbeat", told_heartbeat, task=wanted, lease=started["lease"])
    await complete(winner, started)
    return story


async def outlast(cast: Cast, screen: Screen, story: str) -> None:
    """dev 2 lets a lease pass; dev 1 does the rest, takes that task over, and the late answer is refused."""
    key = (await ready_tasks(cast.dev_2, story))[0]
    stale = await cast.dev_2("task_claim", told_claim, agent="dev", task=key, lease_seconds=SHORT_LEASE_SECONDS)
    screen.say(f"dev 2 has a lease of {SHORT_LEASE_SECONDS} s and sends no heartbeat.")
    while ready := await ready_tasks(cast.dev_1, story):
        await complete(cast.dev_1, await cast.dev_1("task_claim", told_claim, agent="dev", task=ready[0]))
    taken = await claim_when_lapsed(cast.dev_1, screen, key)
    await cast.dev_2.is_refused("task_heartbeat", task=key, lease=stale["lease"])
    await cast.dev_2.is_refused("task_complete", task=key, lease=stale["lease"], summary="Done, I think.")
    screen.say("Nothing of the late answer was written.")
    done = await complete(cast.dev_1, taken)
    if done["story"]["status"] != "review":
        raise Conflict(f"All tasks are done, and story {story} is {done['story']['status']} instead of in review.")


async def ready_tasks(dev: Player, story: str) -> list[str]:
    """The keys of the story's tasks that can be claimed."""
    page = await dev("task_list", told_tasks, story=story, ready=True)
    return [task["key"] for task in page["items"]]


async def claim_when_lapsed(dev: Player, screen: Screen, key: str) -> Result:
    """Claim a task of another holder as soon as the lease has passed."""
    screen.say(f"dev 1 waits until the lease of {key} has passed.")
    for _ in range(TRIES):
        held = (await dev.quietly("task_list", ready=True, limit=100))["items"]
        if any(task["key"] == key for task in held):
            return await dev("task_claim", told_claim, agent="dev", task=key)
        await asyncio.sleep(TRY_AGAIN_SECONDS)
    raise Conflict(f"The lease of {key} has not passed after {TRIES * TRY_AGAIN_SECONDS:.0f} s.")


async def complete(dev: Player, claim: Result) -> Result:
    """Finish a task that is held."""
    task = claim["task"]
    return await dev(
        "task_complete",
        told_completion,
        task=task["key"],
        lease=claim["lease"],
        summary=f"{task['title']}: done, with its tests.",
        quality=92,
    )


async def hand_over(dev: Player, story: str) -> str:
    """The developer may not write the tester's section, and offers the story; returns the handoff's key."""
    read = await dev("story_get", told_story, story=story)
    await dev.is_refused(
        "story_update", story=story, expected_version=read["version"], section="QA Results", text="Looks fine to me."
    )
    offered = await dev(
        "handoff_offer", told_handoff, to="qa", story=story, note="All tasks done. Please look at the print style."
    )
    await dev("agent_deactivate", told_session, agent="dev", summary="The month calendar is ready for review.")
    key: str = offered["handoff"]["key"]
    return key


async def accept(qa: Player, story: str, handoff: str) -> None:
    """The tester takes the story, writes the result and closes it."""
    await qa("agent_activate", told_activation, agent="qa", focus=f"review story {story}")
    await qa("handoff_accept", told_handoff, handoff=handoff)
    read = await qa("story_get", told_story, story=story)
    result = "Gate: PASS. Printed March and October: one page each, spring tides marked."
    noted = await qa(
        "story_update", told_change, story=story, expected_version=read["version"], section="QA Results", text=result
    )
    version = noted["story"]["version"]
    closed = await qa("story_update", told_change, story=story, expected_version=version, status="done")
    if closed["story"]["status"] != "done":
        raise Conflict(f"Story {story} is {closed['story']['status']} instead of done.")
    await qa("agent_deactivate", told_session, agent="qa", summary=f"Story {story} passed.")


async def count_activity(player: Player) -> int:
    """How many lines the trail has."""
    count, cursor = 0, None
    for _ in range(PAGES):
        page = await player.quietly("activity_list", limit=100, **({"cursor": cursor} if cursor else {}))
        count += len(page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return count


def figures(before: Result, after: Result, workflow: Result, story: str, trail: int) -> list[tuple[str, str]]:
    """What the server counted."""
    done = after["tasks"].get("completed", 0) - before["tasks"].get("completed", 0)
    if done < 1 or after["stories"].get("done", 0) != before["stories"].get("done", 0) + 1:
        raise Conflict("The counts of the server do not say that the story was done.")
    progress = workflow["workflow"]["progress"]
    return [
        ("Project", after["project"]["key"]),
        ("Stories", f"{counts(before['stories'])}  →  {counts(after['stories'])}"),
        ("Tasks", f"{counts(before['tasks'])}  →  {counts(after['tasks'])}"),
        ("Story", f"{story} is done; {counted(done, 'task was', 'tasks were')} completed, each by one holder"),
        ("Workflow", f"{workflow['workflow']['key']}: {progress['done']} of {progress['total']} stages"),
        ("Trail", f"{counted(trail, 'line')} of who did what"),
    ]


def measured(score: Score) -> list[tuple[str, str]]:
    """What the players measured."""
    middle = statistics.median(score.seconds) * 1000
    return [
        ("Calls", f"{score.calls} by 4 agents on 4 server processes, median {middle:.1f} ms"),
        ("Refused", f"{score.refusals}, as they had to be"),
    ]


def counts(by_status: Mapping[str, int]) -> str:
    """Counts by status on one line."""
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in by_status.items()) or "none"


def told_status(result: Result) -> str:
    return f"stories: {counts(result['stories'])}"


def told_activation(result: Result) -> str:
    found = len(result.get("memory", {}).get("items", []))
    return f"{result['agent']['name']} is {result['agent']['status']}, remembers {counted(found, 'thing')}"


def told_stage(result: Result) -> str:
    workflow, stage = result["workflow"], result["stage"]
    progress = f"{workflow['progress']['done']}/{workflow['progress']['total']}"
    if stage is None:
        return f"{workflow['key']} {workflow['status']}, {progress}"
    return f"{workflow['key']} {progress}, next: {stage.get('agent', stage['kind'])}" + _creates(stage)


def _creates(stage: Mapping[str, Any]) -> str:
    return f" creates {stage['creates']}" if stage.get("creates") else ""


def told_next(result: Result) -> str:
    story = result["story"]
    return (
        f"story {story['key']} {story['title']!r}, tasks {story['tasks']}. {result['why']}" if story else result["why"]
    )


def told_claim(result: Result) -> str:
    task = result["task"]
    return f"{task['key']} {task['title']!r} is {task['status']}, lease {result['lease']} until {_time(result['lease_until'])}"


def told_heartbeat(result: Result) -> str:
    return f"held until {_time(result['lease_until'])}"


def told_tasks(result: Result) -> str:
    return f"ready: {', '.join(task['key'] for task in result['items']) or 'none'}"


def told_completion(result: Result) -> str:
    freed = f", frees {', '.join(result['unblocked'])}" if result.get("unblocked") else ""
    story = result.get("story")
    where = (
        f"; story {story['key']} {story['status']}, {story['tasks_done']}/{story['tasks_total']} tasks" if story else ""
    )
    return f"{result['task']['key']} {result['task']['status']}{freed}{where}"


def told_story(result: Result) -> str:
    return f"story {result['key']} is {result['status']}, version {result['version']}"


def told_change(result: Result) -> str:
    return told_story(result["story"])


def told_handoff(result: Result) -> str:
    handoff = result["handoff"]
    return f"{handoff['key']} from {handoff['from']} to {handoff['to']}: {handoff['status']}"


def told_session(result: Result) -> str:
    done = result["session"].get("done", {})
    return f"session over: {', '.join(f'{count} {name}' for name, count in done.items()) or 'nothing written'}"


def _time(stamp: str) -> str:
    return f"{stamp[11:19]} UTC"

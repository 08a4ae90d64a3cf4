"""Prompts: what to do next in fixed words, with the project's own texts beside them in a fenced block of data."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mcp_types import GetPromptResult, Prompt, PromptArgument, PromptMessage, TextContent
from pydantic import BaseModel, TypeAdapter

from bmad_mcp.agents.markdown import context_markdown
from bmad_mcp.errors import BmadError, Invalid, NotFound
from bmad_mcp.shapes import TaskKey
from bmad_mcp.skills.data_block import told_data
from bmad_mcp.skills.writing import persona_steps

Perform = Callable[..., Awaitable[Any]]

# A name goes into a prompt's fixed words; anything that could hold a sentence does not become a prompt.
_PERSONA_NAME = re.compile(r"\w[\w.-]{0,63}")
_AGENTS_A_PAGE = 100
_LOOK_BACK_DAYS = 30
READING = (
    "You may only read here. Make no call that writes, such as agent_activate, task_start or story_update: tell the user"
    " who would do what next, of what follows."
)
_TASK_KEY: TypeAdapter[str] = TypeAdapter(TaskKey)


def _argument(name: str, description: str, *, required: bool = False) -> PromptArgument:
    return PromptArgument(name=name, description=description, required=required)


PROMPTS: Mapping[str, Prompt] = {
    one.name: one
    for one in (
        Prompt(
            name="next-story",
            title="Next story",
            description="Take the story that comes next and carry it to review.",
            arguments=[],
        ),
        Prompt(
            name="handoff",
            title="Handoff",
            description="Hand work over to another agent, with a note that is enough to go on.",
            arguments=[
                _argument("to", "Agent that takes over, such as qa.", required=True),
                _argument("task", "Task to hand over, such as T-41."),
            ],
        ),
        Prompt(
            name="retrospective",
            title="Retrospective",
            description="Look back on an epic and remember what it taught.",
            arguments=[_argument("epic", "Epic, such as 1; left out: the whole project.")],
        ),
        Prompt(
            name="standup",
            title="Stand-up",
            description="Report what was done since yesterday, what is in hand and what is stuck.",
            arguments=[],
        ),
    )
}


async def listing(perform: Perform) -> list[Prompt]:
    """Every prompt: one for each persona, then the general ones, which also stand when the project cannot be read."""
    try:
        names = await _persona_names(perform)
    except BmadError:
        names = []
    personas = [
        Prompt(
            name=name,
            title=f"Work as {name}",
            description=f"The persona, memory and work of {name}; activates nothing by itself.",
            arguments=[],
        )
        for name in names
    ]
    return [*personas, *PROMPTS.values()]


async def _persona_names(perform: Perform) -> list[str]:
    names: list[str] = []
    cursor: str | None = None
    while True:
        page = await perform("agent_list", limit=_AGENTS_A_PAGE, cursor=cursor)
        names += [item.agent for item in page.items if item.agent not in PROMPTS]
        cursor = page.next_cursor
        if cursor is None:
            return [name for name in names if _PERSONA_NAME.fullmatch(name)]


async def build(
    name: str, arguments: Mapping[str, str], perform: Perform, *, may_write: bool = True
) -> GetPromptResult:
    """The prompt of this name; `perform(operation, **input)` reads what it tells. Raises BmadError."""
    known = PROMPTS.get(name)
    _check_arguments(name, known, arguments)
    given = {key: value for key, value in arguments.items() if value.strip()}
    if known is None:
        data, instructions = await _persona(name, perform)
    else:
        data, instructions = await _BUILDERS[name](given, perform)
    if not may_write:
        instructions = f"{READING}\n\n{instructions}"
    return GetPromptResult(
        description=known.description if known else f"The persona, memory and work of {name}.",
        messages=[
            PromptMessage(role="user", content=TextContent(type="text", text=f"{told_data(data)}\n\n{instructions}"))
        ],
    )


def _check_arguments(name: str, known: Prompt | None, arguments: Mapping[str, str]) -> None:
    taken = known.arguments or [] if known else []
    if unknown := sorted(set(arguments) - {one.name for one in taken}):
        names = ", ".join(one.name for one in taken) or "no arguments"
        raise Invalid(f"`{unknown[0]}` is not an argument of this prompt, which takes {names}.", field=unknown[0])
    for one in taken:
        if one.required and not arguments.get(one.name, "").strip():
            raise Invalid(f"The prompt {name} needs `{one.name}`: {one.description}", field=one.name)


def _json(**parts: BaseModel) -> str:
    return "\n\n".join(f"{name}:\n{part.model_dump_json(exclude_unset=True)}" for name, part in parts.items())


async def _persona(name: str, perform: Perform) -> tuple[str, str]:
    if not _PERSONA_NAME.fullmatch(name):
        raise NotFound("There is no such prompt. prompts/list shows them.", field="name")
    try:
        context = await perform("agent_context", agent=name)
    except NotFound:
        raise NotFound(f"There is no prompt {name!r}. prompts/list shows them.", field="name") from None
    agent = context.agent.agent
    return context_markdown(context), persona_steps(agent)


async def _next_story(_: Mapping[str, str], perform: Perform) -> tuple[str, str]:
    return _json(story_next=await perform("story_next")), (
        "Take the next story of this BMad project and carry it on.\n"
        '1. Call agent_activate with the agent that the story\'s status asks for: "sm" for a draft, "dev" for one that'
        ' is ready or in progress, "qa" for one in review; without a story, the one that `next` names.\n'
        "2. Call story_next again: it is the state that counts, this block may be old.\n"
        "3. Do its ready tasks one by one: task_start claims one and answers its lease number, task_complete wants it.\n"
        "4. When all is done, move the story on with story_update and hand it over with handoff_offer."
    )


async def _handoff(arguments: Mapping[str, str], perform: Perform) -> tuple[str, str]:
    receiver = (await perform("agent_context", agent=arguments["to"])).agent
    if not _PERSONA_NAME.fullmatch(receiver.agent):
        raise Invalid("That agent's name cannot stand in a prompt. Call handoff_offer yourself.", field="to")
    parts: dict[str, BaseModel] = {"receiver": receiver}
    with_task = ""
    if "task" in arguments:
        parts["task"] = await perform("task_get", task=arguments["task"])
        with_task = f' and task="{_TASK_KEY.validate_python(arguments["task"])}"'
    else:
        parts["offered"] = await perform("handoff_list", status="offered")
    return _json(**parts), (
        f"Hand your work over to {receiver.agent}.\n"
        "1. Collect what the other needs: what is done and how you know, what is open, which files and decisions"
        " matter, what to do first.\n"
        f'2. Call handoff_offer with to="{receiver.agent}"{with_task} and that as the note, at most 20 lines.\n'
        "3. A task that you hold changes hands when the handoff is accepted; write nothing more for it then.\n"
        "4. Call agent_deactivate with a summary when nothing else is yours."
    )


async def _retrospective(arguments: Mapping[str, str], perform: Perform) -> tuple[str, str]:
    if "epic" in arguments:
        epic = await perform("epic_get", epic=arguments["epic"])
        parts = {"epic": epic, "memory": await perform("memory_search", query=f"epic {epic.key} lesson defect rework")}
        about = f"epic {epic.key}"
    else:
        parts = {"status": await perform("project_status"), "epics": await perform("epic_list")}
        parts["memory"] = await perform("memory_search", query="lesson defect rework")
        about = "the project so far"
    parts["numbers"] = await perform("analytics_overview", days=_LOOK_BACK_DAYS)
    return _json(**parts), (
        f"Hold a retrospective on {about}, together with the user.\n"
        '1. Call agent_activate with agent="sm".\n'
        "2. Go through the stories: what was planned, what came out, where work waited, came back or was redone."
        " Read single ones with story_get and task_get.\n"
        f"3. Hold it against `numbers`, which are of the whole project in the last {_LOOK_BACK_DAYS} days: cycle times,"
        " ageing work, gates, handoffs, and the stages that take most of the time.\n"
        "4. Agree with the user on what to keep, what to change and who does it. Say what the data does not show.\n"
        "5. Store each lesson on its own with memory_store, and each agreed action with task_create."
    )


async def _standup(_: Mapping[str, str], perform: Perform) -> tuple[str, str]:
    data = _json(
        status=await perform("project_status"),
        agents=await perform("agent_list", limit=50),
        blocked=await perform("task_list", status="blocked"),
        workflows=await perform("workflow_list", status="active"),
        handoffs=await perform("handoff_list", status="offered"),
        activity=await perform("activity_list", since="24h", limit=50),
    )
    return data, (
        "Give the stand-up report of this BMad project from the data above; change nothing.\n"
        "- Begin with one line: how many stories are done of how many, and what was finished since yesterday.\n"
        "- For each agent with activity or a task in hand: done since yesterday, in hand now, stuck on what.\n"
        "- Then: blocked tasks, tasks that wait for review, runs that wait, handoffs nobody accepted, leases about to"
        " pass, drift of the files, and what should happen next and who should do it.\n"
        "- Name things by their keys. At most 20 lines; say so where the data shows nothing, or where `activity` is only"
        " the newest part of the day."
    )


_BUILDERS: Mapping[str, Callable[[Mapping[str, str], Perform], Awaitable[tuple[str, str]]]] = {
    "next-story": _next_story,
    "handoff": _handoff,
    "retrospective": _retrospective,
    "standup": _standup,
}

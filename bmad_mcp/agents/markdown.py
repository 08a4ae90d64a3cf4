"""An agent's context as Markdown: stored texts stand in quotes and lists, as data."""

from bmad_mcp.agents.schemas import AgentContext, WaitingHandoff, Work
from bmad_mcp.memory.schemas import MemoryItem


def context_markdown(context: AgentContext) -> str:
    """The context as people and models read it."""
    agent = context.agent
    parts = [
        f"# {flat(agent.name)} ({agent.agent})",
        f"{flat(agent.title)} · {agent.status}",
        "## Persona",
        quoted(context.persona),
        f"## Memory ({context.memory.source})",
        "\n".join(map(_memory_line, context.memory.items)) or "Nothing yet.",
        "## Work",
        "\n".join(_work_lines(context.work)) or "Nothing waits.",
    ]
    return "\n\n".join(parts) + "\n"


def _memory_line(item: MemoryItem) -> str:
    told = [item.category, f"{item.created_at:%Y-%m-%d}"]
    told += [f"by {flat(item.agent)}"] if item.agent else []
    told += [f"hidden characters: {', '.join(item.flags)}"] if item.flags else []
    return f"- {flat(item.text)} ({', '.join(told)})"


def _handoff_line(handoff: WaitingHandoff) -> str:
    about = [f" with {handoff.task}"] if handoff.task else []
    about += [f" on story {handoff.story}"] if handoff.story else []
    return f"- Handoff {handoff.key} from {flat(handoff.from_agent)}{''.join(about)}: {flat(handoff.note)}"


def _work_lines(work: Work) -> list[str]:
    lines = [
        f"- Held: {task.key} {flat(task.title)}"
        f" ({task.status}, lease {task.lease} until {task.lease_until:%H:%M:%S} UTC)"
        for task in work.held
    ]
    lines += [f"- Held before its lease passed: {task.key} {flat(task.title)}" for task in work.lapsed or ()]
    lines += [f"- To review: {task.key} {flat(task.title)}" for task in work.review or ()]
    lines += [f"- Ready: {task.key} {flat(task.title)} ({task.priority})" for task in work.ready]
    if work.story:
        lines.append(f"- Story in hand: {work.story.key} {flat(work.story.title)} ({work.story.status})")
    lines += map(_handoff_line, work.handoffs or ())
    lines += [
        f"- Stage {one.position} of {one.workflow}: {flat(one.do or 'creates ' + (one.creates or 'its part'))}"
        for one in work.stages or ()
    ]
    return lines


def quoted(text: str) -> str:
    """A text as a block quote."""
    return "\n".join(f"> {line}" for line in text.splitlines())


def flat(text: str) -> str:
    """A text on one line, so that no line of it begins a heading or a list."""
    return " ".join(text.split())

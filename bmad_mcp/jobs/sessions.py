"""The job `sessions`: ends what assistants left open that are gone without a word, as when their process was killed."""

from bmad_mcp.agents.ending import end_silent_sessions
from bmad_mcp.call import OpenProject
from bmad_mcp.jobs.job import CALLER, JobContext, Outcome


async def end_sessions(opened: OpenProject, _: JobContext) -> Outcome:
    """End sessions in which nothing was done for long; {"ended": how many}."""
    ended = await end_silent_sessions(opened, CALLER)
    return {"ended": ended} if ended else {}

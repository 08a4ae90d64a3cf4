"""The job `embed`: makes the vectors of memories that have none yet, outside of any call."""

from bmad_mcp.call import OpenProject
from bmad_mcp.jobs.job import JobContext, Outcome, Reach
from bmad_mcp.memory.vectors import embed_missing


async def has_embedder(reach: Reach) -> bool:
    """Whether this process can make vectors."""
    return reach.embedder is not None


async def embed_memories(opened: OpenProject, context: JobContext) -> Outcome:
    """Make what is missing; {"embedded": memories}. None in an encrypted project: a vector tells what its text means."""
    assert context.embedder is not None
    if opened.vault is not None:
        return {}
    made = await embed_missing(opened, context.embedder)
    return {"embedded": made} if made else {}

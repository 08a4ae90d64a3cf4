"""Every job that there is: its name, how often it runs, and what it does."""

from datetime import datetime, timedelta

from bmad_mcp.analytics.rollup import roll_up
from bmad_mcp.call import OpenProject
from bmad_mcp.jobs import embedding, meaning
from bmad_mcp.jobs.clean_up import clean_queue, delete_expired
from bmad_mcp.jobs.counts import recount
from bmad_mcp.jobs.job import Job, JobContext, Need, Outcome
from bmad_mcp.jobs.partitions import make_partitions
from bmad_mcp.jobs.retention import keep_to_limits
from bmad_mcp.jobs.sessions import end_sessions
from bmad_mcp.memory.embedder import OFF

DAILY = timedelta(days=1)
HOURLY = timedelta(hours=1)


async def add_to_metrics(opened: OpenProject, _: JobContext) -> Outcome:
    """Bring the daily metrics up; {"until": how far they reach}."""
    reached: datetime | None = await roll_up(opened.pool, opened.id)
    return {} if reached is None else {"until": reached.isoformat(timespec="minutes")}


JOBS = (
    Job("roll_up", "Adds what happened to the daily metrics.", HOURLY / 2, add_to_metrics),
    Job("sessions", "Ends sessions of agents in which nothing was done for eight hours.", HOURLY, end_sessions),
    Job("recount", "Compares the kept counts of tasks, stories, epics and workflows with the rows.", DAILY, recount),
    Job("retention", "Archives and deletes what is older than its limit.", DAILY, keep_to_limits),
    Job("expired", "Deletes remembered results and answers that are too old.", DAILY, delete_expired),
    Job("partitions", "Makes the trail's months to come.", DAILY, make_partitions, is_of_database=True),
    Job(
        "queue_cleanup",
        "Deletes old rows of the delivery queue, and full rate buckets.",
        DAILY,
        clean_queue,
        is_of_database=True,
    ),
    Job(
        meaning.NAME,
        "Finds out whether the memory service's search by meaning works.",
        HOURLY,
        meaning.probe_meaning,
        is_of_database=True,
        need=Need(
            meaning.has_openmemory,
            "no service here",
            "BMAD_MEMORY_URL leads to no OpenMemory. `doctor` says what is there.",
        ),
    ),
    Job(
        "embed",
        "Makes vectors of memories, for the search by meaning.",
        HOURLY / 12,
        embedding.embed_memories,
        need=Need(embedding.has_embedder, "vectors are off", OFF),
    ),
)
BY_NAME = {job.name: job for job in JOBS}

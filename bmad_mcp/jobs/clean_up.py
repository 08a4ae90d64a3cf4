"""The jobs `expired` and `queue_cleanup`: delete what only served for a while, never a memory that still waits."""

from bmad_mcp.call import OpenProject
from bmad_mcp.db import project_transaction, rows_of
from bmad_mcp.jobs import queries
from bmad_mcp.jobs.job import CALLER, JobContext, Outcome
from bmad_mcp.jobs.policies import read_policies
from bmad_mcp.memory.outbox import ENTRYPOINT, queue_of

AT_ONCE = 5_000
# As long as answers of a service are kept for the time when it is away.
ANSWER_DAYS = 30
QUEUE_DAYS = 7


async def delete_expired(opened: OpenProject, _: JobContext) -> Outcome:
    """Delete remembered results and answers of the memory service that are too old; {what: rows}."""
    days = await read_policies(opened, CALLER)
    results = 0
    while True:
        async with project_transaction(opened.pool, opened.id) as db:
            count = rows_of(await db.execute(queries.FORGET_RESULTS, days["results"], AT_ONCE))
        results += count
        if count < AT_ONCE:
            break
    async with project_transaction(opened.pool, opened.id) as db:
        answers = rows_of(await db.execute(queries.FORGET_ANSWERS, ANSWER_DAYS))
    return _what_went(results=results, answers=answers)


async def clean_queue(opened: OpenProject, context: JobContext) -> Outcome:
    """Delete old rows of the queue's log, jobs that are done, and rate buckets that are full; {what: rows}.

    A job that was held back stays while its queue has a memory that waits.
    """
    log = 0
    while True:
        count = rows_of(await context.pool.execute(queries.FORGET_LOG, QUEUE_DAYS, AT_ONCE))
        log += count
        if count < AT_ONCE:
            break
    jobs = rows_of(await context.pool.execute(queries.FORGET_DONE, QUEUE_DAYS))
    for row in await context.pool.fetch(queries.HELD_PAYLOADS, ENTRYPOINT, QUEUE_DAYS):
        try:
            project_id, agent = queue_of(row["payload"])
        except ValueError:
            # It names no queue, so nothing waits for it.
            jobs += rows_of(await context.pool.execute(queries.FORGET_HELD, ENTRYPOINT, row["payload"], QUEUE_DAYS))
            continue
        async with project_transaction(context.pool, project_id) as db:
            if await db.fetchval(queries.NOTHING_WAITS, agent):
                jobs += rows_of(await db.execute(queries.FORGET_HELD, ENTRYPOINT, row["payload"], QUEUE_DAYS))
    buckets = rows_of(await context.pool.execute(queries.FORGET_BUCKETS))
    return _what_went(log=log, jobs=jobs, buckets=buckets)


def _what_went(**counts: int) -> Outcome:
    return {name: count for name, count in counts.items() if count}

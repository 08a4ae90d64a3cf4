"""The worker that delivers memories while a server runs: pgqueuer hands it one job at a time, over all processes."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job
from pgqueuer.domain.settings import DBSettings

from bmad_mcp.call import OpenProject
from bmad_mcp.db import DATABASE_FAILURES, project_transaction
from bmad_mcp.memory import service_queries
from bmad_mcp.memory.delivery import Deliveries, Later
from bmad_mcp.memory.outbox import ENTRYPOINT, enqueue, queue_of

logger = logging.getLogger("bmad_mcp.memory")

# A process that died is noticed after this long; its job goes to another one.
HEARTBEAT_SECONDS = 30.0
AGAIN_SECONDS = 5.0
PREFIX = "mcp_"

Connect = Callable[[], Awaitable[asyncpg.Connection]]


def queries_on(connection: asyncpg.Connection) -> Queries:
    """The job queue's statements on a connection, with our names of its tables."""
    names = DBSettings(prefix=PREFIX)
    return Queries(
        AsyncpgDriver(connection),
        QueryBuilderEnvironment(names),
        QueryQueueBuilder(names),
        QuerySchedulerBuilder(names),
    )


async def deliver_for(opened: OpenProject, connect: Connect) -> None:
    """Deliver with the service of an open project until cancelled; what it left waiting at an earlier end, too."""
    assert opened.services is not None
    async with project_transaction(opened.pool, opened.id) as db:
        waiting = await db.fetch(service_queries.WAITING_AGENTS)
        await enqueue(db, [row["agent"] for row in waiting])
    await DeliveryWorker(connect, Deliveries(opened.pool, opened.services, vaults=opened.vaults)).run()


class DeliveryWorker:
    """Delivers until it is stopped; a lost connection is opened again."""

    def __init__(
        self, connect: Connect, deliveries: Deliveries, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
    ) -> None:
        """`connect` opens a connection of its own, past any transaction pooler: it listens."""
        self._connect = connect
        self._deliveries = deliveries
        self._heartbeat = timedelta(seconds=heartbeat_seconds)
        self._sending: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Take jobs until cancelled."""
        while True:
            try:
                await self._take_jobs()
            except (RuntimeError, *DATABASE_FAILURES) as error:
                logger.warning("The delivery of memories pauses: %s", error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _take_jobs(self) -> None:
        connection = await self._connect()
        manager = QueueManager(queries_on(connection), channel=DBSettings(prefix=PREFIX).channel)
        manager.entrypoint(ENTRYPOINT, concurrency_limit=1, accepts_context=False, on_failure="hold")(self._deliver)
        # Found out at once; the queue itself would notice half a minute later.
        is_lost = asyncio.Event()
        connection.add_termination_listener(lambda _: is_lost.set())
        lost = asyncio.create_task(is_lost.wait())
        running = asyncio.create_task(
            manager.run(
                # Nobody tells that a process died: its job is found when somebody looks.
                dequeue_timeout=self._heartbeat,
                batch_size=1,
                heartbeat_timeout=self._heartbeat,
                shutdown_on_listener_failure=True,
            )
        )
        try:
            await asyncio.wait({running, lost}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        finally:
            # First the connection: a job that is broken off must stay in the queue, not be written off as cancelled.
            connection.terminate()
            for task in (self._sending, running, lost):
                if task is not None:
                    task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await running

    async def _deliver(self, job: Job) -> None:
        try:
            project_id, agent = queue_of(job.payload)
        except ValueError:
            logger.error("Job %s of the queue names no project: it is dropped", job.id)
            return
        self._sending = asyncio.current_task()
        try:
            await self._deliveries.send(project_id, agent)
        except Later as later:
            raise RetryRequested(timedelta(seconds=later.seconds), "waits for the memory service") from None
        except Exception as error:
            # Whatever it was, the memories still wait.
            logger.warning("Delivering memories failed and is tried again: %s", type(error).__name__, exc_info=error)
            raise RetryRequested(timedelta(seconds=AGAIN_SECONDS), type(error).__name__) from None
        finally:
            self._sending = None

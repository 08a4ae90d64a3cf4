"""The composition root: settings → database → workspace; the one lifespan."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from bmad_mcp.call import Capacity, OpenProject
from bmad_mcp.database import Database
from bmad_mcp.db import DATABASE_FAILURES, begin_in
from bmad_mcp.encryption.vaults import Vaults
from bmad_mcp.errors import BmadError, NoRoom
from bmad_mcp.progress import Progress, untold
from bmad_mcp.projects.open import FIND, SEEK, open_project
from bmad_mcp.settings import Settings

if TYPE_CHECKING:
    from bmad_mcp.memory.embedder import Embedder
    from bmad_mcp.memory.services.choosing import MemoryServices

logger = logging.getLogger("bmad_mcp.app")


def memory_services(settings: Settings) -> "MemoryServices | None":
    """The memory service of the settings, not asked yet; None where the built-in memory serves alone."""
    if settings.memory_provider == "builtin":
        return None
    try:
        return connect_memory(settings, settings.memory_budget_seconds)
    except ValueError as error:
        # The work goes on without it; `doctor` says the same.
        logger.error("%s The built-in memory serves.", error)
        return None


def connect_memory(settings: Settings, read_seconds: float) -> "MemoryServices":
    """The same with a budget for look-ups; raises ValueError for an address that cannot be used."""
    # Its HTTP client costs a fifth of a second to import.
    choosing = import_module("bmad_mcp.memory.services.choosing")
    key = settings.memory_api_key
    services: MemoryServices = choosing.MemoryServices(
        settings.memory_url,
        user=settings.memory_user,
        api_key=key.get_secret_value() if key else None,
        setting=settings.memory_provider,
        read_seconds=read_seconds,
        fresh_seconds=settings.memory_fresh_seconds,
    )
    return services


def memory_embedder(settings: Settings) -> "Embedder | None":
    """What makes vectors of memories, loaded when it is first needed; None where they are off or not installed."""
    if settings.memory_vectors == "off":
        return None
    found: Embedder | None = import_module("bmad_mcp.memory.embedder").find_embedder()
    return found


class ProjectWorkspace:
    """One project on this process's database; ready when its first caller needs it, mended when it is lost."""

    def __init__(
        self,
        settings: Settings,
        progress: Progress = untold,
        *,
        capacity: Capacity | None = None,
        read_only: bool = False,
    ) -> None:
        self.settings = settings
        self.database = Database(settings, progress)
        self._capacity = capacity or Capacity()
        self._is_read_only = read_only
        self._opening: asyncio.Task[OpenProject] | None = None
        self._mending = asyncio.Lock()
        self._services: MemoryServices | None = None
        self._replica = self.database.replica()
        self._vaults = Vaults(settings.read_master_keys)

    def open(self) -> None:
        """Begin to open in the background; calls wait for it."""
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_note_failure)

    async def project(self) -> OpenProject:
        """The project, once it is ready; raises Unavailable with what to do when it cannot be."""
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self.open()
        assert self._opening is not None
        # A caller that goes away must not take the opening with it.
        return await asyncio.shield(self._opening)

    @property
    def ready(self) -> OpenProject | None:
        """The project when it is open already; None before, and when it cannot be opened."""
        opening = self._opening
        if opening is None or not opening.done() or opening.cancelled() or opening.exception() is not None:
            return None
        return opening.result()

    async def _find_services(self) -> None:
        # In a thread: a fifth of a second of imports, which the opening of the database hides.
        self._services = self._services or await asyncio.to_thread(memory_services, self.settings)

    async def _open(self) -> OpenProject:
        pool, _ = await asyncio.gather(self.database.open_pool(), self._find_services())
        try:
            async with pool.acquire() as connection:
                project_id, is_new = await open_project(connection, self.settings.project, self.settings.project)
            # Before anything is written: what is encrypted with a key that is missing stays as it is.
            vault = await self._vaults.of_project(pool, project_id)
            opened = OpenProject(
                project_id,
                self.settings.project,
                pool,
                self._services,
                replica=self._replica,
                capacity=self._capacity,
                embedder=memory_embedder(self.settings),
                vaults=self._vaults,
                vault=vault,
                similar_seconds=self.settings.similar_seconds or None,
            )
            if is_new or not await _has_definitions(opened):
                # Reading definitions needs YAML; only a new project pays for that.
                await import_module("bmad_mcp.bmad_files.builtins").seed_builtins(opened)
            begins_in = project_id if self._is_of_one_project() else None
            if not self._is_read_only:
                if begins_in is not None:
                    await begin_in(pool, begins_in)
                return replace(opened, begins_in=begins_in)
        except BaseException:
            pool.terminate()
            raise
        # What a start itself makes is made; from here on a server that only reads can write nothing.
        await pool.close()
        pool = await self.database.open_pool(begins_in=begins_in, read_only=self._is_read_only)
        return replace(opened, pool=pool, begins_in=begins_in)

    def _is_of_one_project(self) -> bool:
        """Whether nobody asks for another project, and no pooler shares the connections with other programs."""
        settings = self.settings
        return self.database.cluster is not None and not settings.auth_required and settings.auth_issuer is None

    async def mend(self) -> bool:
        """After a lost connection: bring the embedded cluster back and drop what the pool still holds.

        Raises NoRoom, which people have to mend first.
        """
        async with self._mending:
            if self._opening is None or not self._opening.done() or self._opening.exception() is not None:
                return False
            opened = self._opening.result()
            try:
                if self.database.cluster is not None:
                    await asyncio.to_thread(self.database.cluster.ensure_running)
                await opened.pool.expire_connections()
                async with opened.pool.acquire(timeout=10) as connection:
                    await connection.fetchval("SELECT 1")
            except NoRoom:
                raise
            except (BmadError, TimeoutError, *DATABASE_FAILURES) as error:
                logger.warning("The database is still away: %s", error)
                return False
            return True

    async def close(self) -> None:
        """Close the connections and leave the cluster."""
        opening, self._opening = self._opening, None
        if opening is not None:
            if not opening.done():
                opening.cancel()
            opened = (await asyncio.gather(opening, return_exceptions=True))[0]
            if isinstance(opened, OpenProject):
                try:
                    await asyncio.wait_for(opened.pool.close(), 5)
                except TimeoutError:
                    opened.pool.terminate()
        if self._replica is not None:
            self._replica.close()
        if self._services is not None:
            await self._services.aclose()
        await self.database.close()


HAS_DEFINITIONS = "SELECT EXISTS (SELECT FROM bmad_agents WHERE project_id = $1)"


async def _has_definitions(opened: OpenProject) -> bool:
    async with opened.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT set_config('app.project', $1, true)", str(opened.id))
        found: bool = await connection.fetchval(HAS_DEFINITIONS, opened.id)
        return found


@asynccontextmanager
async def find_project(
    settings: Settings, progress: Progress = untold
) -> AsyncIterator[tuple[asyncpg.Pool, UUID | None]]:
    """The database, and the project's id there; None when nobody made the project yet: this does not make it."""
    database = Database(settings, progress)
    try:
        pool = await database.open_pool()
        try:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(SEEK, settings.project)
                found = await connection.fetchval(FIND, settings.project)
            yield pool, found
        finally:
            await pool.close()
    finally:
        await asyncio.shield(database.close())


async def opened_project(
    settings: Settings, pool: asyncpg.Pool, project_id: UUID, services: "MemoryServices | None" = None
) -> OpenProject:
    """A project that `find_project` found, ready for calls; raises Unavailable when its encryption key is missing."""
    vaults = Vaults(settings.read_master_keys)
    vault = await vaults.of_project(pool, project_id)
    return OpenProject(project_id, settings.project, pool, services, vaults=vaults, vault=vault)


def _note_failure(opening: asyncio.Task[OpenProject]) -> None:
    if not opening.cancelled() and (error := opening.exception()) is not None:
        logger.error("The project cannot be opened: %s", error)


@asynccontextmanager
async def open_workspace(
    settings: Settings,
    progress: Progress = untold,
    *,
    after_seconds: float = 0,
    capacity: Capacity | None = None,
    read_only: bool = False,
) -> AsyncIterator[ProjectWorkspace]:
    """A workspace that opens in the background and is closed at the end; `progress` hears what it does.

    With `after_seconds` it opens that much later, or with the first call. With `read_only` PostgreSQL refuses every write on
    its connections, once the project is there.
    """
    workspace = ProjectWorkspace(settings, progress, capacity=capacity, read_only=read_only)
    opening = asyncio.get_running_loop().call_later(after_seconds, workspace.open)
    try:
        yield workspace
    finally:
        opening.cancel()
        await asyncio.shield(workspace.close())

"""The composition root: settings → database → workspace; the one lifespan."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from bmad_mcp.call import Capacity, OpenProject
from bmad_mcp.db import STATEMENT_TIMEOUT_SECONDS, THROUGH_POOLER, open_pool
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.encryption.vaults import Vaults
from bmad_mcp.errors import BmadError, Unavailable
from bmad_mcp.migrations_folder import newest_revision
from bmad_mcp.progress import Progress, untold
from bmad_mcp.projects.open import FIND, SEEK, open_project
from bmad_mcp.replica import Replica
from bmad_mcp.settings import Settings

if TYPE_CHECKING:
    from bmad_mcp.memory.embedder import Embedder
    from bmad_mcp.memory.services.choosing import MemoryServices

logger = logging.getLogger("bmad_mcp.app")

REVISION = "SELECT version_num FROM bmad_alembic_version"
# Upgrading also makes the trail's partitions for the months to come.
NEXT_MONTH_IS_MADE = """
SELECT to_regclass('bmad_agent_activity_' || to_char(now() + interval '1 month', 'YYYY_MM')) IS NOT NULL
"""
# The app's role is neither owner nor superuser; who may become it does.
# Before PostgreSQL 16 every member may become the role, and the word SET is unknown.
APP_ROLE = """
SELECT pg_has_role(current_user, oid, CASE WHEN current_setting('server_version_num')::int >= 160000
                                           THEN 'SET' ELSE 'MEMBER' END)
FROM pg_roles WHERE rolname = 'bmad_app' AND rolname <> current_user
"""
BYPASSES = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
# A pooler's sessions live on, so neither who logged in nor whom it became may pass row-level security.
UNBOUND = """
SELECT rolname FROM pg_roles WHERE rolname IN (current_user, session_user) AND (rolsuper OR rolbypassrls) LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Connections:
    """asyncpg.connect arguments, for the app and for the owner who migrates."""

    app: dict[str, Any]
    owner: dict[str, Any]


class Database:
    """The database of this process: embedded or external, started and migrated on first need."""

    def __init__(self, settings: Settings, progress: Progress = untold) -> None:
        self.settings = settings
        self._progress = progress
        self.cluster = None if settings.database_url else Cluster(settings.data_dir / "postgres")
        self._was_started = False
        self._is_migrated = False

    async def connections(self) -> Connections:
        """Where to connect; starts the embedded cluster when it does not run."""
        if self.cluster is not None:
            if not self._was_started:
                self._progress("starting PostgreSQL …")
            endpoints = await asyncio.to_thread(self.cluster.start)
            self._was_started = True
            return Connections(endpoints.app_connect(), endpoints.owner_connect())
        assert self.settings.database_url is not None
        url = self.settings.database_url.get_secret_value()
        if self.settings.database_direct_url is None:
            return Connections(await _as_app_role(url), {"dsn": url})
        return Connections(await through_pooler(url), {"dsn": self.settings.database_direct_url.get_secret_value()})

    async def migrated(self) -> Connections:
        """Where to connect, with the schema at this version. An external database is migrated by `db upgrade` only."""
        found = await self.connections()
        if self._is_migrated:
            return found
        revision, has_partitions, is_unbound = await _state(found.app)
        if is_unbound:
            raise Unavailable(
                "Something between this server and its database dropped the role bmad_app, and row-level security does"
                " not bind who is left. Is it a pooler? Set BMAD_DATABASE_DIRECT_URL to the address without it."
            )
        if revision == newest_revision() and (has_partitions or self.cluster is None):
            self._is_migrated = True
            return found
        if self.cluster is None:
            state = f"at revision {revision}" if revision else "empty"
            raise Unavailable(
                f"The database is {state}; this version needs revision {newest_revision()}."
                " Run `bmad-mcp db upgrade` with BMAD_DATABASE_URL of the schema's owner."
            )
        if revision is not None and revision > newest_revision():
            raise Unavailable(
                f"The database is at revision {revision}, newer than this version of bmad-mcp."
                " Upgrade bmad-mcp, or set BMAD_DATA_DIR to another folder."
            )
        self._progress("migrating …")
        await upgrade(found.owner)
        return found

    async def open_listener(self) -> asyncpg.Connection:
        """One connection of the app's role that no transaction pooler shares: it may listen, and hold locks."""
        return await asyncpg.connect(**await self.direct())

    async def direct(self) -> dict[str, Any]:
        """Where to connect as the app's role past any pooler."""
        if self.cluster is not None or self.settings.database_direct_url is None:
            return (await self.connections()).app
        return await _as_app_role(self.settings.database_direct_url.get_secret_value())

    async def open_pool(self, *, begins_in: UUID | None = None, read_only: bool = False) -> asyncpg.Pool:
        """Connections of the app's role to the migrated database; raises Unavailable with what to do."""
        try:
            return await open_pool(begins_in=begins_in, read_only=read_only, **(await self.migrated()).app)
        except BmadError:
            raise
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise Unavailable(f"The database cannot be reached: {error}. {_how_to_mend(error)}") from error

    def replica(self) -> Replica | None:
        """The replica that reads go to; None where the settings name none, and for the embedded database."""
        url = self.settings.database_read_url
        if self.cluster is not None or url is None:
            return None
        address = url.get_secret_value()

        async def open_it() -> asyncpg.Pool:
            connect = through_pooler if self.settings.database_direct_url else _as_app_role
            return await open_pool(**await connect(address), command_timeout=STATEMENT_TIMEOUT_SECONDS)

        return Replica(open_it, most_seconds=self.settings.database_read_lag_seconds)

    async def close(self) -> None:
        """Leave the cluster; the last process out stops it."""
        if self.cluster is not None:
            await asyncio.to_thread(self.cluster.stop)


async def upgrade(owner: dict[str, Any]) -> None:
    """Bring the schema to this version; two processes at once: one does."""
    # SQLAlchemy and Alembic cost a third of a start, and most starts find the schema up to date.
    migrate = import_module("bmad_mcp.migrate")
    # The address goes to asyncpg unread: SQLAlchemy would pass on options such as sslmode that asyncpg takes in it only.
    await asyncio.to_thread(lambda: migrate.upgrade(**owner))


async def _as_app_role(url: str) -> dict[str, Any]:
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval(APP_ROLE):
            return {"dsn": url, "server_settings": {"role": "bmad_app"}}
        if await connection.fetchval(BYPASSES):
            raise Unavailable(
                "BMAD_DATABASE_URL names a role that row-level security does not bind (superuser or BYPASSRLS)."
                " Run `bmad-mcp db upgrade` once as that role: it makes the role bmad_app, which the server then uses."
            )
        return {"dsn": url}
    finally:
        await connection.close()


async def through_pooler(url: str) -> dict[str, Any]:
    """asyncpg.connect arguments for an address that leads through a transaction pooler.

    No session is ours there, so none can become bmad_app: the login itself has to be one that row-level security binds.
    Raises Unavailable when it is not.
    """
    connect = {"dsn": url, **THROUGH_POOLER}
    connection = await asyncpg.connect(**connect)
    try:
        name = await connection.fetchval(UNBOUND)
    finally:
        await connection.close()
    if name is not None:
        raise Unavailable(
            f"The login through the pooler is {name}, which row-level security does not bind (superuser or BYPASSRLS)."
            " Let BMAD_DATABASE_URL name one of its own: CREATE ROLE bmad_server LOGIN PASSWORD '…'; then run"
            " `bmad-mcp db upgrade`, which gives it the rights of bmad_app."
        )
    return connect


async def _state(connect: dict[str, Any]) -> tuple[str | None, bool, bool]:
    """The schema's revision, whether next month's partition is there, and whether the role is unbound."""
    connection = await asyncpg.connect(**connect)
    try:
        is_unbound = await connection.fetchval(BYPASSES)
        return await connection.fetchval(REVISION), await connection.fetchval(NEXT_MONTH_IS_MADE), is_unbound
    except asyncpg.UndefinedTableError:
        return None, False, is_unbound
    finally:
        await connection.close()


def _how_to_mend(error: Exception) -> str:
    refused = isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error)
    if refused or isinstance(error, asyncpg.DuplicatePreparedStatementError | asyncpg.InvalidSQLStatementNameError):
        return "A pooler is in front of it: set BMAD_DATABASE_DIRECT_URL to the address without it."
    return "`bmad-mcp doctor` checks it and says how to mend it."


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
            )
            if is_new or not await _has_definitions(opened):
                # Reading definitions needs YAML; only a new project pays for that.
                await import_module("bmad_mcp.bmad_files.builtins").seed_builtins(opened)
            begins_in = project_id if self._is_of_one_project() else None
            if begins_in is None and not self._is_read_only:
                return opened
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
        """After a lost connection: bring the embedded cluster back and drop what the pool still holds."""
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
            except (BmadError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
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

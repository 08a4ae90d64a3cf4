"""Where the database of this process is: embedded or external, direct or through a pooler, migrated, as which role."""

import asyncio
import logging
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import UUID

import asyncpg

from bmad_mcp.db import DATABASE_FAILURES, STATEMENT_TIMEOUT_SECONDS, THROUGH_POOLER, open_pool
from bmad_mcp.embedded.cluster import Cluster
from bmad_mcp.errors import BmadError, Unavailable
from bmad_mcp.progress import Progress, untold
from bmad_mcp.replica import Replica
from bmad_mcp.schema_version import SchemaVersion, read_version
from bmad_mcp.settings import Settings

logger = logging.getLogger("bmad_mcp.database")

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
        self.cluster = None if settings.database_url else Cluster(settings.data_dir / "postgres", tell=progress)
        self._is_migrated = False

    async def connections(self) -> Connections:
        """Where to connect; starts the embedded cluster when it does not run."""
        if self.cluster is not None:
            endpoints = await asyncio.to_thread(self.cluster.start)
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
        version, has_partitions, is_unbound = await _state(found.app)
        if is_unbound:
            raise Unavailable(
                "Something between this server and its database dropped the role bmad_app, and row-level security does"
                " not bind who is left. Is it a pooler? Set BMAD_DATABASE_DIRECT_URL to the address without it."
            )
        if version.fit == "too new":
            or_another = " Or set BMAD_DATA_DIR to another folder." if self.cluster is not None else ""
            raise Unavailable(version.sentence() + or_another)
        if version.fit == "newer":
            logger.warning(version.sentence())
        if version.serves_this and (has_partitions or self.cluster is None):
            self._is_migrated = True
            return found
        if self.cluster is None:
            raise Unavailable(
                f"{version.sentence()} Run `bmad-mcp db upgrade` with BMAD_DATABASE_URL of the schema's owner."
            )
        self._progress("migrating …")
        await upgrade(found.owner, self._progress)
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
        except (ValueError, *DATABASE_FAILURES) as error:
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


async def upgrade(owner: dict[str, Any], tell: Progress = untold) -> None:
    """Bring the schema to this version; two processes at once: one does. `tell` hears what it waits for."""
    # SQLAlchemy and Alembic cost a third of a start, and most starts find the schema up to date.
    migrate = import_module("bmad_mcp.migrate")
    # The address goes to asyncpg unread: SQLAlchemy would pass on options such as sslmode that asyncpg takes in it only.
    await asyncio.to_thread(lambda: migrate.upgrade(tell=tell, **owner))


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


async def _state(connect: dict[str, Any]) -> tuple[SchemaVersion, bool, bool]:
    """The schema's version, whether next month's partition is there, and whether the role is unbound."""
    connection = await asyncpg.connect(**connect)
    try:
        is_unbound = await connection.fetchval(BYPASSES)
        return await read_version(connection), await connection.fetchval(NEXT_MONTH_IS_MADE), is_unbound
    finally:
        await connection.close()


def _how_to_mend(error: Exception) -> str:
    refused = isinstance(error, asyncpg.ProtocolViolationError) and "startup parameter" in str(error)
    if refused or isinstance(error, asyncpg.DuplicatePreparedStatementError | asyncpg.InvalidSQLStatementNameError):
        return "A pooler is in front of it: set BMAD_DATABASE_DIRECT_URL to the address without it."
    return "`bmad-mcp doctor` checks it and says how to mend it."

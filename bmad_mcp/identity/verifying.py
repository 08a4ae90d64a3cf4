"""Proves who sent a request: by a token of this server, or by one of the identity provider."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

import asyncpg

from bmad_mcp.call import OpenProject, Workspace
from bmad_mcp.db import DATABASE_FAILURES, Transaction, project_transaction
from bmad_mcp.encryption.people import is_person
from bmad_mcp.errors import Overloaded, Unavailable
from bmad_mcp.identity import queries
from bmad_mcp.identity.access_changes import AccessChanges
from bmad_mcp.identity.members import Member, find_member
from bmad_mcp.identity.principals import Principal
from bmad_mcp.identity.token_form import Presented, read_token
from bmad_mcp.projects.open import FIND, SEEK
from bmad_mcp.single_flight import SingleFlight

if TYPE_CHECKING:
    from bmad_mcp.encryption.vault import Vault

logger = logging.getLogger("bmad_mcp.identity")

R = TypeVar("R")

# A revoked token is good for this long at most, in whichever process it was seen.
CACHE_SECONDS = 3.0
CACHED_TOKENS = 1024
# Tokens that this process has not known as good: so many are looked up at once, and so many may wait for that.
STRANGERS_AT_ONCE = 2
STRANGERS_WAITING = 64
STRANGERS_WAIT_SECONDS = 3.0
MANY_STRANGERS = "The server is busy with tokens that it does not know. Try again in a second."


class ManyStrangers(Overloaded):
    """Too many tokens that were never known as good: their senders get no more than a word."""


class Verifier(Protocol):
    """Knows one kind of token; None: this one is not good. Raises Unavailable when it cannot be told now."""

    async def principal(self, text: str) -> Principal | None: ...


class StaticTokens:
    """The tokens of this server; a good one is remembered for three seconds, or until the changes tell of one.

    Tokens that were never good here queue for a few look-ups: whoever sends made-up ones takes no connection from others.
    """

    def __init__(
        self,
        workspace: Workspace,
        clock: Callable[[], float] = time.monotonic,
        changes: AccessChanges | None = None,
    ) -> None:
        self._workspace = workspace
        self._clock = clock
        self._changes = changes or AccessChanges()
        self._known: OrderedDict[Presented, tuple[float, int, Principal]] = OrderedDict()
        self._asking = SingleFlight()
        self._strangers = asyncio.Semaphore(STRANGERS_AT_ONCE)
        self._waiting = 0

    async def principal(self, text: str) -> Principal | None:
        """Whose token this is; None when it is unknown, expired or revoked. Raises Overloaded, Unavailable."""
        presented = read_token(text)
        if presented is None:
            return None
        # The count before the question: a change meanwhile makes the answer one of yesterday.
        now, count = self._clock(), self._changes.count
        known = self._known.get(presented)
        if known is not None:
            until, known_at, principal = known
            if now < until and known_at == count:
                return principal
        found = await self._asking.run((presented, count), lambda: self._look_up(presented, is_stranger=known is None))
        self._known.pop(presented, None)
        if found is not None:
            self._known[presented] = (now + CACHE_SECONDS, count, found)
            if len(self._known) > CACHED_TOKENS:
                self._known.popitem(last=False)
        return found

    async def _look_up(self, presented: Presented, *, is_stranger: bool) -> Principal | None:
        async with self._turn() if is_stranger else contextlib.nullcontext():
            return await on_database(self._workspace, lambda opened: _find(opened, presented))

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """A stranger's turn; raises Overloaded when too many wait, or one waits too long."""
        if self._waiting >= STRANGERS_WAITING:
            raise ManyStrangers(MANY_STRANGERS)
        self._waiting += 1
        try:
            async with asyncio.timeout(STRANGERS_WAIT_SECONDS):
                await self._strangers.acquire()
        except TimeoutError:
            raise ManyStrangers(MANY_STRANGERS) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._strangers.release()


async def _find(opened: OpenProject, presented: Presented) -> Principal | None:
    async with _transaction(opened, NOWHERE) as transaction:
        await transaction.execute(queries.SEEK, presented.id)
        rows = await transaction.fetch(queries.FIND, presented.id)
    good = [row for row in rows if hmac.compare_digest(row["secret_hash"], presented.secret_hash)]
    if not good:
        return None
    if any(row["is_unnoted"] for row in good):
        # A server that may only read its database lets people in all the same.
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError):
            async with _transaction(opened, NOWHERE) as transaction:
                await transaction.execute(queries.SEEK, presented.id)
                await transaction.execute(queries.NOTE_USE, presented.id)
    known_as = {row["project_id"]: row["name"] for row in good}
    return Principal(known_as[min(known_as)], frozenset(good[0]["scopes"]), frozenset(known_as), known_as)


@dataclass(frozen=True, slots=True)
class Found:
    """The project that somebody asks for, and what they are there."""

    project: OpenProject
    member: Member


async def find_role(workspace: Workspace, key: str | None, principal: Principal) -> Found | None:
    """The project of this key (None: the workspace's own) and the principal's role there, read anew each time.

    None when there is no such project, the token is not for it, or the principal is no member: nobody learns which.
    """

    async def find(home: OpenProject) -> Found | None:
        project = home if key is None or key == home.key else await _named(home, key)
        known_as = principal.known_as.get(project.id, principal.name)
        vault = await _vault_of(home, project.id) if is_person(known_as) else None
        async with _transaction(home, project.id) as transaction:
            member = await find_member(transaction, vault, known_as)
        is_bound = principal.projects is None or project.id in principal.projects
        return Found(project, member) if member is not None and is_bound else None

    return await on_database(workspace, find)


async def name_of(workspace: Workspace, principal: Principal) -> str:
    """The principal's name as people read it, also where only pseudonyms are stored."""
    if is_person(principal.name):
        return principal.name

    async def find(home: OpenProject) -> str:
        project_id = min(principal.known_as)
        async with _transaction(home, project_id, await _vault_of(home, project_id)) as transaction:
            told = await transaction.fetchval(queries.PERSON, principal.name)
            return str(await transaction.person(told))

    return await on_database(workspace, find)


async def _vault_of(home: OpenProject, project_id: UUID) -> Vault | None:
    """What a project knows people by; None where that is their names, and for one that is not there."""
    if home.vaults is None or project_id == NOWHERE:
        return None
    try:
        return await home.vaults.of_project(home.pool, project_id)
    except Unavailable as error:
        # Who asks for a project must not learn from it that there is one.
        logger.error("Members of the project %s cannot be recognised: %s", project_id, error)
        return None


# The id of no project: one that is not there is looked into like any other, so that both take the same time.
NOWHERE = UUID(int=0)


async def _named(home: OpenProject, key: str) -> OpenProject:
    async with _transaction(home, NOWHERE) as transaction:
        await transaction.execute(SEEK, key)
        found = await transaction.fetchval(FIND, key)
    return replace(home, id=found or NOWHERE, key=key)


def _transaction(
    opened: OpenProject, project_id: UUID, vault: Vault | None = None
) -> contextlib.AbstractAsyncContextManager[Transaction]:
    return project_transaction(opened.pool, project_id, vault, opened.capacity.wait_seconds)


async def on_database(workspace: Workspace, work: Callable[[OpenProject], Awaitable[R]]) -> R:
    """Do the work, once more when the connection was lost and could be mended; raises Unavailable."""
    for is_first in (True, False):
        try:
            return await work(await workspace.project())
        except TimeoutError:
            raise Overloaded(
                "The server is busy: no connection to the database was free, or the database did not answer in time. Try"
                " again."
            ) from None
        except DATABASE_FAILURES as error:
            if not (is_first and await workspace.mend()):
                raise Unavailable("The database does not answer. Try again in a few seconds.") from error
    raise AssertionError("unreachable")


class AnyOf:
    """Several kinds of tokens, told apart by their beginning."""

    def __init__(self, static: StaticTokens, provider: Verifier | None = None) -> None:
        self._static = static
        self._provider = provider

    async def principal(self, text: str) -> Principal | None:
        """Whose token this is; None when it is not good."""
        if text.startswith("bmad_"):
            return await self._static.principal(text)
        return await self._provider.principal(text) if self._provider is not None else None

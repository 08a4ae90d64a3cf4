"""Subscriptions of MCP clients in both protocol eras, each to one project."""

from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, SubscriptionsListenRequestParams, SubscriptionsListenResult

from bmad_mcp.activity.trail import Changes
from bmad_mcp.server.addresses import Address, address_of
from bmad_mcp.server.changes import ChangeFeed

Context = ServerRequestContext[Any, Any]

# Of one process: streams that are open at once, and addresses that one client may watch.
MOST_STREAMS = 1024
MOST_ADDRESSES = 1000


def _too_many(what: str) -> MCPError:
    return MCPError(INTERNAL_ERROR, f"{what}; subscribe to fewer: bmad://project changes with everything in it.")


class Streams:
    """The open `subscriptions/listen` streams of the 2026-07-28 protocol."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed
        self._open = 0

    async def serve(
        self, ctx: Context, params: SubscriptionsListenRequestParams, project_id: UUID
    ) -> SubscriptionsListenResult:
        """Serve one stream until its client leaves or the server ends. It hears of this project only."""
        wanted = params.notifications.resource_subscriptions or []
        if self._open >= MOST_STREAMS:
            raise _too_many(f"{MOST_STREAMS} streams are open here")
        if len(wanted) > MOST_ADDRESSES:
            raise _too_many(f"These are over {MOST_ADDRESSES} addresses")
        addresses = [found for uri in wanted if (found := address_of(uri)) is not None]
        bus = InMemorySubscriptionBus()
        handler = ListenHandler(bus)

        async def hear(changes: Changes | None) -> None:
            if changes is None:
                handler.close()
                return
            for address in addresses:
                if address.shows(changes):
                    await bus.publish(ResourceUpdated(uri=address.uri))
            # Personas come with an import.
            if changes.is_wide:
                await bus.publish(PromptsListChanged())

        async with self._feed.following(project_id, hear):
            self._open += 1
            try:
                return await handler(ctx, params)
            finally:
                self._open -= 1


class Watched:
    """What the client of one connection subscribed to in the protocol's earlier versions, by `resources/subscribe`."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed
        self._addresses: dict[str, Address] = {}
        self._following = AsyncExitStack()
        self._changing = anyio.Lock()
        self._session: ServerSession | None = None

    async def add(self, ctx: Context, uri: str, project_id: UUID) -> None:
        """Notify the client of changes at an address; raises MCPError for one that no resource has."""
        address = address_of(uri)
        if address is None:
            raise MCPError(
                INVALID_PARAMS,
                f"There is no resource {uri[:200]!r}. resources/list and resources/templates/list show them.",
            )
        if uri not in self._addresses and len(self._addresses) >= MOST_ADDRESSES:
            raise _too_many(f"You watch {MOST_ADDRESSES} addresses already")
        async with self._changing:
            self._session = ctx.session
            if not self._addresses:
                await self._following.enter_async_context(self._feed.following(project_id, self._hear))
            self._addresses[uri] = address

    async def remove(self, uri: str) -> None:
        """Notify no more; one that is not watched is none already."""
        async with self._changing:
            if self._addresses.pop(uri, None) is not None and not self._addresses:
                await self._following.aclose()

    async def close(self) -> None:
        """Watch nothing more: the connection ended."""
        self._addresses.clear()
        await self._following.aclose()

    async def _hear(self, changes: Changes | None) -> None:
        assert self._session is not None
        for address in list(self._addresses.values()):
            if changes is not None and address.shows(changes):
                await self._session.send_resource_updated(address.uri)

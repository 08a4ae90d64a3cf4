"""Finds out which memory service is there, and keeps its connections for all projects."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal

from bmad_mcp.memory.services.answers import MemoryService
from bmad_mcp.memory.services.breaker import Clock, Guards
from bmad_mcp.memory.services.http import Allowance, Away, JsonClient, Refused, ServiceError, TimedOut
from bmad_mcp.memory.services.mem0 import MEMORIES, Mem0, is_list
from bmad_mcp.memory.services.openmemory import STATS, OpenMemory, is_stats
from bmad_mcp.single_flight import SingleFlight

Setting = Literal["openmemory", "mem0", "builtin", "auto"]
Provider = Literal["openmemory", "mem0", "builtin"]

APPS = "/api/v1/apps/"
PROBE_SECONDS = 1.0
FOUND_SECONDS = 300.0
ABSENT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Choice:
    """Which memory serves, and one sentence that says why; `is_outage` when nothing there answered as it should."""

    provider: Provider
    why: str
    is_outage: bool = False


class MemoryServices:
    """The memory service of the settings: one pool of connections and one set of guards for all projects."""

    def __init__(
        self,
        address: str,
        *,
        user: str,
        api_key: str | None = None,
        setting: Setting = "auto",
        probe_seconds: float = PROBE_SECONDS,
        read_seconds: float = 1.5,
        fresh_seconds: float = 300.0,
        clock: Clock = time.monotonic,
    ) -> None:
        """Raises ValueError for an address that cannot be used; `builtin` opens no connection.

        `read_seconds` is what a look-up may take, `fresh_seconds` how long its answer may be used again.
        """
        self.read_seconds = read_seconds
        self.fresh_seconds = fresh_seconds
        self._user = user
        # What the settings name is not looked for.
        self._named = Choice(setting, f"BMAD_MEMORY_PROVIDER says {setting}") if setting != "auto" else None
        self._probe_seconds = probe_seconds
        self._clock = clock
        self._flights = SingleFlight()
        self._choice: Choice | None = None
        self._until = 0.0
        self._client: JsonClient | None = None
        self._guards: dict[Provider, Guards] = {}
        self._asking: asyncio.Task[Choice] | None = None
        if setting != "builtin":
            self._client = JsonClient(address, headers={"X-API-Key": api_key} if api_key else None)

    async def choice(self) -> Choice:
        """What the settings name, or what answers there now; an answer holds for five minutes, silence for half one.

        A service that has answered stays the choice while it is away: what is stored meanwhile waits for it.
        """
        if self._named is not None:
            return self._named
        if self._choice is None or self._clock() >= self._until:
            return await self._flights.run("probe", self._probe)
        return self._choice

    @property
    def known(self) -> Choice | None:
        """What was chosen last, without asking; None before the first answer."""
        return self._named or self._choice

    async def ready_choice(self) -> Choice:
        """The last choice at once, looked after in the background when it is old; only the first one is waited for.

        Who waits no longer leaves the probe running, so that the next one waits for less.
        """
        known = self.known
        is_old = self._named is None and self._clock() >= self._until
        if is_old and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self.choice())
            self._asking.add_done_callback(_unheard)
        if known is not None:
            return known
        assert self._asking is not None
        return await asyncio.shield(self._asking)

    def of_project(
        self, provider: Provider, project: str, *, read_seconds: float | None = None
    ) -> MemoryService | None:
        """The project's memories in this service; None for the built-in memory, which is no service."""
        if self._client is None or provider == "builtin":
            return None
        guards = self.guards(provider)
        kind = OpenMemory if provider == "openmemory" else Mem0
        seconds = self.read_seconds if read_seconds is None else read_seconds
        return kind(self._client, user=self._user, project=project, guards=guards, read_seconds=seconds)

    def guards(self, provider: Provider) -> Guards:
        """The breakers of a service, as they are now."""
        return self._guards.setdefault(provider, Guards(self._clock))

    async def aclose(self) -> None:
        """Close the connections."""
        if self._asking is not None:
            self._asking.cancel()
        if self._client is not None:
            await self._client.aclose()

    async def _probe(self) -> Choice:
        choice, known = await self._found(), self._choice
        self._until = self._clock() + (ABSENT_SECONDS if choice.provider == "builtin" else FOUND_SECONDS)
        if choice.is_outage and known is not None and known.provider != "builtin":
            choice = known
        self._choice = choice
        return choice

    async def _found(self) -> Choice:
        client = self._client
        assert client is not None
        allowance = Allowance(self._probe_seconds)
        openmemory, mem0 = await asyncio.gather(
            _outcome(self._is_openmemory(client, allowance)), _outcome(self._is_mem0(client, allowance))
        )
        at = client.address
        if openmemory is True:
            return Choice("openmemory", f"OpenMemory answers at {at}")
        if mem0 is True:
            return Choice("mem0", f"A mem0 server answers at {at}")
        if isinstance(mem0, Refused) and mem0.status in (401, 403):
            return Choice("builtin", f"What answers at {at} wants an API key, so the built-in memory serves")
        for kind, told in ((TimedOut, "did not answer in time"), (Away, "is not there")):
            if isinstance(openmemory, kind):
                return Choice("builtin", f"The memory service at {at} {told}, so the built-in memory serves", True)
        is_outage = isinstance(openmemory, ServiceError) and openmemory.counts
        why = f"What answers at {at} is no memory service, so the built-in memory serves"
        return Choice("builtin", why, is_outage)

    async def _is_openmemory(self, client: JsonClient, allowance: Allowance) -> bool:
        try:
            return is_stats(await client.ask("GET", STATS, params={"user_id": self._user}, allowance=allowance))
        except Refused as error:
            if error.status != 404:
                raise
        # 404 is also what an OpenMemory says that has not met the user; its apps are there for everybody.
        apps = await client.ask("GET", APPS, allowance=allowance)
        return isinstance(apps, dict) and isinstance(apps.get("apps"), list)

    async def _is_mem0(self, client: JsonClient, allowance: Allowance) -> bool:
        return is_list(
            await client.ask("GET", MEMORIES, params={"user_id": self._user, "top_k": 1}, allowance=allowance)
        )


def _unheard(asking: asyncio.Task[Choice]) -> None:
    if not asking.cancelled():
        asking.exception()


async def _outcome(probe: Awaitable[bool]) -> bool | ServiceError:
    try:
        return await probe
    except ServiceError as error:
        return error

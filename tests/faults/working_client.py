"""A client of the SDK that works through tasks whatever breaks, writes down what was acknowledged, and tries old leases."""

import asyncio
import itertools
import random
import time
import uuid
from contextlib import AsyncExitStack
from typing import Any

from faults.ledger import LATE, Ledger
from mcp.client import Client
from processes import held

LEASE_SECONDS = 5
# What a call may take: a database that comes back, and a machine that is busy.
PATIENCE_SECONDS = 15
RETRYABLE = ("unavailable", "overloaded")


class Refused(Exception):
    """A refusal that waiting does not change; its code first."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = code


class WorkingClient:
    """One agent at a time; after a lost connection it goes on at the next address."""

    def __init__(self, name: str, addresses: list[str], ledger: Ledger, seed: int) -> None:
        self._name = name
        self._addresses = itertools.cycle(addresses)
        self._ledger = ledger
        self._random = random.Random(seed)
        self._is_over = False
        self._stack = AsyncExitStack()
        self._client: Client | None = None
        # Leases that nobody used: when they are surely over, of which task.
        self._left: list[tuple[float, str, int]] = []

    def end(self) -> None:
        """What is on its way is still answered."""
        self._is_over = True

    async def run(self) -> None:
        """Work until `end`."""
        made: list[str] = []
        for count in itertools.count():
            if self._is_over:
                break
            if (key := await self._create(f"{self._name}.{count}", made)) is not None:
                made.append(key)
                await self._note(key, f"note {count} of {self._name}")
            await self._work(count)
            await self._try_old_leases()
            # So that what has to be checked does not grow without end.
            await asyncio.sleep(0.05)
        await self._leave()

    async def _create(self, title: str, made: list[str]) -> str | None:
        given: dict[str, Any] = {"title": title, "idempotency_key": uuid.uuid4().hex}
        if made and self._random.random() < 0.3:
            given["depends_on"] = [self._random.choice(made[-5:])]
        # With its key it may be tried until it is acknowledged.
        while not self._is_over:
            if (answer := await self._try("task_create", **given)) is not None:
                self._ledger.made[title] = answer["task"]["key"]
                self._ledger.saw(answer["task"])
                return str(answer["task"]["key"])
        return None

    async def _note(self, key: str, note: str) -> None:
        try:
            answer = await self._try("task_update", task=key, note=note)
        except Refused:
            # Somebody took it meanwhile.
            return
        if answer is not None:
            self._ledger.notes.append((key, note))
            self._ledger.saw(answer["task"])

    async def _work(self, count: int) -> None:
        asked = time.monotonic()
        answer = await self._try("task_claim", agent="dev", lease_seconds=LEASE_SECONDS)
        if answer is None or answer["task"] is None:
            return
        key, lease = answer["task"]["key"], answer["lease"]
        self._ledger.took(key, lease, self._name)
        self._ledger.saw(answer["task"])
        if self._random.random() < 0.2:
            # Not from when it was asked: the lease begins at some moment before the answer.
            self._left.append((time.monotonic() + LEASE_SECONDS, key, lease))
            return
        summary = f"{self._name} did {key} in turn {count} ({uuid.uuid4().hex})"
        try:
            done = await self._try("task_complete", task=key, lease=lease, summary=summary)
        except Refused:
            # A lease that is not over yet is nobody else's to take.
            if time.monotonic() - asked <= LEASE_SECONDS:
                raise
            return
        if done is not None:
            self._ledger.completed[key] = (lease, summary)

    async def _try_old_leases(self) -> None:
        now = time.monotonic()
        due = [one for one in self._left if one[0] <= now]
        self._left = [one for one in self._left if one[0] > now]
        for _, key, lease in due:
            try:
                answer = await self._try("task_complete", task=key, lease=lease, summary=f"{LATE}{uuid.uuid4().hex}")
            except Refused as refused:
                self._ledger.refused_stale[refused.code] += 1
                continue
            if answer is not None:
                self._ledger.stale.append(f"{self._name} completed {key} with lease {lease}")

    async def _try(self, tool: str, **arguments: Any) -> Any:
        """The structured result; None where nobody answered, or waiting may help. Raises Refused."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if self._client is None:
                    # In a task of its own: the client's end cancels whoever entered it.
                    client = held(Client(f"{next(self._addresses)}/mcp", mode="2026-07-28"))
                    self._client = await self._stack.enter_async_context(client)
                result = await self._client.call_tool(tool, arguments)
        except Exception as error:
            self._ledger.refusals[type(error).__name__] += 1
            await self._leave()
            await asyncio.sleep(0.02)
            return None
        if not result.is_error:
            return result.structured_content
        code = (result.meta or {}).get("bmad/code")
        if code not in RETRYABLE:
            raise Refused(str(code), result.content[0].text)
        self._ledger.refusals[f"{code}: {result.content[0].text}"] += 1
        await asyncio.sleep(0.02)
        return None

    async def _leave(self) -> None:
        self._client = None
        stack, self._stack = self._stack, AsyncExitStack()
        try:
            async with asyncio.timeout(5):
                await stack.aclose()
        except Exception as error:
            self._ledger.refusals[f"leaving: {type(error).__name__}"] += 1

"""Clients that come and go at one server for as long as they are told to, and a memory service that is often ill."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import httpx
import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from memory.services.fake_service import FakeOpenMemory

from bench import faults
from bench.fake_server import Connection, Reply

API = "/api/v1/bmad"
AGENTS = ("dev", "qa", "pm", "architect")
# So many tasks, and texts to remember, are used again and again.
TASKS, TEXTS = 60, 40
# What a claimant may be told, when others are after the same tasks.
CONTENDED = frozenset({"conflict", "lease_lost", "version_conflict", "invalid_move"})
KEPT_TEXTS = 200


class IllService(FakeOpenMemory):
    """A memory service that is well, slow, hangs, fails, answers nonsense and closes, in turns of so many seconds."""

    def __init__(self, turn: float) -> None:
        super().__init__("bmad")
        self._turn = turn
        self.fault = self._by_turn
        self.moods: Counter[str] = Counter()

    async def _by_turn(self, connection: Connection) -> None:
        mood, way = MOODS[int(time.monotonic() / self._turn) % len(MOODS)]
        self.moods[mood] += 1
        # Nobody reads them here, and hours of them would be this process's own leak.
        self.asked.clear()
        del self.rows[:-500]
        if way is not None:
            await way(connection)
            return
        reply = await self.reply(connection.asked)
        if mood == "slow":
            await asyncio.sleep(0.6)
        reply.headers["connection"] = "close"
        await connection.send(reply.encoded())


async def _hang(connection: Connection) -> None:
    # Longer than anybody's budget, and not for ever: this end must not keep sockets either.
    await asyncio.sleep(12)


MOODS: tuple[tuple[str, Callable[[Connection], Awaitable[None]] | None], ...] = (
    ("well", None),
    ("slow", None),
    ("well", None),
    ("500", faults.plainly(Reply(b"Internal Server Error", 500, "text/plain; charset=utf-8"))),
    ("well", None),
    ("hangs", _hang),
    ("well", None),
    ("nonsense", faults.plainly(faults.GARBAGE["not_json"]())),
    ("well", None),
    ("closes", faults.close_before_answer),
)


class Tally:
    """What was called and how that ended; what nobody expected is kept as text."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.unexpected = 0
        self.texts: list[str] = []
        self._seconds: list[float] = []

    @asynccontextmanager
    async def call(self, name: str) -> AsyncIterator[None]:
        """Counts and times one call; raises nothing but cancellation."""
        began = time.perf_counter()
        try:
            yield
        except Refused as refusal:
            self.surprise(name, f"{refusal.code}: {refusal}")
        except Exception as error:
            self.surprise(name, repr(error))
        else:
            self.outcomes[f"{name} ok"] += 1
            self._seconds.append(time.perf_counter() - began)

    def forget(self) -> None:
        """Times of calls before the first sample; what nobody expected stays."""
        self._seconds.clear()

    def note(self, name: str, outcome: str) -> None:
        self.outcomes[f"{name} {outcome}"] += 1

    def surprise(self, name: str, text: str) -> None:
        """Something that no client should meet."""
        self.unexpected += 1
        self.outcomes[f"{name} unexpected"] += 1
        if len(self.texts) < KEPT_TEXTS:
            self.texts.append(f"{time.strftime('%H:%M:%S')} {name}: {text[:500]}")

    def latencies(self) -> dict[str, float]:
        """p50 and p95 in ms, and the count, of what ended well since they were asked for last."""
        ordered, self._seconds = sorted(self._seconds), []
        if not ordered:
            return {"calls": 0}
        cut = {f"p{part}_ms": round(ordered[int(len(ordered) * part / 100)] * 1e3, 2) for part in (50, 95)}
        return {"calls": len(ordered), **cut}


class Refused(Exception):
    """A tool's refusal: the sentence, and its code."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


class Load:
    """Everybody who uses the server at `address`, with the tokens of several principals."""

    def __init__(self, address: str, tokens: list[str], tally: Tally, *, pause: float, seed: int = 1) -> None:
        self.address = address
        self.tally = tally
        self._tokens = itertools.cycle(tokens)
        self._pause = pause
        self._chance = random.Random(seed)
        self._stories: list[str] = []
        self._tasks: list[str] = []

    async def prepare(self) -> None:
        """The epic, stories and tasks that all of them use."""
        async with self.session("auto") as call:
            await call("agent_activate", agent="pm")
            epic = (await call("epic_create", title="Harbour"))["epic"]["key"]
            for number in range(6):
                story = await call("story_create", epic=epic, title=f"Tide table {number}")
                self._stories.append(story["story"]["key"])
            for number in range(TASKS):
                task = await call("task_create", title=f"Task {number}")
                self._tasks.append(task["task"]["key"])

    async def run(self, seconds: float) -> None:
        """All of them until the time is over; then each leaves as it would."""
        actors = [self._visitor, self._visitor, self._claimant, self._claimant, self._dashboard, self._listener]
        actors += [self._idler, self._stream_reader, self._leaver, self._stranger, self._rememberer]
        actors += [self._planner, self._lazy_claimant]
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._again(actor, until) for actor in actors))

    async def _again(self, actor: Callable[[], Awaitable[None]], until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            try:
                # The grace is for what hangs: a visit takes some seconds.
                async with asyncio.timeout(left + 60):
                    await actor()
            except Exception as error:
                self.tally.surprise(actor.__name__.strip("_"), repr(innermost(error)))
            await self._rest()

    async def _rest(self, times: float = 1) -> None:
        await asyncio.sleep(self._chance.uniform(0.5, 1.5) * self._pause * times)

    @asynccontextmanager
    async def session(self, mode: str) -> AsyncIterator["Session"]:
        """A client of the SDK on a connection of its own."""
        headers = {"authorization": f"Bearer {next(self._tokens)}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=30) as http,
            Client(streamable_http_client(f"{self.address}/mcp", http_client=http), mode=mode) as client,
        ):
            yield Session(client)

    @asynccontextmanager
    async def rest(self) -> AsyncIterator[httpx.AsyncClient]:
        headers = {"authorization": f"Bearer {next(self._tokens)}"}
        async with httpx.AsyncClient(base_url=self.address, headers=headers, timeout=30, trust_env=False) as client:
            yield client

    def _one(self, several: list[str] | tuple[str, ...]) -> str:
        return self._chance.choice(several)

    async def _visitor(self) -> None:
        """Opens a session, looks around, and leaves."""
        mode = self._one(("auto", "legacy"))
        async with self.session(mode) as call:
            looks: list[tuple[str, dict[str, Any]]] = [
                ("project_status", {}),
                ("task_list", {"limit": 20}),
                ("task_get", {"task": self._one(self._tasks)}),
                ("story_get", {"story": self._one(self._stories)}),
                ("story_next", {}),
                ("agent_list", {}),
                ("analytics_overview", {}),
                ("activity_list", {"limit": 20}),
            ]
            for tool, arguments in self._chance.sample(looks, 5):
                async with self.tally.call(tool):
                    await call(tool, **arguments)
                await self._rest()
            async with self.tally.call("resources"):
                await call.client.read_resource(f"bmad://stories/{self._one(self._stories)}")
                await call.client.list_tools()
            await self._refusals(call)

    async def _refusals(self, call: "Session") -> None:
        # A task that somebody completed meanwhile is refused as that.
        late = ("lease_lost", "invalid_move")
        for tool, arguments, codes in (
            ("task_get", {"task": "T-999999"}, ("not_found",)),
            ("task_list", {"limit": "many"}, ("invalid",)),
            ("task_heartbeat", {"task": self._one(self._tasks), "lease": 999_999}, late),
        ):
            try:
                await call(tool, **arguments)
            except Refused as refusal:
                if refusal.code in codes:
                    self.tally.note(tool, refusal.code)
                else:
                    self.tally.surprise(tool, f"{refusal.code} and not {' or '.join(codes)}: {refusal}")
            else:
                self.tally.surprise(tool, f"was not refused: {arguments}")

    async def _claimant(self) -> None:
        """Claims, works and gives back; now and then completes, and adds a new task for it."""
        async with self.session("auto") as call:
            for _ in range(4):
                try:
                    await self._work(call)
                except Refused as refusal:
                    if refusal.code not in CONTENDED:
                        raise
                    self.tally.note("claims", refusal.code)
                await self._rest()

    async def _work(self, call: "Session") -> None:
        task = self._one(self._tasks)
        held = await call("task_claim", agent="dev", task=task)
        if held["task"] is None:
            self.tally.note("task_claim", "nothing")
            return
        self.tally.note("task_claim", "ok")
        await self._rest()
        lease = {"task": task, "lease": held["lease"]}
        await call("task_heartbeat", **lease)
        if self._chance.random() > 0.1:
            await call("task_update", **lease, status="pending", note=f"Looked at {self._chance.randrange(9)}")
        else:
            await call("task_complete", **lease, summary="As planned")
            # Out of the list before the next wait, so that no other claimant replaces it as well.
            if task in self._tasks:
                self._tasks.remove(task)
                again = await call("task_create", title="Again")
                self._tasks.append(again["task"]["key"])
        self.tally.note("claims", "ok")

    async def _lazy_claimant(self) -> None:
        """Claims for five seconds and does not come back; what it says later is refused."""
        async with self.session("auto") as call:
            try:
                made = await call("task_claim", agent="qa", task=self._one(self._tasks), lease_seconds=5)
                lease = {"task": made["task"]["key"], "lease": made["lease"]}
                await asyncio.sleep(6)
                again = await call("task_claim", agent="dev", task=lease["task"])
                if again["task"] is not None:
                    await call("task_update", task=lease["task"], lease=again["lease"], status="pending")
                await call("task_heartbeat", **lease)
                self.tally.surprise("expired lease", "was good")
            except Refused as refusal:
                if refusal.code not in CONTENDED:
                    raise
                self.tally.note("expired lease", refusal.code)

    async def _dashboard(self) -> None:
        """What pages read, over connections that are kept for a while."""
        paths = ["/status", "/stories", "/tasks", "/agents", "/activity", "/analytics/overview", "/workflows"]
        paths += ["/workflows/analytics", "/handoffs", "/memory/search?query=tide", "/agents/dev/analytics"]
        async with self.rest() as client:
            async with self.tally.call("page"):
                (await client.get("/")).raise_for_status()
            for path in self._chance.sample(paths, 6):
                async with self.tally.call(f"GET {path}"):
                    (await client.get(f"{API}{path}")).raise_for_status()
                await self._rest()

    async def _stranger(self) -> None:
        """Mistakes: no token, no such path, no JSON, a wrong argument."""
        async with self.rest() as client:
            answers = {
                "no path": (await client.get(f"{API}/no-such"), 404),
                "no task": (await client.get(f"{API}/tasks/T-999999"), 404),
                "no token": (await client.get(f"{API}/status", headers={"authorization": "Bearer bad"}), 401),
                "no JSON": (
                    await client.post(
                        f"{API}/tasks/create", content=b"{", headers={"content-type": "application/json"}
                    ),
                    400,
                ),
                "no title": (await client.post(f"{API}/tasks/create", json={}), 422),
            }
        for name, (answer, status) in answers.items():
            if answer.status_code == status:
                self.tally.note(name, str(status))
            else:
                self.tally.surprise(name, f"{answer.status_code} {answer.text}")
        await self._rest(6)

    async def _leaver(self) -> None:
        """Hangs up in the middle of calls, over REST and MCP, and drops a whole session."""
        async with self.rest() as client:
            for path in ("/analytics/overview", "/status"):
                await self._cut(client.get(f"{API}{path}"), f"cut {path}")
            await self._cut(client.post(f"{API}/memory/context", json={"focus": "a call that is cut"}), "cut context")
        async with self.session("auto") as call:
            await self._cut(call("memory_context", focus="tide"), "cut memory_context")
            await self._cut(call("task_create", title="Cut"), "cut task_create")
            async with self.tally.call("after a cut"):
                await call("project_status")
        visit = asyncio.create_task(self._stay())
        await asyncio.sleep(self._chance.uniform(0.1, 0.6))
        visit.cancel()
        try:
            await visit
        except asyncio.CancelledError:
            pass
        except Exception as error:
            # The SDK's own client closes its streams under a call that is dropped.
            if not isinstance(innermost(error), anyio.BrokenResourceError | anyio.ClosedResourceError):
                raise
        self.tally.note("session", "dropped")
        await self._rest(4)

    async def _stay(self) -> None:
        async with self.session("auto") as call:
            while True:
                await call("health")
                await asyncio.sleep(0.2)

    async def _cut(self, call: Any, name: str) -> None:
        calling = asyncio.ensure_future(call)
        await asyncio.sleep(self._chance.uniform(0.001, 0.03))
        calling.cancel()
        try:
            await calling
            self.tally.note(name, "was quicker")
        except asyncio.CancelledError:
            self.tally.note(name, "cut")

    async def _listener(self) -> None:
        """Listens to a story and its task for some seconds, in the newest version of the protocol."""
        watched = [f"bmad://stories/{self._one(self._stories)}", f"bmad://tasks/{self._one(self._tasks)}"]
        async with self.session("auto") as call, call.client.listen(resource_subscriptions=watched) as stream:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chance.uniform(2, 15)):
                    async for _ in stream:
                        self.tally.note("listen", "heard")
        self.tally.note("listen", "ended")

    async def _idler(self) -> None:
        """Opens a session as older hosts do, says nothing for a while, calls once, and leaves without a word."""
        async with self.session("legacy") as call:
            await asyncio.sleep(self._chance.uniform(1, 10))
            async with self.tally.call("after a silence"):
                await call("project_status")

    async def _stream_reader(self) -> None:
        """Reads the dashboard's stream of changes, and hangs up."""
        async with self.rest() as client, client.stream("GET", f"{API}/live") as answer:
            answer.raise_for_status()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chance.uniform(1, 20)):
                    async for line in answer.aiter_lines():
                        if line.startswith("data:"):
                            self.tally.note("live", "heard")
        self.tally.note("live", "ended")

    async def _rememberer(self) -> None:
        """Stores and recalls; the service behind it is often ill, which must be nobody's error."""
        async with self.session("auto") as call:
            text = f"Fact {self._chance.randrange(TEXTS)}: the tide table is in UTC"
            async with self.tally.call("memory_store"):
                await call("memory_store", text=text, agent=self._one(AGENTS), category="AGENT_CONTEXT")
            await self._rest()
            async with self.tally.call("memory_context"):
                await call("memory_context", focus=f"tide table {self._chance.randrange(TEXTS)}")
            await self._rest()
            async with self.tally.call("memory_search"):
                await call("memory_search", query=f"fact {self._chance.randrange(TEXTS)}")
            await self._rest(4)

    async def _planner(self) -> None:
        """A workflow from its start to its cancellation, a handoff, and the agents' sessions."""
        async with self.session("auto") as call:
            agent = self._one(AGENTS)
            async with self.tally.call("agent_activate"):
                await call("agent_activate", agent=agent, focus=f"tide table {self._chance.randrange(TEXTS)}")
            await self._rest()
            async with self.tally.call("workflow"):
                key = (await call("workflow_start", type="brownfield-service", title="Run"))["workflow"]["key"]
                for _ in range(2):
                    await self._rest()
                    stage = (await call("workflow_get", workflow=key))["workflow"]
                    assert stage["status"] == "active", stage
                await call("workflow_pause", workflow=key, reason="lunch")
                await call("workflow_resume", workflow=key, reason="after lunch")
                await call("workflow_cancel", workflow=key, reason="enough")
            async with self.tally.call("handoff"):
                to = "dev" if agent == "qa" else "qa"
                offered = await call("handoff_offer", to=to, note="Please look", story=self._one(self._stories))
                await self._rest()
                await call("handoff_accept", handoff=offered["handoff"]["key"], agent=to)
            async with self.tally.call("agent_deactivate"):
                await call("agent_deactivate", agent=agent, summary="Looked at the tide table")
            await self._rest(4)


def innermost(error: BaseException) -> BaseException:
    """The first error of groups within groups, as a client's tasks hand it out."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Session:
    """A client that calls tools, and tells a refusal by its code."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, tool: str, /, **arguments: Any) -> Any:
        """The structured result; raises Refused."""
        result = await self.client.call_tool(tool, arguments)
        if result.is_error:
            raise Refused(result.content[0].text, (result.meta or {}).get("bmad/code", "none"))
        return result.structured_content

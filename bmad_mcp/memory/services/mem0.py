"""The mem0 server, the successor of OpenMemory: searches by meaning and filters by metadata itself."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from bmad_mcp.memory.provider import Health, NewMemory, Question, Receipt, Remembered
from bmad_mcp.memory.services.answers import (
    Answer,
    Kept,
    Listing,
    Outgoing,
    clean,
    fits,
    kept_items,
    kept_of,
    key_of,
    metadata_of,
    ref_of,
    scored,
    tag_of,
    terms_of,
)
from bmad_mcp.memory.services.breaker import Guards
from bmad_mcp.memory.services.http import Allowance, Garbage, JsonClient, Refused, ServiceError

# No trailing slashes: with one, every path is 404.
MEMORIES = "/memories"
SEARCH = "/search"

READ_SECONDS = 1.5
WRITE_SECONDS = 20.0
# A try that timed out, or whose process died, may still land: no other one before this.
SETTLE_SECONDS = 30.0
SEARCHED = 50
MOST_LISTED = 1_000
LISTING_BYTES = 32 * 1024 * 1024
# Search needs words; these stand in where the question has none, and the filters do the finding.
ANYTHING = "project"


class Mem0:
    """A project's memories in a mem0 server, kept for one of its users. References are its own UUIDs.

    Every look-up stays within `read_seconds` and 2 MiB, over all of its requests; a delivery within `write_seconds`.
    """

    name = "mem0"

    def __init__(
        self,
        client: JsonClient,
        *,
        user: str,
        project: str,
        guards: Guards,
        read_seconds: float = READ_SECONDS,
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        self._client = client
        self._user = user
        self._project = project
        self._guards = guards
        self._read_seconds = read_seconds
        self._write_seconds = write_seconds

    # --- Writing: one at a time, and never twice.

    async def remember(self, memories: Sequence[NewMemory]) -> list[Receipt]:
        """Keep these texts, each looked up first; blank ones are `empty`, the same again is `duplicate`."""
        return [await self.deliver(Outgoing(one, key_of(one)), tried_before=True) for one in memories]

    async def deliver(self, outgoing: Outgoing, *, tried_before: bool) -> Receipt:
        """Store one memory; after an earlier try its key is looked up, and it is stored only when it is not there."""
        memory, text = outgoing.memory, clean(outgoing.memory.text).strip()
        if not text:
            return Receipt(None, "empty")
        async with self._guards.writing:
            with self._guards.write.attempt():
                if tried_before and (ref := await self._find(outgoing)):
                    return Receipt(ref, "duplicate")
                body = {
                    "messages": [{"role": "user", "content": f"{text} {tag_of(self._project, outgoing.key)}"}],
                    "user_id": self._user,
                    "metadata": metadata_of(outgoing, self._project),
                    # Its language model would cut the text into sentences.
                    "infer": False,
                }
                if memory.agent:
                    body["agent_id"] = memory.agent
                answer = await self._client.ask("POST", MEMORIES, allowance=Allowance(self._write_seconds), body=body)
                return _receipt(answer)

    async def find_by_key(self, outgoing: Outgoing) -> str | None:
        """The id under which an earlier try landed, or None; only an answered look-up says None."""
        with self._guards.read.attempt():
            return await self._find(outgoing)

    async def _find(self, outgoing: Outgoing) -> str | None:
        # The text itself is the query, as what is unlike it could fall below the threshold in spite of the filter.
        query = f"{clean(outgoing.memory.text).strip()} {tag_of(self._project, outgoing.key)}"
        filters = {"bmad_project": self._project, "bmad_key": outgoing.key}
        found = await self._search_for(query, filters, Allowance(self._write_seconds), most=10)
        landed = [one for one in found if one.key == outgoing.key and one.project == self._project]
        return min(landed, key=lambda one: (one.created_at, one.ref)).ref if landed else None

    async def forget(self, refs: Sequence[str]) -> int:
        """Delete those of these that this project keeps; how many there were."""
        count = 0
        async with self._guards.writing:
            for ref in dict.fromkeys(refs):
                with self._guards.write.attempt():
                    count += await self._forget(ref)
        return count

    async def _forget(self, ref: str) -> int:
        allowance = Allowance(self._write_seconds)
        found = await self._one(ref, allowance)
        if found is None or found.project != self._project:
            return 0
        try:
            answer = await self._client.ask("DELETE", f"{MEMORIES}/{found.ref}", allowance=allowance)
        except Refused as error:
            if error.status == 404:
                return 0
            raise
        if not isinstance(answer, dict) or not isinstance(answer.get("message"), str):
            raise Garbage("The memory service did not say that it deleted anything")
        return 1

    # --- Reading.

    async def recall(self, question: Question) -> list[Remembered]:
        """The memories of this project that fit best, best first; the latest with the score 0 for an empty question."""
        return list((await self.search(question)).items)

    async def search(self, question: Question) -> Answer:
        """The same; equal look-ups at once share their request."""
        key = (self.name, self._user, self._project, question)
        return await self._guards.flights.run(key, lambda: self._search(question))

    async def _search(self, question: Question) -> Answer:
        filters = {"bmad_project": self._project}
        if question.category:
            filters["category"] = question.category
        if question.only_agent and question.agent:
            filters["agent"] = question.agent
        asks = question.text.strip()
        with self._guards.read.attempt():
            found = await self._search_for(
                asks or ANYTHING, filters, Allowance(self._read_seconds), most=SEARCHED if asks else 4 * SEARCHED
            )
        fitting = [one for one in found if fits(one, question, self._project)]
        if not asks:
            fitting = [replace(one, score=None) for one in fitting]
        return Answer(scored(fitting, question, terms_of(asks), datetime.now(UTC), {}))

    async def related(self, ref: str, limit: int) -> list[Remembered] | None:
        """The memories of this project that are near one in meaning; None when it has no such one."""
        if _uuid(ref) is None:
            return None
        key = (self.name, self._user, self._project, ref, limit)
        return await self._guards.flights.run(key, lambda: self._related(ref, limit))

    async def _related(self, ref: str, limit: int) -> list[Remembered] | None:
        allowance = Allowance(self._read_seconds)
        with self._guards.read.attempt():
            source = await self._one(ref, allowance)
            if source is None or source.project != self._project:
                return None
            found = await self._search_for(source.text, {"bmad_project": self._project}, allowance, most=SEARCHED)
        question = Question(source.text, limit=limit)
        fitting = [one for one in found if fits(one, question, self._project) and one.ref != source.ref]
        return scored(fitting, question, terms_of(source.text), datetime.now(UTC), {})

    async def listing(self, page: int = 1) -> Listing:
        """All that this project keeps here, oldest first; the server has no pages and tells at most 1,000 of a user."""
        allowance = Allowance(self._write_seconds, LISTING_BYTES)
        with self._guards.read.attempt():
            answer = await self._client.ask(
                "GET", MEMORIES, allowance=allowance, params={"user_id": self._user, "top_k": MOST_LISTED}
            )
            own = [one for one in _results(answer) if one.project == self._project]
        return Listing(sorted(own, key=lambda one: (one.created_at, one.ref)) if page == 1 else [])

    async def health(self) -> Health:
        """Whether it answers and knows the key, by a list of one memory."""
        try:
            answer = await self._client.ask(
                "GET",
                MEMORIES,
                params={"user_id": self._user, "top_k": 1},
                allowance=Allowance(self._read_seconds),
            )
        except Refused as error:
            if error.status in (401, 403):
                return Health(False, "The mem0 server refuses the API key. Set BMAD_MEMORY_API_KEY.")
            return Health(False, f"{error}")
        except ServiceError as error:
            return Health(False, f"{error}")
        if not is_list(answer):
            return Health(False, "What answers is not a mem0 server")
        return Health(True, "The mem0 server answers")

    async def aclose(self) -> None:
        """Close the connections to the service, for all projects."""
        await self._client.aclose()

    # --- Requests.

    async def _search_for(self, query: str, filters: dict[str, str], allowance: Allowance, *, most: int) -> list[Kept]:
        body = {
            "query": query,
            "filters": {"user_id": self._user, **filters},
            "top_k": most,
            "threshold": 0.0,
        }
        return _results(await self._client.ask("POST", SEARCH, allowance=allowance, body=body))

    async def _one(self, ref: str, allowance: Allowance) -> Kept | None:
        # Anything but a UUID is a 502, which would count against the service.
        if (found := _uuid(ref)) is None:
            return None
        answer = await self._client.ask("GET", f"{MEMORIES}/{found}", allowance=allowance)
        if answer is None:
            return None
        if (kept := _kept(answer)) is None:
            raise Garbage("The memory service sent a memory of an unknown shape")
        return kept


def is_list(answer: object) -> bool:
    """Whether this is what a mem0 server tells at /memories."""
    try:
        _results(answer)
    except Garbage:
        return False
    return True


def _kept(item: object) -> Kept | None:
    return kept_of(item, text="memory", metadata="metadata", score="score")


def _results(answer: object) -> list[Kept]:
    results = answer.get("results") if isinstance(answer, dict) else None
    return kept_items(results, map(_kept, results if isinstance(results, list) else []))


def _receipt(answer: object) -> Receipt:
    if not isinstance(answer, dict) or not isinstance(results := answer.get("results"), list):
        raise Garbage("The memory service did not say what it stored")
    if not results:
        return Receipt(None, "duplicate")
    ref = ref_of(results[0].get("id")) if isinstance(results[0], dict) else None
    if ref is None:
        raise Garbage("The memory service did not say under which id it stored the memory")
    return Receipt(ref, "stored")


def _uuid(ref: str) -> str | None:
    try:
        return str(UUID(ref))
    except ValueError:
        return None

"""OpenMemory: plain REST that finds one phrase at a time, so the terms are asked one by one and scored here."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bmad_mcp.counts import counted
from bmad_mcp.memory.provider import Health, NewMemory, Question, Receipt, Remembered
from bmad_mcp.memory.services.answers import (
    MOST_TERMS,
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
    tag_start,
    terms_of,
)
from bmad_mcp.memory.services.breaker import Guards
from bmad_mcp.memory.services.http import Allowance, Garbage, JsonClient, Refused, ServiceError
from bmad_mcp.memory.services.meaning import APP, MeaningSearch

MEMORIES = "/api/v1/memories/"
FILTER = "/api/v1/memories/filter"
STATS = "/api/v1/stats/"

READ_SECONDS = 1.5
# It needs up to 12 s to create when its language model is away, and goes on when we have hung up.
WRITE_SECONDS = 20.0
# A try that timed out, or whose process died, may still land: no other one before this.
SETTLE_SECONDS = 30.0
PER_TERM = 50
LARGEST_PAGE = 100
MOST_FORGOTTEN_AT_ONCE = 50


class OpenMemory:
    """A project's memories in OpenMemory, kept for one of its users. References are its own ids.

    Every look-up stays within `read_seconds` and 2 MiB, over all of its requests; a delivery within `write_seconds`.
    """

    name = "openmemory"

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
        self.meaning = MeaningSearch(client, user=user, guards=guards)

    # --- Writing: one at a time, and never twice.

    async def remember(self, memories: Sequence[NewMemory]) -> list[Receipt]:
        """Keep these texts, each looked up first; blank ones are `empty`, the same again is `duplicate`."""
        return [await self.deliver(Outgoing(one, key_of(one)), tried_before=True) for one in memories]

    async def deliver(self, outgoing: Outgoing, *, tried_before: bool) -> Receipt:
        """Store one memory; after an earlier try its key is looked up, and it is stored only when it is not there."""
        text = clean(outgoing.memory.text).strip()
        if not text:
            return Receipt(None, "empty")
        async with self._guards.writing:
            with self._guards.write.attempt():
                if tried_before and (ref := await self._find(outgoing)):
                    return Receipt(ref, "duplicate")
                answer = await self._client.ask(
                    "POST",
                    MEMORIES,
                    allowance=Allowance(self._write_seconds),
                    body={
                        "user_id": self._user,
                        "text": f"{text} {tag_of(self._project, outgoing.key)}",
                        "metadata": metadata_of(outgoing, self._project),
                        # Its language model would cut the text at the first dot and drop the key.
                        "infer": False,
                        "app": APP,
                    },
                )
                return _receipt(answer)

    async def find_by_key(self, outgoing: Outgoing) -> str | None:
        """The id under which an earlier try landed, or None; only an answered look-up says None."""
        with self._guards.read.attempt():
            return await self._find(outgoing)

    async def _find(self, outgoing: Outgoing) -> str | None:
        tag = tag_of(self._project, outgoing.key)
        # As long as a write may take: a slow creation holds up the whole service, and nobody waits for this one.
        items = await self._page(tag, Allowance(self._write_seconds), size=10, archived=True)
        landed = [one for one, text in items if text.rstrip().endswith(tag) and one.state != "deleted"]
        return min(landed, key=lambda one: (one.created_at, one.ref)).ref if landed else None

    async def forget(self, refs: Sequence[str]) -> int:
        """Delete those of these that this project keeps; how many there were."""
        known = list(dict.fromkeys(ref for ref in refs if ref_of(ref)))
        count = 0
        async with self._guards.writing:
            for start in range(0, len(known), MOST_FORGOTTEN_AT_ONCE):
                with self._guards.write.attempt():
                    count += await self._forget(known[start : start + MOST_FORGOTTEN_AT_ONCE])
        return count

    async def _forget(self, refs: Sequence[str]) -> int:
        allowance = Allowance(self._write_seconds)
        found = [await self._one(ref, allowance) for ref in refs]
        # It deletes whatever it is told, also what another project keeps, and a second time too.
        own = [one.ref for one in found if one and one.project == self._project and one.state != "deleted"]
        if not own:
            return 0
        try:
            await self._delete(own, allowance)
        except Refused as error:
            if error.status != 404:
                raise
            # One that went meanwhile refuses them all.
            return 0 if len(own) == 1 else sum([await self._forget([ref]) for ref in own])
        return len(own)

    async def _delete(self, refs: Sequence[str], allowance: Allowance) -> None:
        body = {"user_id": self._user, "memory_ids": list(refs)}
        answer = await self._client.ask("DELETE", MEMORIES, allowance=allowance, body=body)
        _no_error(answer)
        if not isinstance(answer, dict) or not isinstance(answer.get("message"), str):
            raise Garbage("The memory service did not say that it deleted anything")

    async def introduce(self) -> None:
        """Make the user known: REST answers 404 for one it has never seen, and only MCP's add_memories makes one."""
        allowance = Allowance(self._write_seconds)
        async with self._guards.writing:
            added = await self.meaning.call_tool(
                "add_memories", {"text": "bmad-mcp was here", "infer": False}, allowance
            )
            results = added.get("results") if isinstance(added, dict) else None
            refs = [ref for one in results or [] if isinstance(one, dict) and (ref := ref_of(one.get("id")))]
            if not refs:
                raise Garbage("The memory service did not say that it added a memory")
            await self._delete(refs, allowance)

    # --- Reading.

    async def recall(self, question: Question) -> list[Remembered]:
        """The memories of this project that fit best, best first; the latest with the score 0 when none does."""
        return list((await self.search(question)).items)

    async def search(self, question: Question) -> Answer:
        """The same, saying also whether some of the requests failed; equal look-ups at once share their requests."""
        key = (self.name, self._user, self._project, question)
        return await self._guards.flights.run(key, lambda: self._search(question))

    async def _search(self, question: Question) -> Answer:
        terms = terms_of(question.text)
        allowance = Allowance(self._read_seconds)
        with self._guards.read.attempt():
            asked = [term.sent for term in terms[:MOST_TERMS]] or [tag_start(self._project)]
            pages, meaning = await asyncio.gather(
                asyncio.gather(*(self._page(one, allowance) for one in asked), return_exceptions=True),
                self.meaning.near(question.text, allowance),
            )
            kept, failure = _merged(pages)
            kept += await self._only_near(meaning, {one.ref for one in kept}, allowance)
            fitting = [one for one in kept if fits(one, question, self._project)]
            if not fitting and terms and failure is None:
                latest = await self._page(tag_start(self._project), allowance)
                fitting = [one for one, _ in latest if fits(one, question, self._project)]
        items = scored(fitting, question, terms, datetime.now(UTC), meaning)
        return Answer(items, is_partial=failure is not None)

    async def related(self, ref: str, limit: int) -> list[Remembered] | None:
        """The memories of this project that share names, words or categories with one; None when it has no such one."""
        if ref_of(ref) is None:
            return None
        key = (self.name, self._user, self._project, ref, limit)
        return await self._guards.flights.run(key, lambda: self._related(ref, limit))

    async def _related(self, ref: str, limit: int) -> list[Remembered] | None:
        allowance = Allowance(self._read_seconds)
        with self._guards.read.attempt():
            source = await self._one(ref, allowance)
            if source is None or source.project != self._project or source.state != "active":
                return None
            terms = terms_of(source.text)
            pages = await asyncio.gather(
                self._near(ref, allowance),
                *(self._page(term.sent, allowance) for term in terms[: MOST_TERMS - 1]),
                return_exceptions=True,
            )
            kept, _ = _merged(pages)
        question = Question(source.text, limit=limit)
        fitting = [one for one in kept if fits(one, question, self._project) and one.ref != ref]
        return scored(fitting, question, terms, datetime.now(UTC), {})

    async def listing(self, page: int = 1) -> Listing:
        """All that this project keeps here, oldest first, a hundred a page, also what is paused or archived.

        Read all pages before any is forgotten: what is deleted moves the later pages up.
        """
        allowance = Allowance(self._write_seconds)
        start = tag_start(self._project)
        with self._guards.read.attempt():
            items = await self._page(start, allowance, size=LARGEST_PAGE, page=page, archived=True, newest_first=False)
        own = [one for one, _ in items if one.project == self._project and one.state != "deleted"]
        return Listing(own, page + 1 if items else None)

    async def health(self) -> Health:
        """Whether it answers, by its statistics; an unknown user is a service that answers."""
        try:
            answer = await self._client.ask(
                "GET", STATS, params={"user_id": self._user}, allowance=Allowance(self._read_seconds)
            )
        except Refused as error:
            if error.status == 404:
                return Health(True, f"OpenMemory does not know the user {self._user!r} yet")
            return Health(False, f"{error}")
        except ServiceError as error:
            return Health(False, f"{error}")
        if not is_stats(answer):
            return Health(False, "What answers is not OpenMemory")
        kept = answer["total_memories"]
        return Health(True, f"OpenMemory keeps {counted(kept, 'memory', 'memories')} of the user {self._user!r}")

    async def aclose(self) -> None:
        """Close the connections to the service, for all projects."""
        await self._client.aclose()

    # --- Requests.

    async def _only_near(self, meaning: dict[str, float], known: set[str], allowance: Allowance) -> list[Kept]:
        # The search does not tell whose project it is, so each is fetched; the nearest ones only.
        refs = sorted(meaning.keys() - known, key=lambda ref: -meaning[ref])[:5]
        found = await asyncio.gather(*(self._one(ref, allowance) for ref in refs), return_exceptions=True)
        return [one for one in found if isinstance(one, Kept)]

    async def _page(
        self,
        term: str,
        allowance: Allowance,
        *,
        size: int = PER_TERM,
        page: int = 1,
        archived: bool = False,
        newest_first: bool = True,
    ) -> list[tuple[Kept, str]]:
        """A page by either of two equal calls, the other one when the first fails; items with their whole text."""
        shape: dict[str, str | int] = {
            "user_id": self._user,
            "search_query": term,
            "page": page,
            "size": size,
            "sort_column": "created_at",
            "sort_direction": "desc" if newest_first else "asc",
        }

        async def by_filter() -> Any:
            body = {**shape, "show_archived": True} if archived else shape
            return await self._client.ask("POST", FILTER, allowance=allowance, body=body)

        async def by_list() -> Any:
            return await self._client.ask("GET", MEMORIES, allowance=allowance, params=shape)

        prefers_list = self._guards.prefers_list
        first, second = (by_list, by_filter) if prefers_list else (by_filter, by_list)
        try:
            return _items(await first())
        except (Refused, Garbage) as error:
            if not error.counts and getattr(error, "status", 0) != 405:
                raise
            found = _items(await second())
            self._guards.prefers_list = not prefers_list
            return found

    async def _near(self, ref: str, allowance: Allowance) -> list[tuple[Kept, str]]:
        path = f"{MEMORIES}{ref}/related"
        return _items(await self._client.ask("GET", path, allowance=allowance, params={"user_id": self._user}))

    async def _one(self, ref: str, allowance: Allowance) -> Kept | None:
        try:
            answer = await self._client.ask("GET", f"{MEMORIES}{ref}", allowance=allowance)
        except Refused as error:
            # 422 is an id that is none of its own.
            if error.status in (404, 422):
                return None
            raise
        found = kept_of(answer, text="text", metadata="metadata_", state="state")
        if found is None:
            raise Garbage("The memory service sent a memory of an unknown shape")
        return found


def is_stats(answer: object) -> bool:
    """Whether this is what OpenMemory tells at /api/v1/stats/."""
    total = answer.get("total_memories") if isinstance(answer, dict) else None
    return type(total) is int and 0 <= total < 10**12


def _items(answer: object) -> list[tuple[Kept, str]]:
    _no_error(answer)
    items = answer.get("items") if isinstance(answer, dict) else None
    read = [
        (kept_of(one, text="content", metadata="metadata_", state="state"), one)
        for one in (items if isinstance(items, list) else [])
    ]
    kept_items(items, (kept for kept, _ in read))
    return [(kept, one["content"]) for kept, one in read if kept is not None]


def _receipt(answer: object) -> Receipt:
    # Null is empty or known already; another try would end in the same way.
    if answer is None:
        return Receipt(None, "empty")
    _no_error(answer)
    ref = ref_of(answer.get("id")) if isinstance(answer, dict) else None
    if ref is None:
        raise Garbage("The memory service did not say under which id it stored the memory")
    return Receipt(ref, "stored")


def _no_error(answer: object) -> None:
    if isinstance(answer, dict) and "error" in answer:
        raise Refused(200)


def _merged(pages: Sequence[list[tuple[Kept, str]] | BaseException]) -> tuple[list[Kept], ServiceError | None]:
    """All items of the pages that came, and one failure of the others; raises it when none came."""
    failures = [page for page in pages if isinstance(page, BaseException)]
    for failure in failures:
        if not isinstance(failure, ServiceError):
            raise failure
    came = [page for page in pages if not isinstance(page, BaseException)]
    if failures and not came:
        raise failures[0]
    found = {kept.ref: kept for page in came for kept, _ in page}
    return list(found.values()), next((one for one in failures if isinstance(one, ServiceError)), None)

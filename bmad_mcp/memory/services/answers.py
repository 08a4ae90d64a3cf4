"""What goes to a memory service and what its answers mean here: the wider interface, the cleaning and the scoring."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from bmad_mcp.memory.categories import MemoryCategory, category_of
from bmad_mcp.memory.identifiers import identifiers_of
from bmad_mcp.memory.provider import MemoryProvider, NewMemory, Question, Receipt, Remembered
from bmad_mcp.memory.services.http import Garbage

LONGEST_TEXT = 4_000
LONGEST_REF = 100
MOST_TERMS = 4
MOST_SCORED_TERMS = 40


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A memory on its way out; `key` is the same at every try and tells whether an earlier one landed."""

    memory: NewMemory
    key: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a look-up found; `is_partial` when some of its requests failed and others did not."""

    items: list[Remembered]
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """One memory as a service keeps it, cleaned; `project` and `key` are None on what others wrote there."""

    ref: str
    text: str
    created_at: datetime
    category: str
    state: str = "active"
    score: float | None = None
    confidence: float | None = None
    agent: str | None = None
    author_kind: str | None = None
    project: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of all that a project keeps in a service; `next_page` is None on the last one."""

    items: list[Kept]
    next_page: int | None = None


class MemoryService(MemoryProvider, Protocol):
    """A memory that another program keeps. All but `health` raise ServiceError when it does not answer properly."""

    async def deliver(self, outgoing: Outgoing, *, tried_before: bool) -> Receipt: ...

    async def find_by_key(self, outgoing: Outgoing) -> str | None: ...

    async def search(self, question: Question) -> Answer: ...

    async def listing(self, page: int = 1) -> Listing: ...

    async def aclose(self) -> None: ...


# --- The key inside the text, as no service has an idempotency key of its own.

_TAG = re.compile(r"\s*\[bmad:[0-9a-f]{8}-[0-9a-f]{16}\]\s*\Z")


def tag_of(project: str, key: str) -> str:
    """The end of a delivered text: `[bmad:<project>-<key>]`, both hashed; plain letters that no search takes apart."""
    return f"{tag_start(project)}{_hash(key, 16)}]"


def tag_start(project: str) -> str:
    """What the tags of a project begin with: a search for it finds what the project has delivered."""
    return f"[bmad:{_hash(project, 8)}-"


def key_of(memory: NewMemory) -> str:
    """A key made of the content, for a memory that has none yet: the same memory twice is one."""
    return _hash("\0".join([memory.principal, memory.agent or "", memory.category, memory.text]), 32)


def metadata_of(outgoing: Outgoing, project: str) -> dict[str, Any]:
    """What is kept beside the text; who the principal is stays here."""
    memory = outgoing.memory
    found = {
        "bmad_project": project,
        "bmad_key": outgoing.key,
        "category": memory.category,
        "agent": memory.agent,
        "author_kind": memory.author_kind,
        "confidence": memory.confidence,
    }
    return {name: value for name, value in found.items() if value is not None}


def _hash(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:length]


# --- Cleaning: a field of the wrong type is no field, and an item without its text is no item.


def kept_of(
    item: object, *, text: str, metadata: str, state: str | None = None, score: str | None = None
) -> Kept | None:
    """A memory out of a service's item, by its names for the fields; None when it is not one."""
    if not isinstance(item, Mapping):
        return None
    ref, content = ref_of(item.get("id")), item.get(text)
    created_at = moment_of(item.get("created_at"))
    if ref is None or not isinstance(content, str) or created_at is None:
        return None
    told = item.get(metadata)
    more: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    plain = clean(content)
    shown = _TAG.sub("", plain)
    category = more.get("category")
    return Kept(
        ref=ref,
        text=shown if len(shown) <= LONGEST_TEXT else shown[:LONGEST_TEXT].rstrip() + "…",
        created_at=created_at,
        category=category
        if isinstance(category, str) and category in _CATEGORIES
        else str(category_of(shown).category),
        state=_word(item.get(state)) or "unknown" if state else "active",
        score=_share(item.get(score)) if score else None,
        confidence=_share(more.get("confidence")),
        agent=_name(more.get("agent")),
        author_kind=_word(more.get("author_kind")),
        project=more["bmad_project"] if isinstance(more.get("bmad_project"), str) else None,
        key=more["bmad_key"] if isinstance(more.get("bmad_key"), str) else None,
    )


def kept_items(items: object, kept: Iterable[Kept | None]) -> list[Kept]:
    """The items that could be read; raises Garbage when there is no list, or nothing in it could."""
    if not isinstance(items, list):
        raise Garbage("The memory service sent no list of memories")
    found = [one for one in kept if one is not None]
    if items and not found:
        raise Garbage("The memory service sent memories of an unknown shape")
    return found


def clean(text: str) -> str:
    """The text without what a database cannot keep: lone surrogates are replaced and zero bytes go."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "")


def ref_of(value: object) -> str | None:
    """A reference that is safe in a path: at most 100 letters, digits, hyphens and underscores."""
    return value if isinstance(value, str) and _REF.fullmatch(value) else None


def moment_of(value: object) -> datetime | None:
    """A time from epoch seconds or from ISO 8601, which is UTC where it names no zone."""
    try:
        if isinstance(value, str) and len(value) <= 40:
            found = datetime.fromisoformat(value)
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


_CATEGORIES = frozenset(map(str, MemoryCategory))
_REF = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_REF}}}")
_WORD = re.compile(r"[a-z][a-z_]{0,29}")
_NAME = re.compile(r"[\w][\w .@/+-]{0,79}")


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it is turned into a float: an integer of 400 digits has none.
    return float(value) if 0 <= value <= 1 else None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


# --- Terms and scores, for a service that only finds a phrase.

NAME_WEIGHT, WORD_WEIGHT = 1.5, 1.0
RECENCY_DAYS = 30.0

_TOKEN = re.compile(r"[^\W_][\w'’-]*")
_ENDING = re.compile(r"(?<=.{4})(?:ing|ed|es|ly|s|e)\Z")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """about after again all also and any are because been before being both but can could did does doing done down each
    few for from had has have how into its just more most not now off once only other our out over own same should some
    such than that the their them then there these they this those too under until very was were what when where which
    while who why will with would you your""",
    )
)


@dataclass(frozen=True, slots=True)
class Term:
    """A word or a name to look for, as it is sent; `told` is how the question wrote it."""

    sent: str
    told: str
    is_name: bool


def terms_of(text: str) -> list[Term]:
    """The names and the words of a question, those that tell most first; each is one search.

    The services match with ILIKE, where `%` is a wildcard, `_` is one for a single character, and the escape is a
    backslash in PostgreSQL but nothing in SQLite. So no term has `%` or a backslash; `_` is left, as it matches itself.
    """
    found: dict[str, Term] = {}
    for name in identifiers_of(text):
        if "%" not in name and "\\" not in name:
            found.setdefault(name, Term(name, name, True))
    words = (word for word in _TOKEN.findall(text) if len(word) > 2 and word.lower() not in _COMMON)
    for word in sorted(dict.fromkeys(words), key=len, reverse=True):
        stem = _ENDING.sub("", word) if word.isascii() else word
        if not any(stem.lower() in known for known in found):
            found.setdefault(stem.lower(), Term(stem, word.lower(), False))
    return list(found.values())[:MOST_SCORED_TERMS]


def scored(
    kept: Sequence[Kept], question: Question, terms: Sequence[Term], now: datetime, meaning: Mapping[str, float]
) -> list[Remembered]:
    """The items that match, best first: by text or by meaning, nudged by age (±10 %), confidence, category and agent
    (±5 %). Nothing matches: the latest, with the score 0."""
    whole = sum(map(_weight, terms))
    likely = category_of(question.text)
    found = []
    for one in _once_each(kept):
        folded = one.text.lower()
        matched = [term for term in terms if term.sent.lower() in folded]
        text_score = sum(map(_weight, matched)) / whole if whole else 0.0
        score = max(text_score, meaning.get(one.ref, 0.0), one.score or 0.0)
        age = max(0.0, (now - one.created_at).total_seconds()) / 86_400 / RECENCY_DAYS
        score *= 0.9 + 0.2 * math.exp(-age)
        score *= 0.95 + 0.1 * (0.5 if one.confidence is None else one.confidence)
        score *= 1.05 if likely.words and one.category == likely.category else 1.0
        score *= 1.05 if question.agent and one.agent == question.agent else 1.0
        is_near = one.ref in meaning or one.score is not None
        found.append((score, one, _why(matched, is_near and score > 0, one, question.agent)))
    if any(score for score, _, _ in found):
        found = [each for each in found if each[0]]
    found.sort(key=lambda each: (-each[0], not (question.agent and each[1].agent == question.agent), -_epoch(each[1])))
    return [remembered(one, round(min(1.0, score), 3), why) for score, one, why in found[: question.limit]]


def fits(one: Kept, question: Question, project: str) -> bool:
    """Whether an item is of this project, alive, and what the question asks for."""
    return (
        one.project == project
        and one.state == "active"
        and (question.category is None or one.category == question.category)
        and (not question.only_agent or one.agent == question.agent)
        and (question.since is None or one.created_at >= question.since)
    )


def remembered(one: Kept, score: float | None, why: str) -> Remembered:
    """The item in the shape of the neutral interface."""
    return Remembered(
        ref=one.ref,
        text=one.text,
        category=one.category,
        created_at=one.created_at.replace(microsecond=0),
        score=score,
        confidence=one.confidence,
        agent=one.agent,
        author_kind=one.author_kind,
        why=why,
        key=one.key,
    )


def _once_each(kept: Sequence[Kept]) -> list[Kept]:
    # What was delivered twice after all is shown once: by its key, or else by its reference.
    return list({one.key or one.ref: one for one in kept}.values())


def _weight(term: Term) -> float:
    return NAME_WEIGHT if term.is_name else WORD_WEIGHT


def _epoch(one: Kept) -> float:
    return one.created_at.timestamp()


def _why(matched: Sequence[Term], is_near: bool, one: Kept, agent: str | None) -> str:
    names = [term.told for term in matched if term.is_name][:6]
    words = [term.told for term in matched if not term.is_name][:6]
    reasons = [f"{kind} {', '.join(told)}" for kind, told in (("names", names), ("words", words)) if told]
    reasons += ["meaning"] if is_near else []
    return "; ".join([*(reasons or ["latest"]), *([f"by {agent}"] if agent and one.agent == agent else [])])

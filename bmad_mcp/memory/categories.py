"""The eight categories of memories, and how a text finds its own: by weighted words that anyone can look up."""

import re
from collections.abc import Iterator
from enum import StrEnum
from functools import cache, lru_cache
from itertools import product
from typing import Any, NamedTuple

from bmad_mcp.memory.category_signs import ATTITUDES, COMMUNICATION, DEEDS, PERSONS, ROLES, SIGNS, VERDICTS


class MemoryCategory(StrEnum):
    AGENT_CONTEXT = "AGENT_CONTEXT"
    WORKFLOW_PATTERNS = "WORKFLOW_PATTERNS"
    TASK_COMPLETION = "TASK_COMPLETION"
    AGENT_SESSIONS = "AGENT_SESSIONS"
    AGENT_COLLABORATION = "AGENT_COLLABORATION"
    WORKFLOW_OPTIMIZATION = "WORKFLOW_OPTIMIZATION"
    QUALITY_METRICS = "QUALITY_METRICS"
    USER_PREFERENCES = "USER_PREFERENCES"


# What holds beyond the piece of work in which it was learned; the others tell of work that was done.
LESSONS = (
    MemoryCategory.USER_PREFERENCES,
    MemoryCategory.WORKFLOW_OPTIMIZATION,
    MemoryCategory.QUALITY_METRICS,
    MemoryCategory.AGENT_CONTEXT,
)


class Found(NamedTuple):
    """A category, the words that led to it (the weightiest first), and what each counted.

    No words: nothing fitted, so it is plain context.
    """

    category: MemoryCategory
    words: tuple[str, ...]
    weights: tuple[float, ...] = ()


READ_CHARACTERS = 4_000
# Notes say first what they are about.
OPENING_TOKENS, OPENING_BONUS = 6, 1.4
SECOND_ROLE, THIRD_NUMBER, CHAIN_OF_ARROWS = 1.5, 0.4, 2.5
FIRST_DEED, ANY_DEED = 2.5, 0.5
# Lighter words count, but explain little.
SHOWN_WEIGHT = 0.9
_SHORTEST_MISSPELT = 7

_CATEGORIES = tuple(MemoryCategory)
_PATTERNS, _COMPLETION, _COLLABORATION, _METRICS = (
    _CATEGORIES.index(MemoryCategory(name))
    for name in ("WORKFLOW_PATTERNS", "TASK_COMPLETION", "AGENT_COLLABORATION", "QUALITY_METRICS")
)
_EDGES = ".,;:!?()[]{}\"'`*“”„…’"
_PHRASE_ENDS = frozenset(".,;:!?)")
_SENTENCE_ENDS = re.compile(r"[.;:!?)]['\"”*`]*$")
_KEYS = {"t": "<task>", "h": "<handoff>", "w": "<workflow>", "adr": "<adr>"}
_KEY = re.compile(r"([a-z]+)-\d+")
_UNIT = re.compile(r"(\d[\d.,]*)(%|ms|mb|kb|gb)")
_SHAPES = (
    (re.compile(r"\d{1,2}:\d\d(?:[–-]\d{1,2}:\d\d)?"), "<clock>"),
    (re.compile(r"[#~<>≤≥+-]*\d[\d.,:/]*[a-z]?"), "<n>"),
    (re.compile(r"\d+(?:\.\d+)?x"), "<times>"),
    (re.compile(r"\w+_\w+"), "<name>"),
    (re.compile(r"[\w@.*-]*/[\w@./*-]+|[\w-]+(?:\.[\w-]+)*\.[a-z]{1,5}"), "<file>"),
)
_ARROWS = frozenset({"→", "->", "=>", ">", "-->"})
_LISTS = {
    "<deed>": tuple(DEEDS.split()),
    "<person>": tuple(PERSONS.split()),
    "<person>'s": tuple(f"{person}'s" for person in PERSONS.split()),
    "<attitude>": tuple(ATTITUDES.split()),
    "<comm>": tuple(COMMUNICATION.split()),
}
_ROLES = frozenset(ROLES.split())
_ENDINGS = "s es ed ing er e ion ation ies y d sed zed sing zing se ze sation zation ure ural".split()  # noqa: SIM905


def _forms(word: str) -> tuple[str, ...]:
    """A word of a sign in each of its forms; `optimi*` and other stems get the endings of words made from them."""
    if not word.endswith("*"):
        return _LISTS.get(word, (word,))
    stem = word[:-1]
    forms = [stem, *(stem + ending for ending in _ENDINGS), stem + stem[-1] + "ed", stem + stem[-1] + "ing"]
    return tuple(dict.fromkeys([*forms, stem[:-1] + "ing", stem[:-1] + "ion"] if stem[-1] == "e" else forms))


# What a sign counts: pairs of a category's place and a weight.
Votes = tuple[tuple[int, float], ...]


class _Known(NamedTuple):
    """The signs, made ready to be looked up."""

    votes: dict[str, Votes]
    # The signs of several words, word by word; what one counts stands under the empty word, and those that count at
    # the beginning of a sentence only under "^" below their first word.
    tree: dict[str, Any]
    words: frozenset[str]
    # Long words by what is left of them when a letter is missing.
    shortened: dict[str, str]


@cache
def _known() -> _Known:
    """Made once, when the first text comes: most processes never need it and all want to start fast."""
    counted: dict[str, dict[int, float]] = {}
    for name, by_weight in SIGNS.items():
        place = _CATEGORIES.index(MemoryCategory(name))
        for weight, signs in by_weight.items():
            for sign in signs.split("|"):
                for parts in product(*map(_forms, sign.split())):
                    found = counted.setdefault(" ".join(parts), {})
                    found[place] = max(weight, found.get(place, weight))
    for deed in _LISTS["<deed>"]:
        counted.setdefault(f"^{deed}", {}).setdefault(_COMPLETION, FIRST_DEED)
        counted.setdefault(deed, {}).setdefault(_COMPLETION, ANY_DEED)
    votes = {sign: tuple(found.items()) for sign, found in counted.items()}
    words = frozenset(word.lstrip("^") for sign in votes for word in sign.split())
    tree: dict[str, Any] = {}
    for sign, found_votes in votes.items():
        if " " in sign:
            first, *more = sign.split()
            branch = tree.setdefault(first.lstrip("^"), {})
            for word in ["^", *more] if first[0] == "^" else more:
                branch = branch.setdefault(word, {})
            branch[""] = found_votes
    long = sorted(word for word in words if len(word) >= _SHORTEST_MISSPELT and word.isalpha())
    return _Known(votes, tree, words, {short: word for word in long for short in _shortened(word)})


def _shortened(word: str) -> Iterator[str]:
    # Without the last letter it would be another form of the word, not a misspelling.
    return (word[:at] + word[at + 1 :] for at in range(1, len(word) - 1))


def _spelt(known: _Known, word: str) -> str:
    """The known word of which this is a misspelling: one letter too few, too many, or two changed over."""
    if len(word) < _SHORTEST_MISSPELT - 1 or not word.isalpha():
        return word
    if word in known.shortened:
        return known.shortened[word]
    for short in _shortened(word):
        if short in known.words and len(short) >= _SHORTEST_MISSPELT:
            return short
        meant = known.shortened.get(short)
        if meant and sorted(meant) == sorted(word):
            return meant
    return word


class _Token(NamedTuple):
    """A piece of text as the signs know it and as it was written, with what that alone counts."""

    kind: str
    written: str
    ends_phrase: bool
    ends_sentence: bool
    votes: Votes
    votes_first: Votes
    branch: dict[str, Any]
    shape: str


@lru_cache(maxsize=8_192)
def _token(raw: str) -> _Token | None:
    bare = raw.strip(_EDGES)
    if not bare:
        return None
    written = bare.lower().replace("’", "'")
    known = _known()
    kind = "<verdict>" if bare in VERDICTS else _kind(known, written)
    return _Token(
        kind,
        written,
        raw[-1] in _PHRASE_ENDS,
        _SENTENCE_ENDS.search(raw) is not None,
        known.votes.get(kind, ()),
        known.votes.get(f"^{kind}", ()),
        known.tree.get(kind, {}),
        kind.partition(" ")[0] if kind in ("<role>", "<arrow>") or kind.startswith("<n>") else "",
    )


def _kind(known: _Known, written: str) -> str:
    if written.removesuffix("'s") in _ROLES:
        return "<role>"
    if written in known.words:
        return written
    if written in _ARROWS:
        return "<arrow>"
    if key := _KEY.fullmatch(written):
        return _KEYS.get(key[1], "<key>")
    if unit := _UNIT.fullmatch(written):
        return f"<n> {unit[2]}"
    return next((name for shape, name in _SHAPES if shape.fullmatch(written)), None) or _spelt(known, written)


# For each category its words and what they count.
Ballot = tuple[dict[str, float], ...]


def category_of(text: str) -> Found:
    """The category for which the words of a text weigh most, with those words and their weights."""
    tokens = [token for raw in text[:READ_CHARACTERS].split() if (token := _token(raw)) is not None]
    following = [token.kind for token in tokens[1:]] + [""]
    ballot: Ballot = tuple({} for _ in _CATEGORIES)
    shapes: dict[str, dict[str, None]] = {}
    starts, bonus = True, OPENING_BONUS
    for at, token in enumerate(tokens):
        _, written, ends_phrase, ends_sentence, votes, votes_first, branch, shape = token
        if at == OPENING_TOKENS:
            bonus = 1.0
        if votes:
            _vote(ballot, votes, written, bonus)
        if starts and votes_first:
            _vote(ballot, votes_first, written, bonus)
        if not ends_phrase and branch:
            if following[at] in branch:
                _phrases(ballot, branch, tokens, at, bonus)
            if starts and (first := branch.get("^")) and following[at] in first:
                _phrases(ballot, first, tokens, at, bonus)
        if shape:
            shapes.setdefault(shape, {})[f"{written} {at}" if shape == "<arrow>" else written] = None
        starts = ends_sentence
    if shapes:
        _vote_by_shape(ballot, shapes)
    return _heaviest(ballot)


def _vote(ballot: Ballot, votes: Votes, written: str, bonus: float) -> None:
    """One vote for each different wording, the highest that it got."""
    for place, weight in votes:
        counted, words = weight * bonus, ballot[place]
        if abs(words.get(written, 0.0)) < abs(counted):
            words[written] = counted


def _phrases(ballot: Ballot, branch: dict[str, Any], tokens: list[_Token], at: int, bonus: float) -> None:
    for end in range(at + 1, len(tokens)):
        token = tokens[end]
        found = branch.get(token.kind)
        if found is None:
            return
        branch = found
        if votes := branch.get(""):
            _vote(ballot, votes, " ".join(part.written for part in tokens[at : end + 1]), bonus)
        if token.ends_phrase:
            return


def _vote_by_shape(ballot: Ballot, shapes: dict[str, dict[str, None]]) -> None:
    """What no single word shows: several roles talk of working together, many figures of measuring."""
    for role in list(shapes.get("<role>", ()))[1:3]:
        ballot[_COLLABORATION][role] = SECOND_ROLE
    for number in list(shapes.get("<n>", ()))[2:7]:
        ballot[_METRICS][number] = THIRD_NUMBER
    arrows = list(shapes.get("<arrow>", ()))
    if len(arrows) > 1:
        ballot[_PATTERNS][arrows[0].split()[0]] = CHAIN_OF_ARROWS


def _heaviest(ballot: Ballot) -> Found:
    totals = [sum(words.values()) for words in ballot]
    # Of two with equal votes the one named first wins.
    best = totals.index(max(totals))
    words = sorted(ballot[best].items(), key=lambda pair: -pair[1])
    shown = [pair for pair in words if pair[1] >= SHOWN_WEIGHT] or words
    return Found(_CATEGORIES[best], tuple(word for word, _ in shown), tuple(round(weight, 2) for _, weight in shown))

"""Finds the words that a misspelt one may stand for, by their trigrams; PostgreSQL's pg_trgm is not everywhere."""

import re
from collections.abc import Iterable

SHORTEST = 5
LENGTHS_APART = 3
ALIKE = 0.35
MOST = 2
_WORDS = re.compile(r"[^\W_]+")


def trigrams(word: str) -> frozenset[str]:
    """The groups of three letters of a word, with two blanks before it and one behind, as pg_trgm has them."""
    padded = f"  {word} "
    return frozenset(padded[at : at + 3] for at in range(len(padded) - 2))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of all trigrams of two words that both have."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def as_written(stem: str, text: str) -> str:
    """The word of a text that a stem was made of (`invoices` of `invoic`, `story` of `stori`); the stem when none fits."""
    least = max(3, len(stem) - 1)
    found = [(_shared_beginning(stem, word), -len(word), word) for word in _WORDS.findall(text.lower())]
    shared, _, word = max(found, default=(0, 0, stem))
    return word if shared >= min(least, len(stem)) else stem


def _shared_beginning(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def alike(word: str, vocabulary: Iterable[str]) -> list[str]:
    """The words most like this one, at most two, the most alike first."""
    asked = trigrams(word)
    found = [
        (similarity(asked, trigrams(known)), known)
        for known in vocabulary
        if known[0] == word[0] and abs(len(known) - len(word)) <= LENGTHS_APART
    ]
    return [known for alikeness, known in sorted(found, reverse=True)[:MOST] if alikeness >= ALIKE]

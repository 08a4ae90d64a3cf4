"""Reads the marks that were given to a checklist's items, and what they come to; pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bmad_mcp.checklists.schemas import ItemNotMet, ItemResult
from bmad_mcp.errors import Invalid

NOTES_CAP = 20_000
SHOWN = 25
TEXT_SHOWN = 160

Gate = Literal["pass", "concerns", "fail"]
Answers = Mapping[int, ItemResult]

_NUMBER = re.compile(r"#?([0-9]{1,9})\.?")
_RANGE = re.compile(r"#?([0-9]{1,9})\s*[-–]\s*#?([0-9]{1,9})")
_NUMBERED = re.compile(r"[0-9]{1,9}\.\s+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the marks come to."""

    gate: Gate
    score: int
    counts: Mapping[str, int]


def answered(name: str, texts: Sequence[str], results: Sequence[ItemResult]) -> dict[int, ItemResult]:
    """The result of each answered item by its number; raises Invalid for an unknown item or one answered twice."""
    numbers: dict[str, list[int]] = {}
    for number, text in enumerate(texts, start=1):
        numbers.setdefault(_plain(text), []).append(number)
    answers: dict[int, ItemResult] = {}
    for position, result in enumerate(results):
        field = f"results.{position}.item"
        for number in _meant(name, numbers, len(texts), result.item, field):
            if number in answers:
                raise Invalid(
                    f"`{field}` answers item {number} a second time. Give each item one mark and run it again.",
                    field=field,
                )
            answers[number] = result
    if sum(len(result.note or "") for result in answers.values()) > NOTES_CAP:
        raise Invalid(f"The notes are over {NOTES_CAP:,} characters in all. Shorten them.", field="results")
    return answers


def outcome(answers: Answers, items: int) -> Outcome:
    """The score of the marks and the gate it means.

    The score is 100 × (pass + ½ partial) / applicable, rounded half up; unanswered items are applicable and not met.
    The gate goes by the rounded score: pass above 90, concerns from 60 to 90, fail below. Raises Invalid when no item
    is applicable.
    """
    marks = [result.mark for result in answers.values()]
    counts = {mark: marks.count(mark) for mark in ("pass", "fail", "partial", "na")}
    counts["unanswered"] = items - len(answers)
    applicable = items - counts["na"]
    if not applicable:
        raise Invalid("Every item is marked na, so there is nothing to score. Mark what applies.", field="results")
    met = 100 * counts["pass"] + 50 * counts["partial"]
    # In whole numbers: a half is rounded up, whichever number stands before it.
    score = (2 * met + applicable) // (2 * applicable)
    gate: Gate = "pass" if score > 90 else "concerns" if score >= 60 else "fail"
    return Outcome(gate, score, counts)


def told(texts: Sequence[str], answers: Answers) -> dict[str, Any]:
    """The items that are not met as fields of the answer: failed, partial, unanswered, and more."""
    found = {
        "failed": [number for number, result in answers.items() if result.mark == "fail"],
        "partial": [number for number, result in answers.items() if result.mark == "partial"],
        "unanswered": [number for number in range(1, len(texts) + 1) if number not in answers],
    }
    shown: dict[str, Any] = {}
    rest = []
    for kind, numbers in found.items():
        numbers.sort()
        if numbers or kind == "failed":
            shown[kind] = [_not_met(number, texts[number - 1], answers.get(number)) for number in numbers[:SHOWN]]
        if numbers[SHOWN:]:
            rest.append(f"{kind} {spans(numbers[SHOWN:])}")
    return {**shown, **({"more": f"Also {'; '.join(rest)}."} if rest else {})}


def spans(numbers: Iterable[int]) -> str:
    """Sorted numbers as people write them: `3-5, 9`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _meant(name: str, numbers: Mapping[str, list[int]], items: int, item: int | str, field: str) -> Iterable[int]:
    text = str(item).strip()
    # An item's own text goes first: it may be a number.
    if isinstance(item, str) and (
        found := numbers.get(_plain(text)) or numbers.get(_plain(_NUMBERED.sub("", text, 1)))
    ):
        if len(found) > 1:
            raise Invalid(
                f"`{field}` is the text of items {spans(found)} of {name}. Answer them by number.", field=field
            )
        return found
    if one := _NUMBER.fullmatch(text):
        first = last = int(one[1])
    elif pair := _RANGE.fullmatch(text):
        first, last = int(pair[1]), int(pair[2])
    else:
        first = last = 0
    if not 1 <= first <= last <= items:
        raise Invalid(
            f"`{field}`: {name} has no item {text[:80]!r}; its items are 1-{items}. checklist_get shows them.",
            field=field,
        )
    return range(first, last + 1)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _not_met(number: int, text: str, result: ItemResult | None) -> ItemNotMet:
    line = " ".join(text.split())
    short = line if len(line) <= TEXT_SHOWN else line[: TEXT_SHOWN - 2].rstrip() + " …"
    return ItemNotMet.of({"item": number, "text": short, "note": result.note if result else None})

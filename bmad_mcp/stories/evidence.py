"""What the findings of a review ask of its gate, by the rules of the method; pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bmad_mcp.errors import Invalid
from bmad_mcp.stories.schemas import GateIssue

PREFIXES = ("SEC", "PERF", "REL", "TEST", "MNT", "ARCH", "DOC", "REQ")
# From the best to the worst; WAIVED stands outside.
ORDER = ("PASS", "CONCERNS", "FAIL")
RISK_FAILS, RISK_CONCERNS = 9, 6
SEVERITY_ASKS: Mapping[str, str] = {"low": "PASS", "medium": "CONCERNS", "high": "FAIL"}

Named = tuple[str, str]

_ID = re.compile(rf"({'|'.join(PREFIXES)})(?:-?([0-9]{{1,4}}))?", re.IGNORECASE)


def issue_ids(issues: Sequence[GateIssue]) -> list[str]:
    """An id for each issue, such as SEC-001: the one it has, else the next free number of its prefix (REQ without one).

    Raises Invalid for an id of another form and for one that stands twice.
    """
    told = [_parts(position, issue.id) for position, issue in enumerate(issues)]
    taken: set[tuple[str, int]] = set()
    for position, (prefix, number) in enumerate(told):
        if number is None:
            continue
        if (prefix, number) in taken:
            field = f"issues.{position}.id"
            raise Invalid(
                f"`{field}`: {_id(prefix, number)} stands twice. Give each issue an id of its own, or none.",
                field=field,
            )
        taken.add((prefix, number))
    found = []
    for prefix, number in told:
        if number is None:
            number = next(free for free in range(1, len(issues) + 1) if (prefix, free) not in taken)
            taken.add((prefix, number))
        found.append(_id(prefix, number))
    return found


def asked_by(risk: int | None, qualities: Iterable[Named], severities: Iterable[Named]) -> tuple[str, list[str]]:
    """(the best gate that the evidence allows, what asks for it); words by quality (NFR), severities by issue.

    A risk of 9 or more asks for FAIL and one of 6 or more for CONCERNS; a quality (NFR) asks for its own word; a high
    issue asks for FAIL and a medium one for CONCERNS. The worst of them counts.
    """
    asked = list(_asked(risk, qualities, severities))
    worst = max((gate for gate, _ in asked), key=ORDER.index, default="PASS")
    return worst, [why for gate, why in asked if gate == worst]


def quality_score(qualities: Iterable[str], severities: Iterable[str]) -> int:
    """100 less 20 for each FAIL and 10 for each CONCERNS among the qualities and the issues, never below 0."""
    found = [*qualities, *(SEVERITY_ASKS[severity] for severity in severities)]
    return max(0, 100 - 20 * found.count("FAIL") - 10 * found.count("CONCERNS"))


def _asked(risk: int | None, qualities: Iterable[Named], severities: Iterable[Named]) -> Iterator[tuple[str, str]]:
    if risk is not None and risk >= RISK_CONCERNS:
        yield ("FAIL" if risk >= RISK_FAILS else "CONCERNS"), f"the risk is {risk}"
    for quality, word in qualities:
        yield word, f"{quality} is {word}"
    for issue, severity in severities:
        yield SEVERITY_ASKS[severity], f"{issue} is {severity}"


def _parts(position: int, told: str | None) -> tuple[str, int | None]:
    if told is None or not told.strip():
        return "REQ", None
    match = _ID.fullmatch(told.strip())
    if match is None or (match[2] and int(match[2]) == 0):
        field = f"issues.{position}.id"
        raise Invalid(
            f"`{field}` {told!r} is no id of an issue. It is one of {', '.join(PREFIXES)} with a number, such as SEC-001;"
            " leave the number or the id out to have one given.",
            field=field,
        )
    return match[1].upper(), int(match[2]) if match[2] else None


def _id(prefix: str, number: int) -> str:
    return f"{prefix}-{number:03d}"

"""The names in a text that word search breaks or blurs: keys, file names, versions, names out of code."""

import re

MOST = 64
LONGEST = 120

_TOKEN = re.compile(r"[\w@][\w@.+/#-]*")
_EPIC = re.compile(r"\bepic[ -]+(\d{1,6})\b", re.IGNORECASE)
_FILE = re.compile(r"[\w@+-]+(?:\.[\w+-]+)*\.[A-Za-z][A-Za-z0-9]{0,9}")
_SHAPES = (
    re.compile(r"[A-Za-z][A-Za-z0-9]{0,9}-\d{1,9}"),  # T-41, SEC-001
    re.compile(r"\d{1,6}(?:\.\d{1,6})+[a-z]?"),  # story 1.4b, version 4.44.3
    _FILE,  # login.ts, asyncio.gather
    re.compile(r"\w*(?:[a-z0-9][A-Z]|[A-Z]{2}[a-z]{2})\w*"),  # TokenStore, getUser, HTTPServer
    re.compile(r"_*[^\W_]+_\w+"),  # lease_until, MAX_SIZE
    re.compile(r"[a-z0-9]+(?:-[a-z0-9]+){2,}"),  # story-dod-checklist
)
# Abbreviations that have the shape of a file name.
_WORDS = frozenset({"e.g", "i.e", "a.m", "p.m", "u.s", "w.r.t", "vs.a"})


def identifiers_of(text: str) -> list[str]:
    """The identifiers in a text, folded to lower case, in the order they come; at most 64."""
    found: dict[str, None] = {f"epic-{int(number)}": None for number in _EPIC.findall(text)}
    for token in _TOKEN.findall(text):
        for name in _names(token.rstrip("./-+#@")):
            if 1 < len(name) <= LONGEST:
                found[name.lower()] = None
        if len(found) >= MOST:
            break
    return list(found)[:MOST]


def _names(token: str) -> list[str]:
    if "/" not in token:
        return [token] if _is_identifier(token) else []
    parts = [part for part in token.split("/") if part]
    named = [part for part in parts if _is_identifier(part)]
    # and/or, he/she and T-1/T-2 are no paths.
    is_path = len(parts) > 2 or token.startswith("@") or bool(parts and _FILE.fullmatch(parts[-1]))
    return [token, *named] if is_path else named


def _is_identifier(token: str) -> bool:
    return token.lower() not in _WORDS and any(shape.fullmatch(token) for shape in _SHAPES)

"""Takes secrets out of text before it is logged: those of the settings, and what looks like one."""

import re
from collections.abc import Iterable

HIDDEN = "[hidden]"
# Shorter ones would take ordinary words out of every line.
_SHORTEST = 6
# Where a pattern may begin again inside itself, its parts are bounded: a long line costs a few passes.
_PATTERNS = (
    # Our own access tokens; the id stays, as `token list` shows it.
    (re.compile(r"\b(bmad_[0-9a-f]{16}_)[A-Za-z0-9_-]{8,}"), rf"\1{HIDDEN}"),
    # JWTs.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?"), HIDDEN),
    (re.compile(r"(?i)\b((?:bearer|basic)\s+)(?!\[hidden\])[A-Za-z0-9._~+/=-]{8,}"), rf"\1{HIDDEN}"),
    # The password of an address: everything from the user's colon to the last @ before the host ends.
    (re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://[^\s:/@]{0,200}:)[^\s/]{0,500}(?=@)", re.IGNORECASE), rf"\1{HIDDEN}"),
    # name=value and name: value, bare or quoted, in text, headers, JSON and addresses.
    (
        re.compile(
            r"""(?ix) ( \b (?:[\w-]{0,40}_)? (?:password|passwd|pgpassword|secret|api[_-]?key|access[_-]?token|refresh[_-]?token
                |client[_-]?secret|x-api-key|authorization) ["']? \s* [=:] \s* )
                (?: " (?:[^"\\]|\\.)* " | ' (?:[^'\\]|\\.)* ' | (?!bearer|basic|\[hidden\]) [^\s,;&"'}\])]+ )"""
        ),
        rf"\1{HIDDEN}",
    ),
)


class Redaction:
    """Knows the secrets of this process; `redaction(text)` is the text without them."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({one for one in secrets if len(one) >= _SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

"""Makes values from strangers' files fit the columns of PostgreSQL, and tells what had to change."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from bmad_mcp.bmad_files.values import Deviation

TITLE_LIMIT = 300
LINE_LIMIT = 1000
TEXT_LIMIT = 100_000
NAME_LIMIT = 120
# An index row must fit into a third of a page.
PATH_LIMIT = 1000

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LARGEST_INTEGER = 2**63
_PLAIN = frozenset({str, int, float, bool, type(None)})


class Storable:
    """Cleans the values of one import; `deviations` tells each change once."""

    def __init__(self) -> None:
        self.deviations: list[Deviation] = []

    def note(self, path: str | None, code: str, message: str, mend: str) -> None:
        """Keep a deviation, once."""
        found = Deviation(self.path(path or "."), None, code, message, mend)
        if found not in self.deviations:
            self.deviations.append(found)

    def text(self, value: str, path: str | None, name: str, limit: int = TEXT_LIMIT) -> str:
        """The text without NUL and half surrogates, within `limit` characters."""
        # Most texts are ASCII, which knows no surrogates.
        if "\x00" in value if value.isascii() else _UNSTORABLE.search(value):
            value = _UNSTORABLE.sub("\ufffd", value)
            self.note(
                path,
                "not-storable",
                f"The {name} holds a NUL or half of a surrogate pair; each was replaced by \ufffd.",
                "Remove the character from the file; the file itself is kept as it is.",
            )
        if len(value) > limit:
            self.note(
                path,
                "text-cut",
                f"The {name} has {len(value):,} characters; the first {limit:,} were taken.",
                "Nothing to do: the file itself is kept whole.",
            )
            value = value[: limit - 2].rstrip() + " …"
        return value

    def line(self, value: str, path: str | None, name: str, limit: int = LINE_LIMIT) -> str:
        """The text on one line."""
        return self.text(" ".join(value.split()), path, name, limit)

    def word(self, value: str | None, path: str | None, name: str) -> str | None:
        """A status word as it was written, or None."""
        return None if value is None else self.text(value, path, name, LINE_LIMIT)

    def json(self, value: Any, path: str | None, name: str) -> Any:
        """The value as JSON that comes back equal: texts cleaned, odd numbers and other types as texts."""
        if isinstance(value, str):
            return self.text(value, path, name)
        if value is None or isinstance(value, bool):
            return value
        # The usual types first: whether a value is some kind of Mapping takes long to ask.
        if type(value) is list or type(value) is tuple:
            return [self.json(one, path, name) for one in value]
        if isinstance(value, int):
            return value if abs(value) < _LARGEST_INTEGER else f"{value:#x}"[:LINE_LIMIT]
        if isinstance(value, float):
            return value if abs(value) < 1e15 else repr(value)
        if isinstance(value, Mapping):
            return {
                self.text(str(key), path, name, LINE_LIMIT): self.json(one, path, name) for key, one in value.items()
            }
        if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
            return [self.json(one, path, name) for one in value]
        return self.text(str(value), path, name)

    @staticmethod
    def path(value: str) -> str:
        """The path as text: bytes of a name that is not UTF-8 become `\\xNN`; a very long one ends in its hash."""
        text = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
        if len(text) > PATH_LIMIT or len(text.encode()) > 2 * PATH_LIMIT:
            text = f"{text[: PATH_LIMIT // 2]}…{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        return text


def name_of(value: str) -> str:
    """A name by which tools can ask for a definition: lower case, words with dots, slashes and dashes."""
    text = re.sub(r"[^\w./ -]+", "-", value.strip().lower()).strip("-./ ")
    return re.sub(r"^[^\w]+", "", text)[:NAME_LIMIT].rstrip("-./ ")


def fingerprint(value: Any) -> str:
    """A short hash that is the same for the same JSON value, whatever the order of its keys."""
    return hashlib.sha256(to_json(_ordered(value))).hexdigest()[:16]


def _ordered(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        return [one if type(one) in _PLAIN else _ordered(one) for one in value]
    if kind is dict or isinstance(value, Mapping):
        return {str(key): one if type(one := value[key]) in _PLAIN else _ordered(one) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [_ordered(one) for one in value]
    return value

"""Shows stored texts, which nobody here wrote: what acts on a terminal or hides from people becomes visible."""

import json
import re
import unicodedata
from typing import Any

# Joiners hold words and emoji together; they hide nothing.
_JOINERS = "\u200c\u200d"
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef\u180b-\u180d"
_SELECTOR = re.compile(f"[{_SELECTORS}]")
# A selector chooses the form of one emoji or Chinese or Mongolian character; behind anything else it carries something.
_HAS_NO_FORMS = re.compile(f"[\\sA-Za-z\u00c0-\u024f.,;:_{_SELECTORS}]")
_BREAK = re.compile(r"[ \t]*(?:\r\n|[\n\t])(?:\r\n|[ \t\n])*")
_ODD = re.compile(r"[^\x20-\x7e]")


def visible(text: str) -> str:
    r"""The text on one line, with `\x1b` or `\u202e` in the place of what is no plain letter, mark or blank."""
    return _ODD.sub(_shown, text)


def lines_of(text: str) -> list[str]:
    """The same, keeping the lines of the text: each is safe on its own."""
    return [visible(line) for line in re.split(r"\r\n|\n", text.expandtabs(4))]


def shortened(text: str, longest: int) -> str:
    """The visible text on one line, its line breaks as blanks, cut where it is longer, with how long it was."""
    shown = visible(_BREAK.sub(" ", text))
    if len(shown) <= longest:
        return shown
    return f"{shown[:longest].rstrip()}… ({len(text):,} characters)"


def json_of(value: Any, **more: Any) -> str:
    """JSON that reads back to the same value, with escapes for whatever is not plain letters, marks or blanks."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, **more)
    # Only strings hold such characters, so each may be written as its escape; our own line ends are not touched.
    return _ODD.sub(
        lambda found: found[0] if found[0] == "\n" or _is_plain(found) else json.dumps(found[0])[1:-1], text
    )


def _is_plain(found: re.Match[str]) -> bool:
    letter, before = found[0], found.string[found.start() - 1 : found.start()]
    if _SELECTOR.match(letter):
        return bool(before) and not _HAS_NO_FORMS.match(before)
    return letter in _JOINERS or letter.isprintable()


def _shown(found: re.Match[str]) -> str:
    letter = found[0]
    if _is_plain(found):
        return letter
    # Blanks of other widths are blanks.
    if unicodedata.category(letter) == "Zs":
        return " "
    return letter.encode("unicode_escape").decode()

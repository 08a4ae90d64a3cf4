"""Flags characters that people do not see and models read: they can hide text inside a text."""

import re

_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")
_ZERO_WIDTH = re.compile("[\u200b\u00ad\ufeff\u180e\u2060-\u2064]")
_TAG = re.compile("[\U000e0000-\U000e007f]+")
# The flags of England, Scotland and Wales are a black flag followed by tags.
_FLAG_EMOJI = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f")
_SELECTOR = "\ufe00-\ufe0f\U000e0100-\U000e01ef\u180b-\u180d"
# A selector belongs to the one character before it; after a letter, a blank or another selector it carries something.
_ORPHAN_SELECTOR = re.compile(f"(?:^|[\\sA-Za-z\u00c0-\u024f.,;:_{_SELECTOR}])[{_SELECTOR}]")


def flags_of(text: str) -> list[str]:
    """What is hidden in a text: `bidi`, `zero_width`, `tags`, `variation_selectors`; empty for plain text.

    Joiners inside words and emoji, and the selectors of emoji and of Chinese or Mongolian characters, are plain text.
    """
    if text.isascii():
        return []
    without_flags = _FLAG_EMOJI.sub("", text)
    found = {
        "bidi": _BIDI.search(text),
        "zero_width": _ZERO_WIDTH.search(text),
        "tags": _TAG.search(without_flags),
        "variation_selectors": _ORPHAN_SELECTOR.search(text),
    }
    return [name for name, match in found.items() if match]

"""Paths of artifacts: labels inside the project, never opened by this server."""

import re
import unicodedata

from bmad_mcp.errors import Invalid

# What fits into an index entry, whatever the letters are.
PATH_BYTES = 2000
_DRIVE = re.compile(r"[A-Za-z]:")


def checked_label(label: str, field: str) -> str:
    """The label without needless parts; raises Invalid naming `field` when it could lead out of the project."""
    text = label.strip()
    parts = re.split(r"[/\\]", text)
    if not text or text[0] in "/\\~" or ".." in parts or (_DRIVE.match(text) and "://" not in text):
        raise Invalid(f"`{field}` must be relative to the project, without `..`, such as docs/prd.md.", field=field)
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise Invalid(f"`{field}` must be one line without control characters, such as docs/prd.md.", field=field)
    if len(text.encode()) <= PATH_BYTES and ("/" not in text or "://" in text) and text != ".":
        return text
    kept = "/".join(part for part in text.split("/") if part not in ("", "."))
    if not kept or len(kept.encode()) > PATH_BYTES:
        raise Invalid(f"`{field}` must name a file in at most {PATH_BYTES} bytes, such as docs/prd.md.", field=field)
    return kept

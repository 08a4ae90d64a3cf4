"""Paths of artifacts: labels inside the project, never opened by this server."""

import re
import unicodedata

from bmad_mcp.errors import Invalid

_DRIVE = re.compile(r"[A-Za-z]:")


def checked_label(label: str, field: str) -> str:
    """The label without needless parts; raises Invalid naming `field` when it could lead out of the project."""
    text = label.strip()
    parts = re.split(r"[/\\]", text)
    if not text or text[0] in "/\\~" or ".." in parts or (_DRIVE.match(text) and "://" not in text):
        raise Invalid(f"`{field}` must be relative to the project, without `..`, such as docs/prd.md.", field=field)
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise Invalid(f"`{field}` must be one line without control characters, such as docs/prd.md.", field=field)
    if "/" not in text or "://" in text:
        return text
    return "/".join(part for part in text.split("/") if part not in ("", ".")) or text

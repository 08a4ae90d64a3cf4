"""Paths of artifacts: labels inside the project, never opened by this server."""

import re
import unicodedata

from bmad_mcp.errors import Invalid

# What fits into an index entry, whatever the letters are.
PATH_BYTES = 2000
_DRIVE = re.compile(r"[A-Za-z]:(?!//)")


def checked_label(label: str, field: str) -> str:
    """The label without needless parts; raises Invalid naming `field` when it could lead out of the project."""
    text = kept = label.strip()
    is_address = "://" in text
    if not is_address:
        kept = "/".join(part for part in text.split("/") if part.strip() not in ("", ".")).strip()
    # Looked at before and after: `./C:/x` is a drive only once its first part is gone.
    if not text or any(_leads_out(one) for one in (text, kept)):
        raise Invalid(f"`{field}` must be relative to the project, without `..`, such as docs/prd.md.", field=field)
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise Invalid(f"`{field}` must be one line without control characters, such as docs/prd.md.", field=field)
    if not kept or len(kept.encode()) > PATH_BYTES:
        raise Invalid(f"`{field}` must name a file in at most {PATH_BYTES} bytes, such as docs/prd.md.", field=field)
    return kept


def _leads_out(text: str) -> bool:
    is_drive = _DRIVE.match(text) is not None
    return text.startswith(("/", "\\", "~")) or is_drive or ".." in (part.strip() for part in re.split(r"[/\\]", text))

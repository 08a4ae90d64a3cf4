"""The keys of the setting: read from text or a file, checked, and made."""

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

KEY_BYTES = 32
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

# The first one wraps what is made from now on.
MasterKeys = Mapping[str, bytes]


def parse_keys(text: str) -> MasterKeys:
    """The keys of `id=base64,id=base64`, also one a line; raises ValueError, which never repeats a part of a key."""
    found: dict[str, bytes] = {}
    for place, part in enumerate(filter(None, map(str.strip, re.split(r"[,\n]", text))), start=1):
        name, _, encoded = part.partition("=")
        if not _ID.fullmatch(name) or not encoded:
            raise ValueError(
                f"has no id=base64 at place {place}: an id has lower-case letters, digits and hyphens, at most 32."
                " `bmad-mcp keys new` makes one"
            )
        if name in found:
            raise ValueError(f"has two keys with the id {name}")
        key = _decoded(encoded)
        if len(key) != KEY_BYTES:
            raise ValueError(
                f"has a key {name} that is not the base64 of {KEY_BYTES} bytes. `bmad-mcp keys new` makes one"
            )
        if key in found.values():
            raise ValueError(f"has the same key twice, the second time as {name}")
        found[name] = key
    if not found:
        raise ValueError("has no key. `bmad-mcp keys new` makes one")
    return found


def read_keys_file(file: Path) -> MasterKeys:
    """The keys in a file; raises ValueError."""
    try:
        return parse_keys(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"names {file}, which cannot be read: {getattr(error, 'strerror', 'no text')}") from None


def others_may_read(file: Path) -> bool:
    """Whether the file's owner should close it to others; what a container is given as a secret cannot be closed."""
    try:
        told = file.stat()
    except OSError:
        return False
    is_given = told.st_uid == 0 and not (told.st_mode & 0o222 and os.access(file, os.W_OK))
    return bool(told.st_mode & 0o077) and not is_given


def new_key(name: str) -> str:
    """A new key as the setting has it; raises ValueError for what is no id."""
    if not _ID.fullmatch(name):
        raise ValueError("an id has lower-case letters, digits and hyphens, at most 32")
    return f"{name}={base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def _decoded(encoded: str) -> bytes:
    standard = encoded.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except binascii.Error:
        return b""

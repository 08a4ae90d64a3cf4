"""Seals a text with one key: AES-256-GCM, bound to the table, column, row and project that it stands in."""

import base64
import hmac
import os
import re
from functools import cached_property
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bmad_mcp.encryption.vaults import Unreadable

VERSION = "v1"
NONCE_BYTES = 12
# 64 bits of an HMAC: words of one project rarely share it, and it says nothing without the key.
MARK_BYTES = 8
_SEALED = re.compile(r"v1\.([a-z0-9][a-z0-9-]{0,31})\.([A-Za-z0-9_-]{16})\.([A-Za-z0-9_-]{22,})")


class SealingKey:
    """A key of 32 bytes with its id, for one project."""

    def __init__(self, name: str, key: bytes, project_id: UUID) -> None:
        self.name = name
        self._key = key
        self._project = project_id
        self._cipher = AESGCM(key)

    def seal(self, place: str, row: str, data: bytes) -> str:
        """`v1.<key id>.<nonce>.<sealed>`; `place` is `table.column`, `row` what tells the row from the others."""
        nonce = os.urandom(NONCE_BYTES)
        return ".".join(
            (VERSION, self.name, _text(nonce), _text(self._cipher.encrypt(nonce, data, self._bound(place, row))))
        )

    def open(self, place: str, row: str, sealed: str) -> bytes:
        """What was sealed; raises Unreadable."""
        parts = _SEALED.fullmatch(sealed)
        if parts is None or parts[1] != self.name:
            raise Unreadable
        try:
            return self._cipher.decrypt(_bytes(parts[2]), _bytes(parts[3]), self._bound(place, row))
        except (InvalidTag, ValueError):
            raise Unreadable from None

    def mark(self, kind: str, text: str, size: int = MARK_BYTES) -> str:
        """The same short word for the same text, which only this key makes: to find equal ones among what is sealed."""
        digest = hmac.digest(self._marking, f"{kind}|{text}".encode(), "sha256")
        return _text(digest[:size])

    def mark_of_person(self, name: str) -> str:
        """The mark of a person's name: all 256 bits, as who signs in is known by it."""
        return self.mark("person", name, 32)

    def raw(self) -> bytes:
        """The key itself, to be wrapped."""
        return self._key

    @cached_property
    def _marking(self) -> bytes:
        return hmac.digest(self._key, b"bmad-mcp marks v1", "sha256")

    def _bound(self, place: str, row: str) -> bytes:
        table, _, column = place.partition(".")
        return f"{table}|{column}|{row}|{self._project}|{self.name}".encode()


def key_of(text: str) -> str | None:
    """The id of the key that a text says it is sealed with; None for a text in the clear."""
    parts = _SEALED.fullmatch(text) if text.startswith(f"{VERSION}.") else None
    return parts[1] if parts is not None else None


def prefix_of(name: str) -> str:
    """What each text begins with that is sealed with this key."""
    return f"{VERSION}.{name}."


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

"""The form of an access token: `bmad_<id>_<secret><crc>`; what is kept of it is the id and a hash."""

import base64
import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field

_FORM = re.compile(r"(bmad_([0-9a-f]{16})_([A-Za-z0-9_-]{43}))([A-Za-z0-9_-]{6})")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token at its birth: the only time that its text is known to anybody but its holder."""

    id: str
    secret_hash: bytes
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Presented:
    """A token as a request brought it."""

    id: str
    secret_hash: bytes


def new_token() -> NewToken:
    """A token with 256 random bits."""
    token_id, secret = secrets.token_hex(8), secrets.token_bytes(32)
    body = f"bmad_{token_id}_{_b64(secret)}"
    return NewToken(token_id, hashlib.sha256(secret).digest(), body + _crc(body))


def read_token(text: str) -> Presented | None:
    """The parts of a token; None for what is none, or was typed or cut wrongly."""
    found = _FORM.fullmatch(text)
    if found is None or found[4] != _crc(found[1]):
        return None
    secret = base64.urlsafe_b64decode(found[3] + "=")
    return Presented(found[2], hashlib.sha256(secret).digest())


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _crc(body: str) -> str:
    return _b64(zlib.crc32(body.encode()).to_bytes(4, "big"))

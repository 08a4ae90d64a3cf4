"""Access tokens of an external identity provider: JWTs (RFC 9068) whose every part is pinned by the settings."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError

from bmad_mcp.identity.principals import Principal, subject_principal
from bmad_mcp.identity.signing_keys import SigningKeys
from bmad_mcp.operation import Scope

logger = logging.getLogger("bmad_mcp.identity")

LEEWAY_SECONDS = 30
LONGEST = 16 * 1024
# Nobody but the provider can make these signatures; what shares a secret with us stays out.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
# What only an ID token tells: it says who signed in at some client, not what that client may do here.
_ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash"})


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a token must say: issuer, audience (the resource's URL), algorithms, type, and the provider's words for scopes."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    token_type: str
    scopes: Mapping[Scope, str]


class Unusable(Exception):
    """A token that is not good here; the text says why, for the log only."""


class ProviderTokens:
    """The tokens of one issuer for one resource."""

    def __init__(self, pinned: Pinned, keys: SigningKeys, clock: Callable[[], float] = time.time) -> None:
        self._pinned = pinned
        self._keys = keys
        self._clock = clock

    async def principal(self, text: str) -> Principal | None:
        """Whose token this is; None when any part of it is not as pinned. Raises Unavailable without keys."""
        try:
            return await self._check(text)
        except Unusable as reason:
            logger.info("A token of the identity provider was refused: %s", reason)
            return None

    async def _check(self, text: str) -> Principal:
        header = self._header(text)
        key = await self._keys.find(header.get("kid"))
        if key is None:
            raise Unusable("unknown key")
        try:
            claims = jwt.decode(text, key, algorithms=self._pinned.algorithms).claims
        except (JoseError, ValueError, TypeError) as error:
            raise Unusable(f"{type(error).__name__}") from None
        self._check_claims(claims)
        name = subject_principal(self._pinned.issuer, claims.get("sub"))
        if name is None:
            raise Unusable("sub")
        return Principal(name, self._scopes(claims))

    def _header(self, text: str) -> dict[str, Any]:
        if len(text) > LONGEST or text.count(".") != 2:
            raise Unusable("no JWT")
        try:
            header = dict(jws.extract_compact(text.encode()).headers())
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise Unusable(f"no JWT: {type(error).__name__}") from None
        if header.get("alg") not in self._pinned.algorithms:
            raise Unusable("alg")
        kind = header.get("typ")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") != self._pinned.token_type:
            raise Unusable("typ")
        if "crit" in header:
            raise Unusable("crit")
        if not isinstance(header.get("kid"), str | None):
            raise Unusable("kid")
        return header

    def _check_claims(self, claims: Mapping[str, Any]) -> None:
        now, pinned = self._clock(), self._pinned
        if claims.get("iss") != pinned.issuer:
            raise Unusable("iss")
        audience = claims.get("aud")
        if pinned.audience not in (audience if isinstance(audience, list) else [audience]):
            raise Unusable("aud")
        if _seconds(claims, "exp") is None or now >= _seconds(claims, "exp", 0.0) + LEEWAY_SECONDS:
            raise Unusable("exp")
        for name in ("nbf", "iat"):
            if name in claims and _seconds(claims, name, float("inf")) > now + LEEWAY_SECONDS:
                raise Unusable(name)
        if found := _ID_TOKEN_CLAIMS & claims.keys():
            raise Unusable(f"an ID token: {min(found)}")

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        held = _words(claims.get("scope")) | _words(claims.get("scp"))
        return frozenset(scope for scope, word in self._pinned.scopes.items() if word in held)


def _seconds(claims: Mapping[str, Any], name: str, otherwise: Any = None) -> Any:
    value = claims.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN is neither before nor after anything.
    return value if is_number and value == value else otherwise


def _words(value: object) -> set[str]:
    if isinstance(value, str):
        return set(value.split())
    return {word for word in value if isinstance(word, str)} if isinstance(value, Sequence) else set()

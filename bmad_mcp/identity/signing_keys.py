"""The public keys of an identity provider: fetched when they are needed, kept while they are good, and never too often."""

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from bmad_mcp.errors import Unavailable

logger = logging.getLogger("bmad_mcp.identity")

PublicKey = RSAKey | ECKey | OKPKey

FRESH_SECONDS = 600.0
# Without an answer from the provider its last keys are good for this long.
STALE_SECONDS = 3600.0
# However many unknown keys are named, the provider is asked once in this time.
FLOOR_SECONDS = 30.0
FETCH_SECONDS = 5.0
MOST_BYTES = 256 * 1024
MOST_KEYS = 100


class SigningKeys:
    """The keys that one issuer signs with, by their ids."""

    def __init__(self, issuer: str, jwks_url: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ValueError for an address that is neither https nor on this machine."""
        self._issuer = trusted_address(issuer)
        self._jwks_url = trusted_address(jwks_url) if jwks_url else None
        self._clock = clock
        self._keys: dict[str | None, PublicKey] = {}
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._searched_at: float | None = None
        self._lock = asyncio.Lock()

    async def find(self, kid: str | None) -> PublicKey | None:
        """The key with this id (None: the only one); None when the issuer has none. Raises Unavailable."""
        if not self._is_fresh():
            async with self._lock:
                await self._renew()
        found = self._named(kid)
        if found is None and self._may_search():
            async with self._lock:
                found = self._named(kid)
                if found is None and self._may_search():
                    self._searched_at = self._clock()
                    await self._fetch()
                    found = self._named(kid)
        return found

    def _named(self, kid: str | None) -> PublicKey | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _is_fresh(self) -> bool:
        return self._fetched_at is not None and self._clock() - self._fetched_at < FRESH_SECONDS

    def _may_search(self) -> bool:
        return self._searched_at is None or self._clock() - self._searched_at >= FLOOR_SECONDS

    async def _renew(self) -> None:
        if self._is_fresh():
            return
        now = self._clock()
        if self._asked_at is None or now - self._asked_at >= FLOOR_SECONDS:
            await self._fetch()
        if self._fetched_at is None or now - self._fetched_at > STALE_SECONDS:
            self._keys = {}
            raise Unavailable("The identity provider does not answer, so tokens cannot be checked. Try again later.")

    async def _fetch(self) -> None:
        self._asked_at = self._clock()
        try:
            async with asyncio.timeout(FETCH_SECONDS), provider_client() as client:
                url = self._jwks_url or trusted_address((await metadata_of(client, self._issuer)).get("jwks_uri"))
                keys = _keys_of(await _get(client, url))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError) as error:
            logger.warning("The keys of %s cannot be read: %s", self._issuer, error or type(error).__name__)
            return
        self._keys, self._fetched_at = keys, self._clock()


async def metadata_of(client: httpx.AsyncClient, issuer: str) -> dict[str, Any]:
    """What an issuer publishes about itself; raises ValueError or httpx.HTTPError."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    # OpenID Connect puts the word behind the issuer's path, OAuth (RFC 8414) before it.
    places = (
        f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{path}",
    )
    for place in places:
        try:
            told = await _get(client, place)
        except httpx.HTTPStatusError:
            continue
        if told.get("issuer") != issuer:
            raise ValueError(f"{place} is of another issuer")
        return told
    raise ValueError("it has no metadata: set BMAD_AUTH_JWKS_URL")


def trusted_address(url: object) -> str:
    """The URL, if what comes from it can be trusted: https, or this machine. Raises ValueError."""
    parts = urlsplit(url) if isinstance(url, str) else None
    if not isinstance(url, str) or parts is None or not parts.hostname or parts.username or parts.fragment:
        raise ValueError("must be an https:// address")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError("must begin with https://")
    return url


def is_loopback(host: str) -> bool:
    """Whether the name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def provider_client() -> httpx.AsyncClient:
    """A client for what a provider serves; it follows nobody elsewhere."""
    return httpx.AsyncClient(follow_redirects=False, headers={"accept": "application/json"}, timeout=FETCH_SECONDS)


async def _get(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    async with client.stream("GET", url) as answer:
        answer.raise_for_status()
        return await object_in(answer)


async def object_in(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object in a streamed answer of a fair size; raises ValueError."""
    url = answer.url
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > MOST_BYTES:
            raise ValueError(f"{url} sent too much")
    try:
        told = json.loads(body)
    except RecursionError:
        raise ValueError(f"{url} sent too deep a structure") from None
    if not isinstance(told, dict):
        raise ValueError(f"{url} sent no object")
    return told


def _keys_of(told: dict[str, Any]) -> dict[str | None, PublicKey]:
    listed = told.get("keys")
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise ValueError("it sent no list of keys")
    keys: dict[str | None, PublicKey] = {}
    for one in listed:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig":
            continue
        try:
            key = JWKRegistry.import_key(one)
        except (JoseError, ValueError, TypeError, KeyError, SecurityWarning):
            # A kind of key that nobody here knows; the others are good.
            continue
        # A shared secret in a public list would let everybody sign.
        if isinstance(key, RSAKey | ECKey | OKPKey):
            keys[key.kid] = key
    return keys

"""Signing in at the identity provider from a browser: authorization code with PKCE, by a client without a secret."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from bmad_mcp.errors import Forbidden, Invalid, Unavailable
from bmad_mcp.identity.signing_keys import (
    FETCH_SECONDS,
    FRESH_SECONDS,
    metadata_of,
    object_in,
    provider_client,
    trusted_address,
)

logger = logging.getLogger("bmad_mcp.identity")

LONGEST_CODE = 4096
LONGEST_TOKEN = 16 * 1024
# Nobody has to prove anything to ask for an exchange, so few run at once.
EXCHANGES = 8
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the provider lets people sign in, and where it gives tokens."""

    authorization: str
    token: str


class BrowserSignIn:
    """One issuer, and the dashboard as its client; `home` is where the provider sends the browser back to."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        audience: str,
        scope: str,
        home: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = trusted_address(issuer)
        self._client_id = client_id
        self._audience = audience
        self._scope = scope
        self._home = home
        self._clock = clock
        self._found: tuple[float, Endpoints] | None = None
        self._exchanges = asyncio.Semaphore(EXCHANGES)

    async def offer(self) -> dict[str, str]:
        """What a page needs for its request: {endpoint, client_id, redirect_uri, scope, resource}. Raises Unavailable."""
        endpoints = await self._endpoints()
        return {
            "endpoint": endpoints.authorization,
            "client_id": self._client_id,
            "redirect_uri": self._home,
            "scope": self._scope,
            "resource": self._audience,
        }

    async def exchange(self, code: object, verifier: object) -> str:
        """The access token for a code; raises Invalid, Forbidden when the provider refuses, or Unavailable."""
        if not isinstance(code, str) or not 0 < len(code) <= LONGEST_CODE:
            raise Invalid("`code` must be the one that the identity provider sent.", field="code")
        if not isinstance(verifier, str) or not _VERIFIER.fullmatch(verifier):
            raise Invalid("`verifier` must be the one that the request was made with.", field="verifier")
        if self._exchanges.locked():
            raise Unavailable("Many sign in at once. Try again in a few seconds.")
        async with self._exchanges:
            endpoints = await self._endpoints()
            told = await self._ask(endpoints.token, code, verifier)
        token = told.get("access_token")
        if not isinstance(token, str) or not 0 < len(token) <= LONGEST_TOKEN:
            raise Forbidden("The identity provider gave no access token. Sign in again, or ask an admin for a token.")
        return token

    async def _ask(self, url: str, code: str, verifier: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "client_id": self._client_id,
            "redirect_uri": self._home,
            "resource": self._audience,
        }
        try:
            async with (
                asyncio.timeout(FETCH_SECONDS),
                provider_client() as client,
                client.stream("POST", url, data=form) as answer,
            ):
                if answer.status_code < 500:
                    return await object_in(answer) if answer.status_code == 200 else {}
                raise ValueError(f"{url} answered {answer.status_code}")
        except (httpx.HTTPError, OSError, TimeoutError, ValueError) as error:
            raise self._away(error) from error

    async def _endpoints(self) -> Endpoints:
        if self._found is not None and self._clock() - self._found[0] < FRESH_SECONDS:
            return self._found[1]
        try:
            async with asyncio.timeout(FETCH_SECONDS), provider_client() as client:
                told = await metadata_of(client, self._issuer)
            found = Endpoints(
                trusted_address(told.get("authorization_endpoint")), trusted_address(told.get("token_endpoint"))
            )
        except (httpx.HTTPError, OSError, TimeoutError, ValueError) as error:
            raise self._away(error) from error
        self._found = (self._clock(), found)
        return found

    def _away(self, error: Exception) -> Unavailable:
        logger.warning("Nobody can sign in at %s: %s", self._issuer, error or type(error).__name__)
        return Unavailable("The identity provider does not answer as it should. Try again, or paste an access token.")

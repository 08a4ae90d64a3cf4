"""Asks a memory service for JSON and believes nothing: bounded in time, bytes and depth, and never led elsewhere."""

import asyncio
import json
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from bmad_mcp.memory.services.connections import Connections
from bmad_mcp.telemetry import tracing

# With what is read ahead on a handful of connections this stays below 2 MiB.
MOST_BYTES = 1536 * 1024
DEEPEST = 32
MOST_PARTS = 50_000
# Both are asked for, as the MCP endpoint answers 406 to a client that takes only one of them.
_ACCEPT = "application/json, text/event-stream"
# The kernel reads ahead of us: a small window keeps what a flood costs small.
_RECEIVE_WINDOW = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)]
# Shorter than uvicorn's five seconds, so that no request goes out on a connection that is just being closed.
_IDLE_SECONDS = 2.0
# No part can fail after the opening quote, so a hostile text costs one pass.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class ServiceError(Exception):
    """A memory service failed; the text is ours and holds nothing of what the service sent.

    ServiceError
    ├─ Away       nothing answers there, or it hung up
    │  └─ Resting    it failed too often and is left alone for `seconds`
    ├─ TimedOut   it did not answer within the time
    ├─ Refused    it answered with a `status` that is no success, or with an error inside a success
    └─ Garbage    what it sent is not an answer
    """

    @property
    def counts(self) -> bool:
        """Whether this says that the service is ill, and not that the request was wrong."""
        return True


class Away(ServiceError):
    """Nothing answers there, or the connection broke."""


class Resting(Away):
    """The circuit breaker leaves the service alone for `seconds` more; nothing was sent."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds

    @property
    def counts(self) -> bool:
        return False


class TimedOut(ServiceError):
    """No whole answer within the time; a write may still land."""


class Refused(ServiceError):
    """The service said no: `status` is 200 where the error came inside a success."""

    def __init__(self, status: int) -> None:
        super().__init__(
            "The memory service reported an error" if status == 200 else f"The memory service answered {status}"
        )
        self.status = status

    @property
    def counts(self) -> bool:
        return not 400 <= self.status < 500


class Garbage(ServiceError):
    """The answer is no answer: too large, too deep, not JSON, or not of the promised shape."""


class Allowance:
    """What one look-up or delivery may cost, over all of its requests: seconds from now, and bytes of bodies."""

    def __init__(self, seconds: float, most_bytes: int = MOST_BYTES) -> None:
        self.deadline = asyncio.get_running_loop().time() + seconds
        self.bytes_left = most_bytes

    def take(self, count: int) -> None:
        """Count bytes that were read; raises Garbage when they are more than is left."""
        self.bytes_left -= count
        if self.bytes_left <= 0:
            raise Garbage("The memory service sent too much")


class JsonClient:
    """A small pool of connections to one address, which comes from the settings and from nowhere else."""

    def __init__(self, address: str, *, headers: Mapping[str, str] | None = None, connections: int = 6) -> None:
        """Raises ValueError, naming what is wrong, for an address that is not plain http:// or https://."""
        self.address = base_address(address)
        self._headers = {"Accept": _ACCEPT, "Accept-Encoding": "identity", **(headers or {})}
        self._connections = connections
        # Without TLS there is nothing to verify; loading the authorities would cost 50 ms.
        is_tls = self.address.startswith("https:")
        self._authorities = (
            httpx.create_ssl_context(trust_env=False) if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        self._lender = Connections(self._new_client)

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.address,
            headers=self._headers,
            follow_redirects=False,
            trust_env=False,
            timeout=None,  # noqa: S113 – one deadline for the whole call instead of one a read
            transport=httpx.AsyncHTTPTransport(
                verify=self._authorities,
                trust_env=False,
                limits=httpx.Limits(
                    max_connections=self._connections, max_keepalive_connections=2, keepalive_expiry=_IDLE_SECONDS
                ),
                socket_options=_RECEIVE_WINDOW,
            ),
        )

    async def ask(
        self,
        method: str,
        path: str,
        *,
        allowance: Allowance,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
    ) -> Any:
        """The parsed body of a 200; raises ServiceError for anything else, within the allowance."""
        allowance.take(0)
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            with tracing.service_request(method, path, headers):
                async with asyncio.timeout_at(allowance.deadline), self._lender.lent() as client:
                    request = client.build_request(method, path, params=params, content=content, headers=headers)
                    return parse_json(await self._body(client, request, allowance))
        except TimeoutError:
            raise TimedOut("The memory service did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            raise Away(f"The memory service is away ({type(error).__name__})") from None

    async def _body(self, client: httpx.AsyncClient, request: httpx.Request, allowance: Allowance) -> bytes:
        answer = await client.send(request, stream=True)
        # A cookie would be state that nobody asked for.
        client.cookies.clear()
        try:
            _check_head(answer, allowance)
            body = bytearray()
            # Raw bytes: nothing is ever unpacked, so a small body cannot become a large one.
            async for chunk in answer.aiter_raw():
                allowance.take(len(chunk))
                body += chunk
            return bytes(body)
        finally:
            await answer.aclose()

    async def aclose(self) -> None:
        """Close the connections; the client is of no use afterwards."""
        await self._lender.aclose()


def _check_head(answer: httpx.Response, allowance: Allowance) -> None:
    if answer.status_code != 200:
        raise Refused(answer.status_code)
    if answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Garbage("The memory service sent a packed body, which was not asked for")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Garbage("The memory service sent something that is not JSON")
    length = answer.headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 15 or int(length) > allowance.bytes_left:
        raise Garbage("The memory service sent too much")


def parse_json(body: bytes) -> Any:
    """JSON of an untrusted body; raises Garbage for what is broken, too deep, too fine, or no finite number."""
    # Counted before it is parsed: two million brackets are 40 MB of lists.
    depth = 0
    brackets = _STRINGS.sub(b"", body).translate(None, _NOT_BRACKETS)
    if len(brackets) > 2 * MOST_PARTS:
        raise Garbage("The memory service sent too many parts")
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            raise Garbage("The memory service sent too deep a structure")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Garbage("The memory service sent broken JSON") from None


def _no_constant(name: str) -> None:
    raise ValueError(name)


def base_address(address: str) -> str:
    """The address without a trailing slash or the API's own path; raises ValueError for one that cannot be used."""
    try:
        url = httpx.URL(address.strip())
    except httpx.InvalidURL:
        raise ValueError("The memory service's address is not a URL. Set BMAD_MEMORY_URL.") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("The memory service's address must begin with http:// or https://. Set BMAD_MEMORY_URL.")
    if url.userinfo or url.query or url.fragment:
        raise ValueError("The memory service's address must hold no user name, query or fragment.")
    # The strategy writes the address with the API's path behind it.
    return str(url).rstrip("/").removesuffix("/api/v1")

"""What every HTTP request passes before any route: who it was meant for, which page sent it, and how big it is."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mcp.server.transport_security import DEFAULT_MAX_REQUEST_BODY_SIZE, RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bmad_mcp.server.rest.cors import is_rest
from bmad_mcp.server.rest.problems import problem

# A name that only this machine resolves; any other could be rebound to it by a page in the user's browser.
_LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|\[::1\]", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>\d{1,5}))?")
_PORTS = {"http": "80", "https": "443"}
CODES = {403: "forbidden", 421: "misdirected"}
_PASSED = "bmad.passed"


@dataclass(frozen=True, slots=True)
class Names:
    """What a server is called: the operator's list, as `name` or `name:port`; empty: this machine's own names."""

    allowed: frozenset[str] = frozenset()
    scheme: str = "http"

    @classmethod
    def of(cls, hosts: Iterable[str], scheme: str) -> "Names":
        """The names of a list; raises ValueError for what is no host."""
        for host in hosts:
            if _AUTHORITY.fullmatch(host) is None:
                raise ValueError(f"has {host!r}, which is not a host name such as bmad.example.com")
        return cls(frozenset(host.lower() for host in hosts), scheme)

    def has(self, name: str, port: str) -> bool:
        """Whether a host of this name and port is this server."""
        if not self.allowed:
            return _LOOPBACK.fullmatch(name) is not None
        return name.lower() in self.allowed or f"{name.lower()}:{port}" in self.allowed

    def refuse(self, headers: Iterable[tuple[bytes, bytes]], origins: Collection[str] = ()) -> tuple[int, str] | None:
        """The status and the reason when the Host is not of this server, or the Origin neither it nor one of these."""
        found: dict[bytes, list[str]] = {b"host": [], b"origin": []}
        for name, value in headers:
            if name in found:
                found[name].append(value.decode("latin-1").strip())
        host = _AUTHORITY.fullmatch(found[b"host"][0]) if len(found[b"host"]) == 1 else None
        usual = _PORTS[self.scheme]
        if host is None or not self.has(host["name"], host["port"] or usual):
            return 421, self._own()
        for sent in found[b"origin"]:
            if sent in origins:
                continue
            scheme, _, authority = sent.partition("://")
            origin = _AUTHORITY.fullmatch(authority)
            # The same port: another local page is as foreign as one from the network.
            is_own = (
                origin is not None
                and scheme.lower() == self.scheme
                and self.has(origin["name"], origin["port"] or usual)
                and (origin["port"] or usual) == (host["port"] or usual)
            )
            if not is_own:
                return 403, "Pages of other addresses may not use this server."
        return None

    def _own(self) -> str:
        if self.allowed:
            return "This server is not known by that name. Use an address that its operator allows."
        return "This server answers to 127.0.0.1, [::1] and localhost only. Use one of them in the address."


class Guard:
    """Refuses foreign hosts (421), foreign pages (403) and big bodies (413), and adds headers to every answer."""

    def __init__(
        self,
        app: ASGIApp,
        headers: Mapping[str, str],
        names: Names | None = None,
        rest_origins: Collection[str] = (),
    ) -> None:
        self._inner = app
        self._app = RequestBodyLimitMiddleware(self._pass, DEFAULT_MAX_REQUEST_BODY_SIZE)
        self._rest_origins = rest_origins
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._names = names or Names()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Only the start and the end of the server come here: websockets are switched off.
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in self._headers if pair[0] not in present]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        refused = self._names.refuse(scope["headers"], self._rest_origins if is_rest(scope["path"]) else ())
        if refused is None:
            await self._limited(scope, receive, send_with_headers)
            return
        status, sentence = refused
        await problem(status, CODES[status], sentence)(scope, receive, send_with_headers)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_PASSED] = True
        await self._inner(scope, receive, send)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a body of a fair size on; the SDK's own refusal of a larger one is told as every other refusal is."""

        async def send_what_passed(message: Message) -> None:
            if _PASSED in scope:
                await send(message)

        await self._app(scope, receive, send_what_passed)
        if _PASSED not in scope:
            sentence = f"The body is larger than {DEFAULT_MAX_REQUEST_BODY_SIZE >> 20} MiB. Send less at once."
            await problem(413, "too_large", sentence)(scope, receive, send)


def refuse(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, str] | None:
    """What a server for this machine only answers to foreign hosts and pages."""
    return Names().refuse(headers)

"""What every HTTP request passes before any route: who it was meant for, which page sent it, and how big it is."""

import re
from collections.abc import Iterable, Mapping

from mcp.server.transport_security import DEFAULT_MAX_REQUEST_BODY_SIZE, RequestBodyLimitMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A name that only this machine resolves; any other could be rebound to it by a page in the user's browser.
_LOOPBACK = r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])"
_HOST = re.compile(rf"{_LOOPBACK}(?::(\d{{1,5}}))?", re.IGNORECASE)
_ORIGIN = re.compile(rf"http://{_LOOPBACK}(?::(\d{{1,5}}))?", re.IGNORECASE)
HTTP_PORT = "80"


class Guard:
    """Refuses foreign hosts (421), foreign pages (403) and big bodies (413), and adds headers to every answer."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = RequestBodyLimitMiddleware(app, DEFAULT_MAX_REQUEST_BODY_SIZE)
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

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

        refused = refuse(scope["headers"])
        if refused is None:
            await self._app(scope, receive, send_with_headers)
            return
        status, sentence = refused
        await JSONResponse({"error": sentence}, status)(scope, receive, send_with_headers)


def refuse(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, str] | None:
    """The status and the reason when the Host or the Origin header is not of this machine; else None."""
    found: dict[bytes, list[str]] = {b"host": [], b"origin": []}
    for name, value in headers:
        if name in found:
            found[name].append(value.decode("latin-1").strip())
    host = _HOST.fullmatch(found[b"host"][0]) if len(found[b"host"]) == 1 else None
    if host is None:
        return 421, "This server answers to 127.0.0.1, [::1] and localhost only. Use one of them in the address."
    for sent in found[b"origin"]:
        origin = _ORIGIN.fullmatch(sent)
        # The same port: another local page is as foreign as one from the network.
        if origin is None or (origin[1] or HTTP_PORT) != (host[1] or HTTP_PORT):
            return 403, "Pages of other addresses may not use this server."
    return None

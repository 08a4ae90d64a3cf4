"""Pages of other origins: which may read REST, and what they may send."""

from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from bmad_mcp.catalog import CATALOG
from bmad_mcp.server.headers import PROJECT_HEADER, SESSION_HEADER
from bmad_mcp.server.rest.arguments import IDEMPOTENCY_HEADER
from bmad_mcp.server.rest.ways import PREFIX, ways_of

PREFLIGHT_SECONDS = 600
# Beside what any page may send and read. Cookies are never taken.
SENT_HEADERS = ("authorization", IDEMPOTENCY_HEADER, "if-match", "if-none-match", PROJECT_HEADER, SESSION_HEADER)
READ_HEADERS = ("allow", "etag", "link", "location", "retry-after", "www-authenticate")


class CrossOrigin:
    """Lets pages of the named origins use REST; what else the application has stays closed to them."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        verbs = dict.fromkeys(way.verb for way in ways_of(CATALOG))
        self._open = CORSMiddleware(
            app,
            allow_origins=list(origins),
            allow_methods=[*verbs, "HEAD"],
            allow_headers=SENT_HEADERS,
            expose_headers=READ_HEADERS,
            max_age=PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._open if scope["type"] == "http" and is_rest(scope["path"]) else self._app
        await app(scope, receive, send)


def is_rest(path: str) -> bool:
    """Whether a path is one of REST."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")

"""REST over the catalogue: one adapter makes an HTTP answer of any operation; it knows none of them by name."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote, urlencode

from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bmad_mcp.activity.refusals import REFUSALS
from bmad_mcp.call import Caller, Workspace
from bmad_mcp.catalog import CATALOG
from bmad_mcp.errors import BmadError, Forbidden, VersionConflict
from bmad_mcp.operation import Operation, perform
from bmad_mcp.server.rest.arguments import arguments_of
from bmad_mcp.server.rest.docs_page import DocsPage
from bmad_mcp.server.rest.media import JSON, check_accept
from bmad_mcp.server.rest.openapi import document
from bmad_mcp.server.rest.problems import Refusal, problem, problem_of
from bmad_mcp.server.rest.versions import expect_version, is_unchanged, tag_of, version_in
from bmad_mcp.server.rest.ways import PREFIX, Paths, Way, segments_of, ways_of
from bmad_mcp.telemetry.tracing import name_span, server_span

logger = logging.getLogger("bmad_mcp.server.rest")

OPENAPI = "openapi.json"
GZIP_BYTES = 1024
Admit = Callable[[Request, Operation], Awaitable[tuple[Caller, Workspace]]]


class Rest:
    """The ASGI application below the prefix."""

    def __init__(self, admit: Admit) -> None:
        self._admit = admit
        self._ways = ways_of(CATALOG)
        self._paths = Paths(self._ways)
        self._made = {way.id: way.makes(self._ways) for way in self._ways}
        self._document: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with server_span(scope["method"]) as span:
            answer = await self._told_answer(Request(scope, receive))
            if span is not None:
                span.set_attribute("http.response.status_code", answer.status_code)
        await answer(scope, receive, send)

    async def _told_answer(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return refusal.response()
        except BmadError as error:
            return problem_of(error)
        except ClientDisconnect:
            return problem(400, "bad_request", "The body ended early.")
        except Exception:
            logger.exception("%s failed", request.method)
            return problem(500, "error", "The server failed. Its log tells why.")

    async def _answer(self, request: Request) -> Response:
        segments = segments_of(request.scope["raw_path"])
        if segments == [OPENAPI]:
            if _verb(request, ("GET",)) == "OPTIONS":
                return _options(("GET",))
            check_accept(request.headers)
            return await self._openapi()
        found = self._paths.find(segments)
        if found is None:
            raise Refusal(404, "not_found", f"There is no such path. {PREFIX}/{OPENAPI} lists the paths.")
        ways, in_path = found
        verb = _verb(request, ways)
        if verb == "OPTIONS":
            return _options(ways)
        way = ways[verb]
        name_span(verb, PREFIX + way.path)
        caller, workspace = await self._admit(request, way.operation)
        check_accept(request.headers)
        arguments = await arguments_of(request, way, in_path)
        has_if_match = not way.reads and expect_version(way, arguments, request.headers)
        try:
            result = await perform(way.operation, arguments, caller, workspace)
        except VersionConflict as conflict:
            if has_if_match:
                return problem_of(conflict, status=412)
            raise
        except Forbidden as forbidden:
            await REFUSALS.record(workspace, caller, way.operation, forbidden)
            raise
        return self._told(request, way, result)

    async def _openapi(self) -> Response:
        if self._document is None:
            # A fifth of a second once, in which others are answered.
            self._document = await asyncio.to_thread(document, self._ways)
        return Response(self._document, media_type=JSON)

    def _told(self, request: Request, way: Way, result: BaseModel) -> Response:
        content = result.model_dump_json(exclude_unset=True).encode()
        headers, status = {}, 200
        version = version_in(way, result)
        made = self._made[way.id]
        if made is not None:
            status = 201
            headers["location"] = PREFIX + made[1].replace(
                f"{{{made[0]}}}", quote(getattr(result, made[0]).key, safe="")
            )
        if version is not None and way.reads:
            headers |= {"etag": tag_of(version, content), "cache-control": "private, no-cache"}
            if is_unchanged(headers["etag"], request.headers):
                return Response(None, 304, headers)
        elif version is not None and (way.verb == "PATCH" or status == 201):
            headers["etag"] = tag_of(version)
        if way.reads and (cursor := getattr(result, "next_cursor", None)):
            headers["link"] = f'<{_next_page(request, cursor)}>; rel="next"'
        return Response(content, status, headers, JSON)


def _verb(request: Request, ways: Iterable[str]) -> str:
    """The verb to answer, HEAD as GET; raises Refusal 405."""
    verb = "GET" if request.method == "HEAD" else request.method
    if verb != "OPTIONS" and verb not in ways:
        allowed = _allowed(ways)
        detail = f"This path does not take {request.method[:20]}. It takes {allowed}."
        raise Refusal(405, "method_not_allowed", detail, headers={"allow": allowed})
    return verb


def _allowed(ways: Iterable[str]) -> str:
    verbs = {*ways, "OPTIONS"} | ({"HEAD"} if "GET" in ways else set())
    return ", ".join(sorted(verbs))


def _options(ways: Iterable[str]) -> Response:
    return Response(None, 204, {"allow": _allowed(ways)})


def _next_page(request: Request, cursor: str) -> str:
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    path = quote(request.scope["raw_path"].partition(b"?")[0], safe="/%:@!$&'()*+,;=~")
    return f"{path}?{urlencode([*asked, ('cursor', cursor)])}"


def build_rest(admit: Admit) -> list[Route]:
    """The routes of REST and of its documentation.

    `admit` tells who asks and in which workspace; it raises BmadError or Refusal when they may not run the operation.
    """
    rest = Rest(admit)
    middleware = [Middleware(GZipMiddleware, minimum_size=GZIP_BYTES)]
    below = Route(f"{PREFIX}/{{rest:path}}", rest, methods=None, middleware=middleware)
    # Starlette's own takes no line feed, and would answer with no problem.
    below.path_regex = re.compile(below.path_regex.pattern, re.DOTALL)
    return [
        Route(PREFIX, rest, methods=None, middleware=middleware),
        below,
        Route("/docs", DocsPage(), methods=None, middleware=middleware),
    ]

"""The dashboard over HTTP: its page and its files for everybody, a project's resources and settings for who may."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from string import Template

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from bmad_mcp.call import Caller, Workspace
from bmad_mcp.errors import BmadError, Forbidden, Invalid, NotFound
from bmad_mcp.identity.browser_sign_in import BrowserSignIn
from bmad_mcp.identity.rights import ACCESS, Access
from bmad_mcp.operation import Operation, perform
from bmad_mcp.server.dashboard.assets import MEDIA_TYPES, NAMES, PREFIX, modules_of, source_of
from bmad_mcp.server.messages import UnusableMessage, read_json
from bmad_mcp.server.resources import RESOURCES, find_resource, mime_type, text_of
from bmad_mcp.server.rest.problems import Refusal, problem, problem_of

ENTRY = "dashboard.js"
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # A line of ours that would set HTML fails, whatever it was given.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
Admit = Callable[[Request, Operation], Awaitable[tuple[Caller, Workspace]]]


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting as the dashboard tells it; secrets come as `set` or `unset`."""

    name: str
    value: str
    about: str


# What a browser gets before anybody has logged in; none of it knows a project.
SIGN_IN = f"{PREFIX}sign-in.json"
PUBLIC_PATHS = frozenset({"/", SIGN_IN, *(PREFIX + name for name in NAMES)})


def build_dashboard(
    admit: Admit,
    *,
    asks_for_token: bool,
    settings: Sequence[ShownSetting] = (),
    sign_in: BrowserSignIn | None = None,
) -> list[Route]:
    """The routes; `admit` is the same as for REST."""
    login = "none" if not asks_for_token else "provider" if sign_in is not None else "token"
    preloads = "\n".join(f'<link rel="modulepreload" href="{PREFIX[1:]}{name}">' for name in modules_of(ENTRY))
    page = Template(source_of("dashboard.html")).substitute(login=login, preloads=preloads)

    async def shell(_: Request) -> Response:
        return HTMLResponse(page, headers={"content-security-policy": CONTENT_SECURITY_POLICY})

    async def resource(request: Request) -> Response:
        try:
            return await _resource(request, admit)
        except Refusal as refusal:
            return refusal.response()
        except BmadError as error:
            return problem_of(error)

    async def shown_settings(request: Request) -> Response:
        access: Access = request.scope[ACCESS]
        if access.role != "admin":
            return problem_of(Forbidden(f"Settings are shown to admins of the project, and you are {access.role}."))
        return JSONResponse({"items": [asdict(one) for one in settings]})

    async def signing_in(request: Request) -> Response:
        assert sign_in is not None
        try:
            if request.method != "POST":
                return JSONResponse(await sign_in.offer())
            asked = read_json(await request.body())
            if not isinstance(asked, dict):
                raise Invalid("Send an object with `code` and `verifier`.")
            return JSONResponse({"token": await sign_in.exchange(asked.get("code"), asked.get("verifier"))})
        except UnusableMessage:
            return problem(400, "bad_request", "Send JSON with `code` and `verifier`.")
        except BmadError as error:
            return problem_of(error)

    return [
        *([Route(SIGN_IN, signing_in, methods=["GET", "POST"])] if sign_in is not None else []),
        Route("/", shell),
        *(Route(PREFIX + name, partial(_asset, name)) for name in NAMES),
        Route(f"{PREFIX}resource.json", resource),
        Route(f"{PREFIX}settings.json", shown_settings),
    ]


async def _asset(name: str, request: Request) -> Response:
    content = source_of(name).encode()
    tag = f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'
    headers = {"etag": tag, "cache-control": "public, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(None, 304, headers)
    return Response(content, 200, headers, MEDIA_TYPES[name[name.rindex(".") :]])


async def _resource(request: Request, admit: Admit) -> Response:
    """What is behind an address, as MCP gives it and as JSON; without an address, the addresses there are."""
    address = request.query_params.get("address")
    if address is None:
        return JSONResponse({"addresses": [one.resource for one, _ in RESOURCES]})
    found = find_resource(address)
    if found is None:
        raise NotFound(f"There is no resource {address[:200]!r}. Choose an address such as bmad://project/board.")
    operation, arguments = found
    caller, workspace = await admit(request, operation)
    result = await perform(operation, arguments, caller, workspace)
    return JSONResponse(
        {
            "address": address,
            "mime_type": mime_type(operation),
            "text": text_of(operation, result),
            "json": result.model_dump(mode="json", exclude_unset=True),
        }
    )

"""A served application with authentication, and an issuer of JWTs whose every part a test can bend."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import httpx2
import uvicorn
from harness import TestWorkspace
from joserfc import jwt
from joserfc.jwk import RSAKey
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

from bench.fake_server import free_port
from bmad_mcp.call import Caller, open_call
from bmad_mcp.commands.serve_http import Uvicorn
from bmad_mcp.identity.access_changes import AccessChanges
from bmad_mcp.identity.browser_sign_in import BrowserSignIn
from bmad_mcp.identity.issuing import create_token
from bmad_mcp.identity.members import set_role
from bmad_mcp.identity.provider_tokens import Pinned, ProviderTokens
from bmad_mcp.identity.signing_keys import SigningKeys
from bmad_mcp.identity.verifying import AnyOf, StaticTokens
from bmad_mcp.operation import TOOLSETS
from bmad_mcp.server.auth import Resource
from bmad_mcp.server.changes import ChangeFeed
from bmad_mcp.server.first_page import FirstPage
from bmad_mcp.server.guard import Names
from bmad_mcp.server.host_snippets import StdioCommand
from bmad_mcp.server.http import build_app, caller_of
from bmad_mcp.server.mcp import McpFace

MCP_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
OPERATOR = Caller("local", "test", "human")
WORDS = {"read": "bmad:read", "write": "bmad:write", "admin": "bmad:admin"}
ALGORITHMS = ("RS256", "ES256")


@asynccontextmanager
async def listening(app: Any):
    """The app on a free port of this machine, as its address; `app` may be a function of the address."""
    listener = free_port()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    made = app(address) if not isinstance(app, Starlette) else app
    server = Uvicorn(uvicorn.Config(made, log_config=None, lifespan="on", ws="none", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield address
    finally:
        server.should_exit = True
        await task


class Issuer:
    """An identity provider: its keys, what it publishes, and how often it was asked."""

    def __init__(self) -> None:
        self.keys = [RSAKey.generate_key(2048, auto_kid=True)]
        self.url = ""
        self.asked = 0
        self.is_up = True
        self.answer: Callable[[], Any] | None = None
        self.metadata: dict[str, Any] = {}

    @asynccontextmanager
    async def serving(self):
        async def keys(_):
            self.asked += 1
            if not self.is_up:
                return JSONResponse({"error": "down"}, 503)
            if self.answer is not None:
                return self.answer()
            return JSONResponse({"keys": [key.as_dict(private=False, use="sig") for key in self.keys]})

        async def metadata(_):
            if not self.is_up:
                return JSONResponse({"error": "down"}, 503)
            return JSONResponse({"issuer": self.url, "jwks_uri": f"{self.url}/keys"} | self.metadata)

        async def elsewhere(_):
            return RedirectResponse(f"{self.url}/keys")

        routes = [
            Route("/keys", keys),
            Route("/moved", elsewhere),
            Route("/.well-known/openid-configuration", metadata),
        ]
        async with listening(Starlette(routes=routes)) as self.url:
            yield self

    def claims(self, audience: str, **changed: Any) -> dict[str, Any]:
        """The claims of a good token; a change to None takes the claim away."""
        now = int(time.time())
        good = {
            "iss": self.url,
            "aud": audience,
            "sub": "user-1",
            "iat": now,
            "exp": now + 300,
            "scope": "openid bmad:write",
        }
        return {name: value for name, value in (good | changed).items() if value is not None}

    def token(self, audience: str, header: dict[str, Any] | None = None, key: Any = None, **changed: Any) -> str:
        """A token, good unless something of it is changed."""
        signer = key or self.keys[0]
        told = {"alg": "RS256", "typ": "at+jwt", "kid": self.keys[0].kid} | (header or {})
        told = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(told, self.claims(audience, **changed), signer, algorithms=[told["alg"]], default_type=None)


class Guarded:
    """A served application that asks for tokens."""

    def __init__(self, address: str, workspace: TestWorkspace, client: httpx.AsyncClient) -> None:
        self.address = address
        self.resource = f"{address}/mcp"
        self.workspace = workspace
        self.client = client

    async def token(self, name: str, *scopes: str, role: str | None = None, **more: Any) -> str:
        """A token of this name; with a role, the name has that one."""
        async with open_call(self.workspace, OPERATOR, "token_create") as call:
            issued = await create_token(call, name, scopes or ("write",), **more)
        if role is not None:
            await self.role(name, role)
        return issued.token.text

    async def role(self, name: str, role: str) -> None:
        async with open_call(self.workspace, OPERATOR, "member_add") as call:
            await set_role(call, name, role)

    async def call(self, token: str | None, tool: str, arguments: dict[str, Any] | None = None, **headers: str):
        """The HTTP answer to a tool's call."""
        return await self.post(token, "tools/call", {"name": tool, "arguments": arguments or {}}, **headers)

    async def post(self, token: str | None, method: str, params: Any = None, path: str = "/mcp", **headers: str):
        message = {"jsonrpc": "2.0", "id": 1, "method": method} | ({"params": params} if params is not None else {})
        sent = MCP_HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        return await self.client.post(path, json=message, headers=sent)

    @asynccontextmanager
    async def assistant(self, token: str, mode: str = "auto", **headers: str):
        """A client of the SDK with the token."""
        sent = {"authorization": f"Bearer {token}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        http_client = httpx2.AsyncClient(headers=sent)
        async with Client(streamable_http_client(self.resource, http_client=http_client), mode=mode) as client:
            yield client

    @asynccontextmanager
    async def listener(self, token: str):
        """A client that follows the project, once it does, as a task that ends when it is cut off; no change may come."""
        began = asyncio.Event()

        async def listen() -> None:
            async with (
                self.assistant(token) as client,
                client.listen(resource_subscriptions=["bmad://project"]) as events,
            ):
                began.set()
                async for _ in events:
                    raise AssertionError("nothing was changed")

        task = asyncio.create_task(listen())
        try:
            await asyncio.wait_for(began.wait(), 20)
            yield task
        finally:
            task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(ended, AssertionError):
            raise ended


def result_of(answer: httpx.Response) -> dict[str, Any]:
    """The JSON-RPC result in an answer, plain or as an event."""
    assert answer.status_code == 200, answer.text
    text = answer.text
    if answer.headers["content-type"].startswith("text/event-stream"):
        # Not splitlines: an event's line ends at no other character that Python takes for a line's end.
        text = next(line for line in text.split("\n") if line.startswith("data: {"))[6:]
    return json.loads(text)["result"]


@asynccontextmanager
async def guarded_server(
    workspace: TestWorkspace,
    issuer: Issuer | None = None,
    *,
    read_only: bool = False,
    toolsets: tuple[str, ...] = TOOLSETS,
    clock: Callable[[], float] = time.monotonic,
    is_authenticated: bool = True,
    names: Names | None = None,
    client_id: str | None = None,
    changes: AccessChanges | None = None,
    open_listener: Callable[[], Awaitable[asyncpg.Connection]] | None = None,
    **more: Any,
):
    """An application with authentication by static tokens and, with an issuer, by its JWTs."""

    def app(address: str) -> Any:
        provider = None
        issuers = ()
        if issuer is not None:
            issuers = (issuer.url,)
            pinned = Pinned(issuer.url, f"{address}/mcp", ALGORITHMS, "at+jwt", WORDS)
            provider = ProviderTokens(pinned, SigningKeys(issuer.url))
        resource = Resource(address, issuers, WORDS if issuer else {}, read_only)
        face = McpFace(
            workspace,
            lambda ctx: caller_of(ctx.request),
            toolsets=toolsets,
            read_only=read_only,
            feed=ChangeFeed(open_listener or (lambda: workspace.open_listener())),
        )
        page = FirstPage(workspace, "x", address, StdioCommand("/opt/bin/bmad-mcp", ("serve",)))
        verifier = AnyOf(StaticTokens(workspace, clock, changes), provider) if is_authenticated else None
        if issuer is not None and client_id is not None:
            scope = f"{WORDS['read']} {WORDS['write']}"
            more["sign_in"] = BrowserSignIn(issuer.url, client_id, resource.identifier, scope, f"{address}/")
        more["changes"] = changes
        return build_app(face, workspace, page, resource=resource, verifier=verifier, names=names, **more)

    async with (
        listening(app) as address,
        httpx.AsyncClient(base_url=address, timeout=20, trust_env=False) as client,
    ):
        yield Guarded(address, workspace, client)


async def rows_of(connect: dict[str, Any], sql: str, *values: Any) -> list[asyncpg.Record]:
    """Rows as a superuser sees them: of every project."""
    connection = await asyncpg.connect(**connect)
    try:
        return await connection.fetch(sql, *values)
    finally:
        await connection.close()

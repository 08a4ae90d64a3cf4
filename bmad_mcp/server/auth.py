"""Who may come in over HTTP: bearer token → Access, and the challenges that say what is missing."""

import asyncio
import logging
import shlex
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl
from uuid import UUID

import anyio
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from bmad_mcp.activity.refusals import REFUSALS
from bmad_mcp.call import Caller, OpenProject, Workspace
from bmad_mcp.errors import Forbidden, RateLimited, Unavailable
from bmad_mcp.identity.access_changes import AccessChanges
from bmad_mcp.identity.principals import Principal
from bmad_mcp.identity.rates import Rates
from bmad_mcp.identity.rights import ACCESS, SCOPES, Access, MissingScope
from bmad_mcp.identity.verifying import ManyStrangers, Verifier, find_role, name_of
from bmad_mcp.operation import Operation, Scope
from bmad_mcp.server.dashboard import routes as dashboard
from bmad_mcp.server.headers import MCP_SESSION_HEADER, PROJECT_HEADER, SESSION_HEADER
from bmad_mcp.server.rest.problems import Refusal, problem_of
from bmad_mcp.telemetry import events

logger = logging.getLogger("bmad_mcp.server")

SESSION_LENGTH = 200
MCP_PATH = "/mcp"
METADATA_PATH = "/.well-known/oauth-protected-resource/mcp"
# Prometheus has a token of its own, which belongs to nobody and is checked by the page itself.
METRICS_PATH = "/metrics"
# Probes, clients and browsers that have no token yet; they learn nothing of the project there.
PUBLIC_PATHS = dashboard.PUBLIC_PATHS | {"/health/live", "/health/ready", METADATA_PATH}
# An answer that is still running is looked at this often; with the cache of tokens it ends within five seconds.
RECHECK_SECONDS = 2.0
# Principals and the projects they were members of at their last request.
REMEMBERED_MEMBERS = 10_000
_RESOURCE = "bmad.resource"


@dataclass(frozen=True, slots=True)
class Resource:
    """This server as OAuth sees it (RFC 9728): its address, who issues tokens for it, and the words for scopes."""

    url: str
    issuers: tuple[str, ...] = ()
    words: Mapping[Scope, str] = field(default_factory=dict)
    read_only: bool = False

    @property
    def identifier(self) -> str:
        """The resource's identifier, which is the audience of its tokens."""
        return f"{self.url}{MCP_PATH}"

    @property
    def offered(self) -> tuple[Scope, ...]:
        """The scopes that clients ask for first."""
        return ("read",) if self.read_only else ("read", "write")

    def word(self, scope: Scope) -> str:
        """The scope as clients ask for it."""
        return self.words.get(scope, scope)

    def metadata(self) -> dict[str, object]:
        """The document at METADATA_PATH."""
        told: dict[str, object] = {
            "resource": self.identifier,
            "scopes_supported": [self.word(scope) for scope in self.offered],
            "bearer_methods_supported": ["header"],
            "resource_name": "bmad-mcp",
        }
        return told | ({"authorization_servers": list(self.issuers)} if self.issuers else {})

    def challenge(self, status: int, code: str, sentence: str, scopes: Iterable[Scope], error: str | None) -> Refusal:
        """A 401 or 403 that names every missing scope at once, and where to learn more."""
        parts = [f'error="{error}"', f'error_description="{sentence}"'] if error else []
        parts += [
            f'scope="{" ".join(self.word(scope) for scope in SCOPES if scope in set(scopes))}"',
            f'resource_metadata="{self.url}{METADATA_PATH}"',
        ]
        return Refusal(status, code, sentence, headers={"www-authenticate": f"Bearer {', '.join(parts)}"})

    def insufficient(self, missing: MissingScope) -> Refusal:
        """The 403 of a token that lacks scopes."""
        return self.challenge(403, missing.code, missing.message, missing.scopes, missing.code)


@dataclass(frozen=True, slots=True)
class ProjectOf:
    """One of several projects on the home workspace's database."""

    home: Workspace
    opened: OpenProject

    async def project(self) -> OpenProject:
        """The project, on the connections that the home workspace has now."""
        return await (await self.home.project()).beside(self.opened.id, self.opened.key)

    async def mend(self) -> bool:
        return await self.home.mend()


class Authentication:
    """Lets in who proves to be somebody with a role in the project asked for; without a verifier, the local user."""

    def __init__(
        self,
        app: ASGIApp,
        workspace: Workspace,
        resource: Resource,
        verifier: Verifier | None = None,
        recheck_seconds: float = RECHECK_SECONDS,
        *,
        rates: Rates | None = None,
        changes: AccessChanges | None = None,
    ) -> None:
        self._app = app
        self._workspace = workspace
        self._resource = resource
        self._verifier = verifier
        self._recheck_seconds = recheck_seconds
        self._rates = rates or Rates(workspace, principal=0, project=0)
        self._changes = changes or AccessChanges()
        self._members: OrderedDict[tuple[str, str | None], UUID] = OrderedDict()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (self._verifier is not None and scope["path"] in {*PUBLIC_PATHS, METRICS_PATH}):
            await self._app(scope, receive, send)
            return
        try:
            scope[ACCESS] = await self._enter(scope)
        except Refusal as refusal:
            events.request_refused(_reason(refusal))
            await refusal.response()(scope, receive, send)
            return
        except (RateLimited, Unavailable) as error:
            events.request_refused(error.code)
            if scope["path"] != MCP_PATH or isinstance(error, ManyStrangers):
                await problem_of(error)(scope, receive, send)
                return
            # A model learns of it by the answer of its tool, which only the endpoint can give. Nothing runs with this.
            scope[ACCESS] = Access(Caller("unknown", "http"), self._workspace, "viewer", frozenset(), refused=error)
        scope[_RESOURCE] = self._resource
        if self._verifier is None:
            await self._app(scope, receive, send)
        else:
            await self._while_allowed(scope, receive, send)

    async def _enter(self, scope: Connection) -> Access:
        headers = Headers(scope=scope)
        if self._verifier is None:
            return await self._local(headers)
        principal = await self._proved(self._verifier, scope)
        named = headers.getlist(PROJECT_HEADER)
        member = (principal.counted_as, named[0] if named else None)
        counted = self._members.get(member)
        try:
            # Who is no member takes nothing from a project, so its bucket waits until that is known.
            await self._rates.take(principal=principal.counted_as, project=counted)
            access, project = await self._access(principal, headers)
            if counted is None:
                await self._rates.take(project=project)
        except Refusal:
            self._members.pop(member, None)
            raise
        self._members[member] = project
        if len(self._members) > REMEMBERED_MEMBERS:
            self._members.popitem(last=False)
        return access

    async def _proved(self, verifier: Verifier, scope: Connection) -> Principal:
        """Who sent a good token; raises Refusal."""
        token = _bearer(Headers(scope=scope))
        if "access_token" in {name for name, _ in parse_qsl(scope["query_string"].decode("latin-1"))}:
            # Addresses are logged and remembered by many; even a good token is not taken from there.
            token = None
        if token is None:
            sentence = "Send an access token in the header `Authorization: Bearer …`. An admin makes one for you."
            raise self._resource.challenge(401, "unauthorized", sentence, ("read",), None)
        principal = await verifier.principal(token)
        if principal is None:
            sentence = "The access token is unknown, expired or revoked, or is not for this server."
            raise self._resource.challenge(401, "unauthorized", sentence, ("read",), "invalid_token")
        return principal

    async def _access(self, principal: Principal, headers: Headers) -> tuple[Access, UUID]:
        """What the principal may do in the project it asks for, and that project's id; raises Refusal."""
        named = headers.getlist(PROJECT_HEADER)
        found = await find_role(self._workspace, named[0] if named else None, principal) if len(named) < 2 else None
        if found is None:
            name = await name_of(self._workspace, principal)
            raise Refusal(
                403,
                "forbidden",
                f"You are {name}, and no member of the project you ask for. An admin of it runs"
                # Quoted, because people paste it into a shell, and a provider lets its users choose their names.
                f" `bmad-mcp member add {shlex.quote(name)} --role member --project KEY`, and your token has to be"
                " for it.",
            )
        project, member = found.project, found.member
        workspace = ProjectOf(self._workspace, project)
        # From here on the principal is who the project's rows say: where it is encrypted, nobody reads a name in them.
        caller = _caller(member.principal, headers)
        access = Access(caller, workspace, member.role, principal.scopes, self._resource.read_only)
        if missing := access.missing("read"):
            raise self._resource.insufficient(MissingScope("This server", missing))
        return access, project.id

    async def _local(self, headers: Headers) -> Access:
        named = headers.getlist(PROJECT_HEADER)
        if named and named != [(await self._workspace.project()).key]:
            raise Refusal(
                403, "forbidden", "Without authentication this server serves one project. Leave x-bmad-project out."
            )
        session = _session(headers)
        caller = Caller("local", f"http:{session}" if session else "http")
        return Access(caller, self._workspace, read_only=self._resource.read_only)

    async def _while_allowed(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Run the application; a long answer ends when its sender's right to it does."""
        with anyio.CancelScope() as running:
            watch = asyncio.create_task(self._watch(scope, running))
            try:
                await self._app(scope, receive, send)
            finally:
                watch.cancel()

    async def _watch(self, scope: Connection, running: anyio.CancelScope) -> None:
        while True:
            await self._changes.wait(self._recheck_seconds)
            try:
                assert self._verifier is not None
                await self._access(await self._proved(self._verifier, scope), Headers(scope=scope))
            except Refusal:
                logger.info("An answer was ended: its token or role is gone")
                running.cancel()
                return
            except Unavailable:
                # A database that is away takes no right from anybody.
                logger.debug("The right to an answer could not be looked at")
            except Exception:
                # What cannot be looked at must not run on unseen.
                logger.exception("The right to an answer could not be looked at, so the answer was ended")
                running.cancel()
                return


def access_of(request: Request | None) -> Access:
    """Who sent the request and what they may do, as it came in."""
    assert request is not None
    return cast(Access, request.scope[ACCESS])


def caller_of(request: Request | None) -> Caller:
    """Who sent the request."""
    return access_of(request).caller


async def allow(request: Request, operation: Operation) -> Access:
    """The access with which the operation may run now, in its own project.

    Raises Refusal with the challenge when a token with more scopes would do, Forbidden when none would. Either leaves a
    row in the trail.
    """
    access = access_of(request)
    try:
        access.check(operation)
    except Forbidden as forbidden:
        events.request_refused(forbidden.code)
        if not access.read_only:
            await REFUSALS.record(access.workspace, access.caller, operation, forbidden)
        if isinstance(forbidden, MissingScope):
            raise cast(Resource, request.scope[_RESOURCE]).insufficient(forbidden) from None
        raise
    return access


def _reason(refusal: Refusal) -> str:
    """Why somebody was not let in, in a word of a fixed set."""
    is_bad = 'error="invalid_token"' in refusal.headers.get("www-authenticate", "")
    return "invalid_token" if is_bad else refusal.code


def _caller(principal: str, headers: Headers) -> Caller:
    return Caller(principal, f"http:{principal} {_session(headers)}".rstrip())


def _session(headers: Headers) -> str:
    """Which assistant of its principal sends: by its header, and by its connection where the protocol has one.

    Windows that read one file of their host send one header, and are several assistants all the same.
    """
    sent = (headers.get(name, "") for name in (SESSION_HEADER, MCP_SESSION_HEADER))
    return " ".join(one for one in sent if 0 < len(one) <= SESSION_LENGTH and one.isprintable())


def _bearer(headers: Headers) -> str | None:
    sent: list[Any] = headers.getlist("authorization")
    kind, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None

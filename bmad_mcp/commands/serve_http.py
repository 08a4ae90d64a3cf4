"""`serve --http`: listens first, tells how far the database is, and ends gracefully."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from bmad_mcp.app import ProjectWorkspace, open_workspace
from bmad_mcp.call import Capacity
from bmad_mcp.commands.background import in_background
from bmad_mcp.commands.exposure import Exposure, browser_sign_in, check_start, provider_tokens, scope_words
from bmad_mcp.commands.failures import Failure
from bmad_mcp.commands.hearing import hearing_of_access
from bmad_mcp.commands.stopping import on_signal
from bmad_mcp.commands.telling import telling
from bmad_mcp.identity.access_changes import AccessChanges
from bmad_mcp.identity.rates import Rates
from bmad_mcp.identity.verifying import AnyOf, StaticTokens
from bmad_mcp.server.auth import Resource
from bmad_mcp.server.changes import ChangeFeed
from bmad_mcp.server.dashboard.shown_settings import shown_settings
from bmad_mcp.server.first_page import FirstPage
from bmad_mcp.server.health import Readiness
from bmad_mcp.server.host_snippets import stdio_command
from bmad_mcp.server.http import build_app, caller_of
from bmad_mcp.server.mcp import McpFace
from bmad_mcp.server.metrics.page import MetricsPage
from bmad_mcp.settings import Settings

GRACE_SECONDS = 3
FORCE_SECONDS = 8.0


def run(settings: Settings, host: str, port: int) -> None:
    """Serve until a signal comes; raises UsageError where others could come in without a token or TLS."""
    exposure = check_start(settings, host)
    with listen(exposure, port) as listener:
        asyncio.run(_serve(settings, exposure, listener))


def listen(exposure: Exposure, port: int) -> socket.socket:
    """A socket bound where the start may listen; raises Failure when it cannot be had."""
    address = exposure.address
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # Named, because asyncio sends small packets at once only on sockets that say they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(address), port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Failure(
                f"Port {port} of {address} is in use. Stop what uses it, or choose another port with --port."
            ) from None
        raise Failure(
            f"Port {port} of {address} cannot be had: {error.strerror}. Choose another with --port."
        ) from None
    return listener


class Uvicorn(uvicorn.Server):
    """uvicorn without its own signal handling, which ends the process by the signal it caught."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(settings: Settings, exposure: Exposure, listener: socket.socket) -> None:
    address = exposure.url(listener.getsockname()[1])
    stopping, tell = asyncio.Event(), telling(settings)
    with on_signal(stopping.set, force_after=FORCE_SECONDS):
        capacity = Capacity(settings.calls_at_once, settings.pool_wait_seconds)
        async with open_workspace(settings, tell, capacity=capacity, read_only=settings.read_only) as workspace:
            readiness = Readiness(workspace)
            face = McpFace(
                workspace,
                # Every request carries its own access; this is asked for nothing that came over HTTP.
                lambda ctx: caller_of(ctx.request),
                toolsets=settings.toolsets,
                read_only=settings.read_only,
                feed=ChangeFeed(workspace.database.open_listener),
            )
            changes = AccessChanges() if exposure.is_authenticated else None
            server = Uvicorn(_configuration(settings, exposure, face, workspace, address, readiness, changes))
            if exposure.is_authenticated:
                tell(f"Requests need a token: bmad-mcp token create NAME --scope write --project {settings.project}")
            async with in_background(workspace, tell), hearing_of_access(workspace, changes):
                await _run(server, face, listener, workspace, address, stopping, readiness)


def _configuration(
    settings: Settings,
    exposure: Exposure,
    face: McpFace,
    workspace: ProjectWorkspace,
    address: str,
    readiness: Readiness,
    changes: AccessChanges | None,
) -> uvicorn.Config:
    page = FirstPage(workspace, settings.project, address, stdio_command(settings))
    issuers = (settings.auth_issuer,) if settings.auth_issuer else ()
    resource = Resource(address, issuers, scope_words(settings), settings.read_only)
    verifier = None
    if exposure.is_authenticated:
        static = StaticTokens(workspace, changes=changes)
        verifier = AnyOf(static, provider_tokens(settings, resource.identifier))
    token = settings.metrics_token
    metrics = MetricsPage(
        workspace,
        token=token.get_secret_value() if token is not None else None,
        is_open=not exposure.is_authenticated,
        most_projects=settings.metrics_projects,
        interval=settings.metrics_interval_seconds,
    )
    app = build_app(
        face,
        workspace,
        page,
        resource=resource,
        verifier=verifier,
        rates=Rates(
            workspace,
            principal=settings.rate_principal,
            project=settings.rate_project,
            # A bucket is written to.
            shared=not settings.read_only,
        ),
        changes=changes,
        names=exposure.names,
        rest_origins=settings.cors_origins,
        metrics=metrics,
        readiness=readiness,
        settings=tuple(shown_settings(settings)),
        sign_in=browser_sign_in(settings, resource),
    )
    configuration = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    try:
        configuration.load()
    except ssl.SSLError as error:
        raise Failure(f"--tls-cert and --tls-key cannot be used: {error}. Both are PEM, the key unencrypted.") from None
    return configuration


async def _run(
    server: Uvicorn,
    face: McpFace,
    listener: socket.socket,
    workspace: ProjectWorkspace,
    address: str,
    stopping: asyncio.Event,
    readiness: Readiness,
) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    opening = asyncio.create_task(workspace.project())
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({serving, opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
            telling(workspace.settings)(f"ready: {address}")
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (opening, stopped):
            task.cancel()
        readiness.stop()
        server.should_exit = True
        if face.feed is not None:
            await face.feed.end()
        await serving

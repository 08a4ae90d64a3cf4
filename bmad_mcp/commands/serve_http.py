"""`serve --http`: listens first, tells how far the database is, and ends gracefully."""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import click
import uvicorn

from bmad_mcp.app import ProjectWorkspace, open_workspace
from bmad_mcp.commands.failures import Failure
from bmad_mcp.commands.stopping import on_signal
from bmad_mcp.commands.syncing import syncing
from bmad_mcp.server.first_page import FirstPage
from bmad_mcp.server.host_snippets import stdio_command
from bmad_mcp.server.http import build_app, caller_of, end_streams
from bmad_mcp.server.mcp import McpFace
from bmad_mcp.settings import Settings

GRACE_SECONDS = 3
FORCE_SECONDS = 8.0


def run(settings: Settings, host: str, port: int) -> None:
    """Serve until a signal comes."""
    listener = listen(host, port)
    with listener:
        asyncio.run(_serve(settings, listener))


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to a loopback address; raises BadParameter for any other, Failure when it cannot be had."""
    address = _loopback(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(address), port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Failure(
                f"Port {port} of {host} is in use. Stop what uses it, or choose another port with --port."
            ) from None
        raise Failure(f"Port {port} of {host} cannot be had: {error.strerror}. Choose another with --port.") from None
    return listener


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise click.BadParameter(
            f"{host!r} would let other machines in, and this version has no login: anybody there could read and change"
            " the project. Use 127.0.0.1, and an SSH tunnel to reach it from elsewhere.",
            param_hint="--host",
        )
    return address


class Uvicorn(uvicorn.Server):
    """uvicorn without its own signal handling, which ends the process by the signal it caught."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    name, port, *_ = listener.getsockname()
    address = f"http://[{name}]:{port}" if listener.family == socket.AF_INET6 else f"http://{name}:{port}"
    stopping = asyncio.Event()
    with on_signal(stopping.set, force_after=FORCE_SECONDS):
        async with open_workspace(settings, _tell) as workspace:
            face = McpFace(workspace, caller_of, toolsets=settings.toolsets, read_only=settings.read_only)
            server = Uvicorn(_configuration(settings, face, workspace, address))
            async with syncing(workspace, settings, _tell):
                await _run(server, face, listener, workspace, address, stopping)


def _configuration(settings: Settings, face: McpFace, workspace: ProjectWorkspace, address: str) -> uvicorn.Config:
    page = FirstPage(workspace, settings.project, address, stdio_command(settings))
    return uvicorn.Config(
        build_app(face, workspace, page),
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


async def _run(
    server: Uvicorn,
    face: McpFace,
    listener: socket.socket,
    workspace: ProjectWorkspace,
    address: str,
    stopping: asyncio.Event,
) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    opening = asyncio.create_task(workspace.project())
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({serving, opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
            _tell(f"ready: {address}")
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (opening, stopped):
            task.cancel()
        server.should_exit = True
        end_streams(face)
        await serving

"""`serve`: a project for AI assistants, over stdio (for IDE hosts) or over HTTP."""

import asyncio
import os
import uuid
from importlib import import_module
from pathlib import Path

import anyio
import click

from bmad_mcp.app import open_workspace
from bmad_mcp.call import Caller
from bmad_mcp.commands.background import in_background
from bmad_mcp.commands.leaving import leave
from bmad_mcp.commands.options import CHOSEN, with_settings
from bmad_mcp.commands.stopping import on_signal
from bmad_mcp.commands.syncing import checked
from bmad_mcp.commands.telling import telling
from bmad_mcp.server.changes import ChangeFeed
from bmad_mcp.server.mcp import McpFace
from bmad_mcp.server.stdio import serve_stdio
from bmad_mcp.settings import Settings
from bmad_mcp.telemetry.exporting import exporting

LOOPBACK = "127.0.0.1"
HTTP_OPTIONS = {
    "host": "--host",
    "port": "--port",
    "auth_required": "--auth",
    "allowed_hosts": "--allowed-hosts",
    "tls_cert": "--tls-cert",
    "tls_key": "--tls-key",
    "behind_tls_proxy": "--behind-tls-proxy",
}
PORT = 8770
# Hosts kill what has not ended two seconds after their SIGTERM.
FORCE_SECONDS = 1.8
# The host's first question is what tools there are; the database must not take the processor from that answer.
OPENING_WAITS_SECONDS = 0.3


@click.command("serve")
@click.option("--http", "over_http", is_flag=True, help="Serve over HTTP instead of stdio.")
@click.option("--host", help="Address to listen on, with --http (default: 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Port to listen on, with --http (default: {PORT}).")
@click.option(
    "--sync",
    is_flag=False,
    flag_value=".",
    metavar="[FOLDER]",
    type=click.Path(path_type=Path),
    help="Keep the BMad files in FOLDER (default: this folder) and the database the same while it runs.",
)
@with_settings
@click.option("--auth", "auth_required", is_flag=True, default=None, help="Ask every HTTP request for a token.")
@click.option("--allowed-hosts", metavar="NAMES", help="Names that clients reach it by over HTTP; with commas.")
@click.option("--tls-cert", metavar="FILE", help="Certificate chain for HTTPS, PEM.")
@click.option("--tls-key", metavar="FILE", help="Private key of the certificate, PEM.")
@click.option("--behind-tls-proxy", is_flag=True, default=None, help="A proxy in front ends TLS.")
def command(settings: Settings, over_http: bool, host: str | None, port: int | None, sync: Path | None) -> None:
    """Serve a project to AI assistants.

    Without --http: MCP over stdin and stdout, started by the assistant's host. With --http: MCP at /mcp, a page for
    people at /, health at /health/live and /health/ready, metrics at /metrics. Other machines are let in with --auth,
    --allowed-hosts and TLS.
    """
    settings = checked(settings if sync is None else settings.model_copy(update={"sync": sync}))
    if over_http:
        # Nobody who starts the server over stdio waits for the page's template.
        serve_http = import_module("bmad_mcp.commands.serve_http")
        with exporting(os.environ):
            serve_http.run(settings, LOOPBACK if host is None else host, PORT if port is None else port)
        return
    chosen = {"host": host, "port": port} | click.get_current_context().meta.get(CHOSEN, {})
    if over := [option for name, option in HTTP_OPTIONS.items() if chosen.get(name) is not None]:
        belong = "belongs" if len(over) == 1 else "belong"
        raise click.UsageError(f"{' and '.join(over)} {belong} to --http: `bmad-mcp serve --http`.")
    with exporting(os.environ):
        asyncio.run(_serve_stdio(settings))


async def _serve_stdio(settings: Settings) -> None:
    caller = Caller("local", uuid.uuid4().hex)
    serving = anyio.CancelScope()
    with on_signal(serving.cancel, force_after=FORCE_SECONDS):
        async with open_workspace(
            settings, after_seconds=OPENING_WAITS_SECONDS, read_only=settings.read_only
        ) as workspace:
            face = McpFace(
                workspace,
                lambda _: caller,
                toolsets=settings.toolsets,
                read_only=settings.read_only,
                feed=ChangeFeed(workspace.database.open_listener),
                is_one_connection=True,
            )
            async with in_background(workspace, telling(settings)):
                with serving:
                    await serve_stdio(face.server)
            await leave(workspace, caller)

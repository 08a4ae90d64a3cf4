"""`client-config`: the snippet that connects an assistant's host to this server."""

import click

from bmad_mcp.commands.options import with_settings
from bmad_mcp.server.host_snippets import BY_NAME, HOSTS, http_snippet, stdio_command, stdio_snippet
from bmad_mcp.settings import Settings


@click.command("client-config")
@click.argument("host", type=click.Choice([host.name for host in HOSTS]))
@click.option("--http", "over_http", is_flag=True, help="For a running `bmad-mcp serve --http`.")
@click.option("--port", type=click.IntRange(1, 65535), default=8770, help="Its port (default: 8770).")
@with_settings
def command(settings: Settings, host: str, over_http: bool, port: int) -> None:
    """Print the snippet to paste into HOST's configuration.

    It holds the absolute path of this installation, the project's key, and the settings that are in force now.
    """
    chosen = BY_NAME[host]  # type: ignore[index]
    if over_http:
        click.echo(http_snippet(chosen, f"http://127.0.0.1:{port}"))
        told = f"Paste it into {chosen.file} {chosen.where}. Start the server with: bmad-mcp --project {settings.project} serve --http"
        if host == "claude-desktop":
            told += "\nIt needs Node.js for mcp-remote; without --http the snippet needs nothing."
    else:
        start = stdio_command(settings)
        click.echo(stdio_snippet(chosen, start, show_secrets=True))
        told = f"Paste it into {chosen.file} {chosen.where}."
        if start.secrets and chosen.variable is None:
            told += " It holds the address of your database with its password: keep that file to yourself."
        elif start.secrets:
            told += f" It takes {' and '.join(start.secrets)} from the environment that starts {chosen.title}."
    click.echo(told, err=True)

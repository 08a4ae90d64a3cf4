"""What to paste into each host so that it starts this server, or reaches it over HTTP."""

import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bmad_mcp.server.headers import SESSION_HEADER
from bmad_mcp.settings import Settings

HostName = Literal["claude-code", "claude-desktop", "cursor", "vscode"]
SERVER_NAME = "bmad"
SECRETS = ("database_url", "database_direct_url", "memory_api_key")
# How a server is reached over HTTP means nothing to one over stdio.
HTTP_ONLY = frozenset(
    {"allowed_hosts", "public_url", "tls_cert", "tls_key", "behind_tls_proxy", "cors_origins"}
    | {"calls_at_once", "pool_wait_seconds"}
    | {name for name in Settings.model_fields if name.startswith(("auth_", "metrics_", "rate_"))}
)


@dataclass(frozen=True, slots=True)
class Host:
    """A program that runs assistants: where its configuration is, and how it is written there."""

    name: HostName
    title: str
    file: str
    where: str
    container: str = "mcpServers"
    # How the file refers to a variable of the environment; without it a secret has to stand there itself.
    variable: str | None = None
    says_type: bool = True


HOSTS = (
    Host("claude-code", "Claude Code", ".mcp.json", "in your project", variable="${%s}"),
    Host(
        "claude-desktop",
        "Claude Desktop",
        "claude_desktop_config.json",
        "(Settings → Developer → Edit Config)",
        says_type=False,
    ),
    Host("cursor", "Cursor", ".cursor/mcp.json", "in your project", variable="${env:%s}", says_type=False),
    Host("vscode", "VS Code", ".vscode/mcp.json", "in your project", container="servers", variable="${env:%s}"),
)
BY_NAME = {host.name: host for host in HOSTS}


@dataclass(frozen=True, slots=True)
class StdioCommand:
    """How to start the server over stdio; `secrets` are variables whose values no snippet should show."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)

    def as_shell(self) -> str:
        """The command as one line for a terminal, without the secrets."""
        return with_variables(self.env, [self.command, *self.args])


def with_variables(env: Mapping[str, str], command: Sequence[str]) -> str:
    """A line for a POSIX shell that sets the variables for this command only."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in env.items()), shlex.join(command)])


def own_command() -> list[str]:
    """The command of this installation with its absolute path: the script beside Python, or Python and the module."""
    script = Path(sys.executable).parent / "bmad-mcp"
    if script.is_file() and os.access(script, os.X_OK):
        return [str(script)]
    return [sys.executable, "-m", "bmad_mcp"]


def stdio_command(settings: Settings) -> StdioCommand:
    """How to start this server with these settings, from any folder and any environment."""
    program, *first = own_command()
    args = [*first, "serve", "--project", settings.project]
    if settings.toolsets != Settings.model_fields["toolsets"].default:
        args += ["--toolsets", ",".join(settings.toolsets)]
    if settings.read_only:
        args.append("--read-only")
    told_otherwise = {"project", "toolsets", "read_only", *SECRETS, *HTTP_ONLY}
    chosen = settings.model_fields_set - told_otherwise - ({"data_dir"} if settings.database_url else set())
    env = {f"BMAD_{name.upper()}": str(getattr(settings, name)) for name in sorted(chosen)}
    secrets = {
        f"BMAD_{name.upper()}": value.get_secret_value() for name in SECRETS if (value := getattr(settings, name))
    }
    return StdioCommand(program, tuple(args), env, secrets)


def stdio_snippet(host: Host, start: StdioCommand, *, show_secrets: bool = False) -> str:
    """The JSON that makes the host start the server."""
    entry: dict[str, Any] = {"type": "stdio"} if host.says_type else {}
    entry |= {"command": start.command, "args": list(start.args)}
    hidden = {
        name: host.variable % name if host.variable else value if show_secrets else f"the value of {name}"
        for name, value in start.secrets.items()
    }
    if env := {**start.env, **hidden}:
        entry["env"] = env
    return _json({host.container: {SERVER_NAME: entry}})


def http_snippet(host: Host, address: str) -> str:
    """The JSON that makes the host use a running server at `address`, such as http://127.0.0.1:8770.

    Each one has a session header of its own, so that two hosts are two assistants to the server.
    """
    session = f"{host.name}-{secrets.token_hex(3)}"
    if host.name == "claude-desktop":
        # Its file knows commands only; its connectors are reached from the internet.
        # No blank in an argument: on Windows the host does not quote it.
        told = ["--transport", "http-only", "--header", f"{SESSION_HEADER}:{session}"]
        bridge = {"command": "npx", "args": ["-y", "mcp-remote", f"{address}/mcp", *told]}
        return _json({host.container: {SERVER_NAME: bridge}})
    entry: dict[str, Any] = {"type": "http"} if host.says_type else {}
    entry |= {"url": f"{address}/mcp", "headers": {SESSION_HEADER: session}}
    return _json({host.container: {SERVER_NAME: entry}})


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)

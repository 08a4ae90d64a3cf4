"""The command line: `bmad-mcp COMMAND`, also `python -m bmad_mcp COMMAND`; a command's module loads when it is used."""

import gc
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import Any

from bmad_mcp import __version__
from bmad_mcp.undisturbed import undisturbed

with undisturbed():
    import click

    from bmad_mcp.commands.failures import told_briefly
    from bmad_mcp.commands.options import global_options

    # What was imported stays, and is never looked at again.
    gc.freeze()

# name → (module, what it does); `serve` must not pay for what the others need.
COMMANDS = {
    "serve": ("bmad_mcp.commands.serve", "Serve a project to AI assistants, over stdio or HTTP."),
    "import": ("bmad_mcp.commands.importing", "Bring a BMad project folder into the database."),
    "export": ("bmad_mcp.commands.exporting", "Write what changed here into a BMad project folder."),
    "status": ("bmad_mcp.commands.status", "Show a project at a glance."),
    "doctor": ("bmad_mcp.commands.doctor", "Check everything the server needs, and say how to mend it."),
    "client-config": ("bmad_mcp.commands.client_config", "Print the snippet that connects an assistant."),
    "token": ("bmad_mcp.commands.token", "Make, list and revoke access tokens for HTTP."),
    "member": ("bmad_mcp.commands.member", "Give, list and take away roles in a project."),
    "memory": ("bmad_mcp.commands.memory", "Show, export and erase memories; bring them to a service."),
    "keys": ("bmad_mcp.commands.keys", "Make and change the keys that memories are encrypted with."),
    "jobs": ("bmad_mcp.commands.jobs", "Show and run scheduled jobs; how long things stay."),
    "audit": ("bmad_mcp.commands.audit", "Export who did what, and what was refused."),
    "db": ("bmad_mcp.commands.db", "Upgrade, reach, back up and restore the database."),
    "demo": ("bmad_mcp.commands.demo", "Watch four agents play a sprint over real MCP connections."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is used, and tells failures in one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with undisturbed():
            command: click.Command = import_module(COMMANDS[cmd_name][0]).command
            gc.freeze()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, told) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        with told_briefly():
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings also come from BMAD_… variables; options come first. Begin with: bmad-mcp client-config --help",
)
@click.version_option(__version__, prog_name="bmad-mcp", message="%(prog)s %(version)s")
@global_options
def cli() -> None:
    """Keep the state of a BMad Method project in PostgreSQL and serve it to AI assistants over MCP."""


def _leave(signal_number: int, _: FrameType | None) -> None:
    # The default would end the process without its `finally` blocks, and the embedded database would stay up.
    sys.exit(128 + signal_number)


def main() -> None:
    """Run the command line: exit code 0 all well, 1 failed with a sentence on stderr, 2 used wrongly."""
    signal.signal(signal.SIGTERM, _leave)
    cli.main(prog_name="bmad-mcp")


if __name__ == "__main__":
    main()

"""Options that every command takes, before its name and after it, and the settings they make."""

import functools
import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
from pydantic import ValidationError
from pydantic_settings import SettingsError

from bmad_mcp.encryption.master_keys import others_may_read
from bmad_mcp.input_faults import in_words
from bmad_mcp.settings import Settings
from bmad_mcp.telemetry.logs import log_to_stderr
from bmad_mcp.telemetry.slow import note_slower_than

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger("bmad_mcp.commands")

CHOSEN = "bmad_mcp.chosen"
LONGEST_SENTENCE = 200


def _remember(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    # One place for both positions of an option; the one after the command's name is parsed last and wins.
    if value is not None:
        ctx.meta.setdefault(CHOSEN, {})[option.name] = value


_OPTIONS = (
    click.option("--project", metavar="KEY", help="The project (default: the working folder's name)."),
    click.option(
        "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Folder of the embedded PostgreSQL."
    ),
    click.option("--read-only", is_flag=True, default=None, help="Offer no tool that writes."),
    click.option("--toolsets", metavar="LIST", help="Of core, planning, quality, memory, analytics, all; with commas."),
)


def global_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; their values wait in the context for `with_settings`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    for made in function.__click_params__:  # type: ignore[attr-defined]
        if made.name in Settings.model_fields:
            made.expose_value, made.callback = False, _remember
    return function


class CommandGroup(click.Group):
    """A group whose help says of each command its whole first sentence; click cuts it at 45 characters."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        told = [(name, one.get_short_help_str(LONGEST_SENTENCE)) for name, one in sorted(self.commands.items())]
        with formatter.section("Commands"):
            formatter.write_dl(told)


def with_settings(function: Callable[Concatenate[Settings, P], R]) -> Callable[..., R]:
    """Give the function the settings as its first argument: options over environment over defaults."""

    @global_options
    @click.pass_context
    @functools.wraps(function)
    def run(ctx: click.Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
        settings = settings_of(ctx)
        log_to_stderr(settings.log_level, settings.log_format, settings.secrets())
        note_slower_than(settings.slow_statement_seconds)
        _warn_of_open_keys(settings.encryption_keys_file)
        return function(settings, *args, **kwargs)

    return run


def _warn_of_open_keys(file: Path | None) -> None:
    if file is not None and others_may_read(file):
        logger.warning("Others may read the keys in %s. Run: chmod 600 %s", file, shlex.quote(str(file)))


def settings_of(ctx: click.Context) -> Settings:
    """The settings for this command line; raises UsageError naming the option or the variable that is wrong."""
    chosen: dict[str, Any] = ctx.meta.get(CHOSEN, {})
    try:
        return Settings(**chosen)
    except SettingsError as error:
        raise click.UsageError(f"The environment has a BMAD_… variable that cannot be read: {error}", ctx) from None
    except ValidationError as error:
        raise click.UsageError(" ".join(_explain(fault, chosen) for fault in error.errors()), ctx) from None


def _explain(fault: Any, chosen: dict[str, Any]) -> str:
    field = str(fault["loc"][0]) if fault["loc"] else "settings"
    name = f"--{field.replace('_', '-')}" if field in chosen else f"BMAD_{field.upper()}"
    # A wrong value may be a mistyped secret: an address is never repeated.
    hidden = fault["type"] == "value_error" or field.endswith(("_url", "_key", "_keys", "_token"))
    shown = "" if hidden else f" (it is {fault['input']!r})"
    return f"{name} {in_words(fault, Settings)}{shown}."

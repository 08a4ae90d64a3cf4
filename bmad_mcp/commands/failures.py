"""How a command fails: one clear sentence on stderr and exit code 1, never a traceback."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from bmad_mcp.errors import BmadError

logger = logging.getLogger("bmad_mcp.commands")


class Failure(click.ClickException):
    """A command that could not do its work; the text says what, why and what to do next."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"bmad-mcp: {self.format_message()}", file=file, err=True)


def only_cause(error: BaseException) -> BaseException:
    """The one error inside nested exception groups, or the error itself."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


@contextmanager
def told_briefly() -> Iterator[None]:
    """Turn every error into a Failure; an unforeseen one goes to the log in full at level debug."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as raised:
        error = only_cause(raised)
        if isinstance(error, click.ClickException):
            raise error from None
        if isinstance(error, BmadError):
            raise Failure(error.message) from None
        if isinstance(error, BrokenPipeError):
            raise
        if isinstance(error, FileNotFoundError) and not _has_working_folder():
            raise Failure(
                "The working folder was removed. Go to another one (cd), and run the command again."
            ) from None
        if isinstance(error, OSError) and error.filename is not None:
            raise Failure(f"{error.filename}: {error.strerror}.") from None
        logger.debug("The command failed", exc_info=raised)
        raise Failure(
            f"Something unforeseen happened ({type(error).__name__}: {error})."
            " With BMAD_LOG_LEVEL=debug the same command tells more; please report it."
        ) from None

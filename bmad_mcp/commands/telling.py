"""What a server tells its operator on stderr: sentences, or lines of JSON where logs are JSON."""

import logging

import click

from bmad_mcp.progress import Progress
from bmad_mcp.settings import Settings
from bmad_mcp.telemetry.logs import TOLD

logger = logging.getLogger(TOLD)


def telling(settings: Settings) -> Progress:
    """How to tell a sentence."""
    if settings.log_format == "json":
        return logger.info
    return _tell


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)

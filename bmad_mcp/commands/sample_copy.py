"""`python -m bmad_mcp.commands.sample_copy`: the sample project in the data folder, for people to play with; prints where it is."""

import shutil
from pathlib import Path

import click

from bmad_mcp import sample
from bmad_mcp.settings import Settings


def copied(data_dir: Path) -> Path:
    """The sample in a data folder; a copy that is there stays as people have made it."""
    place = data_dir.expanduser().absolute() / "sample" / "tidepool"
    if not place.is_dir():
        shutil.copytree(sample.FOLDER, place, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return place


if __name__ == "__main__":
    click.echo(copied(Settings().data_dir))

"""Data folders for embedded databases that only one test uses."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bmad_mcp.embedded.data_home import find_home
from bmad_mcp.embedded.postmaster import Postmaster


@contextmanager
def new_data_dir() -> Iterator[Path]:
    """An empty data folder; what still runs in it at the end is stopped."""
    # Not below pytest's own folder: run as root, PostgreSQL's own user must be able to enter.
    folder = Path(tempfile.mkdtemp(prefix="bmad-one-"))
    folder.chmod(0o711)
    yield folder
    home = find_home(folder / "postgres")
    if home.folder.exists():
        Postmaster(home).stop(seconds=30)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty data folder for one test."""
    with new_data_dir() as folder:
        yield folder

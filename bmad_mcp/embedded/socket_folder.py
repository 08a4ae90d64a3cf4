"""The folder of the cluster's Unix socket: beside the data, or a private one where the path allows no socket."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from bmad_mcp.embedded.data_home import DataHome
from bmad_mcp.embedded.endpoints import Endpoints
from bmad_mcp.errors import Unavailable

# The kernel allows 107 bytes on Linux and 103 on macOS, and a name may come after.
LONGEST_SOCKET_PATH = 99
SHARED_TEMP = Path("/tmp")  # noqa: S108 - what is made there is private, and checked to be
# libpq and asyncpg split hosts at commas; the rest would need an escape in one URL or file too many.
UNFIT = frozenset(",:\\'\"\n\r\t")


def make_socket_folder(home: DataHome) -> Path:
    """Make the folder, mode 0700 and owned by PostgreSQL's user, and return it; the same one for every process."""
    folder = _socket_folder(home)
    try:
        folder.mkdir(mode=0o700)
        home.account.give(folder)
    except FileExistsError:
        _check_private(folder, home)
    return folder


def remove_socket_folder(home: DataHome) -> None:
    """Remove the folder after a stop, if PostgreSQL left nothing in it."""
    with suppress(OSError):
        _socket_folder(home).rmdir()


def _socket_folder(home: DataHome) -> Path:
    beside_data = home.folder / "run"
    if is_fit(beside_data):
        return beside_data
    # Device and inode name the cluster however long, renamed or bind-mounted its path is.
    identity = home.folder.stat()
    # Not $TMPDIR first: two hosts may give their servers different ones.
    base = SHARED_TEMP if os.access(SHARED_TEMP, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    return base.resolve() / f"bmad-mcp-{home.account.uid}-{identity.st_dev:x}-{identity.st_ino:x}"


def is_fit(folder: Path) -> bool:
    """Whether a socket in that folder can be bound, and be named in every URL and setting."""
    try:
        encoded = str(Endpoints(folder).socket_file).encode()
    except UnicodeEncodeError:
        return False
    return len(encoded) <= LONGEST_SOCKET_PATH and not UNFIT.intersection(str(folder))


def _check_private(folder: Path, home: DataHome) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != home.account.uid or found.st_mode & 0o077:
        raise Unavailable(
            f"{folder} has to be a folder that only {home.account.name or home.account.uid} can enter, and it is not "
            "(another user may have made it). Remove it, or choose a shorter BMAD_DATA_DIR."
        )

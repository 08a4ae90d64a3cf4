"""Which folder holds the cluster: the one asked for, unless PostgreSQL's own user could not enter it."""

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from bmad_mcp.embedded.process_user import Account, account_for
from bmad_mcp.errors import Unavailable

SERVICE_DATA = Path("/var/db/bmad-mcp" if sys.platform == "darwin" else "/var/lib/bmad-mcp")
# initdb builds shell commands from its own path with nothing but double quotes around it.
BREAKS_SHELL = frozenset('"$`\\\n')


@dataclass(frozen=True, slots=True)
class DataHome:
    """The cluster's folder and the user that its server runs as."""

    folder: Path
    account: Account
    asked_for: Path

    @property
    def is_elsewhere(self) -> bool:
        """Whether the cluster could not live in the folder asked for."""
        return self.folder != self.asked_for

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.folder / "data"

    @property
    def users_lock(self) -> Path:
        """Each process that uses the cluster holds it shared: the count of users, which a kill -9 cannot falsify."""
        return self.folder / "users.lock"

    @property
    def control_lock(self) -> Path:
        """Held alone around creating, starting and stopping."""
        return self.folder / "ctl.lock"

    @property
    def server_lock(self) -> Path:
        """Held by PostgreSQL's own processes, all of them, as long as one of them lives."""
        return self.folder / "server.lock"

    @property
    def log(self) -> Path:
        """What PostgreSQL wrote to its standard error."""
        return self.folder / "postgres.log"


def find_home(root: Path) -> DataHome:
    """Decide where the cluster of `root` lives; reads only, and answers the same in every process.

    Root cannot run PostgreSQL, and the user that does often may not enter root's folders (mode 0700): then
    the cluster lives in /var/lib/bmad-mcp/<hash of the path> (macOS: /var/db/bmad-mcp). One that exists stays.
    """
    folder = root.expanduser().resolve()
    if os.geteuid() != 0:
        return DataHome(folder, account_for(None), folder)
    if owner := _owner_of(folder / "data"):
        return _reachable(DataHome(folder, account_for(owner), folder))
    elsewhere = SERVICE_DATA / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    if owner := _owner_of(elsewhere / "data"):
        return _reachable(DataHome(elsewhere, account_for(owner), folder))
    account = account_for(_owner_of(folder))
    if account.name is None:
        account = account_for(None)
    if account.can_enter(folder) and not BREAKS_SHELL.intersection(str(folder)):
        return DataHome(folder, account, folder)
    return _reachable(DataHome(elsewhere, account_for(None), folder))


def make_home(home: DataHome) -> None:
    """Make the folder and those missing above it; for root open enough that PostgreSQL's user can pass."""
    missing = [step for step in (home.folder, *home.folder.parents) if not step.exists()]
    mode = 0o700 if home.account.is_current else 0o711
    for step in reversed(missing):
        step.mkdir(mode=mode, exist_ok=True)
        step.chmod(mode)
    if missing and home.is_elsewhere:
        note = f"The embedded database of {home.asked_for}\n"
        (home.folder / "path.txt").write_text(note, encoding="utf-8", errors="backslashreplace")


def _owner_of(folder: Path) -> int | None:
    try:
        return folder.lstat().st_uid
    except FileNotFoundError:
        return None


def _reachable(home: DataHome) -> DataHome:
    if home.account.can_enter(home.folder):
        return home
    raise Unavailable(
        f"PostgreSQL has to run as {home.account.name or home.account.uid}, which may not enter {home.folder}. "
        "Give that user execute permission (chmod o+x) on each folder of the path, or choose another BMAD_DATA_DIR."
    )

"""The operating-system user that PostgreSQL runs as, and running its programs as that user."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bmad_mcp.errors import Unavailable

# PostgreSQL refuses to run as root; these users exist for servers and may lend their name.
LENDERS = ("postgres", "_postgres", "nobody")
# An allow-list: the server's environment is readable by its user, and ours holds keys and tokens.
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Account:
    """A user to run PostgreSQL as. `name` is None for a uid that the system has no name for."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str | None

    @property
    def is_current(self) -> bool:
        """Whether this process already runs as that user."""
        return self.uid == os.geteuid()

    @property
    def is_lender(self) -> bool:
        """Whether root only borrows the name, so that its real owner gets no way into the database."""
        return self.name in LENDERS and not self.is_current

    def can_enter(self, folder: Path) -> bool:
        """Whether permission bits let this user pass the folder and all above; absent ones count as open."""
        for step in (folder, *folder.parents):
            try:
                found = step.stat()
            except FileNotFoundError:
                continue
            if found.st_uid == self.uid:
                allowed = found.st_mode & 0o100
            elif found.st_gid in (self.gid, *self.groups):
                allowed = found.st_mode & 0o010
            else:
                allowed = found.st_mode & 0o001
            if not allowed:
                return False
        return True

    def give(self, path: Path) -> None:
        """Make the user own a folder that this process has just made."""
        if not self.is_current:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def run(
        self, command: Sequence[str], *, cwd: Path, seconds: float, pass_fds: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this user in a session of its own; output and errors come back together as text."""
        try:
            return subprocess.run(
                command,
                check=False,
                cwd=cwd,
                env={k: os.environ[k] for k in PASSED_ON if k in os.environ} | {"HOME": str(cwd), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                timeout=seconds,
                pass_fds=pass_fds,
                umask=0o077,
                start_new_session=True,
                user=None if self.is_current else self.uid,
                group=None if self.is_current else self.gid,
                extra_groups=None if self.is_current else self.groups,
            )
        except PermissionError as error:
            raise Unavailable(
                f"{command[0]} could not be run as {self.name or self.uid}: {error.strerror}. If this is a container "
                "that may not switch users, run the server as an ordinary user or set BMAD_DATABASE_URL."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{command[0]} did not finish within {seconds:.0f} s. Try again.") from error


def account_for(owner_uid: int | None) -> Account:
    """Choose the user: this one, or for root the owner of the folder, or else a lender.

    `owner_uid` is who owns the database folder already, None when there is none. Raises Unavailable.
    """
    uid = os.geteuid()
    if uid != 0:
        if name := _name_of(uid):
            return Account(uid, os.getegid(), tuple(os.getgroups()), name)
        raise Unavailable(
            f"PostgreSQL cannot run as uid {uid}, because the system has no name for it. Add the uid to "
            "/etc/passwd, run the server as a user that has a name, or set BMAD_DATABASE_URL."
        )
    if owner_uid:
        return _account_of(owner_uid)
    for name in LENDERS:
        try:
            return _account_of(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    raise Unavailable(
        "PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody to run it as. "
        "Add one, run the server as an ordinary user, or set BMAD_DATABASE_URL."
    )


def _account_of(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(uid, uid, (), None)
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Account(uid, entry.pw_gid, tuple(groups), entry.pw_name)


def names_let_in(account: Account) -> tuple[str, ...]:
    """Operating-system users that may connect: this one, the data's owner unless only a lender, and root.

    Root could become any of them anyway; naming it lets `sudo` and containers reach a user's database.
    """
    names = [_name_of(os.geteuid()), _name_of(0), None if account.is_lender else account.name]
    return tuple(dict.fromkeys(name for name in names if name))


def _name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None

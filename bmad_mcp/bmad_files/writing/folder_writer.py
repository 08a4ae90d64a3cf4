"""Writes files of one folder and nothing outside it: through no link, whole or not at all, over no newer edit."""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
import time
from pathlib import Path

from bmad_mcp.artifacts.places import is_plain
from bmad_mcp.bmad_files.folder import BYTE_LIMIT, MIB
from bmad_mcp.errors import Invalid, NotFound

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MARK = ".bmad-mcp-"
_PASSING = re.compile(r"\.bmad-mcp-[0-9a-f]{16}")
# Far longer than the writing of one file takes: what is older was left by a process that was killed.
LEFT_BEHIND_SECONDS = 60.0
_GONE = ("The file is gone.", "Nothing was written; import again.")


class NotWritten(Exception):
    """The file was left as it was: `message` says why, `mend` what to do."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.message, self.mend = message, mend


class FolderWriter:
    """A project folder that is written to. Paths are relative to its root, with slashes."""

    def __init__(self, root: Path) -> None:
        try:
            self.root = root.resolve(strict=True)
            self._root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError as error:
            raise Invalid(f"{str(root)!r} is not a folder. Give the path of the project's folder.") from error
        except (OSError, RuntimeError) as error:
            raise NotFound(f"There is no folder {str(root)!r}. Give the path of the project's folder.") from error
        self._swept: set[str] = set()

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._root_fd)

    def __enter__(self) -> "FolderWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, path: str, data: bytes, expected: str | None) -> None:
        """Put `data` at the path in one step; `expected` is the sha256 of what is there now, None for a new file.

        Folders on the way are made. Raises NotWritten when the file changed meanwhile, when something else is in the
        way, or when the file system refuses; then the file is as it was.
        """
        *folders, name = _parts(path)
        try:
            folder = self._open_folder(folders, make=expected is None)
        except FileNotFoundError:
            raise NotWritten(*_GONE) from None
        except OSError as error:
            raise _refusal(error, "/".join(folders)) from error
        try:
            self._sweep(folder, "/".join(folders))
            self._replace(folder, name, data, self._check(folder, name, expected), expected)
        except OSError as error:
            raise _refusal(error, path) from error
        finally:
            os.close(folder)

    def _check(self, folder: int, name: str, expected: str | None) -> os.stat_result | None:
        """What is there, None for a new file; raises NotWritten when it is not what was read."""
        try:
            descriptor = os.open(name, _READ_FLAGS, dir_fd=folder)
        except FileNotFoundError:
            if expected is None:
                return None
            raise NotWritten(*_GONE) from None
        try:
            told = os.fstat(descriptor)
            if not stat.S_ISREG(told.st_mode):
                raise NotWritten("In its place is a folder, a device or a pipe.", "Remove it, then export again.")
            if expected is None:
                raise NotWritten("A file of that name is there already.", "Import it, or move it away.")
            if not told.st_mode & 0o222:
                raise NotWritten("The file is read-only.", "Make it writable, then export again.")
            if _hash_of(descriptor) != expected:
                raise NotWritten("The file was edited meanwhile.", "Import the edit, then export again.")
            return told
        finally:
            os.close(descriptor)

    def _replace(self, folder: int, name: str, data: bytes, was: os.stat_result | None, expected: str | None) -> None:
        passing = f"{_MARK}{secrets.token_hex(8)}"
        # A new file is what this user's umask makes of it; one that is replaced is nobody else's while it is written.
        descriptor = os.open(passing, _NEW_FLAGS, 0o666 if was is None else 0o600, dir_fd=folder)
        try:
            try:
                if was is not None:
                    _make_alike(descriptor, was)
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            # As late as can be: an edit that comes after this is one that comes after the write.
            self._check(folder, name, expected)
            if expected is None:
                _put_new(folder, passing, name)
            else:
                os.rename(passing, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(passing, dir_fd=folder)
            raise
        with contextlib.suppress(OSError):
            os.fsync(folder)

    def _sweep(self, folder: int, path: str) -> None:
        """Remove what a killed process left in the folder."""
        if path in self._swept:
            return
        self._swept.add(path)
        before = time.time() - LEFT_BEHIND_SECONDS
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if _PASSING.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_mtime < before:
                            os.unlink(entry.name, dir_fd=folder)

    def _open_folder(self, parts: list[str], *, make: bool) -> int:
        """A descriptor of the folder, opened part by part so that no link leads out."""
        descriptor = os.dup(self._root_fd)
        for part in parts:
            try:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=descriptor)
                below = os.open(part, _FOLDER_FLAGS, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor


def _make_alike(descriptor: int, was: os.stat_result) -> None:
    """Give a file the owner and the permissions of another, as far as this user may."""
    own = os.fstat(descriptor)
    if own.st_uid != was.st_uid:
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, was.st_uid, -1)
    if own.st_gid != was.st_gid:
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, -1, was.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(was.st_mode))


def _put_new(folder: int, passing: str, name: str) -> None:
    try:
        # Unlike a rename, a link never takes the place of a file that has just appeared.
        os.link(passing, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        os.rename(passing, name, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        # The file is there; a second name that stays is swept later.
        with contextlib.suppress(OSError):
            os.unlink(passing, dir_fd=folder)


def _parts(path: str) -> list[str]:
    """The names on the way; raises NotWritten for a path that is not plainly inside the folder."""
    if not is_plain(path):
        raise NotWritten("The path does not lead to a plain place inside the folder.", "Give it a plain name.")
    return path.split("/")


def _hash_of(descriptor: int) -> str:
    digest, size = hashlib.sha256(), 0
    while block := os.read(descriptor, MIB):
        digest.update(block)
        size += len(block)
        if size > BYTE_LIMIT:
            break
    return digest.hexdigest()


def _refusal(error: OSError, path: str) -> NotWritten:
    match error.errno:
        case errno.ENXIO:
            return NotWritten("In its place is a socket or a device.", "Remove it, then export again.")
        case errno.ELOOP | errno.ENOTDIR:
            return NotWritten(f"A link or a file is in the way ({path}).", "Put a plain folder in its place.")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return NotWritten("The folder may not be written to.", "Let this user write there, then export again.")
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return NotWritten("The disk is full.", "Free some space, then export again.")
        case errno.EEXIST:
            return NotWritten("A file of that name has just appeared.", "Import it, then export again.")
        case _:
            reason = os.strerror(error.errno) if error.errno else "no reason given"
            return NotWritten(f"The file system refused: {reason}.", "Mend that, then export again.")

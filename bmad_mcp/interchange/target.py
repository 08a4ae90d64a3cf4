"""Where an export goes: beside its place first, then into it at once; a link there is never followed."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bmad_mcp.errors import Conflict, Invalid

MARK = ".bmad-mcp-export"
# What people wrote, and who they are, is read by who asked for it only; what is encrypted is written in plain words.
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


@contextmanager
def file_target(target: Path, *, overwrite: bool, begins: bytes = b"") -> Iterator[Path]:
    """A path to write a new file at; it takes its place when the block ends well, and goes when it does not.

    With `overwrite` a file gives way that begins with `begins`, as an earlier export does.
    """
    _check_parent(target)
    check_file(target, overwrite=overwrite, begins=begins)
    work = _work(target)
    try:
        yield work / target.name
        os.chmod(work / target.name, PRIVATE_FILE)
        _sync(work / target.name)
        # Somebody may have put something there meanwhile.
        check_file(target, overwrite=overwrite, begins=begins)
        os.replace(work / target.name, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def folder_target(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder to write in; it takes its place when the block ends well, and goes when it does not.

    An earlier export gives way with `overwrite`; any other folder with something in it stays.
    """
    _check_parent(target)
    check_folder(target, overwrite=overwrite)
    work = _work(target)
    try:
        new = work / "new"
        new.mkdir()
        new.chmod(PRIVATE_FOLDER)
        (new / MARK).write_text("This folder was written by `bmad-mcp export`. It may be replaced by the next one.\n")
        yield new
        check_folder(target, overwrite=overwrite)
        if os.path.lexists(target):
            os.rename(target, work / "old")
        try:
            os.rename(new, target)
        except OSError:
            if (work / "old").exists():
                os.rename(work / "old", target)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_file(target: Path, *, overwrite: bool, begins: bytes = b"") -> None:
    """Raise Conflict when no file may be written there."""
    kind = _kind(target)
    if kind == "nothing":
        return
    if kind != "file":
        raise Conflict(f"{str(target)!r} is a {kind}; an export as JSON is a file. Give another name.", field="target")
    if not _begins_with(target, begins):
        raise Conflict(f"{str(target)!r} is a file that no export wrote. Give another name.", field="target")
    if not overwrite:
        raise Conflict(f"{str(target)!r} exists already. Give another name, or add --overwrite.", field="target")


def check_folder(target: Path, *, overwrite: bool) -> None:
    """Raise Conflict when no folder may be written there."""
    kind = _kind(target)
    if kind == "nothing":
        return
    if kind != "folder":
        raise Conflict(f"{str(target)!r} is a {kind}; this export is a folder. Give another name.", field="target")
    inside = os.listdir(target)
    if not inside or (overwrite and MARK in inside):
        return
    if MARK in inside:
        raise Conflict(
            f"{str(target)!r} holds an earlier export. Give another name, or add --overwrite.", field="target"
        )
    raise Conflict(
        f"{str(target)!r} holds files that no export wrote. Give the name of a new folder, or of an empty one.",
        field="target",
    )


def _kind(target: Path) -> str:
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return "nothing"
    if stat.S_ISLNK(mode):
        return "symbolic link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "device or pipe"


def _begins_with(file: Path, begins: bytes) -> bool:
    if not begins:
        return True
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as opened:
            return opened.read(len(begins)) == begins
    except OSError:
        return False


def _check_parent(target: Path) -> None:
    if not target.name or target.name == "..":
        raise Invalid(f"{str(target)!r} names nothing to write. Give the name of a file or folder.", field="target")
    if not target.parent.is_dir():
        raise Invalid(f"There is no folder {str(target.parent)!r}. Make it first.", field="target")


def _work(target: Path) -> Path:
    # In the same folder, so that it can be renamed into its place.
    return Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent))


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

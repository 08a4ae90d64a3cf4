"""PostgreSQL's programs beside the data, where no upgrade and no folder rights take them from a running server."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bmad_mcp.embedded.binaries import Binaries
from bmad_mcp.embedded.data_home import BREAKS_SHELL, DataHome
from bmad_mcp.errors import Unavailable

COPIES = "binaries"
# Headers, static libraries and build files are a third of the wheel, and no server reads them.
LEFT_OUT_FOLDERS = frozenset({"include", "pgxs", "pkgconfig", "__pycache__"})
LEFT_OUT_SUFFIXES = (".a", ".py", ".pyc")


def place_binaries(binaries: Binaries, home: DataHome) -> Binaries:
    """Return programs that the server can run from: a hard-linked tree in the home, or the original.

    The original serves for a system PostgreSQL (its files are spread over the system, and its package manager
    minds running servers) and where the home forbids programs. Raises Unavailable if PostgreSQL's user cannot
    reach it.
    """
    if binaries.is_wheel and not BREAKS_SHELL.intersection(str(home.folder)) and not _is_noexec(home.folder):
        return replace(binaries, bin_dir=_linked_tree(binaries, home))
    if BREAKS_SHELL.intersection(str(binaries.bin_dir)) or not home.account.can_enter(binaries.bin_dir):
        raise Unavailable(
            f"{binaries} cannot be run as {home.account.name or home.account.uid} from where it is. "
            "Choose a plainer BMAD_DATA_DIR, on a disk that allows programs."
        )
    return binaries


def remove_other_copies(binaries: Binaries, home: DataHome) -> None:
    """Remove copies of versions no longer run; call it only while no server runs."""
    for copy in (home.folder / COPIES).glob("*"):
        if copy not in binaries.bin_dir.parents:
            shutil.rmtree(copy, ignore_errors=True)


def _linked_tree(binaries: Binaries, home: DataHome) -> Path:
    package = binaries.bin_dir.parent.parent
    program = (binaries.bin_dir / "postgres").stat()
    # A repacked wheel may carry the same version: size and time tell its files apart.
    copy = home.folder / COPIES / f"{binaries.version}-{program.st_size:x}-{int(program.st_mtime):x}"
    bin_dir = copy / package.name / binaries.bin_dir.relative_to(package)
    if not (bin_dir / "postgres").is_file():
        unfinished = copy.with_name(f"{copy.name}.tmp")
        for remnant in (unfinished, copy):
            shutil.rmtree(remnant, ignore_errors=True)
        # The programs look for their libraries in the sibling folder, by a path relative to themselves.
        for tree in (package, package.with_name(f"{package.name}.libs")):
            if tree.is_dir():
                _link_tree(tree, unfinished / tree.name)
        unfinished.rename(copy)
    for step in (copy.parent, copy):
        step.chmod(0o755)
    return bin_dir


def _link_tree(source: Path, target: Path) -> None:
    for folder, files in _walk(source):
        made = target / folder.relative_to(source)
        made.mkdir(parents=True)
        made.chmod(0o755)
        for file in files:
            _link(file, made / file.name)


def _walk(source: Path) -> Iterator[tuple[Path, list[Path]]]:
    for folder, folders, files in os.walk(source):
        folders[:] = [name for name in folders if name not in LEFT_OUT_FOLDERS]
        yield Path(folder), [Path(folder, name) for name in files if not name.endswith(LEFT_OUT_SUFFIXES)]


def _link(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    mode = source.stat().st_mode
    # A link shares its mode with the original, so a file that others may not read has to be copied.
    if mode & 0o004:
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copyfile(source, target)
    target.chmod(0o755 if mode & 0o100 else 0o644)


def _is_noexec(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0))

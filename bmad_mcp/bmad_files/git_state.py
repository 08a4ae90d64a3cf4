"""Which branch of git a folder is on, and whether git is in the middle of something; read from its files."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_UNDER_WAY = {
    "index.lock": "git is writing",
    "MERGE_HEAD": "a merge is under way",
    "rebase-merge": "a rebase is under way",
    "rebase-apply": "a rebase is under way",
    "CHERRY_PICK_HEAD": "a cherry-pick is under way",
    "REVERT_HEAD": "a revert is under way",
}
_LONGEST = 4096
_LONGEST_CONFIG = 65_536
_LOG_TAIL = 16_384
_MOVING = re.compile(r"checkout: moving from (\S+) to ")


@dataclass(frozen=True, slots=True)
class GitState:
    """`head` is the branch, or the commit where there is none; None outside of git. `busy` says what is under way."""

    head: str | None = None
    busy: str | None = None


def git_state(folder: Path) -> GitState:
    """The state of the repository that the folder is in."""
    place = _git_folder(folder)
    if place is None:
        return GitState()
    told = _first_line(place / "HEAD")
    head = told.removeprefix("ref: ").removeprefix("refs/heads/") or None
    busy = next((why for name, why in _UNDER_WAY.items() if os.path.lexists(place / name)), None)
    return GitState(head, busy)


def git_origin(folder: Path) -> str | None:
    """The address of the remote `origin` with the folder's place in the repository; None where there is none."""
    place = _git_folder(folder)
    if place is None:
        return None
    common = _first_line(place / "commondir")
    config = (place / common / "config") if common else place / "config"
    try:
        rows = config.read_text("utf-8", "replace")[:_LONGEST_CONFIG].split("\n")
    except OSError:
        return None
    begin = next((at for at, row in enumerate(rows) if row.strip() == '[remote "origin"]'), len(rows))
    for row in rows[begin + 1 :]:
        name, _, address = row.partition("=")
        if row.lstrip().startswith("["):
            break
        if name.strip() == "url":
            top = next(one for one in (folder, *folder.parents) if os.path.lexists(one / ".git"))
            return f"{_without_secret(address.strip())}#{folder.relative_to(top).as_posix()}"
    return None


def _without_secret(address: str) -> str:
    head, mark, rest = address.partition("://")
    return f"{head}{mark}{rest.rpartition('@')[2]}" if mark else address


def switched_in_place(folder: Path, known: str) -> bool:
    """Whether git went from the known branch to the one of now without touching a file: a branch made here.

    Told by git's own log of HEAD; False where it does not say so.
    """
    place = _git_folder(folder)
    for line in reversed(_last_lines(place / "logs" / "HEAD") if place else []):
        commits, _, what = line.partition("\t")
        match = _MOVING.match(what)
        if match is None:
            continue
        before, after, *_ = [*commits.split(" "), "", ""]
        if before != after:
            return False
        if match[1] == known:
            return True
    return False


def _last_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL))
            return file.read(_LOG_TAIL).decode("utf-8", "replace").split("\n")
    except OSError:
        return []


def _git_folder(folder: Path) -> Path | None:
    for parent in (folder, *folder.parents):
        found = parent / ".git"
        if found.is_dir():
            return found
        # A worktree and a submodule have a file that leads to the folder.
        told = _first_line(found) if found.is_file() else ""
        if told.startswith("gitdir: "):
            return parent / told.removeprefix("gitdir: ")
    return None


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode("utf-8", "replace").split("\n", 1)[0].strip()
    except OSError:
        return ""

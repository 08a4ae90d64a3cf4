"""Which branch of git a folder is on, and whether git is in the middle of something; read from its files."""

import os
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

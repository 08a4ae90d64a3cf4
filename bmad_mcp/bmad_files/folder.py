"""Reads files of one folder and nothing outside it: no symbolic link is followed out, no device opened, all capped."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bmad_mcp.artifacts.places import SKIPPED
from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.deviations import Deviations, shown
from bmad_mcp.bmad_files.values import Generation, SourceFile
from bmad_mcp.counts import counted
from bmad_mcp.errors import Invalid, NotFound
from bmad_mcp.progress import Progress, untold

MIB = 1024 * 1024
FILE_LIMIT = 10_000
BYTE_LIMIT = 5 * MIB
TOTAL_LIMIT = 200 * MIB
LISTED_LIMIT = 100_000
DEPTH_LIMIT = 32
# So many files take about a quarter of a second.
TOLD_EACH = 512
_OURS, _SPLIT, _THEIRS = re.compile(r"<{7}(?: .*)?"), re.compile(r"={7}"), re.compile(r">{7}(?: .*)?")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the opening of a FIFO that took a file's place would wait for a writer.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder's entries: name → path from the root, through no symbolic link."""

    folders: dict[str, str]
    files: dict[str, str]


class Folder:
    """The project folder while it is read. Paths are relative to its root, with slashes; "" is the root itself."""

    def __init__(self, root: Path, deviations: Deviations, progress: Progress = untold) -> None:
        try:
            self.root = root.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise NotFound(f"There is no folder {str(root)!r}. Give the path of the project's folder.") from error
        if not self.root.is_dir():
            raise Invalid(f"{str(root)!r} is not a folder. Give the path of the project's folder.", field="path")
        self.deviations = deviations
        self._progress = progress
        self.files: dict[str, SourceFile] = {}
        self._listings: dict[str, Listing] = {}
        self._refused: set[str] = set()
        self._listed = 0
        self._bytes_read = 0
        self._full = False
        self._kept: tuple[str, int] | None = None
        self._root_fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the folder."""
        self._let_go()
        os.close(self._root_fd)

    # ── what is there ──

    def real(self, path: str) -> str | None:
        """The path through no symbolic link; None, with a deviation, when it leads out of the folder."""
        inside = self._inside(path)
        if inside is None:
            self.deviations.add(
                path,
                None,
                "link-outside",
                "This leads out of the project folder; it was not read.",
                "Move what belongs to the project into its folder, or import that folder on its own.",
            )
        return inside

    def is_folder(self, path: str) -> bool:
        """Whether a folder by this path is inside the root."""
        found = self.real(path)
        return found is not None and os.path.isdir(self.root / found)

    def is_file(self, path: str) -> bool:
        """Whether a regular file by this path is inside the root."""
        return self.locate(path) is not None

    def locate(self, path: str) -> str | None:
        """The real path of the file named so, or None when there is none inside the root."""
        found = self.real(path)
        return found if found and os.path.isfile(self.root / found) else None

    def listing(self, path: str) -> Listing:
        """The folder's entries in order of name; empty, with a deviation, when it cannot be read."""
        if path not in self._listings:
            self._listings[path] = self._list(path)
        return self._listings[path]

    def walk(self, path: str) -> Iterator[str]:
        """The files below a folder, each once, sorted; hidden folders and those with foreign code are left out."""
        start = self.real(path)
        if start is None or not os.path.isdir(self.root / start):
            return
        seen, stack = {start}, [start]
        while stack:
            listing = self.listing(stack.pop())
            yield from (
                real for name, real in listing.files.items() if not name.startswith(".") or name == ".memlog.md"
            )
            for name, real in reversed(listing.folders.items()):
                if name in SKIPPED or name.startswith(".") or real in seen or real.count("/") >= DEPTH_LIMIT:
                    continue
                seen.add(real)
                stack.append(real)

    def _inside(self, path: str) -> str | None:
        target = Path(os.path.realpath(self.root / path))
        if not target.is_relative_to(self.root):
            return None
        inside = target.relative_to(self.root).as_posix()
        return "" if inside == "." else inside

    def _list(self, path: str) -> Listing:
        listing = Listing({}, {})
        if self._listed > LISTED_LIMIT:
            return listing
        try:
            descriptor = self._open_folder(path)
            try:
                with os.scandir(descriptor) as entries:
                    for entry in entries:
                        self._listed += 1
                        if self._listed > LISTED_LIMIT:
                            self._report_listed(path)
                            break
                        self._sort_in(path, entry, listing)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._report_unreadable(path or ".", error)
        return Listing(dict(sorted(listing.folders.items())), dict(sorted(listing.files.items())))

    def _sort_in(self, folder: str, entry: os.DirEntry[str], listing: Listing) -> None:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_symlink():
            self._sort_in_link(path, entry.name, listing)
        elif entry.is_dir(follow_symlinks=False):
            listing.folders[entry.name] = path
        elif entry.is_file(follow_symlinks=False):
            listing.files[entry.name] = path
        else:
            self._note(path, "not-a-file", "This is a device, a pipe or a socket; it was not opened.", "Remove it.")

    def _sort_in_link(self, path: str, name: str, listing: Listing) -> None:
        target = self._inside(path)
        if target is None:
            self._note(
                path,
                "link-outside",
                "This symbolic link leads out of the project folder; it was not followed.",
                "Put the file itself into the project folder, or import the folder it leads to on its own.",
            )
        elif os.path.isdir(self.root / target):
            listing.folders[name] = target
        elif os.path.isfile(self.root / target):
            listing.files[name] = target
        else:
            self._note(path, "link-broken", "This symbolic link leads to no file or folder.", "Remove or mend it.")

    def glance(self, path: str) -> list[str]:
        """The names of the plain folders in a folder, without telling what is odd among them."""
        try:
            descriptor = self._open_folder(path)
        except OSError:
            return []
        try:
            with os.scandir(descriptor) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        finally:
            os.close(descriptor)
        return sorted(name for name in names if name.isprintable())

    def _note(self, path: str, code: str, what: str, mend: str) -> None:
        # What lies beside the BMad folders in the root is none of our business.
        if "/" in path:
            self.deviations.add(path, None, code, what, mend)

    # ── reading ──

    def read(self, path: str, generation: Generation, kind: str) -> SourceFile | None:
        """The file at a real path, kept in `files`; None, with a deviation, when it cannot or may not be read."""
        if path in self.files:
            return self.files[path]
        if path in self._refused:
            return None
        raw = self._raw(path)
        if raw is None:
            self._refused.add(path)
            return None
        self._bytes_read += len(raw)
        digest = hashlib.sha256(raw).hexdigest()
        source = SourceFile(path, raw, digest, self._decoded(path, raw), generation, kind)
        self.files[path] = source
        if len(self.files) % TOLD_EACH == 0:
            self._progress(f"{counted(len(self.files), 'file')} read")
        return source

    def settle(self, path: str, kind: str, generation: Generation | None = None) -> None:
        """Say what a file turned out to be."""
        source = self.files[path]
        self.files[path] = replace(source, kind=kind, generation=generation or source.generation)

    def _raw(self, path: str) -> bytes | None:
        if self._full or len(self.files) >= FILE_LIMIT or self._bytes_read >= TOTAL_LIMIT:
            if not self._full:
                self._report_full(path)
            return None
        parent, _, name = path.rpartition("/")
        try:
            descriptor = os.open(name, _FILE_FLAGS, dir_fd=self._kept_folder(parent))
            try:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode):
                    raise OSError("it is not a regular file")
                raw = _all_of(descriptor, found.st_size)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._report_unreadable(path, error)
            return None
        if len(raw) > BYTE_LIMIT:
            self.deviations.add(
                path,
                None,
                "too-large",
                f"The file is larger than {BYTE_LIMIT // MIB} MiB; it was not read.",
                "Split the file, or leave it out of the BMad folders.",
            )
            return None
        return raw

    def _kept_folder(self, path: str) -> int:
        """A descriptor of the folder that stays open until another one is asked for: most files lie beside the last."""
        if self._kept is None or self._kept[0] != path:
            descriptor = self._open_folder(path)
            self._let_go()
            self._kept = path, descriptor
        return self._kept[1]

    def _let_go(self) -> None:
        if self._kept is not None:
            os.close(self._kept[1])
            self._kept = None

    def _open_folder(self, path: str) -> int:
        """A descriptor of the folder, opened part by part so that no link that appears meanwhile leads out."""
        descriptor = os.dup(self._root_fd)
        for part in path.split("/") if path else ():
            try:
                below = os.open(part, _FOLDER_FLAGS, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def _decoded(self, path: str, raw: bytes) -> str | None:
        mend = "Save the file as UTF-8, then import again. Its bytes are kept as they are."
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            self.deviations.add(path, None, "not-utf-8", "The file is UTF-16, not UTF-8; it was not understood.", mend)
            return None
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            self.deviations.add(path, line, "not-utf-8", "The file is not UTF-8; it was not understood.", mend)
            return None
        at = text.find("\0")
        if at >= 0:
            self.deviations.add(
                path,
                text.count("\n", 0, at) + 1,
                "nul",
                "The file holds a NUL byte; it was not understood.",
                "Remove the NUL byte, then import again. The file's bytes are kept as they are.",
            )
            return None
        if (marked := conflict_line(text, path)) is not None:
            self.deviations.add(
                path,
                marked,
                "merge-conflict",
                "The file holds an unsettled merge of git; it was not understood.",
                "Settle the merge, then import again. The file's bytes are kept as they are.",
            )
            return None
        return text

    def _report_unreadable(self, path: str, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        self.deviations.add(
            path,
            None,
            "unreadable",
            f"This could not be read ({shown(reason)}).",
            "Make it a plain file or folder that this user may read, then import again.",
        )

    def _report_full(self, path: str) -> None:
        self._full = True
        self.deviations.add(
            path,
            None,
            "too-many-files",
            f"The limit of {FILE_LIMIT:,} files and {TOTAL_LIMIT // MIB} MiB is reached; nothing more was read.",
            "Import a smaller folder, or move what is no part of the project out of the BMad folders.",
        )

    def _report_listed(self, path: str) -> None:
        self.deviations.add(
            path or ".",
            None,
            "too-many-files",
            f"More than {LISTED_LIMIT:,} entries were met; the rest was left out.",
            "Import a smaller folder, or move what is no part of the project out of the BMad folders.",
        )


def conflict_line(text: str, path: str) -> int | None:
    """The line of the first mark that git leaves where two sides differ; what a code block of a document shows is none.

    The marks count only when all three stand there in their order: a row of equals signs alone is a heading's.
    """
    if "<<<<<<<" not in text or ">>>>>>>" not in text:
        return None
    each = markdown.prose(text) if path.lower().endswith(".md") else markdown.lines(text)
    begin = next((line for line in each if _OURS.fullmatch(line.text)), None)
    if begin is None:
        return None
    # A code block that one side opens hides nothing.
    left = [_SPLIT, _THEIRS]
    for line in markdown.lines(text, begin.start):
        if left and left[0].fullmatch(line.text):
            left.pop(0)
    return None if left else begin.number


def _all_of(descriptor: int, size: int) -> bytes:
    """What the file holds, though not more than one byte over the limit; `size` is what it should hold."""
    parts: list[bytes] = []
    left = BYTE_LIMIT + 1
    # A buffer as large as the limit for each small file costs more than the reading.
    while left and (part := os.read(descriptor, min(left, max(size + 1, 4096)))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)

"""Reads files of one folder and nothing outside it; what cannot be read becomes a deviation."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bmad_mcp.bmad_files.values import Deviation, Generation, SourceFile

FILE_CAP = 10_000
SIZE_CAP = 5 * 1024 * 1024
SKIPPED = frozenset(
    {"node_modules", ".git", ".hg", ".svn", ".venv", "venv", "__pycache__", "dist", "build", "target", ".tox", ".next"}
)


@dataclass(slots=True)
class Folder:
    """A project folder while it is read: every file once, every deviation in order."""

    root: Path
    files: dict[str, SourceFile] = field(default_factory=dict)
    deviations: list[Deviation] = field(default_factory=list)
    _capped: bool = False

    def note(self, path: str, code: str, message: str, mend: str, line: int | None = None) -> None:
        """Keep a deviation, once."""
        found = Deviation(path, line, code, message, mend)
        if found not in self.deviations:
            self.deviations.append(found)

    def exists(self, relative: str) -> bool:
        """Whether a file or folder of that path is there, without following a link at its end."""
        try:
            os.lstat(self.root / relative)
        except (OSError, ValueError):
            return False
        return self._is_inside(self.root / relative)

    def _is_inside(self, path: Path) -> bool:
        try:
            return path.parent.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError):
            return False

    def walk(self, relative: str, *, depth: int = 12) -> Iterator[str]:
        """Paths of the regular files below a folder, in order of name; links are told and not followed."""
        try:
            with os.scandir(self.root / relative) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except NotADirectoryError:
            return
        except FileNotFoundError:
            return
        except OSError as error:
            self.note(relative, "unreadable", f"The folder cannot be read: {error.strerror}.", "Give read permission.")
            return
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_symlink():
                self._note_link(path)
            elif entry.is_dir(follow_symlinks=False):
                if entry.name not in SKIPPED and depth:
                    yield from self.walk(path, depth=depth - 1)
            elif entry.is_file(follow_symlinks=False):
                yield path
            else:
                self.note(path, "not-a-file", "This is a device, pipe or socket.", "Remove it; it was left out.")

    def _note_link(self, path: str) -> None:
        try:
            inside = (self.root / path).resolve().is_relative_to(self.root)
        except (OSError, RuntimeError):
            inside = False
        where = "inside the project" if inside else "out of the project"
        self.note(
            path,
            "link" if inside else "link-outside",
            f"This is a symbolic link that leads {where}; it was not followed.",
            "Put the file itself there if it should be imported.",
        )

    def read(self, relative: str, kind: str, generation: Generation) -> SourceFile | None:
        """The file, kept byte for byte; None with a deviation when it cannot be read. A second read is free."""
        if relative in self.files:
            return self.files[relative]
        if len(self.files) >= FILE_CAP:
            if not self._capped:
                self._capped = True
                self.note(
                    relative, "too-many-files", f"Only the first {FILE_CAP:,} files were read.", "Import a smaller folder."
                )
            return None
        raw = self._bytes(relative)
        if raw is None:
            return None
        try:
            text: str | None = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            text = None
            self.note(
                relative,
                "not-utf-8",
                f"The file is not UTF-8 (byte {error.start}); it was kept as it is and not understood.",
                "Save it as UTF-8 and import again.",
                raw[: error.start].count(b"\n") + 1,
            )
        if text is not None and "\x00" in text:
            line = text[: text.index("\x00")].count("\n") + 1
            self.note(
                relative,
                "nul",
                "The file holds a NUL character; it was kept as it is and not understood.",
                "Remove the character and import again.",
                line,
            )
            text = None
        found = SourceFile(relative, raw, hashlib.sha256(raw).hexdigest(), text, generation, kind)
        self.files[relative] = found
        return found

    def _bytes(self, relative: str) -> bytes | None:
        path = self.root / relative
        if not self._is_inside(path):
            self.note(relative, "link-outside", "A folder on the way leads out of the project.", "It was not read.")
            return None
        try:
            # The last step must not be a link, whatever it was a moment ago; a pipe must not block.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.note(relative, "unreadable", f"The file cannot be read: {reason}.", "Give read permission.")
            return None
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                self.note(relative, "not-a-file", "This is a device, pipe or folder.", "It was left out.")
                return None
            if status.st_size > SIZE_CAP:
                self.note(
                    relative,
                    "too-large",
                    f"The file has {status.st_size:,} bytes; files over {SIZE_CAP:,} are not read.",
                    "Split it, as the method's sharding does.",
                )
                return None
            raw = opened.read(SIZE_CAP + 1)
        return raw if len(raw) <= SIZE_CAP else None

"""Names for the documents of an export that are safe on every system; pure."""

import re
import unicodedata

PART_LIMIT = 100
DEPTH_LIMIT = 20
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)


def safe_path(path: str) -> str:
    """The path without anything that leads elsewhere, hides, or that some system has a meaning of its own for."""
    parts = [_safe_part(one) for one in path.split("/") if one not in ("", ".")]
    return "/".join(parts[-DEPTH_LIMIT:]) or "_"


def _safe_part(part: str) -> str:
    text = unicodedata.normalize("NFC", part.encode("utf-8", "replace").decode())
    text = "".join(one if one == " " or one.isprintable() else "_" for one in _UNSAFE.sub("_", text))
    text = re.sub(r"^\.+", "_", text.strip()).rstrip(". ") or "_"
    if _RESERVED.fullmatch(text):
        text = f"_{text}"
    if len(text.encode()) <= PART_LIMIT:
        return text
    stem, dot, ending = text.rpartition(".")
    short = ending if dot and len(ending) <= 10 else ""
    kept = (stem if short else text).encode()[: PART_LIMIT - 12].decode("utf-8", "ignore").rstrip(". ")
    return f"{kept}.{short}" if short else kept


class Names:
    """The paths given so far; no two of them are the same on a system that ignores case."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def take(self, path: str, key: str) -> str:
        """A safe path for a document; `key` is its own and tells it from others when its path is taken."""
        wanted = safe_path(path)
        for one in (wanted, f"{key}/{wanted}", f"{key}-{wanted.rpartition('/')[2]}"):
            if self._is_free(one):
                self._keep(one)
                return one
        raise AssertionError(f"{key} was given a name already")

    def _is_free(self, path: str) -> bool:
        folded = path.casefold()
        around = _around(folded)
        return folded not in self._files and folded not in self._folders and self._files.isdisjoint(around)

    def _keep(self, path: str) -> None:
        folded = path.casefold()
        self._files.add(folded)
        self._folders.update(_around(folded))


def _around(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]

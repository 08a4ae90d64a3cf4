"""Collects what is not as the formats say, in words that name the place and what to do."""

from bmad_mcp.bmad_files.values import Deviation

SHOWN = 80


def shown(text: object) -> str:
    """A foreign text on one line, quoted and short enough for a sentence."""
    whole = str(text)
    return repr(whole if len(whole) <= SHOWN else whole[: SHOWN - 1] + "…")


class Deviations:
    """The deviations of one reading, in the order they were met; the same one is kept once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int | None, str, str], Deviation] = {}

    def add(self, path: str, line: int | None, code: str, message: str, mend: str) -> None:
        """Note a deviation: where, a sentence that says what is odd, and one that says what to do."""
        self._found.setdefault((path, line, code, message), Deviation(path, line, code, message, mend))

    def __len__(self) -> int:
        return len(self._found)

    def all(self) -> tuple[Deviation, ...]:
        """Every deviation so far."""
        return tuple(self._found.values())

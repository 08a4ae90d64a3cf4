"""The seam for other trackers: what a reader and a writer of a board must do."""

from typing import Protocol, runtime_checkable

from bmad_mcp.interchange.values import Board


@runtime_checkable
class BoardReader(Protocol):
    """Gives a board as values. It reads; it never writes, and knows nothing of the database."""

    @property
    def source(self) -> str:
        """The short name of the tool: small letters, digits and hyphens."""
        ...

    def read(self) -> Board:
        """The board as it is now; what is odd in it is a deviation, not an error."""
        ...


@runtime_checkable
class BoardWriter(Protocol):
    """Takes a board of values and brings it into another tool."""

    @property
    def source(self) -> str:
        """The short name of the tool: small letters, digits and hyphens."""
        ...

    def write(self, board: Board) -> None:
        """Bring the board into the tool; writing the same board twice changes nothing the second time."""
        ...

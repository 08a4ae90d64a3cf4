"""Rows as aligned lines for a terminal; control characters are shown as `?`."""

from collections.abc import Iterator, Sequence


def lines(head: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> Iterator[str]:
    """The head and the rows, column under column; `empty` where there are no rows."""
    if not rows:
        yield empty
        return
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield "".join(letter if letter.isprintable() else "?" for letter in line)

"""Counts as people read them."""


def counted(count: int, noun: str, many: str = "") -> str:
    """`1 row`, `2,004 rows`; `many` is what an s does not make of the noun, such as `memories`, or `texts are`."""
    return f"{count:,} {noun if count == 1 else many or f'{noun}s'}"

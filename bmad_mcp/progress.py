"""Progress of long work, told a sentence at a time to whoever watches."""

from collections.abc import Callable

Progress = Callable[[str], None]


def untold(_: str) -> None:
    """Progress that nobody watches."""

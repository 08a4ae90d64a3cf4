"""What the demo shows: one line for each call as it happens, and the numbers at the end."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS = ("cyan", "green", "bright_blue", "magenta", "yellow")
PLAIN_WIDTH = 120
WHO, WHAT = 7, 52
LITTLE = 40


class Screen:
    """A terminal, or a file: then the same lines come without colours."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = PLAIN_WIDTH
        self._colours: dict[str, str] = {}

    def scene(self, title: str) -> None:
        """A heading."""
        self._console.print()
        self._console.print(Text(title, style="bold"))

    def say(self, sentence: str) -> None:
        """A sentence of the narrator."""
        self._console.print(Text(f"  {_printable(sentence)}", style="italic dim"))

    def call(self, who: str, what: str, outcome: str, *, refused: bool = False) -> None:
        """A call and what came of it."""
        mark, style = ("✗", "yellow") if refused else ("→", "")
        if not self._console.is_terminal:
            line_of_text = f"  {who:<5} {_printable(what):<{WHAT}} {mark} {_printable(outcome)}"
            self._console.print(Text(line_of_text), soft_wrap=True)
            return
        colour = self._colours.setdefault(who, COLOURS[len(self._colours) % len(COLOURS)])
        line = Table.grid(padding=(0, 1))
        line.add_column(width=WHO)
        line.add_column(width=max(LITTLE // 2, min(WHAT, self._console.width - WHO - LITTLE)), overflow="fold")
        line.add_column(overflow="fold")
        line.add_row(
            Text(f"  {who}", style=f"bold {colour}"),
            Text(_printable(what), style="dim"),
            Text(f"{mark} {_printable(outcome)}", style=style),
        )
        self._console.print(line)

    def figures(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """A table of names and numbers."""
        table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
        table.add_column()
        table.add_column(overflow="fold")
        for name, figure in rows:
            table.add_row(name, Text(_printable(figure)))
        self._console.print()
        self._console.print(table)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)

"""Draws the state diagrams when the site is built (a hook of mkdocs): GitHub draws mermaid by itself, a site does not."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

BLOCK = re.compile(r'<pre><code class="language-mermaid">(.*?)</code></pre>', re.DOTALL)
MOVE = re.compile(r"(\w+) --> (\w+|\[\*\])")
END = "[*]"
WIDTH, GAP, PORT, LEAST = 110, 24, 9, 30
REACH, SPREAD = 30, 26
# Colours that are told apart by most people, one for the arrows of each state.
COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#b0508a", "#8a6d00", "#2a7fa8", "#555555")


def on_page_content(content: str, **_: Any) -> str:
    """Put a drawing in place of each block of mermaid; called by mkdocs. Raises ValueError for what it cannot draw."""
    return BLOCK.sub(lambda found: svg(html.unescape(found[1])), content)


@dataclass
class Box:
    """A state: where it stands, and the other states that its arrows on either side lead to or come from."""

    name: str
    place: int
    right: list[tuple[int, int]]
    left: list[tuple[int, int]]
    is_final: bool = False
    top: int = 0

    @property
    def height(self) -> int:
        return max(LEAST, PORT * (max(len(self.right), len(self.left)) + 1))

    def port(self, side: str, move: tuple[int, int]) -> int:
        """The height at which an arrow touches the box: in an order in which those of one side do not cross here."""
        ends: list[tuple[int, int]] = getattr(self, side)

        def order(one: tuple[int, int]) -> tuple[bool, int]:
            distance = (one[0] if one[1] == self.place else one[1]) - self.place
            return distance > 0, -distance

        return self.top + (sorted(ends, key=order).index(move) + 1) * self.height // (len(ends) + 1)


def moves_of(text: str) -> list[tuple[str, str]]:
    """The arrows of a state diagram. Raises ValueError when it is anything else."""
    first, *lines = [line.strip() for line in text.strip().splitlines()]
    found = [MOVE.fullmatch(line) for line in lines]
    if first != "stateDiagram-v2" or not all(found):
        raise ValueError(f"docs/diagrams.py draws state diagrams of `a --> b` only, not: {text[:80]!r}")
    return [(one[1], one[2]) for one in found if one]


def svg(text: str) -> str:
    """The states below each other; arrows down are on the right, arrows up on the left. A final state has two frames."""
    told = moves_of(text)
    names = list(dict.fromkeys([source for source, _ in told] + [target for _, target in told if target != END]))
    boxes = [Box(name, place, [], [], (name, END) in told) for place, name in enumerate(names)]
    moves = [(names.index(source), names.index(target)) for source, target in told if target != END]
    for move in moves:
        if move[1] != move[0] + 1:
            side = "right" if move[1] > move[0] else "left"
            for place in move:
                getattr(boxes[place], side).append(move)
    top = GAP
    for box in boxes:
        box.top = top
        top += box.height + GAP
    far = REACH + SPREAD * max((abs(source - target) for source, target in moves), default=1)
    lines = "".join(_arrows(boxes, moves, far))
    frames = "".join(_frame(box, far) for box in boxes)
    label = "States: " + ", ".join(names)
    return (
        f'<svg class="states" role="img" aria-label="{label}" viewBox="0 0 {WIDTH + 2 * far} {top}"'
        f' width="{WIDTH + 2 * far}" font-family="sans-serif" font-size="13">{lines}{frames}</svg>'
    )


def _frame(box: Box, x: int) -> str:
    inner = (
        f'<rect x="{x + 3}" y="{box.top + 3}" width="{WIDTH - 6}" height="{box.height - 6}" rx="5" fill="none"'
        ' stroke="#444"/>'
        if box.is_final
        else ""
    )
    return (
        f'<g class="state"><rect x="{x}" y="{box.top}" width="{WIDTH}" height="{box.height}" rx="7" fill="#fff"'
        f' stroke="#444"/>{inner}<text x="{x + WIDTH // 2}" y="{box.top + box.height // 2 + 5}"'
        f' text-anchor="middle">{box.name}</text></g>'
    )


def _arrows(boxes: Sequence[Box], moves: Sequence[tuple[int, int]], x: int) -> Iterator[str]:
    for move in moves:
        source, target = (boxes[place] for place in move)
        colour = COLOURS[source.place % len(COLOURS)]
        if target.place == source.place + 1:
            middle, begin, end = x + WIDTH // 2, source.top + source.height, target.top
            path, head = f"M{middle},{begin} L{middle},{end}", f"{middle},{end} -4,-8 8,0"
        else:
            side, out = ("right", 1) if target.place > source.place else ("left", -1)
            edge = x + WIDTH if out > 0 else x
            begin, end = source.port(side, move), target.port(side, move)
            bend = edge + out * (REACH + SPREAD * abs(target.place - source.place))
            path, head = f"M{edge},{begin} C{bend},{begin} {bend},{end} {edge},{end}", f"{edge},{end} {8 * out},-4 0,8"
        yield (
            f'<g class="move" stroke="{colour}" fill="none"><title>{source.name} → {target.name}</title>'
            f'<path d="{path}"/><path d="M{head.replace(" ", " l", 1)} z" fill="{colour}"/></g>'
        )

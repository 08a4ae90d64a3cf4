"""Plots as SVG, without a library: lines on logarithmic axes."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 60, 40, 30, 150
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
Line = Sequence[tuple[float, float]]


def lines(title: str, across: str, up: str, curves: dict[str, Line]) -> str:
    """An SVG with one line for each curve; values that are not positive are left out."""
    kept = {name: [(x, y) for x, y in points if x > 0 and y > 0] for name, points in curves.items()}
    every = [point for points in kept.values() for point in points]
    low_x, high_x = _decades([x for x, _ in every])
    low_y, high_y = _decades([y for _, y in every])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (math.log10(x) - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (math.log10(y) - low_y) / (high_y - low_y) * (HEIGHT - BOTTOM - TOP),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-size="13">{escape(title)}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 6}">{escape(across)}</text>',
        f'<text x="4" y="{TOP - 4}">{escape(up)}</text>',
    ]
    for exponent in range(low_x, high_x + 1):
        x, y = place(10.0**exponent, 10.0**low_y)
        parts.append(f'<text x="{x:.0f}" y="{y + 14:.0f}" text-anchor="middle">{10.0**exponent:g}</text>')
    for exponent in range(low_y, high_y + 1):
        x, y = place(10.0**low_x, 10.0**exponent)
        end = WIDTH - RIGHT
        parts.append(f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{end}" y2="{y:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 4:.0f}" y="{y + 4:.0f}" text-anchor="end">{10.0**exponent:g}</text>')
    for number, (name, points) in enumerate(kept.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [place(x, y) for x, y in points]
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2"'
            f' points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        parts.append(
            f'<text x="{WIDTH - RIGHT + 10}" y="{TOP + 14 * number + 10}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low = math.floor(math.log10(min(values)))
    return low, max(math.ceil(math.log10(max(values))), low + 1)

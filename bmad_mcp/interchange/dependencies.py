"""What waits for what: from the items of a board to its tasks, without circles; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bmad_mcp.interchange.values import Item

Node = TypeVar("Node")
Edge = tuple[str, str]
# The refs along the circle; the first and the last are the same.
Circle = tuple[str, ...]
EDGE_LIMIT = 200_000
SHOWN = 8


def settled_parents(items: Sequence[Item]) -> tuple[dict[str, str | None], list[str]]:
    """Each item's parent, and the items whose parent was left out: it is not there, or lies inside the item."""
    known = {item.ref for item in items}
    parents = {item.ref: item.parent if item.parent in known else None for item in items}
    left_out = [item.ref for item in items if item.parent is not None and parents[item.ref] is None]
    # Only a circle never comes to an end; each item is walked over once.
    safe: set[str] = set()
    for ref in parents:
        way: dict[str, None] = {}
        at: str | None = ref
        while at is not None and at not in safe and at not in way:
            way[at] = None
            at = parents[at]
        if at is not None and at in way:
            parents[at] = None
            left_out.append(at)
        safe.update(way)
    return parents, left_out


class Tree:
    """The items of a board with their parts, and the tasks that each stands for."""

    def __init__(self, parents: Mapping[str, str | None]) -> None:
        self.parents = parents
        self._children: dict[str, list[str]] = {}
        for ref, parent in parents.items():
            if parent is not None:
                self._children.setdefault(parent, []).append(ref)
        # The items without parts in one row, and which piece of it each item is; so no item is walked over twice.
        self._row: list[str] = []
        self._piece: dict[str, tuple[int, int]] = {}
        stack = [(ref, False) for ref, parent in parents.items() if parent is None]
        begin: dict[str, int] = {}
        while stack:
            ref, is_left = stack.pop()
            if is_left:
                self._piece[ref] = begin[ref], len(self._row)
                continue
            begin[ref] = len(self._row)
            stack.append((ref, True))
            below = self._children.get(ref)
            if below:
                stack.extend((one, False) for one in reversed(below))
            else:
                self._row.append(ref)

    def parts(self, ref: str) -> Sequence[str]:
        """The direct parts of an item."""
        return self._children.get(ref, ())

    def leaves(self, ref: str) -> Sequence[str]:
        """The items below that have no parts; the item itself when it has none."""
        begin, end = self._piece[ref]
        return self._row[begin:end]

    def overlap(self, one: str, other: str) -> bool:
        """Whether two items stand for some of the same tasks: one is the other, or a part of it."""
        (begin, end), (other_begin, other_end) = self._piece[one], self._piece[other]
        return begin < other_end and other_begin < end


@dataclass(slots=True)
class Waiting:
    """Which tasks wait for which, and the edges between items that had to be left out, each with its circle."""

    of_task: dict[str, list[str]] = field(default_factory=dict)
    circles: list[tuple[Edge, Circle]] = field(default_factory=list)
    is_cut: bool = False


def waiting(edges: Iterable[Edge], tree: Tree) -> Waiting:
    """The edges between items as edges between their tasks; what would close a circle is left out."""
    found = Waiting()
    told: list[Edge] = []
    for one, other in dict.fromkeys(edges):
        if tree.overlap(one, other):
            found.circles.append(((one, other), (one, other, one) if one != other else (one, other)))
        else:
            told.append((one, other))
    origins: dict[Edge, list[Edge]] = {}
    ends = _Ends(told, tree)
    count = 0
    for edge in told:
        begin, end = ends.first(edge[0]), ends.last(edge[1])
        count += len(begin) * len(end)
        if count > EDGE_LIMIT:
            found.is_cut = True
            break
        for one in begin:
            for other in end:
                origins.setdefault((one, other), []).append(edge)
    closing = _closing(origins)
    left_out = {origin: circle for edge, circle in closing for origin in origins[edge]}
    found.circles += left_out.items()
    for (one, other), told_by in origins.items():
        if any(origin not in left_out for origin in told_by):
            found.of_task.setdefault(one, []).append(other)
    return found


class _Ends:
    """Where an item's tasks begin and end: those that wait for none of the others, and those no other waits for."""

    def __init__(self, edges: Iterable[Edge], tree: Tree) -> None:
        self._tree = tree
        self._ahead: dict[str, set[str]] = {}
        for one, other in edges:
            if not tree.parts(one) and not tree.parts(other):
                self._ahead.setdefault(one, set()).add(other)
        self._first: dict[str, Sequence[str]] = {}
        self._last: dict[str, Sequence[str]] = {}

    def first(self, ref: str) -> Sequence[str]:
        if ref not in self._first:
            leaves = self._tree.leaves(ref)
            own = frozenset(leaves)
            begin = tuple(leaf for leaf in leaves if own.isdisjoint(self._ahead.get(leaf, ())))
            self._first[ref] = begin or leaves
        return self._first[ref]

    def last(self, ref: str) -> Sequence[str]:
        if ref not in self._last:
            leaves = self._tree.leaves(ref)
            awaited = {other for leaf in leaves for other in self._ahead.get(leaf, ())}
            self._last[ref] = tuple(leaf for leaf in leaves if leaf not in awaited) or leaves
        return self._last[ref]


def _closing(edges: Iterable[Edge]) -> list[tuple[Edge, Circle]]:
    """Edges whose removal leaves no circle, each with the circle that it closes."""
    ahead: dict[str, list[str]] = {}
    for one, other in edges:
        ahead.setdefault(one, []).append(other)
    found: list[tuple[Edge, Circle]] = []
    done: set[str] = set()
    for start in ahead:
        if start in done:
            continue
        way, on_way, left = [start], {start: 0}, [iter(ahead[start])]
        while left:
            following = next(left[-1], None)
            if following is None:
                left.pop()
                last = way.pop()
                del on_way[last]
                done.add(last)
            elif following in on_way:
                circle = way[on_way[following] :]
                shown = circle if len(circle) < SHOWN else [*circle[: SHOWN - 2], "…", circle[-1]]
                found.append(((way[-1], following), (*shown, following)))
            elif following not in done:
                on_way[following] = len(way)
                way.append(following)
                left.append(iter(ahead.get(following, ())))
    return found


def closes_circle(task: Node, awaited: Node, ahead: Mapping[Node, Iterable[Node]]) -> bool:
    """Whether the awaited task waits for the task already, over any number of steps."""
    seen, stack = {awaited}, [awaited]
    while stack:
        one = stack.pop()
        if one == task:
            return True
        new = [following for following in ahead.get(one, ()) if following not in seen]
        seen.update(new)
        stack.extend(new)
    return False

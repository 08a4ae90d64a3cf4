"""What the import of a board did or would do, for a terminal and as JSON."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bmad_mcp.bmad_files.report import Counts, conflict_lines, wrapped
from bmad_mcp.bmad_files.steps import KINDS, PLURALS, Conflict, Create, Gone, Keep, Kind, Step, Update
from bmad_mcp.bmad_files.values import Deviation
from bmad_mcp.counts import counted
from bmad_mcp.interchange.shaping import Wanted

KEYS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class BoardReport:
    """The outcome of an import; `updated` names what was changed, by kind."""

    project: str
    source: str
    title: str
    place: str
    dry_run: bool
    counts: Mapping[Kind, Counts]
    updated: Mapping[Kind, tuple[str, ...]]
    dependencies: int
    deviations: tuple[Deviation, ...]
    conflicts: tuple[Conflict, ...]
    gone: tuple[Gone, ...]

    @classmethod
    def of(cls, wanted: Wanted, steps: Sequence[Step], *, project: str, place: str, dry_run: bool) -> "BoardReport":
        """The report of a plan that was, or would be, carried out."""
        made = Counter(step.kind for step in steps if isinstance(step, Create))
        changed = Counter(step.kind for step in steps if isinstance(step, Update))
        kept = Counter(step.kind for step in steps if isinstance(step, Keep))
        updated: dict[Kind, list[str]] = {}
        for step in steps:
            if isinstance(step, Update):
                told = [name for name in step.changed if name not in ("content_hash", "story_open")]
                updated.setdefault(step.kind, []).append(f"{step.key} ({', '.join(told)})" if told else step.key)
        return cls(
            project=project,
            source=wanted.source,
            title=wanted.title,
            place=place,
            dry_run=dry_run,
            counts={
                kind: Counts(made[kind], changed[kind], kept[kind])
                for kind in KINDS
                if made[kind] or changed[kind] or kept[kind]
            },
            updated={kind: tuple(names) for kind, names in updated.items()},
            dependencies=sum(len(row.waits_for) for row in wanted.tasks),
            deviations=wanted.deviations,
            conflicts=tuple(step for step in steps if isinstance(step, Conflict)),
            gone=tuple(step for step in steps if isinstance(step, Gone)),
        )

    @property
    def changes(self) -> int:
        """How many rows were, or would be, written."""
        return sum(one.created + one.updated for one in self.counts.values())

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {
            "project": self.project,
            "source": self.source,
            "title": self.title,
            "place": self.place,
            "dry_run": self.dry_run,
            "changes": self.changes,
            "counts": {kind: asdict(one) for kind, one in self.counts.items()},
            "updated": {kind: list(names) for kind, names in self.updated.items()},
            "dependencies": self.dependencies,
            "deviations": [asdict(one) for one in self.deviations],
            "conflicts": [asdict(one) for one in self.conflicts],
            "gone": [asdict(one) for one in self.gone],
        }

    def render(self) -> str:
        """The report as plain text, the same for the same outcome."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        verb = "Plan to import" if self.dry_run else "Imported"
        place = f" ({self.place})" if self.place else ""
        yield from wrapped(f"{verb} {self.title}{place} into project {self.project}", "", "  ")
        yield ""
        yield f"{'':<18}{'new':>8}{'changed':>9}{'same':>8}"
        for kind, counts in self.counts.items():
            fact = (
                f"   {counted(self.dependencies, 'dependency', 'dependencies')}"
                if kind == "task" and self.dependencies
                else ""
            )
            yield f"{PLURALS[kind]:<18}{counts.created:>8}{counts.updated:>9}{counts.kept:>8}{fact}"
        if self.updated:
            yield ""
            yield "Changed:"
        for kind, names in self.updated.items():
            more = f" and {len(names) - KEYS_SHOWN} more" if len(names) > KEYS_SHOWN else ""
            yield from wrapped(f"{PLURALS[kind]}: {', '.join(names[:KEYS_SHOWN])}{more}", "  ", "    ")
        yield from conflict_lines(self.conflicts, "the database keeps its own.")
        if self.gone:
            yield ""
            yield f"Not on the board any more: {len(self.gone)}. Nothing was deleted."
        for one in self.gone:
            yield from wrapped(f"{one.kind} {one.key} ({one.path}): {one.mend}", "  ", "    ")
        if self.deviations:
            yield ""
            yield f"Deviations: {len(self.deviations)}. Every file is kept as it is."
        for each in self.deviations:
            where = f"{each.path}:{each.line}" if each.line else each.path
            yield from wrapped(f"{where}: {each.message} {each.mend}", "  ", "    ")
        yield ""
        yield self._summary()

    def _summary(self) -> str:
        if not self.changes:
            return "Nothing to change." if self.dry_run else "Nothing changed."
        if self.dry_run:
            return f"{counted(self.changes, 'row')} would be written. Nothing was written: this was a dry run."
        return f"{counted(self.changes, 'row was', 'rows were')} written."

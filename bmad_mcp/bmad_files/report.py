"""What an import did or would do, for a terminal and as JSON."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bmad_mcp.bmad_files.rows import Wanted
from bmad_mcp.bmad_files.steps import KINDS, PLURALS, Conflict, Create, Gone, Keep, Kind, Step, Update
from bmad_mcp.bmad_files.values import Deviation
from bmad_mcp.counts import counted

WIDTH = 110
KEYS_SHOWN = 400
_UNTOLD = frozenset({"content_hash", "file_hash", "source_path", "extra"})
_COLUMNS = {"raw_status": "word for the status", "tracker_status": "tracker", "source_ref": "place in the file"}


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of a kind were made, changed and left as they are."""

    created: int = 0
    updated: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The outcome of an import; `created` and `updated` name what was written, by kind."""

    project: str
    folder: str
    dry_run: bool
    generations: tuple[str, ...]
    counts: Mapping[Kind, Counts]
    facts: Mapping[Kind, str]
    created: Mapping[Kind, tuple[str, ...]]
    updated: Mapping[Kind, tuple[str, ...]]
    deviations: tuple[Deviation, ...]
    conflicts: tuple[Conflict, ...]
    gone: tuple[Gone, ...]

    @classmethod
    def of(cls, wanted: Wanted, steps: Sequence[Step], *, project: str, folder: str, dry_run: bool) -> "ImportReport":
        """The report of a plan that was, or would be, carried out."""
        made = Counter(step.kind for step in steps if isinstance(step, Create))
        changed = Counter(step.kind for step in steps if isinstance(step, Update))
        kept = Counter(step.kind for step in steps if isinstance(step, Keep))
        counts = {
            kind: Counts(made[kind], changed[kind], kept[kind])
            for kind in KINDS
            if made[kind] or changed[kind] or kept[kind]
        }
        return cls(
            project=project,
            folder=folder,
            dry_run=dry_run,
            generations=wanted.generations,
            counts=counts,
            facts=_facts(wanted),
            created=_keys(step for step in steps if isinstance(step, Create)),
            updated=_keys(step for step in steps if isinstance(step, Update)),
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
            "folder": self.folder,
            "dry_run": self.dry_run,
            "generations": list(self.generations),
            "changes": self.changes,
            "counts": {kind: asdict(one) for kind, one in self.counts.items()},
            "created": {kind: list(keys) for kind, keys in self.created.items()},
            "updated": {kind: list(keys) for kind, keys in self.updated.items()},
            "deviations": [asdict(one) for one in self.deviations],
            "conflicts": [asdict(one) for one in self.conflicts],
            "gone": [asdict(one) for one in self.gone],
        }

    def render(self) -> str:
        """The report as plain text, the same for the same outcome."""
        return "\n".join(_lines(self)) + "\n"


def _keys(steps: Iterable[Create | Update]) -> dict[Kind, tuple[str, ...]]:
    found: dict[Kind, list[str]] = {}
    for step in steps:
        name = step.key.split(" ", 1)[-1] if step.kind not in ("file", "task") else step.key
        found.setdefault(step.kind, []).append(name + _what(step))
    return {kind: tuple(keys) for kind, keys in found.items()}


def _what(step: Create | Update) -> str:
    if isinstance(step, Create):
        return ""
    if "source" in step.changed:
        return " (was built in)" if step.kind != "file" else " (was recorded by a tool)"
    columns = [_COLUMNS.get(name, name) for name in step.changed if name not in _UNTOLD]
    if step.back:
        columns[columns.index("status")] = f"status {step.back}"
    return f" ({', '.join(columns)})" if columns else ""


def _facts(wanted: Wanted) -> dict[Kind, str]:
    items = sum(len(row.values["items"]) for row in wanted.checklists)
    stages = sum(len(row.values["body"]["stages"]) for row in wanted.templates if row.kind == "workflow")
    gates = sum(row.merged["gate"] is not None for row in wanted.stories)
    done = sum(box.done for row in wanted.stories for box in row.boxes)
    told: dict[Kind, str] = {
        "checklist": counted(items, "item"),
        "workflow": counted(stages, "stage"),
        "story": f"{gates} with a gate",
        "task": f"{done} done",
    }
    return {kind: text for kind, text in told.items() if not text.startswith("0 ")}


def _lines(report: ImportReport) -> Iterator[str]:
    verb = "Plan to import" if report.dry_run else "Imported"
    yield f"{verb} {report.folder} into project {report.project}"
    yield f"Found: {', '.join(report.generations) or 'nothing of BMad'}"
    yield ""
    yield f"{'':<18}{'new':>8}{'changed':>9}{'same':>8}"
    for kind, counts in report.counts.items():
        fact = f"   {report.facts[kind]}" if kind in report.facts else ""
        yield f"{PLURALS[kind]:<18}{counts.created:>8}{counts.updated:>9}{counts.kept:>8}{fact}"
    yield from _named("New", report.created)
    yield from _named("Changed", report.updated)
    yield from conflict_lines(report.conflicts, "the database keeps its own.")
    yield from _gone(report.gone)
    yield from _deviations(report.deviations)
    yield ""
    yield _summary(report)


def _named(heading: str, named: Mapping[Kind, tuple[str, ...]]) -> Iterator[str]:
    listed = {kind: keys for kind, keys in named.items() if kind not in ("project", "memory")}
    # Boxes are told by their stories, and new files by their number: nobody reads 500 paths.
    if heading == "New":
        listed = {kind: keys for kind, keys in listed.items() if kind not in ("task", "file")}
    if not listed:
        return
    yield ""
    yield f"{heading}:"
    for kind, keys in listed.items():
        more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
        text = f"{PLURALS[kind]}: {', '.join(keys[:KEYS_SHOWN])}{more}"
        yield from wrapped(text, "  ", "    ")


def conflict_lines(conflicts: Sequence[Conflict], outcome: str) -> Iterator[str]:
    """The conflicts with both sides and how to settle each; `outcome` says what happened to them."""
    if conflicts:
        yield ""
        yield f"Conflicts: {len(conflicts)}. Both sides changed; {outcome}"
    for one in conflicts:
        yield from wrapped(f"{one.kind} {one.key}, {one.field}" + (f" ({one.path})" if one.path else ""), "  ", "    ")
        yield from wrapped(f"file:     {one.file or '(empty)'}", "    ", "              ")
        yield from wrapped(f"database: {one.database or '(empty)'}", "    ", "              ")
        yield from wrapped(one.mend, "    ", "    ")


def _gone(gone: Sequence[Gone]) -> Iterator[str]:
    if gone:
        yield ""
        yield f"Not in the files any more: {len(gone)}. Nothing was deleted."
    for one in gone:
        path = f" ({one.path})" if one.path and one.path != one.key else ""
        yield from wrapped(f"{one.kind} {one.key}{path}: {one.mend}", "  ", "    ")


def _deviations(deviations: Sequence[Deviation]) -> Iterator[str]:
    if deviations:
        yield ""
        yield f"Deviations: {len(deviations)}. Nothing was left out for them unless it says so."
    for one in deviations:
        where = f"{one.path}:{one.line}" if one.line else one.path
        yield from wrapped(f"{where}: {one.message} {one.mend}", "  ", "    ")


def wrapped(text: str, first: str, rest: str) -> list[str]:
    """Lines of at most 110 columns; what a terminal would obey is shown as `?`."""
    safe = "".join(letter if letter.isprintable() else "?" for letter in text)
    return textwrap.wrap(
        safe, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _summary(report: ImportReport) -> str:
    changes, would = report.changes, "would be" if report.dry_run else "were"
    if not changes:
        return "Nothing to change." if report.dry_run else "Nothing changed."
    last = " Nothing was written: this was a dry run." if report.dry_run else ""
    return f"{counted(changes, 'row')} {would if changes > 1 or report.dry_run else 'was'} written.{last}"

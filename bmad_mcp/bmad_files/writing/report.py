"""What an export did or would do, for a terminal and as JSON."""

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bmad_mcp.bmad_files.report import conflict_lines, wrapped
from bmad_mcp.bmad_files.steps import Conflict
from bmad_mcp.bmad_files.writing.draft import ExportPlan, FileChange
from bmad_mcp.counts import counted
from bmad_mcp.told_commands import on_folder

SHOWN = 40
DIFF_LINES = 400


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was, or would be, written; `diff` is a unified diff, empty where it was not asked for.

    `sha256` is that of the new content.
    """

    path: str
    is_new: bool
    reasons: tuple[str, ...]
    sha256: str
    diff: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that could not be written, and what to do."""

    path: str
    message: str
    mend: str


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The outcome of an export.

    `newer` is what was changed in the files and not imported yet, `gone` what was imported and has no file any more.
    `unwritten` are recorded documents whose paths are never written, each with the reason; `only_here` are stories with
    points or a priority, which no file holds.
    """

    project: str
    folder: str
    dry_run: bool
    files: tuple[WrittenFile, ...]
    refused: tuple[Refused, ...]
    conflicts: tuple[Conflict, ...]
    newer: tuple[str, ...]
    gone: tuple[str, ...]
    unwritten: tuple[str, ...] = ()
    only_here: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, plan: ExportPlan, refused: Mapping[str, Refused], *, project: str, folder: str, dry_run: bool
    ) -> "ExportReport":
        """The report of a plan that was, or would be, carried out."""
        files = [
            WrittenFile(
                path=one.path,
                is_new=one.before is None,
                reasons=tuple(one.reasons),
                sha256=hashlib.sha256(one.text.encode()).hexdigest(),
                diff=diff_of(one) if dry_run else "",
            )
            for one in plan.changes.values()
            if one.path not in refused
        ]
        return cls(
            project=project,
            folder=folder,
            dry_run=dry_run,
            files=tuple(sorted(files, key=lambda one: one.path)),
            refused=tuple(refused.values()),
            conflicts=tuple(plan.conflicts),
            newer=tuple(plan.newer),
            gone=tuple(plan.gone),
            unwritten=tuple(plan.unwritten),
            only_here=tuple(plan.only_here),
        )

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return asdict(self)

    def render(self) -> str:
        """The report as plain text, the same for the same outcome."""
        return "\n".join(_lines(self)) + "\n"


def diff_of(change: FileChange) -> str:
    """What changes in a file, as a unified diff."""
    before = change.before.text or "" if change.before else ""
    rows = difflib.unified_diff(
        before.splitlines(keepends=True),
        change.text.splitlines(keepends=True),
        "/dev/null" if change.before is None else f"a/{change.path}",
        f"b/{change.path}",
    )
    return "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)


def _lines(report: ExportReport) -> Iterator[str]:
    verb = "Plan to export" if report.dry_run else "Exported"
    yield f"{verb} project {report.project} into {report.folder}"
    if report.files:
        yield ""
    for file in report.files:
        yield from wrapped(
            f"{'new    ' if file.is_new else 'changed'} {file.path}: {_reasons(file.reasons)}", "  ", "    "
        )
    if report.dry_run:
        yield from _diffs(report.files)
    yield from _refused(report.refused)
    yield from conflict_lines(report.conflicts, "neither was changed here.")
    run = f"Run: {on_folder('import', report.folder, report.project)}"
    yield from _listed("Newer in the files, not imported yet", report.newer, run)
    yield from _listed("Not in the files any more, so not written", report.gone, "Nothing to do if that is right.")
    yield from _unwritten(report.unwritten)
    mend = "BMad's files have no place for points and priorities; story_get shows them."
    yield from _listed("Stories with points or a priority of their own, only in the database", report.only_here, mend)
    yield ""
    yield _summary(report)


def _reasons(reasons: Sequence[str]) -> str:
    more = f" and {len(reasons) - 8} more" if len(reasons) > 8 else ""
    return "; ".join(reasons[:8]) + more


def _diffs(files: Sequence[WrittenFile]) -> Iterator[str]:
    for file in files:
        rows = file.diff.split("\n")[:-1]
        yield ""
        # A diff is shown as it is, but for what a terminal would obey.
        yield from (
            "".join(one if one.isprintable() or one == "\t" else "?" for one in row) for row in rows[:DIFF_LINES]
        )
        if len(rows) > DIFF_LINES:
            yield f"… {counted(len(rows) - DIFF_LINES, 'more line')}; --json has them all."


def _refused(refused: Sequence[Refused]) -> Iterator[str]:
    if refused:
        yield ""
        yield f"Not written: {len(refused)}. The files are as they were."
    for one in refused:
        yield from wrapped(f"{one.path}: {one.message} {one.mend}", "  ", "    ")


def _unwritten(unwritten: Sequence[str]) -> Iterator[str]:
    if unwritten:
        yield ""
        yield f"Only in the database: {len(unwritten)}. artifact_get shows each; to have it as a file, record its text"
        yield "under a path among the project's documents, such as docs/notes.md."
    for one in unwritten[:SHOWN]:
        yield from wrapped(one, "  ", "    ")
    if len(unwritten) > SHOWN:
        yield f"  and {len(unwritten) - SHOWN} more; --json has them all."


def _listed(heading: str, what: Sequence[str], mend: str) -> Iterator[str]:
    if what:
        yield ""
        yield f"{heading}: {len(what)}. {mend}"
        more = f" and {len(what) - SHOWN} more" if len(what) > SHOWN else ""
        yield from wrapped(", ".join(what[:SHOWN]) + more, "  ", "  ")


def _summary(report: ExportReport) -> str:
    count = len(report.files)
    if not count:
        differs = report.conflicts or report.refused or report.newer or report.gone
        return "Nothing was written." if differs else "The files say what the database says."
    if report.dry_run:
        return f"{counted(count, 'file')} would be written. Nothing was written: this was a dry run."
    return f"{counted(count, 'file was', 'files were')} written."

"""The text of files that a project does not have yet, in the style of its generation."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bmad_mcp.bmad_files.writing.yaml_edit import block, scalar
from bmad_mcp.shapes import one_line
from bmad_mcp.stories.sections import bare, framed
from bmad_mcp.stories.wording import acceptance_list, story_sentence

Rows = Sequence[Mapping[str, Any]]


def story_text(key: str, title: str, status: str, sections: Rows, *, is_v6: bool) -> str:
    """A story's file: its title, its status where its generation puts it, and its sections."""
    told = f"Status: {status}\n\n" if is_v6 else f"## Status\n\n{status}\n\n"
    parts = [f"# Story {key}: {one_line(title)}\n\n{told}"]
    for section in sections:
        level = max(1, min(int(section["level"]), 6))
        parts.append(f"{'#' * level} {section['name']}\n{framed(bare(section['text']))}")
        if not parts[-1].endswith("\n\n"):
            parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def epic_text(key: str, title: str, goal: str, *, is_v6: bool) -> str:
    """An epic's heading and goal, as an epics document has them."""
    mark = ":" if is_v6 else ""
    body = f"\n{goal.strip()}\n" if goal.strip() else ""
    return f"## Epic {key}{mark} {one_line(title)}\n{body}"


def epic_story_text(key: str, story: Mapping[str, Any], like: str | None, *, is_v6: bool) -> str:
    """A story's heading and wish, as an epics document has them; `like` is the heading of another story there."""
    match = re.match(r" {0,3}(#{1,6})\s*\**Story[\s-]{1,20}[0-9]{1,6}\.[0-9]{1,6}[a-z]?(\s*[:.–—-]?)", like or "", re.I)
    marks, after = (match[1], match[2].strip()) if match else ("###", ":" if is_v6 else "")
    parts = [f"{marks} Story {key}{after} {one_line(story['title'])}\n"]
    if wish := story_sentence(story["role"], story["want"], story["benefit"], mark=""):
        parts.append(f"{wish}.\n")
    if criteria := acceptance_list(story["acceptance"]):
        parts.append(f"**Acceptance Criteria:**\n\n{criteria}\n")
    return "\n".join(parts)


GATE_KEYS = (
    ("gate", "gate"),
    ("reason", "status_reason"),
    ("reviewer", "reviewer"),
    ("updated", "updated"),
    ("score", "quality_score"),
    ("issues", "top_issues"),
    ("waiver", "waiver"),
    ("nfr", "nfr_validation"),
    ("risk", "risk_summary"),
    ("history", "history"),
)


def gate_values(gate: Mapping[str, Any]) -> dict[str, Any]:
    """A stored gate under the keys of a gate's file."""
    told = {theirs: gate[ours] for ours, theirs in GATE_KEYS if gate.get(ours) not in (None, "", [], {})}
    told.setdefault("status_reason", "")
    told.setdefault("reviewer", "")
    told.setdefault("updated", "")
    told.setdefault("top_issues", [])
    told["waiver"] = {"active": False} if "waiver" not in told else {"active": True, **told["waiver"]}
    return told


def gate_text(key: str, title: str, gate: Mapping[str, Any]) -> str:
    """A gate's file."""
    told = gate_values(gate)
    lines = ["schema: 1", f"story: '{key}'", f"story_title: {scalar(one_line(title))}"]
    for name, value in told.items():
        if name == "waiver" and value == {"active": False}:
            lines.append("waiver: {active: false}")
        elif isinstance(value, dict | list) and value:
            lines.append(block(name, value).removesuffix("\n"))
        else:
            lines.append(f"{name}: {_quoted(value)}")
    return "\n".join(lines) + "\n"


def _quoted(value: Any) -> str:
    # A time without quotes would be read as a date by other tools.
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value):
        return f"'{value}'"
    return scalar(value)

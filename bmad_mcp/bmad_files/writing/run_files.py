"""The file that tells a run of a checklist: what was checked, with what result."""

import re
from collections.abc import Mapping
from typing import Any

from bmad_mcp.bmad_files.epics import slug
from bmad_mcp.bmad_files.writing.yaml_edit import scalar

MARKS = {"pass": "x", "fail": "!", "partial": "~", "na": "N/A"}
Record = Mapping[str, Any]


def run_path(folder: str, checklist: str, run: Record) -> str:
    """Where a run is told: `docs/qa/checklists/1.2-story-dod-20261123T101500.md`."""
    # To the microsecond: two runs of a moment are two files.
    at = re.sub(r"[^0-9T]", "", str(run["at"]).partition("+")[0].removesuffix("Z"))
    subject = re.sub(r"^(?:story|task|epic)\s+", "", str(run["subject"]).strip(), flags=re.IGNORECASE)
    subject = subject if re.fullmatch(r"[0-9]+(?:\.[0-9]+[a-z]?)?", subject) else slug(subject)
    return f"{folder}/{subject}-{slug(checklist)}-{at}.md"


def run_text(checklist: Record, run: Record) -> str:
    """The checklist with a mark in each box: x met, ! not met, ~ partly, N/A not applicable, blank not answered."""
    told = {one["item"]: one for one in run["results"]}
    head = {name: run[name] for name in ("subject", "gate", "score", "at", "agent") if run.get(name) not in (None, "")}
    lines = ["---", f"checklist: {scalar(checklist['name'])}"]
    lines += [f"{name}: {scalar(value)}" for name, value in head.items()]
    lines += ["---", "", f"# {_line(checklist['title'])}", ""]
    section = None
    for number, item in enumerate(checklist["items"], start=1):
        if item["section"] != section:
            section = item["section"]
            lines += [*([""] if lines[-1] else []), f"## {_line(section)}", ""] if section else []
        result = told.get(number, {})
        lines.append(f"- [{MARKS.get(result.get('mark', ''), ' ')}] {_line(item['text'])}")
        if result.get("note"):
            lines.append(f"  - {_line(result['note'])}")
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(str(text).split())

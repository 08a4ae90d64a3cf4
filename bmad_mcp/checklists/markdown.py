"""A checklist as people tick it."""

from bmad_mcp.checklists.schemas import ChecklistOut


def checklist_markdown(checklist: ChecklistOut) -> str:
    """Markdown with a box and a number for each item."""
    lines = [f"# {_line(checklist.title)}", ""]
    for section in checklist.sections:
        lines += [f"## {_line(section.section)}", ""] if section.section else []
        lines += [*(f"- [ ] {number}. {_indented(text)}" for number, text in section.items.items()), ""]
    return "\n".join(lines).strip() + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())


def _indented(text: str) -> str:
    """An item of several lines stays one item."""
    return text.strip().replace("\n", "\n  ")

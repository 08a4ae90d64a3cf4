"""What goes out about skills."""

from bmad_mcp.shapes import Out


class SkillBrief(Out):
    """A skill by its name; `digest` is the SHA-256 of its text in UTF-8, which has `bytes` bytes."""

    skill: str
    kind: str
    description: str
    digest: str
    bytes: int


class SkillPage(Out):
    """A page of skills."""

    items: list[SkillBrief]
    next_cursor: str | None


class SkillOut(SkillBrief):
    """A skill with the text of its SKILL.md."""

    text: str

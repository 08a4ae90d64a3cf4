"""The pages of the docs, their fenced blocks, and the commands in these."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugin").rglob("*.md")]
    if path.name != "CHANGELOG.md"
)
FENCE = re.compile(r"^( *)(`{3,})([^\n]*)\n(.*?)^\1\2[ ]*$", re.DOTALL | re.MULTILINE)
# Commands to type, alone or with what they print.
COMMANDS = ("sh", "console")


class Block(NamedTuple):
    """A fenced block: its page below the root, its language, its text, and its place among those of that language."""

    page: str
    language: str
    text: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.page} {self.language} {self.number}"

    @property
    def commands(self) -> list[str]:
        """The lines to type, without prompts, comments and what they print."""
        if self.language not in COMMANDS:
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [command for line in lines if (command := re.sub(r"\s+#.*", "", line))]


def blocks_of(page: Path) -> list[Block]:
    found: list[Block] = []
    for _, _, language, text in FENCE.findall(page.read_text()):
        number = sum(one.language == language for one in found) + 1
        found.append(Block(str(page.relative_to(ROOT)), language, textwrap.dedent(text), number))
    return found


def commands_of(page: Path) -> list[str]:
    """All command lines of a page, in their order."""
    return [command for block in blocks_of(page) for command in block.commands]

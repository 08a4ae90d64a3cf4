"""A persona as the few lines that an assistant needs to act as it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# In characters; about 500 tokens in all.
LONGEST = 2_000
LONGEST_LINE = 300
LONGEST_PRINCIPLE = 320
MOST_COMMANDS = 16

# What the section rights of stories say, agent by agent; a test compares the two.
MAY_EDIT: Mapping[str, tuple[str, ...]] = {
    "sm": ("Story", "Acceptance Criteria", "Tasks / Subtasks", "Dev Notes", "Testing", "Change Log"),
    "po": ("Story", "Acceptance Criteria", "Dev Notes", "Testing"),
    "pm": ("Story", "Acceptance Criteria", "Dev Notes", "Testing"),
    "dev": (
        "Tasks / Subtasks",
        "Change Log",
        "Dev Agent Record",
        "Agent Model Used",
        "Debug Log References",
        "Completion Notes List",
        "File List",
    ),
    "qa": ("Change Log", "QA Results"),
}

# Both generations of definitions say the same things under different names.
_LINES = (
    ("Role", ("role",)),
    ("Style", ("style", "communication_style")),
    ("Focus", ("focus", "identity")),
)
_PRINCIPLES = ("core_principles", "principles")


def compact(agent: str, persona: Mapping[str, Any], commands: Sequence[Any]) -> str:
    """Role, style, focus, principles, the names of the commands and what it may edit in a story; about 500 tokens."""
    lines = [
        f"{label}: {cut(text, LONGEST_LINE)}"
        for label, keys in _LINES
        if (text := " ".join(_texts(_first(persona, keys))))
    ]
    closing = [f"May edit in a story: {', '.join(MAY_EDIT.get(agent, ())) or 'nothing'}."]
    if names := command_names(commands)[:MOST_COMMANDS]:
        closing.insert(0, f"Commands: {', '.join(names)}.")
    room = LONGEST - sum(len(line) + 1 for line in [*lines, *closing])
    for principle in _texts(_first(persona, _PRINCIPLES)):
        line = f"- {cut(principle, LONGEST_PRINCIPLE)}"
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    return "\n".join([*lines, *closing])


def command_names(commands: Sequence[Any]) -> list[str]:
    """The commands by name, whichever way a definition writes them."""
    return [cut(name, 40) for name in map(_command_name, commands) if name]


def _command_name(command: Any) -> str:
    if isinstance(command, str):
        return command.split(":", 1)[0].strip()
    if isinstance(command, Mapping):
        for key in ("name", "command", "trigger", "code"):
            if isinstance(command.get(key), str):
                return str(command[key])
        return str(next(iter(command), ""))
    return ""


def cut(text: str, longest: int) -> str:
    """The text on one line, at most this long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else f"{flat[: longest - 1].rstrip()}…"


def _first(persona: Mapping[str, Any], keys: Iterable[str]) -> list[Any]:
    """What the persona has under the first of these keys that it has, as a list."""
    return next(([persona[key]] for key in keys if persona.get(key)), [])


def _texts(values: Iterable[Any]) -> list[str]:
    """The texts in values that are texts, lists or maps of texts."""
    found: list[str] = []
    for value in values:
        if isinstance(value, str):
            found += [line.lstrip("-• ").strip() for line in value.splitlines()]
        elif isinstance(value, Mapping):
            found += [f"{name}: {text}" for name, text in value.items() if isinstance(text, str)]
        elif isinstance(value, Sequence):
            found += _texts(value)
    return [text for text in found if text]

"""Reads the files of `deploy` the way a container engine does, as far as they use it."""

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"


@dataclass(frozen=True)
class Instruction:
    """One line of a Dockerfile, with those that continue it; `stage` is the name or the number of its FROM."""

    stage: str
    word: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments, of the JSON form too."""
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)

    @property
    def options(self) -> dict[str, str]:
        """`--from=build` and the like."""
        return dict(one[2:].split("=", 1) for one in self.words if one.startswith("--"))


def read_dockerfile(file: Path) -> list[Instruction]:
    """The instructions. Fails on forms that this reader does not know: variables in sources, ONBUILD, here-documents."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", file.read_text()))
    found: list[Instruction] = []
    stage, number = "", 0
    for line in filter(None, (one.strip() for one in text.splitlines())):
        word, _, rest = line.partition(" ")
        assert word in KNOWN, f"{file.name}: {word} is not known here"
        assert "<<" not in line, f"{file.name}: {line}"
        if word == "FROM":
            named = re.search(r" AS (\S+)$", rest, re.IGNORECASE)
            stage, number = named[1] if named else str(number), number + 1
        found.append(Instruction(stage, word, rest.strip()))
    return found


KNOWN = {"FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def in_context(context: Path, dockerfile: Path) -> Iterator[Path]:
    """The files that the engine gets: those that the ignore file beside the Dockerfile lets through."""
    rules = [
        line.strip()
        for line in dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    for top in context.iterdir():
        if top.name.startswith("."):
            assert not _is_let_through(top.name, rules)
            continue
        for path in [top] if top.is_file() else top.rglob("*"):
            if path.is_file() and _is_let_through(path.relative_to(context).as_posix(), rules):
                yield path


def _is_let_through(path: str, rules: list[str]) -> bool:
    is_in = True
    for rule in rules:
        pattern = rule.lstrip("!").removeprefix("**/")
        parts = path.split("/")
        if rule.lstrip("!").startswith("**/"):
            matches = any(fnmatch.fnmatch(part, pattern) for part in parts)
        else:
            matches = any(fnmatch.fnmatch("/".join(parts[: end + 1]), pattern) for end in range(len(parts)))
        if matches:
            is_in = rule.startswith("!")
    return is_in


def read_compose(file: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """The compose file with its variables filled in; fails where one that it asks for is missing."""

    def fill(match: re.Match[str]) -> str:
        name, how, text = match["name"], match["how"], match["text"]
        if name in variables:
            return variables[name]
        assert how == ":-", f"{name}: {text}"
        return text

    text = re.sub(r"\$\{(?P<name>\w+)(?P<how>:-|:\?)(?P<text>[^}]*)\}", fill, file.read_text())
    assert "${" not in text
    return dict(yaml.safe_load(text))

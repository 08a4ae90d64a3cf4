"""Where a project keeps its files: what its configuration says, with placeholders put in, never outside the folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.definitions import table
from bmad_mcp.bmad_files.deviations import shown
from bmad_mcp.bmad_files.layers import layered_config
from bmad_mcp.bmad_files.values import Generation
from bmad_mcp.bmad_files.yaml_guard import read_mapping

CORE = ".bmad-core"
OUTPUT = "_bmad-output"
PATH_LIMIT = 300
_PLACEHOLDER = re.compile(r"\{\{?([\w.-]{1,60})\}?\}")


@dataclass(frozen=True, slots=True)
class V4Places:
    """Where a v4 project keeps what it makes."""

    stories: str
    quality: str
    prd_file: str
    prd_folder: str
    epic_pattern: re.Pattern[str]
    architecture_file: str
    architecture_folder: str


@dataclass(frozen=True, slots=True)
class V6Places:
    """Where a v6 project keeps what it makes: whole folders, and the one of the documents that it only reads."""

    folders: tuple[str, ...]
    knowledge: str


def v4_places(found: Collected) -> V4Places:
    """From `core-config.yaml` (or `.yml`); what it does not say is where v4 puts it by itself."""
    path, config = "", {}
    for name in (f"{CORE}/core-config.yaml", f"{CORE}/core-config.yml"):
        if (path := found.folder.locate(name) or "") and (source := found.folder.read(path, "v4", "config")):
            config = read_mapping(source.text, path, found.deviations)
            break
    if config:
        found.config["v4"] = config

    def place(default: str, *names: str) -> str:
        value = table(config, *names[:-1]).get(names[-1])
        text = str(value).replace("{root}", CORE) if isinstance(value, str) and value.strip() else default
        inside = _inside(found, path, ".".join(names), text)
        return default if inside is None else inside

    pattern = table(config, "prd").get("epicFilePattern")
    return V4Places(
        stories=place("docs/stories", "devStoryLocation"),
        quality=place("docs/qa", "qa", "qaLocation"),
        prd_file=place("docs/prd.md", "prd", "prdFile"),
        prd_folder=place("docs/prd", "prd", "prdShardedLocation"),
        epic_pattern=_pattern(pattern if isinstance(pattern, str) else "epic-{n}*.md"),
        architecture_file=place("docs/architecture.md", "architecture", "architectureFile"),
        architecture_folder=place("docs/architecture", "architecture", "architectureShardedLocation"),
    )


def _pattern(text: str) -> re.Pattern[str]:
    # One star is enough for a name; more would let the match take very long.
    head, _, tail = text[:200].partition("*")
    parts = [re.escape(one).replace(re.escape("{n}"), "[0-9]{1,6}") for one in (head, tail.replace("*", ""))]
    return re.compile("[^/]*".join(parts) if "*" in text else parts[0], re.IGNORECASE)


def v6_places(found: Collected, root: str, generation: Generation) -> V6Places:
    """From `config.toml` with its layers and the modules' `config.yaml`; `root` is `_bmad`, `bmad` or `.bmad`."""
    told: dict[str, tuple[Any, str]] = {}
    for path in sorted(found.folder.walk(root)) if root else ():
        is_config = re.fullmatch(rf"{re.escape(root)}/[\w-]+/config\.ya?ml", path)
        if is_config and (source := found.folder.read(path, generation, "config")):
            module = read_mapping(source.text, path, found.deviations)
            told |= {name: (value, path) for name, value in module.items()}
    config = layered_config(found, root, generation) if root else {}
    for module in (table(config, "core"), *(one for one in table(config, "modules").values() if isinstance(one, dict))):
        told |= {name: (value, f"{root}/config.toml") for name, value in module.items()}
    if told:
        found.config["v6"] = {name: value for name, (value, _) in told.items()}
    if isinstance(name := told.get("project_name", ("",))[0], str) and "{" not in name:
        found.name = found.name or name
    return _v6_folders(found, told)


def _v6_folders(found: Collected, told: Mapping[str, tuple[Any, str]]) -> V6Places:
    words = {name: value for name, (value, _) in told.items() if isinstance(value, str) and len(value) <= PATH_LIMIT}
    folders: list[str] = []
    names = (
        "output_folder",
        "planning_artifacts",
        "implementation_artifacts",
        "sprint_artifacts",
        "dev_story_location",
    )
    for name in names:
        if name in words:
            folders += _resolved(found, told[name][1], name, words)
        elif isinstance(long := told.get(name, (None,))[0], str):
            _inside(found, told[name][1], name, long)
    knowledge = (
        _resolved(found, told["project_knowledge"][1], "project_knowledge", words)
        if "project_knowledge" in words
        else []
    )
    if found.folder.is_folder("{output_folder}"):
        message = "An installer left a folder with the name of a placeholder; it was read as well."
        mend = f"Move what is in it to {OUTPUT}, and run the installer with --output-folder."
        found.deviations.add("{output_folder}", None, "placeholder-folder", message, mend)
        folders.append("{output_folder}")
    top: list[str] = []
    for place in sorted(dict.fromkeys([*folders, OUTPUT, "planning-artifacts", "implementation-artifacts"])):
        if place and found.folder.is_folder(place) and not any(place.startswith(one + "/") for one in top):
            top.append(place)
    return V6Places(tuple(top), knowledge[0] if knowledge else "")


def _resolved(found: Collected, path: str, name: str, words: Mapping[str, str]) -> list[str]:
    """The folders that a setting may mean: the one it names, and, where a placeholder stays open, the usual one."""
    text = words[name].strip()
    for _ in range(5):
        text = text.replace("{project-root}/", "").replace("{project-root}", "")
        text = _PLACEHOLDER.sub(lambda match: words[match[1]] if _is_other(match[1], name, words) else match[0], text)[
            :4000
        ]
    if "{" not in text:
        inside = _inside(found, path, name, text)
        return [] if inside is None else [inside]
    usual = _PLACEHOLDER.sub(OUTPUT, text)
    message = f"`{name}` is {shown(words[name])}, and nothing says what the placeholder stands for; {usual} is used."
    found.deviations.add(path, None, "placeholder", message, "Run the installer again with --output-folder.")
    return [inside for one in (text, usual) if (inside := _inside(found, path, name, one))]


def _is_other(placeholder: str, name: str, words: Mapping[str, str]) -> bool:
    return placeholder != name and placeholder in words and f"{{{placeholder}}}" not in words[placeholder]


def _inside(found: Collected, path: str, name: str, text: str) -> str | None:
    """The path from the root, or None, with a deviation, when it leads out."""
    text = text.strip().replace("\\", "/")
    root = found.folder.root.as_posix()
    text = text.removeprefix(root + "/") if text.startswith(root + "/") else text
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts or text.startswith(("/", "~")) or re.match(r"[A-Za-z]:", text) or len(text) > PATH_LIMIT:
        message = f"`{name}` leads out of the project ({shown(text)}); the usual place is used."
        found.deviations.add(path, None, "place-outside", message, "Give a path inside the project.")
        return None
    return "/".join(parts)

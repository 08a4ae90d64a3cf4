"""Commands that people are told to run: they work as printed, also for a project that is not named as its folder is."""

import re
import shlex
import unicodedata
from pathlib import Path

ANY_FOLDER = "PATH"


def slug(name: str) -> str:
    """A project key made of a folder's name: lower-case letters, digits and hyphens, at most 60 characters."""
    return letters_of(name) or "project"


def letters_of(name: str) -> str:
    """What of a name a project key can hold; empty where it has neither letters nor digits."""
    text = unicodedata.normalize("NFKC", name).lower()
    return re.sub(r"[^\w]+|_+", "-", text).strip("-")[:60].strip("-")


def on_folder(verb: str, folder: str, project: str) -> str:
    """`bmad-mcp import` or `export` of the folder, with the project where the folder's name is not that."""
    named = "" if folder != ANY_FOLDER and slug(Path(folder).name) == project else f" --project {project}"
    return f"bmad-mcp {verb} {shlex.quote(folder)}{named}"


def in_project(command: str, project: str) -> str:
    """The command as it is run from the working folder: with the project where the folder's name is not that."""
    try:
        is_named = slug(Path.cwd().name) == project
    except FileNotFoundError:
        is_named = False
    return f"bmad-mcp {command}" if is_named else f"bmad-mcp {command} --project {project}"

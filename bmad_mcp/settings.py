"""Settings: every environment variable, documented by its field; command-line options override them."""

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bmad_mcp.operation import TOOLSETS


def slug(name: str) -> str:
    """A project key made of a folder's name: lower-case letters, digits and hyphens, at most 60 characters."""
    text = unicodedata.normalize("NFKC", name).lower()
    return re.sub(r"[^\w]+|_+", "-", text).strip("-")[:60].strip("-") or "project"


class Settings(BaseSettings):
    """What the operator decides. Each field is read from `BMAD_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="BMAD_", env_file=None, env_ignore_empty=True, extra="ignore")

    database_url: Annotated[
        SecretStr | None,
        Field(description="PostgreSQL 15+ to use, as postgresql://…; unset = the embedded PostgreSQL."),
    ] = None
    database_direct_url: Annotated[
        SecretStr | None,
        Field(description="The same database without a pooler in front, for LISTEN, jobs and migrations."),
    ] = None
    data_dir: Annotated[
        Path,
        Field(description="Folder of the embedded PostgreSQL and of the logs."),
    ] = Field(default_factory=lambda: user_data_path("bmad-mcp", appauthor=False))
    project: Annotated[
        str,
        Field(description="Key of the project to serve; default: the working folder's name, made a slug."),
    ] = Field(default_factory=lambda: slug(Path.cwd().name))
    memory_url: Annotated[str, Field(description="Address of the memory service.")] = "http://localhost:8765"
    memory_user: Annotated[str, Field(description="User id that the memory service knows.")] = "bmad"
    memory_provider: Annotated[
        Literal["openmemory", "mem0", "builtin", "auto"],
        Field(description="Which memory to use; this version has the built-in one."),
    ] = "auto"
    sync: Annotated[
        Path | None,
        Field(description="Folder of BMad files that `serve` keeps the same as the database; unset = none."),
    ] = None
    read_only: Annotated[bool, Field(description="Offer no tool that writes.")] = False
    toolsets: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(description="Comma-separated: core, planning, quality, memory, analytics, or all."),
    ] = ("core",)
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="How much to log on stderr.")
    ] = "warning"

    @field_validator("toolsets", mode="before")
    @classmethod
    def _split_toolsets(cls, value: object) -> object:
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
        if not isinstance(names, list | tuple):
            raise ValueError("must be a comma-separated list")
        if "all" in names:
            return TOOLSETS
        if unknown := [name for name in names if name not in TOOLSETS]:
            raise ValueError(f"has no toolset {unknown[0]!r}; there are {', '.join(TOOLSETS)} and all")
        return tuple(dict.fromkeys(names))

    @field_validator("project", mode="before")
    @classmethod
    def _make_slug(cls, value: object) -> str:
        return slug(str(value))

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

"""Settings: every environment variable, documented by its field; command-line options override them."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from bmad_mcp.encryption.master_keys import MasterKeys, parse_keys, read_keys_file
from bmad_mcp.errors import KeyMissing
from bmad_mcp.operation import TOOLSETS
from bmad_mcp.told_commands import letters_of, slug

# What browsers send in the Origin header; `*` would let every page read the project.
ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::[1-9]\d{0,4})?")


def _passwords(address: str) -> list[str]:
    """The password of an address, as it is written there and as it is meant."""
    try:
        written = urlsplit(address).password
    except ValueError:
        return []
    return [written, unquote(written)] if written else []


class Settings(BaseSettings):
    """What the operator decides. Each field is read from `BMAD_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="BMAD_", env_file=None, env_ignore_empty=True, extra="ignore")

    secrets_dir: Annotated[
        Path | None,
        Field(description="Folder of files named as settings, such as bmad_database_url; variables go first."),
    ] = None
    database_url: Annotated[
        SecretStr | None,
        Field(description="PostgreSQL 15+ to use, as postgresql://…; unset = the embedded PostgreSQL."),
    ] = None
    database_direct_url: Annotated[
        SecretStr | None,
        Field(description="The same database without a pooler in front, for LISTEN, jobs and migrations."),
    ] = None
    database_read_url: Annotated[
        SecretStr | None,
        Field(description="A streaming replica of the database, which answers analytics and the trail; unset = none."),
    ] = None
    database_read_lag_seconds: Annotated[
        float, Field(ge=0, le=86_400, description="How far the replica may be behind; beyond it the database answers.")
    ] = 30.0
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
        Field(description="Which memory to use; auto = the service that answers at MEMORY_URL, else the built-in one."),
    ] = "auto"
    memory_api_key: Annotated[
        SecretStr | None, Field(description="Key for a memory service that wants one; sent as X-API-Key.")
    ] = None
    memory_budget_seconds: Annotated[
        float,
        Field(gt=0, le=10, description="How long a look-up may wait for the memory service."),
    ] = 1.5
    memory_fresh_seconds: Annotated[
        float,
        Field(ge=0, le=86_400, description="How long the service's answer to a question is used again."),
    ] = 300.0
    memory_vectors: Annotated[
        Literal["auto", "off"],
        Field(description="Search the built-in memory by meaning too; auto = where the extra `vectors` is installed."),
    ] = "auto"
    sync: Annotated[
        Path | None,
        Field(description="Folder of BMad files that `serve` keeps the same as the database; unset = none."),
    ] = None
    cors_origins: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(description="Comma-separated origins (https://board.example) whose pages may use REST; none by default."),
    ] = ()
    encryption_keys: Annotated[
        SecretStr | None,
        Field(description="Keys that encrypt memories and summaries, as id=base64,…; the first one is current."),
    ] = None
    encryption_keys_file: Annotated[
        Path | None, Field(description="The same keys in a file, which running servers read again.")
    ] = None
    similar_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=3600,
            description="Seconds in which nothing is made again under its title without an idempotency_key; 0 = off.",
        ),
    ] = 0
    read_only: Annotated[
        bool, Field(description="Offer no tool that writes, and let PostgreSQL refuse every write of a call.")
    ] = False
    toolsets: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(description="Comma-separated: core, planning, quality, memory, analytics, or all."),
    ] = ("core",)
    allowed_hosts: Annotated[
        tuple[str, ...],
        NoDecode,
        Field(description="Comma-separated names that clients reach `serve --http` by; unset = this machine only."),
    ] = ()
    public_url: Annotated[
        str | None,
        Field(description="Address that clients reach the server at; unset = made of the first allowed host."),
    ] = None
    tls_cert: Annotated[Path | None, Field(description="Certificate chain for `serve --http`, PEM.")] = None
    tls_key: Annotated[Path | None, Field(description="Private key of the certificate, PEM.")] = None
    behind_tls_proxy: Annotated[bool, Field(description="A proxy in front of the server ends TLS.")] = False
    auth_required: Annotated[
        bool, Field(description="Ask every HTTP request for a token; `serve --http` for other machines needs it.")
    ] = False
    auth_issuer: Annotated[
        str | None,
        Field(description="Issuer of the identity provider whose access tokens are good; turns authentication on."),
    ] = None
    auth_jwks_url: Annotated[
        str | None, Field(description="Where the issuer's keys are; unset = found by its metadata.")
    ] = None
    auth_audience: Annotated[
        str | None, Field(description="Audience that tokens must name; unset = the public address with /mcp.")
    ] = None
    auth_algorithms: Annotated[
        tuple[str, ...], NoDecode, Field(description="Comma-separated signature algorithms that tokens may use.")
    ] = ("RS256", "ES256", "PS256", "EdDSA")
    auth_token_type: Annotated[
        Literal["at+jwt", "jwt"], Field(description="The `typ` that tokens must say; `jwt` for older providers.")
    ] = "at+jwt"  # noqa: S105
    auth_client_id: Annotated[
        str | None,
        Field(description="The dashboard as the provider knows it, a public client; unset = a token is pasted."),
    ] = None
    auth_scopes: Annotated[
        str,
        Field(
            description="The provider's words for the scopes, as `read=bmad:read,write=bmad:write`; unset = the same."
        ),
    ] = ""
    rate_principal: Annotated[
        int,
        Field(
            ge=0, le=60_000, description="Calls a minute of each principal, where HTTP asks for a token; 0 = no limit."
        ),
    ] = 600
    rate_project: Annotated[
        int,
        Field(ge=0, le=60_000, description="Calls a minute of all principals in a project, likewise; 0 = no limit."),
    ] = 6000
    calls_at_once: Annotated[
        int,
        Field(ge=1, le=10_000, description="Calls under way at once in one HTTP server; the next one is told to wait."),
    ] = 100
    pool_wait_seconds: Annotated[
        float,
        Field(
            gt=0, le=60, description="How long a call of an HTTP server waits for a free connection to the database."
        ),
    ] = 3.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="How much to log on stderr.")
    ] = "warning"
    log_format: Annotated[
        Literal["text", "json"], Field(description="Logs for people, or one JSON object a line for a collector.")
    ] = "text"
    slow_statement_seconds: Annotated[
        float, Field(ge=0, le=3600, description="SQL statements that take this long are logged by name, and counted.")
    ] = 1.0
    metrics_token: Annotated[
        SecretStr | None,
        Field(
            min_length=16,
            description="Bearer token for /metrics; unset = open without authentication, closed with it.",
        ),
    ] = None
    metrics_projects: Annotated[
        int, Field(ge=0, le=200, description="Most projects whose figures /metrics shows; 0 shows none.")
    ] = 20
    metrics_interval_seconds: Annotated[
        float, Field(ge=1, le=86_400, description="How old the figures of projects in /metrics may become.")
    ] = 60.0

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then variables, then the files of `BMAD_SECRETS_DIR`."""
        folder = os.environ.get("BMAD_SECRETS_DIR")
        if folder and not Path(folder).is_dir():
            # Without its secrets a server would serve an empty database of its own.
            raise SettingsError(f"BMAD_SECRETS_DIR names {folder}, which is no folder.")
        files = (SecretsSettingsSource(settings_cls, folder),) if folder else ()
        return (init_settings, env_settings, *files)

    def secrets(self) -> list[str]:
        """The texts that must never be shown: the passwords of addresses, keys and tokens."""
        found = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                text = value.get_secret_value()
                found += [text, *_passwords(text)]
        if self.encryption_keys is not None:
            found += [one.partition("=")[2].strip() for one in self.encryption_keys.get_secret_value().split(",")]
        return found

    def read_master_keys(self) -> MasterKeys | None:
        """The encryption keys, a file read anew each time; None when there are none. Raises KeyMissing."""
        if self.encryption_keys is not None:
            return parse_keys(self.encryption_keys.get_secret_value())
        if self.encryption_keys_file is None:
            return None
        try:
            return read_keys_file(self.encryption_keys_file)
        except ValueError as error:
            raise KeyMissing(f"BMAD_ENCRYPTION_KEYS_FILE {error}.", "mend that") from None

    @field_validator("encryption_keys")
    @classmethod
    def _check_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_keys(value.get_secret_value())
        return value

    @field_validator("encryption_keys_file")
    @classmethod
    def _check_keys_file(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None:
            if info.data.get("encryption_keys") is not None:
                raise ValueError("is set beside BMAD_ENCRYPTION_KEYS; set one of them")
            read_keys_file(value.expanduser().absolute())
            return value.expanduser().absolute()
        return None

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

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        found = [one.strip().lower() for one in value.split(",")] if isinstance(value, str) else value
        if not isinstance(found, list | tuple):
            raise ValueError("must be a comma-separated list")
        origins = [one for one in found if one]
        for one in origins:
            if not isinstance(one, str) or not ORIGIN.fullmatch(one):
                raise ValueError(f"has {one!r}; name each origin as a browser sends it, such as https://board.example")
        return tuple(dict.fromkeys(origins))

    @field_validator("allowed_hosts", "auth_algorithms", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("project", mode="before")
    @classmethod
    def _make_slug(cls, value: object) -> str:
        if not (key := letters_of(str(value))):
            raise ValueError("has no letter and no digit, and a project's key is made of those; give it another name")
        return key

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

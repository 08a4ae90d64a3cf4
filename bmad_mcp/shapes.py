"""The shapes that operations share: keys that people read, text that is safe to store, pages and their cursors."""

import base64
import binascii
import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import from_json, to_json

from bmad_mcp.errors import Invalid


class Out(BaseModel):
    """A result. Fields that nobody set stay out of the answer, so that it costs few tokens."""

    # Deferred: a start would build them all, and a host that lists tools needs none.
    model_config = ConfigDict(extra="forbid", defer_build=True)

    @classmethod
    def of(cls, row: Mapping[str, Any], **more: Any) -> Self:
        """The result for a database row: its columns of the same names, nulls and empty texts left out."""
        values = {name: row[name] for name in cls.model_fields if name in row} | more
        return cls(**{name: value for name, value in values.items() if value is not None and value != ""})


class Aliased(Out):
    """A result with a field that is no name in Python, such as `from`."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)


class Aged(Out):
    """A result that a replica of the database may give; then it has an age."""

    as_of: Annotated[
        datetime | None, Field(description="A replica answered: changes after this moment may be missing.")
    ] = None
    lag_seconds: Annotated[float | None, Field(description="How long before the call that was.")] = None


def _numbered(prefix: str) -> BeforeValidator:
    pattern = re.compile(rf"(?:{prefix}-?)?(\d{{1,9}})", re.IGNORECASE)

    def check(value: Any) -> str:
        match = pattern.fullmatch(str(value).strip())
        if match is None:
            raise ValueError(f"must look like {prefix}-41")
        return f"{prefix}-{int(match[1])}"

    return BeforeValidator(check)


def _story_key(value: Any) -> str:
    match = re.fullmatch(r"(\d{1,6})[.-](\d{1,6})([a-z]?)", str(value).strip())
    if match is None:
        raise ValueError("must look like 1.2 (or 1.4b)")
    return f"{match[1]}.{match[2]}{match[3]}"


def _epic_key(value: Any) -> str:
    match = re.fullmatch(r"(?:epic-)?(\d{1,6})", str(value).strip(), re.IGNORECASE)
    if match is None:
        raise ValueError("must look like 1")
    return str(int(match[1]))


def _name(value: Any) -> str:
    text = str(value).strip().lower()
    if not re.fullmatch(r"[\w][\w./ -]{0,119}", text):
        raise ValueError("must be a short name such as dev")
    return text


TaskKey = Annotated[str, _numbered("T")]
WorkflowKey = Annotated[str, _numbered("W")]
HandoffKey = Annotated[str, _numbered("H")]
ArtifactKey = Annotated[str, _numbered("A")]
StoryKey = Annotated[str, BeforeValidator(_story_key)]
EpicKey = Annotated[str, BeforeValidator(_epic_key)]
AgentName = Annotated[str, BeforeValidator(_name)]
DefinitionName = Annotated[str, BeforeValidator(_name)]


def number_of(key: str) -> int:
    """The number in a key: 41 for `T-41`."""
    return int(key.rsplit("-", 1)[1])


def one_line(text: str) -> str:
    """The text without line breaks and doubled spaces."""
    return " ".join(text.split())


def _readable_line(text: str) -> str:
    # Invisible and control characters alone are no title that anybody could read.
    if not any(unicodedata.category(letter)[0] not in "CZ" for letter in text):
        raise ValueError("must not be blank")
    return one_line(text)


Title = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_readable_line)]
Line = Annotated[str, Field(max_length=1000)]
LongText = Annotated[str, Field(max_length=100_000)]
Limit = Annotated[int, Field(ge=1, le=100)]
Cursor = Annotated[str, Field(max_length=500)]


def encode_cursor(*position: Any) -> str:
    """An opaque cursor for the sort key of a page's last item."""
    return base64.urlsafe_b64encode(to_json(position)).decode().rstrip("=")


def decode_cursor(cursor: str, *types: type) -> tuple[Any, ...]:
    """The sort key in a cursor, checked to hold values of these types; raises Invalid."""
    try:
        position = from_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        values = tuple(
            datetime.fromisoformat(value) if kind is datetime else value
            for value, kind in zip(position, types, strict=True)
        )
        if not all(isinstance(value, kind) for value, kind in zip(values, types, strict=True)):
            raise ValueError
        if any(isinstance(value, int) and abs(value) > 2**31 - 1 for value in values) or unstorable(list(position)):
            raise ValueError
    except (ValueError, TypeError, binascii.Error, UnicodeError) as error:
        raise Invalid(
            "`cursor` is not one that a list gave you. Leave it out to start at the first page.", field="cursor"
        ) from error
    return values


def unstorable(value: Any, path: str = "") -> tuple[str, str] | None:
    """The first text in a JSON value that PostgreSQL cannot store: its path and why; None when all is well."""
    if isinstance(value, str):
        if "\x00" in value:
            return path, "holds a NUL character (U+0000)"
        if not value.isascii() and re.search("[\ud800-\udfff]", value):
            return path, "holds half of a surrogate pair, which is not a character"
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if found := unstorable(str(name), f"{path}.{name!r}") or unstorable(item, f"{path}.{name}"):
                return found
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            if found := unstorable(item, f"{path}.{position}"):
                return found
    return None

"""Every way to an operation over REST: verb, path and preset arguments; and which path a request takes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl, unquote_to_bytes

from pydantic import BaseModel

from bmad_mcp.operation import Operation
from bmad_mcp.server.rest.problems import Refusal

PREFIX = "/api/v1/bmad"
_MOUNTED_AT = PREFIX.split("/")
_PARAMETER = re.compile(r"\{(\w+)\}")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
EXPECTED_VERSION = "expected_version"
# What a name must end with for its operation to make something new, as story_create and workflow_start do.
_MAKES = ("_create", "_start")


@dataclass(frozen=True)
class Way:
    """One verb on one path that runs an operation; `preset` holds the arguments that the path fixes."""

    operation: Operation
    verb: str
    path: str
    preset: Mapping[str, str]

    @cached_property
    def in_path(self) -> tuple[str, ...]:
        """The arguments that stand in the path."""
        return tuple(_PARAMETER.findall(self.path))

    @cached_property
    def id(self) -> str:
        """The operationId: the operation's name; a further path adds its own words."""
        if self.operation.route == f"{self.verb} {self.path}":
            return self.operation.name
        return f"{self.operation.name}_at_{'_'.join(re.findall(r'[a-z]+', self.path))}"

    @cached_property
    def reads(self) -> bool:
        return self.verb == "GET"

    @cached_property
    def expects_version(self) -> bool:
        """Whether If-Match means something here."""
        return self.verb == "PATCH" and EXPECTED_VERSION in self.operation.arguments.model_fields

    @cached_property
    def demands_version(self) -> bool:
        return self.expects_version and self.operation.arguments.model_fields[EXPECTED_VERSION].is_required()

    @cached_property
    def versioned(self) -> str | None:
        """Where the result holds its one version: "" at the top, else the field that has it; None when nowhere."""
        fields = self.operation.result.model_fields
        if "version" in fields:
            return ""
        having = [name for name, model in _objects(self.operation.result).items() if "version" in model.model_fields]
        return having[0] if len(having) == 1 else None

    def makes(self, ways: Iterable["Way"]) -> tuple[str, str] | None:
        """For an operation that makes something: the field of the result that holds it, and the path to read it at."""
        if self.reads or self.in_path or not self.operation.name.endswith(_MAKES):
            return None
        for field, model in _objects(self.operation.result).items():
            for way in ways:
                if way.reads and way.path.endswith(f"/{{{field}}}") and "key" in model.model_fields:
                    return field, way.path
        return None


def _objects(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields that hold an object, or null."""
    found = {}
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        # A list's item is not the one object of a result.
        if getattr(field.annotation, "__origin__", None) in (list, tuple, dict):
            continue
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[name] = kind
    return found


def ways_of(catalog: Iterable[Operation]) -> tuple[Way, ...]:
    """Every way of a catalogue, in its order."""
    return tuple(_way(one, route) for one in catalog for route in (one.route, *one.also))


def _way(operation: Operation, route: str) -> Way:
    verb, address = route.split(" ", 1)
    path, _, preset = address.partition("?")
    return Way(operation, verb, path, dict(parse_qsl(preset, strict_parsing=True)) if preset else {})


class Paths:
    """The paths of some ways: which one a request's path is, and by which verbs."""

    def __init__(self, ways: Iterable[Way]) -> None:
        by_path: dict[str, dict[str, Way]] = {}
        for way in ways:
            by_path.setdefault(way.path, {})[way.verb] = way
        # A literal segment sorts before a parameter in the same place: /stories/next is no story's key.
        self._table = sorted(
            ((path.split("/")[1:], verbs) for path, verbs in by_path.items()),
            key=lambda row: [segment.startswith("{") for segment in row[0]],
        )

    def find(self, segments: list[str]) -> tuple[Mapping[str, Way], dict[str, str]] | None:
        """The ways on a path by verb, and the arguments in it; None for a path that there is not."""
        for template, verbs in self._table:
            if len(template) != len(segments):
                continue
            values = {}
            for wanted, found in zip(template, segments, strict=True):
                if wanted.startswith("{") and found:
                    values[wanted[1:-1]] = found
                elif wanted != found:
                    break
            else:
                return verbs, values
        return None


def segments_of(raw_path: bytes) -> list[str]:
    """The decoded segments below the prefix; raises Refusal. A slash that is written %2F stays inside its segment."""
    segments = [decoded(part, "The path") for part in raw_path.partition(b"?")[0].split(b"/")]
    if segments[: len(_MOUNTED_AT)] != _MOUNTED_AT:
        raise Refusal(404, "not_found", f"There is nothing at this address; {PREFIX}/openapi.json lists the paths.")
    return segments[len(_MOUNTED_AT) :]


def decoded(part: bytes, what: str) -> str:
    """Percent-encoded UTF-8 as text; raises Refusal when it is neither."""
    if _BROKEN_ESCAPE.search(part.decode("latin-1")):
        raise Refusal(400, "bad_request", f"{what} has a % that no two hexadecimal digits follow. Write %25 for it.")
    try:
        return unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal(400, "bad_request", f"{what} is not UTF-8. Encode it so, then percent-encode it.") from None

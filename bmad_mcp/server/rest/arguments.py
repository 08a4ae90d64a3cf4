"""The arguments of an operation from a request: path, query, JSON body and headers, each read strictly."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import Request

from bmad_mcp.errors import Invalid
from bmad_mcp.operation import IDEMPOTENCY_FIELD
from bmad_mcp.server.messages import UnusableMessage, read_json
from bmad_mcp.server.rest.media import check_content
from bmad_mcp.server.rest.problems import Refusal
from bmad_mcp.server.rest.ways import Way, decoded

IDEMPOTENCY_HEADER = "idempotency-key"
QUERY_BYTES = 16 * 1024
QUERY_PARAMETERS = 200
# Python's own JSON takes thousands; what walks through the value afterwards would run out of stack.
NESTING = 64
_INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


async def arguments_of(request: Request, way: Way, in_path: Mapping[str, str]) -> dict[str, Any]:
    """What the request asks for, not yet checked by the operation; raises Refusal or Invalid."""
    fixed = {**way.preset, **in_path}
    given = _query(request.scope["query_string"], way)
    if not way.reads:
        if given:
            name = next(iter(given))
            raise Invalid(f"`{name}` stands in the query; a {way.verb} takes its arguments as JSON.", field=name)
        given = await _body(request)
        _add_idempotency_key(given, request.headers)
    if twice := next((name for name in given if name in fixed), None):
        raise Invalid(f"`{twice}` is fixed by the path. Leave it out.", field=twice)
    return {**fixed, **given}


def _query(query: bytes, way: Way) -> dict[str, Any]:
    if len(query) > QUERY_BYTES:
        raise Refusal(414, "uri_too_long", f"The query is longer than {QUERY_BYTES // 1024} KiB. Ask for less at once.")
    if not query:
        return {}
    pairs = query.split(b"&")
    if len(pairs) > QUERY_PARAMETERS:
        raise Refusal(400, "bad_request", f"The query has more than {QUERY_PARAMETERS} parameters.")
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, value = (decoded(part.replace(b"+", b"%20"), "The query") for part in pair.partition(b"="))
        if name or value:
            found.setdefault(name, []).append(value)
    kinds = kinds_of(way.operation.arguments)
    return {name: _value(name, values, kinds.get(name, {})) for name, values in found.items()}


def _value(name: str, values: list[str], kind: Mapping[str, Any]) -> Any:
    if kind.get("type") == "array":
        return [_scalar(name, value, kind.get("items", {})) for value in values]
    if len(values) > 1:
        raise Invalid(f"`{name}` stands in the query {len(values)} times; give it once.", field=name)
    return _scalar(name, values[0], kind)


def _scalar(name: str, value: str, kind: Mapping[str, Any]) -> Any:
    match kind.get("type"):
        case "boolean" if value in _BOOLEANS:
            return _BOOLEANS[value]
        case "boolean":
            raise Invalid(f"`{name}` must be true or false.", field=name)
        case "integer" if _INTEGER.fullmatch(value):
            return int(value)
        case "integer":
            raise Invalid(f"`{name}` must be a whole number of at most 18 digits.", field=name)
        case "number" if _NUMBER.fullmatch(value):
            return float(value)
        case "number":
            raise Invalid(f"`{name}` must be a decimal number.", field=name)
        case _:
            return value


@cache
def kinds_of(arguments: type[BaseModel]) -> Mapping[str, Mapping[str, Any]]:
    """The JSON schema of each argument, without its null alternative and with references put in place."""
    schema = arguments.model_json_schema()
    definitions = schema.get("$defs", {})

    def plain(kind: Mapping[str, Any]) -> Mapping[str, Any]:
        choices = [choice for choice in kind.get("anyOf", ()) if choice != {"type": "null"}]
        if len(choices) == 1:
            return plain(choices[0])
        if "$ref" in kind:
            return plain(definitions[kind["$ref"].rsplit("/", 1)[1]])
        return kind

    return {name: plain(kind) for name, kind in schema.get("properties", {}).items()}


async def _body(request: Request) -> dict[str, Any]:
    body = await request.body()
    if not body:
        return {}
    check_content(request.headers)
    try:
        value = read_json(body)
    except UnusableMessage as unusable:
        raise Refusal(400, "bad_request", unusable.message.replace("The message", "The body", 1)) from None
    if not isinstance(value, dict):
        raise Refusal(400, "bad_request", 'The body must be a JSON object, such as {"title": "…"}.')
    if _nested_deeper(value, NESTING):
        raise Refusal(400, "bad_request", f"The body is nested more than {NESTING} levels deep.")
    return value


def _nested_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def _add_idempotency_key(given: dict[str, Any], headers: Headers) -> None:
    sent = headers.getlist(IDEMPOTENCY_HEADER)
    if not sent:
        return
    if len(sent) > 1:
        raise Refusal(400, "bad_request", "Send one Idempotency-Key header.", field=IDEMPOTENCY_FIELD)
    # The header's draft standard has it in quotes; most clients leave them out.
    key = sent[0][1:-1] if len(sent[0]) > 1 and sent[0][0] == sent[0][-1] == '"' else sent[0]
    if given.setdefault(IDEMPOTENCY_FIELD, key) != key:
        raise Invalid(
            f"`{IDEMPOTENCY_FIELD}` differs from the Idempotency-Key header. Send one of them.", field=IDEMPOTENCY_FIELD
        )

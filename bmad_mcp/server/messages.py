"""One JSON-RPC message from bytes: what Python and the SDK would let pass in silence is refused, with the id if it can be told."""

import json
import math
import re
from typing import Any

from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, PARSE_ERROR, jsonrpc_message_adapter
from pydantic import ValidationError

# Where clients write the id: before everything or after it, never inside.
_ID = r'"id"\s*:\s*(-?\d{1,15}|"[^"\\\x00-\x1f]{1,200}")\s*'
_FIRST = re.compile(r'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID + ",")
_LAST = re.compile("," + r'\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID + r"\}\s*$")
EDGE = 300


class UnusableMessage(Exception):
    """Bytes that are not a JSON-RPC message: the code, the sentence, and the request's id where it can be told."""

    def __init__(self, code: int, message: str, request_id: str | int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.request_id = request_id

    def reply(self) -> bytes:
        """The JSON-RPC error to send."""
        error = {"code": self.code, "message": self.message}
        return json.dumps({"jsonrpc": "2.0", "id": self.request_id, "error": error}).encode()


def read_message(data: bytes) -> SessionMessage:
    """The message that the bytes are; raises UnusableMessage."""
    value = read_json(data)
    request_id = _own_id(value)
    if isinstance(value, dict) and "method" in value and "id" in value and request_id is None:
        # The SDK would take it for a notification and never answer.
        raise UnusableMessage(INVALID_REQUEST, "The id of a request must be a string or a whole number.")
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(data, by_name=False))
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        if refused := next((fault["msg"] for fault in faults if fault["type"] == "json_invalid"), None):
            what = "is nested too deeply" if "recursion" in refused else "holds half of a surrogate pair"
            raise UnusableMessage(INVALID_REQUEST, f"The message {what}.", request_id) from None
        raise UnusableMessage(
            INVALID_REQUEST, "The message is not a JSON-RPC 2.0 request, notification or response.", request_id
        ) from None


def read_json(data: bytes) -> Any:
    """The JSON value that the bytes are; raises UnusableMessage for what only lenient readers take."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnusableMessage(
            PARSE_ERROR, f"The message is not UTF-8 (byte {error.start}). Send it again as UTF-8.", id_at_edge(data)
        ) from None
    try:
        return json.loads(text, object_pairs_hook=_unique_names, parse_constant=_refuse_constant, parse_float=_finite)
    except _Unwanted as error:
        raise UnusableMessage(INVALID_REQUEST, str(error), _id_of(text) or id_at_edge(data)) from None
    except RecursionError:
        raise UnusableMessage(PARSE_ERROR, "The message is nested too deeply.", id_at_edge(data)) from None
    except ValueError as error:
        why = str(error).partition(";")[0]
        raise UnusableMessage(PARSE_ERROR, f"The message is not JSON: {why}.", id_at_edge(data)) from None


def id_at_edge(data: bytes, end: bytes = b"") -> str | int | None:
    """The id at the beginning or the end of a message that cannot be read as a whole."""
    head = data[:EDGE].decode(errors="replace")
    tail = (end or data)[-EDGE:].decode(errors="replace")
    found = _FIRST.match(head) or _LAST.search(tail)
    # What looks like an id need not be JSON: 01 is not.
    return _id_of(f'{{"id": {found[1]}}}') if found else None


class _Unwanted(ValueError):
    """Python's JSON has it, JSON-RPC has not."""


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise _Unwanted(f"The message has the name {repeated[:100]!r} twice in one object.")
    return found


def _refuse_constant(name: str) -> None:
    raise _Unwanted(f"The message holds {name}, which is not a JSON number.")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _Unwanted(f"The message holds the number {digits[:40]}, which is too large.")
    return number


def _own_id(value: Any) -> str | int | None:
    found = value.get("id") if isinstance(value, dict) else None
    if isinstance(found, str):
        # Half of a surrogate pair cannot be sent back.
        return None if re.search("[\ud800-\udfff]", found) else found
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _id_of(text: str) -> str | int | None:
    try:
        return _own_id(json.loads(text))
    except (ValueError, RecursionError):
        return None

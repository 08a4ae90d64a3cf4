"""Problem responses (RFC 9457): what a refusal looks like over HTTP, whatever refused."""

from collections.abc import Mapping

from pydantic_core import to_json
from starlette.responses import Response

from bmad_mcp.errors import BmadError

MEDIA_TYPE = "application/problem+json"
DETAIL_LENGTH = 1500
FIELD_LENGTH = 200
# Where the kinds of problems are told; each has its code as the anchor.
TYPE = "/docs#problem-"
KINDS: Mapping[str, tuple[int, str]] = {
    "bad_request": (400, "The request is not well-formed: its encoding, its JSON, or a header."),
    "unauthorized": (401, "There is no good access token, and this server wants one; see `WWW-Authenticate`."),
    "insufficient_scope": (403, "The access token lacks a scope; `WWW-Authenticate` names it."),
    "forbidden": (403, "This caller may not do this, or this server may not."),
    "not_found": (404, "Nothing by that key is in this project, or no such path."),
    "method_not_allowed": (405, "The path does not take this verb; `Allow` names those it takes."),
    "not_acceptable": (406, "`Accept` leaves out application/json, which is all there is."),
    "conflict": (409, "The state does not allow it now."),
    "invalid_move": (409, "The status has no such move now; the detail names those it has."),
    "lease_lost": (409, "The lease number is not the current one."),
    "version_conflict": (409, "Somebody changed it since you read it; 412 when you said so by If-Match."),
    "too_large": (413, "The body is larger than this server takes."),
    "uri_too_long": (414, "The query is longer than this server takes."),
    "unsupported_media_type": (415, "The body is not application/json in UTF-8."),
    "misdirected": (421, "The Host header names another machine."),
    "invalid": (422, "An argument is wrong, missing or unknown; `field` names it."),
    "precondition_required": (428, "Say which version you change, by If-Match or expected_version."),
    "rate_limited": (429, "Too many calls in too short a time. Call again after `Retry-After` seconds."),
    "error": (500, "The server failed; its log tells why."),
    "unavailable": (503, "A part that this needs does not answer. Call again after `Retry-After` seconds."),
    "disk_full": (503, "The disk of the database is full. Tell who runs the server: waiting alone does not help."),
    "key_missing": (503, "The project is encrypted, and this server has not the key. Who runs it has to set it."),
    "overloaded": (503, "The server has as much to do as it can. Call again after `Retry-After` seconds."),
}


class Refusal(Exception):
    """A refusal that HTTP itself has a status for; operations raise BmadError instead."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.field = field
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The refusal as application/problem+json."""
        return problem(self.status, self.code, self.detail, field=self.field, headers=self.headers)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
    retry_after: int | None = None,
) -> Response:
    """The body {type, title, status, detail, code, field?, retry_after?} with its status."""
    told = dict(headers or {})
    body: dict[str, object] = {
        "type": TYPE + code,
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": _cut(detail, DETAIL_LENGTH),
        "code": code,
    }
    if field is not None:
        body["field"] = _cut(field, FIELD_LENGTH)
    if retry_after is not None:
        told["retry-after"] = str(retry_after)
        body["retry_after"] = retry_after
    # What a client sent may be quoted in the detail, and half of a surrogate pair cannot be sent back.
    content = to_json({name: _sendable(value) for name, value in body.items()})
    return Response(content, status, told, MEDIA_TYPE)


def _cut(text: str, longest: int) -> str:
    """What a client sent is not sent back at any length."""
    return text if len(text) <= longest else f"{text[: longest - 2]} …"


def _sendable(value: object) -> object:
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def problem_of(error: BmadError, *, status: int | None = None) -> Response:
    """The response for an operation's error."""
    return problem(
        status or error.http_status, error.code, error.message, field=error.field, retry_after=error.retry_after
    )

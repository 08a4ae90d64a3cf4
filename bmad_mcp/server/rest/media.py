"""Content negotiation: what a request may send, and what it will take."""

import re
from collections.abc import Iterable

from starlette.datastructures import Headers

from bmad_mcp.server.rest.problems import MEDIA_TYPE, Refusal

JSON = "application/json"
_ZERO = re.compile(r"0(?:\.0{0,3})?")


def check_accept(headers: Headers) -> None:
    """Raise Refusal 406 when `Accept` leaves out JSON."""
    sent = headers.getlist("accept")
    if sent and not _takes(",".join(sent), JSON) and not _takes(",".join(sent), MEDIA_TYPE):
        raise Refusal(406, "not_acceptable", f"Answers here are {JSON}. Accept it, or leave out the Accept header.")


def _takes(accept: str, wanted: str) -> bool:
    """Whether the most specific range of an Accept header that covers a media type lets it in."""
    ranges = ("*/*", f"{wanted.partition('/')[0]}/*", wanted)
    most, is_taken = -1, not accept.strip()
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_range in ranges and ranges.index(media_range) > most:
            most, is_taken = ranges.index(media_range), not _refused(parameters)
    return is_taken


def _refused(parameters: Iterable[str]) -> bool:
    return any(one.startswith("q=") and _ZERO.fullmatch(one[2:]) for one in parameters)


def check_content(headers: Headers) -> None:
    """Raise Refusal 415 unless the body is said to be JSON in UTF-8, as it is."""
    media_type, *parameters = (piece.strip().lower() for piece in headers.get("content-type", "").split(";"))
    charset = next((one[8:].strip('"') for one in parameters if one.startswith("charset=")), "utf-8")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if len(headers.getlist("content-type")) > 1 or media_type != JSON or charset not in ("utf-8", "utf8", "us-ascii"):
        detail = f"The body must be {JSON} in UTF-8. Say so with the header `Content-Type: {JSON}`."
    elif encoding != "identity":
        detail = "The body must not be compressed. Send it without a Content-Encoding."
    else:
        return
    raise Refusal(415, "unsupported_media_type", detail, headers={"accept": JSON})

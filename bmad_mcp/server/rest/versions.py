"""ETag, If-Match and If-None-Match: an entity tag is the version, and for what is read also a digest of the text.

A story shows its tasks and a task its lease, which change without a new version: the version alone would answer
"not modified" to a reader who has not seen them. For If-Match the version is what counts.
"""

import hashlib
import re
from typing import Any

from pydantic import BaseModel
from starlette.datastructures import Headers

from bmad_mcp.errors import Invalid
from bmad_mcp.server.rest.problems import Refusal
from bmad_mcp.server.rest.ways import EXPECTED_VERSION, Way

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"\s*{_TAG}(?:\s*,\s*{_TAG})*\s*")
_OURS = re.compile(r'"(\d{1,10})(?:-[0-9a-f]{16})?"')


def version_in(way: Way, result: BaseModel) -> int | None:
    """The one version in a result; None when it has none, or several."""
    if way.versioned is None:
        return None
    holder = result if way.versioned == "" else getattr(result, way.versioned)
    version: int | None = getattr(holder, "version", None)
    return version


def tag_of(version: int, read: bytes | None = None) -> str:
    """The entity tag of a version, or of what was read of it."""
    if read is None:
        return f'"{version}"'
    return f'"{version}-{hashlib.blake2b(read, digest_size=8).hexdigest()}"'


def expect_version(way: Way, arguments: dict[str, Any], headers: Headers) -> bool:
    """Put what If-Match names into expected_version, and tell whether it did; raises Refusal or Invalid."""
    sent = headers.getlist("if-match")
    if sent and not way.expects_version:
        raise Refusal(400, "bad_request", "If-Match means nothing here, and would be ignored. Leave it out.")
    named = _named_version(_tags(",".join(sent))) if sent else None
    if named is None:
        if way.demands_version and EXPECTED_VERSION not in arguments:
            raise Refusal(
                428,
                "precondition_required",
                "Say which version you change: the ETag you read in If-Match, or `expected_version` in the body.",
                field=EXPECTED_VERSION,
            )
        return False
    if arguments.setdefault(EXPECTED_VERSION, named) != named:
        raise Invalid(f"`{EXPECTED_VERSION}` differs from If-Match. Send one of them.", field=EXPECTED_VERSION)
    return True


def _named_version(tags: list[str]) -> int | None:
    if tags == ["*"]:
        return None
    versions = {int(found[1]) for tag in tags if (found := _OURS.fullmatch(tag))}
    if not versions:
        raise Refusal(412, "version_conflict", "If-Match names no version of this. Read it, and send its ETag.")
    if len(versions) > 1:
        raise Refusal(400, "bad_request", "If-Match names several versions. Send the ETag that you read last.")
    return versions.pop()


def is_unchanged(tag: str, headers: Headers) -> bool:
    """Whether If-None-Match names what would be answered; raises Refusal 412 when If-Match does not."""
    wanted = headers.getlist("if-match")
    if wanted and not {"*", tag} & set(_tags(",".join(wanted))):
        raise Refusal(412, "version_conflict", "It is not what If-Match names any more.")
    known = headers.getlist("if-none-match")
    return bool(known) and bool({"*", tag} & {one.removeprefix("W/") for one in _tags(",".join(known))})


def _tags(text: str) -> list[str]:
    if text.strip() == "*":
        return ["*"]
    if not _TAGS.fullmatch(text):
        raise Refusal(400, "bad_request", 'An entity tag stands in double quotes, such as "3".')
    return re.findall(_TAG, text)

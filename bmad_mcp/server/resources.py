"""Resources by their address: which operation answers a `bmad://` address, and with which arguments."""

from typing import Any
from urllib.parse import unquote

from mcp.shared.uri_template import UriTemplate
from pydantic import BaseModel

from bmad_mcp.catalog import CATALOG
from bmad_mcp.operation import Operation

# Every way to the same page: what a resource shows at most of a list.
RESOURCE_PAGE = 100
RESOURCES = tuple((one, UriTemplate.parse(one.resource)) for one in CATALOG if one.resource)


def find_resource(uri: str) -> tuple[Operation, dict[str, Any]] | None:
    """The operation behind an address and its arguments; None when no resource has such an address."""
    for operation, template in RESOURCES:
        matched = template.match(uri)
        if matched is None:
            continue
        arguments: dict[str, Any] = {name: unquote(str(value)) for name, value in matched.items()}
        if "limit" in operation.arguments.model_fields:
            arguments["limit"] = RESOURCE_PAGE
        return operation, arguments
    return None


def mime_type(operation: Operation) -> str:
    """The media type of the text that a resource gives."""
    return "text/markdown" if operation.markdown else "application/json"


def text_of(operation: Operation, result: BaseModel) -> str:
    """The text of a resource."""
    return operation.markdown(result) if operation.markdown else result.model_dump_json(exclude_unset=True)

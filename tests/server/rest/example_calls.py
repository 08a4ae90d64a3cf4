"""One call of every operation on the sample project, in an order in which each can be done."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bmad_mcp.catalog import BY_NAME

LONGEST_TEXT = 240
LONGEST_LIST = 3

# Operation → its arguments; a function makes them of the answers so far, by operation.
Answers = Mapping[str, Any]
CALLS: tuple[tuple[str, Mapping[str, Any] | Callable[[Answers], Mapping[str, Any]]], ...] = (
    ("project_status", {}),
    ("project_board", {}),
    ("project_drift", {}),
    ("epic_burnup", {"days": 3}),
    ("agent_list", {"limit": 3}),
    ("agent_get", {"agent": "dev"}),
    ("agent_context", {"agent": "dev", "focus": "month calendar"}),
    ("skill_list", {"limit": 3}),
    ("skill_get", {"skill": "brownfield-ui"}),
    ("story_list", {"status": "ready", "limit": 2}),
    ("story_next", {}),
    ("story_get", {"story": "2.3"}),
    ("epic_create", {"title": "Tides on the phone", "goal": "Read the next tide while walking to the boat."}),
    ("epic_list", {"limit": 3}),
    ("epic_get", {"epic": "2"}),
    (
        "story_create",
        {
            "epic": "2",
            "title": "Tide table as a file",
            "role": "skipper",
            "want": "a month of tides as a file",
            "benefit": "I have it without a network",
            "acceptance": ["The file opens in a spreadsheet.", "Times are local times."],
            "points": 2,
        },
    ),
    (
        "story_update",
        lambda was: {
            "story": was["story_create"]["story"]["key"],
            "expected_version": was["story_create"]["story"]["version"],
            "status": "ready",
        },
    ),
    (
        "gate_record",
        {
            "story": "2.2",
            "gate": "CONCERNS",
            "reason": "The curve is right; its print is not tested.",
            "issues": [{"severity": "low", "finding": "No test of the print style.", "id": "TEST"}],
        },
    ),
    ("gate_get", {"story": "2.2"}),
    ("agent_activate", {"agent": "dev", "focus": "month calendar"}),
    (
        "task_create",
        {"title": "Write the file in UTF-8", "story": "2.3", "agent": "dev", "priority": "high"},
    ),
    ("task_list", {"story": "2.3", "ready": True, "limit": 2}),
    ("task_get", {"task": "T-50"}),
    ("task_claim", {"agent": "dev", "task": "T-50"}),
    ("task_start", {"task": "T-51", "agent": "dev"}),
    ("task_heartbeat", lambda was: {"task": "T-50", "lease": was["task_claim"]["lease"]}),
    (
        "task_update",
        lambda was: {"task": "T-51", "lease": was["task_start"]["lease"], "status": "review", "note": "Measured."},
    ),
    (
        "task_complete",
        lambda was: {
            "task": "T-50",
            "lease": was["task_claim"]["lease"],
            "summary": "The page prints on one sheet.",
            "quality": 92,
            "artifacts": ["templates/month.html"],
        },
    ),
    ("handoff_offer", {"to": "qa", "note": "Please look at the print style.", "story": "2.3"}),
    (
        "handoff_accept",
        lambda was: {"handoff": was["handoff_offer"]["handoff"]["key"], "agent": "qa"},
    ),
    ("handoff_list", {"limit": 2}),
    ("workflow_types", {"limit": 2}),
    ("workflow_start", {"type": "brownfield-service", "title": "Own predictions"}),
    ("workflow_list", {"status": "active"}),
    ("workflow_get", lambda was: {"workflow": was["workflow_start"]["workflow"]["key"]}),
    (
        "workflow_advance",
        lambda was: {"workflow": was["workflow_start"]["workflow"]["key"], "outcome": "done", "note": "Described."},
    ),
    (
        "workflow_pause",
        lambda was: {"workflow": was["workflow_start"]["workflow"]["key"], "reason": "Waits for the pilot."},
    ),
    ("workflow_resume", lambda was: {"workflow": was["workflow_start"]["workflow"]["key"]}),
    (
        "workflow_cancel",
        lambda was: {"workflow": was["workflow_start"]["workflow"]["key"], "reason": "Bought instead."},
    ),
    ("memory_store", {"text": "Print styles are tested with one A4 page of March 2025.", "agent": "dev"}),
    ("memory_context", {"focus": "print styles", "limit": 2}),
    ("memory_search", {"query": "print A4", "limit": 2}),
    ("memory_provenance", lambda was: {"memories": [was["memory_store"]["memory"]["id"]]}),
    ("memory_related", lambda was: {"memory": was["memory_store"]["memory"]["id"], "limit": 2}),
    ("template_list", {"limit": 2}),
    ("template_get", {"template": "story"}),
    (
        "template_render",
        {"template": "story", "values": {"story_title_short": "Tide table as a file", "role": "skipper"}},
    ),
    ("checklist_list", {"limit": 2}),
    ("checklist_get", {"checklist": "story-draft"}),
    (
        "checklist_run",
        {
            "checklist": "story-draft",
            "subject": "story 2.4",
            "results": [
                {"item": "1-20", "mark": "pass"},
                {"item": 21, "mark": "fail", "note": "No word on the change of clocks."},
            ],
        },
    ),
    (
        "artifact_record",
        {"kind": "prd", "path": "docs/prd-phone.md", "content": "# Tides on the phone\n", "story": "2.3"},
    ),
    ("artifact_list", {"kind": "prd", "limit": 2}),
    ("artifact_get", lambda was: {"artifact": was["artifact_record"]["artifact"]["key"]}),
    ("activity_list", {"subject": "story 2.3", "limit": 3}),
    ("key_list", {"kind": "story", "prefix": "2"}),
    ("agent_analytics", {"agent": "dev", "days": 30}),
    ("workflow_analytics", {"days": 30}),
    ("analytics_overview", {"days": 30}),
    ("health", {}),
    ("agent_deactivate", {"agent": "dev", "summary": "The print style is done."}),
)


async def answers_of(perform: Callable[[str, Mapping[str, Any]], Awaitable[Any]]) -> dict[str, dict[str, Any]]:
    """{operation: {arguments, result}} of every call whose operation there is."""
    found: dict[str, dict[str, Any]] = {}
    for name, given in CALLS:
        if name in BY_NAME:
            arguments = given({one: known["result"] for one, known in found.items()}) if callable(given) else given
            found[name] = {"arguments": dict(arguments), "result": await perform(name, arguments)}
    return found


def shortened(value: Any) -> Any:
    """A JSON value with its long texts and lists cut, as an example shows it."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT].rstrip() + " …"
    if isinstance(value, list):
        return [shortened(item) for item in value[:LONGEST_LIST]]
    if isinstance(value, dict):
        return {name: shortened(item) for name, item in value.items()}
    return value


def as_file(found: Mapping[str, Any]) -> str:
    """The text of the package's examples."""
    short = {name: {"arguments": one["arguments"], "result": shortened(one["result"])} for name, one in found.items()}
    return json.dumps(short, indent=1, ensure_ascii=False, sort_keys=False) + "\n"

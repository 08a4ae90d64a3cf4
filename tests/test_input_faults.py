"""What callers read of an input that is refused: the field, what it must be, and no word of Python."""

import re

import pytest

from bmad_mcp.catalog import BY_NAME, CATALOG
from bmad_mcp.errors import Invalid
from bmad_mcp.lifecycles import LIFECYCLES

WRONG = [
    None,
    True,
    7,
    7.5,
    "x",
    "",
    "no such thing",
    -1,
    10**12,
    [],
    ["x"],
    [[]],
    {},
    {"x": 1},
    [{"x": 1}],
    "x" * 2_000_000,
]
# Words of Python, of pydantic, and of regular expressions.
OF_PYTHON = re.compile(
    r"<|\\|\^|tuple|dict\b|dictionary|valid (string|integer|boolean)|input should|NoneType|instance|parse"
)


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        (
            "task_list",
            {"status": "done"},
            "`status` must be 'pending', 'active', 'in_progress', 'review', 'completed',",
        ),
        ("task_create", {"title": "a", "depends_on": "T-1"}, '`depends_on` must be a list, as in ["a", "b"].'),
        ("checklist_run", {"checklist": "a", "subject": "b", "results": "1-3"}, "`results` must be a list of objects"),
        ("task_update", {"task": "T-1", "status": "completed"}, "task_complete finishes a task"),
        (
            "gate_record",
            {"story": "1.1", "gate": "PASS", "reason": "x", "nfr": {"y": "PASS"}},
            "`nfr.y` is no such name",
        ),
        ("template_render", {"template": "a", "values": []}, "`values` must be an object"),
        ("artifact_record", {"kind": "A B"}, "`kind` must be small letters, digits, spaces, - and _, such as prd."),
        ("task_claim", {"agent": "dev", "lease_seconds": 1}, "`lease_seconds` must be at least 5."),
        ("task_claim", {"agent": None}, "`agent` is missing. task_claim takes agent, task?"),
        (
            "gate_record",
            {"story": "1.1", "gate": "PASS", "reason": "x", "issues": [{"action": "x"}]},
            "`issues.0.action` is not known. `issues.0` takes",
        ),
    ],
)
def test_the_field_and_what_it_must_be_are_told(name, arguments, told):
    with pytest.raises(Invalid) as refused:
        BY_NAME[name].check(arguments)
    assert told in refused.value.message
    assert "[" not in refused.value.field


def test_no_argument_of_any_operation_is_refused_in_words_of_python():
    refused = []
    for operation in CATALOG:
        for field in operation.arguments.model_fields:
            for value in WRONG:
                try:
                    operation.check({field: value})
                except Invalid as error:
                    refused.append(error.message)
    assert len(refused) > 1_000
    assert not {message for message in refused if OF_PYTHON.search(message) or len(message) > 1_000}


@pytest.mark.parametrize("operation", CATALOG, ids=lambda operation: operation.name)
def test_null_means_that_an_argument_is_left_out(operation):
    fields = operation.arguments.model_fields
    optional = dict.fromkeys(name for name, field in fields.items() if not field.is_required())
    outcomes = []
    for arguments in (optional, {}):
        try:
            outcomes.append(operation.check(arguments))
        except Invalid as error:
            outcomes.append(error.message)
    assert outcomes[0] == outcomes[1]


def test_a_refused_move_names_the_tools_that_move():
    for lifecycle in LIFECYCLES:
        for status, targets in lifecycle.moves.items():
            message = lifecycle.refuse("K", status, "elsewhere").message
            told = message.partition("Allowed now: ")[2]
            assert ("final" in told) == (not targets), message
            for tool in set(lifecycle.tools.values()):
                assert tool.removesuffix("(status)") in BY_NAME

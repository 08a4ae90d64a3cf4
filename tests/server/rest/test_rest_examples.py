"""The examples of the OpenAPI document: real calls on the sample project, which still validate and still answer so."""

import os

import pytest
from example_calls import answers_of, as_file

from bmad_mcp.call import Caller
from bmad_mcp.catalog import BY_NAME, CATALOG
from bmad_mcp.operation import perform
from bmad_mcp.server.rest.openapi import EXAMPLES, examples

AGAIN = "run: BMAD_WRITE_EXAMPLES=1 python -m pytest tests/server/rest/test_rest_examples.py"


async def test_the_examples_are_what_the_sample_project_answers(sample):
    async def perform_one(name, arguments):
        result = await perform(BY_NAME[name], arguments, Caller(), sample)
        return result.model_dump(mode="json", exclude_unset=True, by_alias=True)

    found = await answers_of(perform_one)
    if os.environ.get("BMAD_WRITE_EXAMPLES"):
        EXAMPLES.write_text(as_file(found).replace(sample.opened.key, "tidepool"), encoding="utf-8")
        examples.cache_clear()
    kept = examples()
    assert list(kept) == list(found), AGAIN
    for name, example in found.items():
        assert set(kept[name]["result"]) == set(example["result"]), f"{name} answers other fields; {AGAIN}"
        assert set(kept[name]["arguments"]) == set(example["arguments"]), AGAIN


@pytest.mark.parametrize("operation", CATALOG, ids=lambda operation: operation.name)
def test_every_operation_has_an_example_that_validates(operation):
    assert operation.name in examples(), f"add a call to example_calls.py; then {AGAIN}"
    example = examples()[operation.name]
    operation.check(example["arguments"])
    operation.result.model_validate(example["result"])

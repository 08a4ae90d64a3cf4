"""Schemathesis finds no answer that the OpenAPI document does not tell of, and none that blames the server."""

import asyncio
import json
import os
import sys

import pytest
from rest_server import RestClient, serving

SEED = "20260801"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
)


async def schemathesis(folder, document, address, *options):
    """The exit code and the report of a run against the address."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", str(address)),
        *("--seed", SEED, "--checks", ",".join(CHECKS), "--continue-on-failure", "--no-color", "--no-shrink"),
        *("--suppress-health-check", "all", "--generation-database", "none", "--request-timeout", "20", *options),
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await started.communicate()
    return started.returncode, told.decode()


async def test_schemathesis_finds_no_undocumented_answer(sample, tmp_path):
    async with serving(sample) as address, RestClient(address) as client:
        options = ("--phases", "examples,fuzzing", "--max-examples", "3")
        code, told = await schemathesis(tmp_path, f"{client.base_url}openapi.json", client.base_url, *options)
        assert code == 0, told[-20_000:]
        assert (await client.get("/status")).status_code == 200


@pytest.mark.soak
async def test_schemathesis_would_find_one(sample, tmp_path):
    async with serving(sample) as address, RestClient(address) as client:
        document = await client.json("GET", "/openapi.json")
        for verb in document["paths"]["/tasks"].values():
            del verb["responses"]["422"]
        kept = tmp_path / "openapi.json"
        kept.write_text(json.dumps(document))
        options = ("--phases", "fuzzing", "--max-examples", "20", "--include-path", "/tasks")
        code, told = await schemathesis(tmp_path, kept, client.base_url, *options)
    assert code == 1, told
    assert "422" in told


@pytest.mark.soak
async def test_schemathesis_finds_none_in_thousands(sample, tmp_path):
    async with serving(sample) as address, RestClient(address) as client:
        options = ("--phases", "examples,coverage,fuzzing", "--max-examples", "50", "--workers", "2")
        code, told = await schemathesis(tmp_path, f"{client.base_url}openapi.json", client.base_url, *options)
        assert code == 0, told[-20_000:]

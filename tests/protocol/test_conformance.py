"""The official conformance suite, in both eras of the protocol, on the real server and on one with the suite's fixtures."""

import asyncio
import json
import os
import re
from pathlib import Path

import pytest
import yaml
from bmad_installs import newest_node, npm_installed

EXPECTED = yaml.safe_load((Path(__file__).parent / "expected_failures.yaml").read_text())
PACKAGE = "@modelcontextprotocol/conformance"
STABLE, ALPHA = "0.1.16", "0.2.0-alpha.12"
RUNS = {
    "suite 0.1.16": (STABLE, ("--suite", "active")),
    "requirements 2025-11-25": (ALPHA, ("--requirements", "2025-11-25")),
    "requirements 2026-07-28": (ALPHA, ("--requirements", "2026-07-28")),
}
SUMMARY = re.compile(r"^[✓✗] ([a-z0-9-]+): (\d+) passed, (\d+) failed", re.MULTILINE)


def listed(server: str) -> set[str]:
    """The scenarios that are expected to fail on this server, where a run has them."""
    return {scenario for group in (*EXPECTED["both"], *EXPECTED[server]) for scenario in group["scenarios"]}


# The older release of the suite asks for less than the newer one does of the same versions.
@pytest.mark.parametrize("run", [pytest.param(one, marks=pytest.mark.soak if "suite" in one else ()) for one in RUNS])
async def test_all_but_the_expected_failures_pass(server, run, tmp_path):
    name, address = server
    version, options = RUNS[run]
    program = await asyncio.to_thread(npm_installed, PACKAGE, version) / "dist/index.js"
    process = await asyncio.create_subprocess_exec(
        newest_node(),
        *(str(program), "server", "--url", f"{address}/mcp", *options, "--output-dir", "results"),
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told = (await asyncio.wait_for(process.communicate(), 120))[0].decode()
    results = {name: int(failed) for name, _, failed in SUMMARY.findall(told)}
    assert len(results) >= 25, told[-2000:]
    failed = {name for name, count in results.items() if count}
    # Both ways: what fails is listed, and what is listed fails still.
    assert failed == listed(name) & set(results), _reasons(tmp_path / "results")


def _reasons(folder: Path) -> str:
    """What the suite says of each check that failed."""
    lines = []
    for file in sorted(folder.glob("*/checks.json")):
        scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", file.parent.name)
        for check in json.loads(file.read_text()):
            if check["status"] == "FAILURE":
                lines.append(f"{scenario}: {check['id']}: {check.get('errorMessage')}")
    return "\n".join(lines)


def test_every_expected_failure_has_its_reason_once():
    for server in ("real", "fixtures"):
        groups = (*EXPECTED["both"], *EXPECTED[server])
        assert all(group["why"].endswith(".") for group in groups)
        assert sum(len(group["scenarios"]) for group in groups) == len(listed(server))

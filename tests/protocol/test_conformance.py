"""The official conformance suite, in both eras of the protocol, on the real server and on one with the suite's fixtures."""

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

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
SERVERS = ("real", "fixtures")
SUMMARY = re.compile(r"^[✓✗] ([a-z0-9-]+): (\d+) passed, (\d+) failed", re.MULTILINE)


OUTCOMES = ("fails", "warns", "checks nothing")
JUDGED = {"SUCCESS", "FAILURE"}

# By outcome and scenario, the ids of the checks.
Found = dict[str, dict[str, list[str]]]


def listed(server: str, run: str, scenarios: set[str]) -> Found:
    """What is expected of this server in a run that has these scenarios."""
    return {
        outcome: {
            scenario: sorted(ids)
            for group in EXPECTED[outcome]
            if server in group.get("servers", SERVERS) and run in group.get("runs", RUNS)
            for scenario, ids in group["scenarios"].items()
            if scenario in scenarios
        }
        for outcome in OUTCOMES
    }


def found_in(results: dict[str, list[dict[str, Any]]]) -> Found:
    """What the checks of each scenario say."""

    def ids(checks: list[dict[str, Any]], *statuses: str) -> list[str]:
        return sorted(check["id"] for check in checks if not statuses or check["status"] in statuses)

    found: Found = {outcome: {} for outcome in OUTCOMES}
    for scenario, checks in results.items():
        if not any(check["status"] in JUDGED for check in checks):
            found["checks nothing"][scenario] = ids(checks)
            continue
        if failed := ids(checks, "FAILURE"):
            found["fails"][scenario] = failed
        if warned := ids(checks, "WARNING"):
            found["warns"][scenario] = warned
    return found


def read_results(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The checks of each scenario, from the files that the suite wrote."""
    return {
        re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", file.parent.name): json.loads(file.read_text())
        for file in sorted(folder.glob("*/checks.json"))
    }


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
    results = read_results(tmp_path / "results")
    assert len(results) >= 25, told[-2000:]
    assert set(results) == {scenario for scenario, _, _ in SUMMARY.findall(told)}
    # Both ways: what is not as the suite asks is listed, and what is listed is so still.
    assert found_in(results) == listed(name, run, set(results)), _reasons(results)


def _reasons(results: dict[str, list[dict[str, Any]]]) -> str:
    """What the suite says of each check that failed."""
    return "\n".join(
        f"{scenario}: {check['id']}: {check.get('errorMessage')}"
        for scenario, checks in results.items()
        for check in checks
        if check["status"] in ("FAILURE", "WARNING")
    )


def test_another_failure_in_a_listed_scenario_is_seen():
    expected = listed("real", "requirements 2026-07-28", {"server-stateless"})["fails"]
    one, other = ({"id": check, "status": "FAILURE"} for check in expected["server-stateless"])
    for checks in ([one], [one, one], [one, other, other], [one, other, {"id": "x", "status": "FAILURE"}]):
        assert found_in({"server-stateless": checks})["fails"] != expected
    assert found_in({"server-stateless": [other, one]})["fails"] == expected


def test_a_scenario_that_checks_nothing_is_seen():
    for checks in ([], [{"id": "y", "status": "SKIPPED"}], [{"id": "y", "status": "WARNING"}]):
        assert list(found_in({"ping": checks})["checks nothing"]) == ["ping"]
    assert found_in({"ping": [{"id": "y", "status": "SUCCESS"}]}) == {outcome: {} for outcome in OUTCOMES}


def test_every_reason_is_told_once():
    assert set(EXPECTED) == set(OUTCOMES)
    for outcome in OUTCOMES:
        assert all(group["why"].endswith(".") for group in EXPECTED[outcome])
        names = [scenario for group in EXPECTED[outcome] for scenario in group["scenarios"]]
        assert len(names) == len(set(names))

"""The dashboard file: whole as Grafana reads it, and every metric and label in it is one that a server shows."""

import json
import re
from dataclasses import replace
from pathlib import Path

from auth_server import guarded_server, result_of
from metrics_reader import scrape

from bmad_mcp.memory.services.choosing import MemoryServices
from bmad_mcp.server.metrics.page import MetricsPage

BOARD = json.loads((Path(__file__).parents[2] / "docs/grafana/bmad-mcp.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
METRIC = re.compile(r"\b((?:bmad|mcp|process)_[a-z0-9_]+)(?:\{([^}]*)\})?")
# Words of PromQL's `by (…)`, and what a target of Prometheus has beside its metrics.
BY = re.compile(r"\bby \(([^)]*)\)")
OF_TARGETS = {"job", "instance"}
# Labels of gauges that have no sample in a new project; the tests of the metrics see each.
PROVIDED = {
    "bmad_memory_breaker_state": {"provider", "purpose"},
    "bmad_jobs_failing": {"job_name"},
    "bmad_job_last_success_timestamp_seconds": {"job_name"},
    "bmad_queue_jobs": {"status"},
    "bmad_project_task_cycle_seconds": {"quantile"},
    "bmad_project_agent_tasks_completed": {"agent"},
    "bmad_project_agent_quality_points": {"agent"},
}


EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_it_is_a_dashboard_that_grafana_reads():
    assert BOARD["schemaVersion"] >= 36
    assert {"uid", "title", "panels", "templating", "time", "annotations"} <= BOARD.keys()
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    known = {variable["name"] for variable in BOARD["templating"]["list"]}
    assert known == {"datasource", "job", "instance", "project"}
    for panel in PANELS:
        assert panel["type"] in {"timeseries", "stat"}
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= known, target["expr"]


def test_panels_do_not_cover_each_other():
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_part_of_the_strategy_has_a_row():
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert {"Agent performance", "Workflow success", "Memory", "System health", "Adoption"} <= set(rows)


def test_brackets_of_expressions_and_legends_are_closed():
    for text in [*EXPRESSIONS, *(target["legendFormat"] for panel in PANELS for target in panel["targets"])]:
        for opening, closing in ("()", "{}", "[]"):
            assert text.count(opening) == text.count(closing), text


async def test_every_metric_in_it_is_one_that_a_server_shows(workspace):
    metrics = MetricsPage(workspace, most_projects=1)
    async with guarded_server(workspace, is_authenticated=False, metrics=metrics) as served:
        result_of(await served.call(None, "project_status"))
        found = await scrape(served.client)
    # What has not happened yet has a family without samples, and its labels are those that it is made with.
    labels = {family: {name for one in kept.samples for name in one.labels} for family, kept in found.families.items()}
    made = {
        one._name: set(one._labelnames) for one in vars(metrics.instruments).values() if hasattr(one, "_labelnames")
    }
    problems = []
    for expression in EXPRESSIONS:
        for name, conditions in METRIC.findall(BY.sub("", expression)):
            base = re.sub(r"_(?:bucket|count|sum|total)$", "", name)
            family = name if name in found.families else base
            if family not in found.families:
                problems.append(f"{name} is no metric")
                continue
            known = labels[family] | made.get(family, set()) | OF_TARGETS | {"le"}
            asked = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", conditions))
            if family.startswith("bmad_project_"):
                known.add("project")
            grouped = {word.strip() for words in BY.findall(expression) for word in words.split(",")}
            if unknown := (asked | grouped) - known - PROVIDED.get(family, set()):
                problems.append(f"{name} has no label {sorted(unknown)}")
    assert not problems


async def test_the_breakers_have_the_labels_that_the_dashboard_asks_for(workspace):
    services = MemoryServices("http://127.0.0.1:9", user="bmad", setting="openmemory")
    workspace.opened = replace(workspace.opened, services=services)
    async with guarded_server(workspace, is_authenticated=False, metrics=MetricsPage(workspace)) as served:
        found = await scrape(served.client)
    assert found.labels("bmad_memory_breaker_state", "purpose") == {"read", "write", "search"}
    await services.aclose()

"""Reads /metrics of a served application as Prometheus does."""

from collections.abc import Mapping
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class Exposition:
    """One scrape: `value("bmad_calls_total", operation="task_get")` sums the samples that have these labels."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    @property
    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}

    def value(self, name: str, **labels: str) -> float:
        assert any(name.startswith(family) for family in self.families), f"there is no {name}"
        return sum(one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items())

    def labels(self, name: str, label: str) -> set[str]:
        return {one.labels[label] for one in self.samples if one.name == name}


async def scrape(client: httpx.AsyncClient, headers: Mapping[str, Any] | None = None) -> Exposition:
    answer = await client.get("/metrics", headers={"accept": "text/plain"} | dict(headers or {}))
    assert answer.status_code == 200, answer.text
    return Exposition(answer.text)

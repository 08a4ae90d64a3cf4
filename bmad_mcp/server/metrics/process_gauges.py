"""Gauges of what this process holds now: tasks, connections, circuit breakers, listeners, and whether it is ready."""

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from bmad_mcp.call import OpenProject
from bmad_mcp.server.mcp_requests import Listening

BREAKER = {"closed": 0, "half_open": 1, "open": 2}


class ProcessGauges:
    """Collects for a registry what `look` saw last."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._opened: OpenProject | None = None
        self._is_ready = False
        registry.register(self)

    def look(self, opened: OpenProject | None, *, is_ready: bool) -> None:
        """What there is now; `opened` is None while the project is not open."""
        self._opened, self._is_ready = opened, is_ready

    def collect(self) -> Iterable[Metric]:
        """The gauges."""
        yield GaugeMetricFamily("bmad_ready", "1 when /health/ready says so.", int(self._is_ready))
        yield GaugeMetricFamily("bmad_listeners", "Clients that listen for changes over MCP.", Listening.count)
        yield GaugeMetricFamily(
            "bmad_event_loop_tasks", "Tasks of the event loop that have not ended.", len(asyncio.all_tasks())
        )
        if self._opened is None:
            return
        pool, services = self._opened.pool, self._opened.services
        connections = GaugeMetricFamily("bmad_pool_connections", "Connections of the pool, by state.", labels=["state"])
        connections.add_metric(["in_use"], pool.get_size() - pool.get_idle_size())
        connections.add_metric(["idle"], pool.get_idle_size())
        yield connections
        yield GaugeMetricFamily("bmad_pool_connections_max", "Connections that the pool may have.", pool.get_max_size())
        known = services.known if services is not None else None
        provider = "builtin" if services is None else known.provider if known is not None else "unknown"
        memory = GaugeMetricFamily("bmad_memory_provider", "1 for the memory that serves.", labels=["provider"])
        memory.add_metric([provider], 1)
        yield memory
        breakers = GaugeMetricFamily(
            "bmad_memory_breaker_state", "0 closed, 1 half open, 2 open.", labels=["provider", "purpose"]
        )
        if services is not None and known is not None and known.provider != "builtin":
            guards = services.guards(known.provider)
            for breaker in (guards.read, guards.write, guards.search):
                breakers.add_metric([known.provider, breaker.purpose], BREAKER[breaker.state])
        yield breakers

"""Many agents at once on one server over HTTP, beside as many that call a tool which does nothing."""

import threading
import time
from typing import Any

from bench.series import median
from bench.servers import noop_over_http, ours_over_http
from bench.wire import Posted, processor_seconds
from bench.work import Work

CYCLE = ("create", "get", "list", "claim", "complete")


class Agent:
    """Calls one tool after the other until the time is over."""

    def __init__(self, port: int, *, does_nothing: bool) -> None:
        self._client = Posted(port)
        ways = {} if does_nothing else Work(self._client.call).ways()
        self._cycle = [ways[name] for name in CYCLE] if ways else [lambda: self._client.call("noop")]
        self.calls = 0
        self.seconds: list[float] = []

    def arrive(self) -> None:
        self._client.reopen()
        self.calls = 0
        self.seconds = []

    def work(self, until: float) -> None:
        while time.perf_counter() < until:
            for call in self._cycle:
                began = time.perf_counter()
                call()
                self.seconds.append(time.perf_counter() - began)
                self.calls += 1


def work_at_once(agents: list[Agent], seconds: float) -> float:
    """Have all agents work side by side for so many seconds; how many it took them."""
    began = time.perf_counter()
    threads = [threading.Thread(target=agent.work, args=(began + seconds,)) for agent in agents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def _run(agents: list[Agent], seconds: float, pid: int) -> dict[str, float]:
    """Calls in a second by all agents together, and what the server's process needs of a processor for a call."""
    for agent in agents:
        agent.arrive()
    busy = processor_seconds(pid)
    taken = work_at_once(agents, seconds)
    calls = sum(agent.calls for agent in agents)
    return {"calls_per_second": calls / taken, "server_cpu_us": (processor_seconds(pid) - busy) / max(calls, 1) * 1e6}


def measured(
    env: dict[str, str], project: str, levels: tuple[int, ...], seconds: float, rounds: int
) -> dict[str, dict[str, Any]]:
    """By number of agents: {no-op, ours: {calls_per_second, server_cpu_us}}, the median of the rounds."""
    found: dict[str, dict[str, Any]] = {}
    with noop_over_http(env) as (noop_port, noop_pid), ours_over_http(env, project) as (port, pid):
        for level in levels:
            noop = [Agent(noop_port, does_nothing=True) for _ in range(level)]
            agents = [Agent(port, does_nothing=False) for _ in range(level)]
            rows: dict[str, list[dict[str, float]]] = {"no-op": [], "ours": []}
            for _ in range(rounds):
                rows["no-op"].append(_run(noop, seconds, noop_pid))
                rows["ours"].append(_run(agents, seconds, pid))
            found[str(level)] = {
                name: {figure: median([one[figure] for one in several]) for figure in several[0]}
                for name, several in rows.items()
            }
    return found

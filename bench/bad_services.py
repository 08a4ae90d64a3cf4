"""`python -m bench.bad_services`: what each tool costs beside a memory service that is away or ill; one run, interleaved."""

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import faults
from bench.fake_server import Asked, FakeServer, Fault, Reply
from bench.wire import Child

SERVE = [sys.executable, "-m", "bmad_mcp", "serve", "--project", "bench"]
# The yardstick is there twice: what the second differs by is what chance does.
WITHOUT, CONTROL = "none", "none again"
BUDGET_SECONDS = 1.5
MOST_READ = 2 * 1024 * 1024
LOOK_UPS = ("agent_activate", "memory_context", "workflow_start", "handoff_offer")
# A call that waited for the service took longer than any other one does.
WAITED_SECONDS = 0.5


def bad_services(elsewhere: str) -> dict[str, Fault | None]:
    """What each of them answers; None: nobody listens there."""
    return {
        "down": None,
        "hanging": faults.hang_before_headers,
        "500": faults.plainly(Reply(b"Internal Server Error", 500, "text/plain; charset=utf-8")),
        "error in 200": faults.plainly(Reply({"error": "Error code: 500 - upstream is away"})),
        "garbage": faults.plainly(faults.GARBAGE["not_json"]()),
        "1 GB": faults.gigabyte_in_chunks,
        "redirect": faults.plainly(Reply(b"", 307, headers={"location": f"{elsewhere}/api/v1/memories/"})),
        "gzip bomb": faults.plainly(faults.GARBAGE["packed"]()),
    }


class Services:
    """The bad services, on a thread of their own; `elsewhere` is where the redirect leads."""

    def __init__(self) -> None:
        self.servers: dict[str, FakeServer] = {}
        self.urls: dict[str, str] = {}
        self.elsewhere = FakeServer()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        # Bound and not listening: refused, and nobody else can take the port.
        self._refusing = socket.socket()

    def __enter__(self) -> "Services":
        self._thread.start()
        self._refusing.bind(("127.0.0.1", 0))
        self._await(self.elsewhere.__aenter__())
        for name, fault in bad_services(self.elsewhere.url).items():
            if fault is None:
                self.urls[name] = f"http://127.0.0.1:{self._refusing.getsockname()[1]}"
                continue
            server = self.servers[name] = FakeServer()
            server.fault = fault
            self._await(server.__aenter__())
            self.urls[name] = server.url
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self.elsewhere, *self.servers.values()):
            self._await(server.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._refusing.close()

    def asked(self, name: str) -> list[Asked]:
        """The requests that this one got so far."""
        return self.servers[name].asked if name in self.servers else []

    def _await(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


def is_delivery(asked: Asked) -> bool:
    """Whether a request stores a memory or looks up its key, and so belongs to no look-up of a tool."""
    return asked.what in ("POST /api/v1/memories/", "POST /memories") or "[bmad:" in json.dumps(
        [asked.params, asked.body]
    )


class Figures:
    """Seconds by tool and service, what failed, and the most that one look-up read."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.errors: dict[str, list[str]] = defaultdict(list)
        self.most_read: dict[str, int] = defaultdict(int)


class Server:
    """One bmad-mcp process beside one service; its tools are called and timed."""

    def __init__(self, name: str, env: dict[str, str], services: Services, figures: Figures) -> None:
        self.name = name
        self._services = services
        self._figures = figures
        self.child = Child(SERVE, env)

    def call(self, tool: str, told: str | None = None, **arguments: Any) -> Any:
        """The result of a tool, whose time is noted as that of `told`; a refusal is noted and gives {}."""
        asked, begun = len(self._services.asked(self.name)), time.perf_counter()
        try:
            return self.child.call(tool, **arguments)
        except RuntimeError as error:
            self._figures.errors[self.name].append(str(error))
            return {}
        finally:
            self._figures.seconds[told or tool][self.name].append(time.perf_counter() - begun)
            if tool in LOOK_UPS:
                answers = [one.sent for one in self._services.asked(self.name)[asked:] if not is_delivery(one)]
                self._figures.most_read[self.name] = max(sum(answers), self._figures.most_read[self.name])


def one_round(server: Server, number: int) -> None:
    """Each tool once, as one assistant calls them: what a server does in the background falls on its own next calls."""
    call = server.call
    # Not timed: it meets cold caches and what the server before still does.
    server.child.call("project_status")
    key = call("task_create", title=f"Task {number}").get("task", {}).get("key")
    call("task_get", task=key)
    call("task_list")
    lease = call("task_claim", agent="dev", task=key).get("lease")
    call("task_heartbeat", task=key, lease=lease)
    call("task_complete", task=key, lease=lease)
    key = server.child.call("task_create", title=f"Other {number}")["task"]["key"]
    lease = server.child.call("task_claim", agent="dev", task=key)["lease"]
    call("task_complete", "task_complete + summary", task=key, lease=lease, summary=f"Task {number} went as planned")
    call("story_next")
    call("project_status")
    call("memory_store", text=f"Fact {number}: the tide table is in UTC", agent="qa")
    call("agent_list")
    call("agent_activate", agent="dev", focus=f"tide table {number}")
    call("memory_context", focus=f"tide table {number}")
    run = call("workflow_start", type="brownfield-service", title=f"Run {number}").get("workflow", {}).get("key")
    call("workflow_cancel", workflow=run, reason="measured")
    handoff = call("handoff_offer", to="qa", note=f"Look at the tide table {number}").get("handoff", {}).get("key")
    call("handoff_accept", handoff=handoff, agent="qa")


def measure(servers: list[Server], rounds: int) -> None:
    """Every server has its turn in each round, in an order that chance makes: none always comes after the same one."""
    chance = random.Random(rounds)  # noqa: S311
    for number in range(rounds):
        for server in chance.sample(servers, len(servers)):
            one_round(server, number)


@contextmanager
def running(
    names: list[str], services: Services, figures: Figures, folder: Path, provider: str
) -> Iterator[list[Server]]:
    """A process with a PostgreSQL of its own for each service, ready for the first call of a round."""
    with ExitStack() as stack:
        servers = []
        for name in names:
            url = services.urls.get(name)
            env = {
                **os.environ,
                # A PostgreSQL each: with one, any of them would deliver for all.
                "BMAD_DATA_DIR": str(folder / name.replace(" ", "-")),
                "BMAD_TOOLSETS": "core,planning",
                "BMAD_MEMORY_PROVIDER": provider if url else "builtin",
                "BMAD_MEMORY_BUDGET_SECONDS": str(BUDGET_SECONDS),
                **({"BMAD_MEMORY_URL": url} if url else {}),
            }
            servers.append(Server(name, env, services, figures))
            stack.callback(servers[-1].child.close)
        for server in servers:
            server.child.hello()
            epic = server.child.call("epic_create", title="Harbour")["epic"]["key"]
            server.child.call("story_create", epic=epic, title="Show the tides")
            # Warm: what a first call of a process costs is not the service's doing.
            server.child.call("task_list")
            server.child.call("project_status")
        yield servers


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m bench.bad_services", description=__doc__)
    options.add_argument("--rounds", type=int, default=200, help="calls of each tool (default 200)")
    options.add_argument("--provider", choices=["openmemory", "mem0", "auto"], default="openmemory")
    chosen = options.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="bmad-bench-") as name, Services() as services:
        folder, names = Path(name), [WITHOUT, CONTROL, *services.urls]
        # Run as root, PostgreSQL's own user must be able to enter.
        folder.chmod(0o711)
        with running(names, services, figures, folder, chosen.provider) as servers:
            measure(servers, chosen.rounds)
        asked = {name: len(server.asked) for name, server in services.servers.items()}
        led_away = len(services.elsewhere.asked)
    show(figures, names, chosen.rounds)
    say(f"\nrequests that the services got: {asked}; where the redirect leads: {led_away}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "bad_services.json").write_text(json.dumps(figures.seconds, indent=1))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def p50(values: list[float]) -> float:
    return statistics.median(values)


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]


def show(figures: Figures, names: list[str], rounds: int) -> None:
    """Print the ratios to the yardsticks, then what looking up came to."""
    core = {tool: by for tool, by in figures.seconds.items() if tool not in LOOK_UPS}
    for title, cut in (("p50", p50), ("p95", p95)):
        say(
            f"\n{title} of tools that ask nobody: ms of both without a service, and the ratio to it; {rounds} calls each"
        )
        say(f"{'':<25}{'ms':>6}" + "".join(f"{name:>13}" for name in names))
        together: dict[str, list[float]] = defaultdict(list)
        for tool, by in core.items():
            both = by[WITHOUT] + by[CONTROL]
            cells = (cut(by[name]) / cut(both) for name in names)
            say(f"{tool:<25}{cut(both) * 1000:>6.1f}" + "".join(f"{cell:>13.2f}" for cell in cells))
            for name in names:
                together[name] += [one / p50(both) for one in by[name]]
        both = together[WITHOUT] + together[CONTROL]
        cells = (cut(together[name]) / cut(both) for name in names)
        # Each call in medians of its tool, so that quick and slow tools weigh the same.
        say(f"{'all together':<25}{'':>6}" + "".join(f"{cell:>13.2f}" for cell in cells))
    say(
        f"\ntools that look up: the slowest s, how many waited over {WAITED_SECONDS:g} s, p50 and p95 in ms of the others"
    )
    say(f"{'':<14}" + "".join(f"{tool:>30}" for tool in LOOK_UPS) + f"{'most KiB read':>16}{'errors':>8}")
    for name in names:
        cells = [_looked_up(figures.seconds[tool][name]) for tool in LOOK_UPS]
        more = f"{figures.most_read[name] / 1024:>16.0f}{len(figures.errors[name]):>8}"
        say(f"{name:<14}" + "".join(f"{cell:>30}" for cell in cells) + more)
    slowest = max(max(figures.seconds["agent_activate"][name]) for name in names)
    say(
        f"\nslowest agent_activate {slowest:.2f} s (budget {BUDGET_SECONDS} s + 0.2 s);"
        f" most read by one look-up {max(figures.most_read.values()) / 2**20:.2f} MiB (at most {MOST_READ / 2**20:.0f});"
        f" errors {sum(map(len, figures.errors.values()))}"
    )
    for name, told in figures.errors.items():
        if told:
            say(f"{name}: {told[0]}")


def _looked_up(seconds: list[float]) -> str:
    quick = [one for one in seconds if one < WAITED_SECONDS]
    middle = f"{p50(quick) * 1000:.1f} / {p95(quick) * 1000:.1f}" if quick else "-"
    return f"{max(seconds):.2f} · {len(seconds) - len(quick)} · {middle}"


if __name__ == "__main__":
    main()

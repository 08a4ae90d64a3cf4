"""One client of a history: `history_client.py SEED COUNT TASKS PORT…` prints each of its calls as a line of JSON."""

import http.client
import json
import random
import sys
import time

from bench.wire import Posted

AGENTS = ("dev", "qa", "architect")


def one_call(generator: random.Random, task: str, seen: dict[str, dict[str, int]]) -> tuple[str, dict[str, object]]:
    """A random call on the task, by what this client last heard of it."""
    known = seen.setdefault(task, {"version": 1, "lease": 1})
    match generator.randrange(7):
        case 0 | 1:
            return "task_claim", {"task": task, "agent": generator.choice(AGENTS), "lease_seconds": 86_400}
        case 2:
            return "task_update", {"task": task, "lease": known["lease"], "status": "pending"}
        case 3:
            return "task_update", {"task": task, "lease": known["lease"], "note": f"{generator.random()}"}
        case 4:
            text = f"{generator.random()}"
            return "task_update", {"task": task, "expected_version": known["version"], "title": text}
        case _:
            return "task_get", {"task": task}


def main(seed: str, count: str, tasks: str, *ports: str) -> None:
    generator = random.Random(int(seed))
    servers = [Posted(int(port)) for port in ports]
    seen: dict[str, dict[str, int]] = {}
    for _ in range(int(count)):
        task, server = f"T-{generator.randint(1, int(tasks))}", generator.choice(servers)
        name, asked = one_call(generator, task, seen)
        told: dict[str, object] = {"name": name, "asked": asked}
        is_cut = generator.random() < 0.03
        told["began"] = time.monotonic_ns()
        try:
            if is_cut:
                # The request is on its way when its client is gone.
                server.send("tools/call", {"name": name, "arguments": asked})
                server.reopen()
            else:
                answer = server.call(name, **asked)["task"]
                told["answer"] = {one: answer.get(one) for one in ("version", "lease", "status", "note", "title")}
                seen[task] |= {one: answer[one] for one in ("version", "lease") if answer.get(one)}
        except RuntimeError as refusal:
            told["answer"] = {"refused": str(refusal)}
        except (http.client.HTTPException, OSError):
            server.reopen()
        print(json.dumps({**told, "ended": time.monotonic_ns()}))


if __name__ == "__main__":
    main(*sys.argv[1:])

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


def heard(result: dict) -> dict | None:
    """What an answer tells of the task, that it was refused, or that nothing was done; None: it does not know."""
    if not result.get("isError"):
        task = result["structuredContent"]["task"]
        return {one: task.get(one) for one in ("version", "lease", "status", "note", "title")}
    text = result["content"][0]["text"]
    code = result["_meta"]["bmad/code"]
    if code not in ("unavailable", "overloaded"):
        assert code in ("conflict", "invalid_move", "lease_lost", "version_conflict"), text
        return {"refused": text}
    # Whoever asks on and on while there is no database makes a history of nothing else.
    time.sleep(0.1)
    return None if "outcome is not known" in text else {"nothing": text}


def reopened(server: Posted) -> None:
    """Connect anew, also to a server that has yet to come back."""
    until = time.monotonic() + 60
    while True:
        try:
            return server.reopen()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


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
                reopened(server)
            else:
                result = server.request("tools/call", {"name": name, "arguments": asked})["result"]
                if (answer := heard(result)) is not None:
                    told["answer"] = answer
                    seen[task] |= {one: answer[one] for one in ("version", "lease") if answer.get(one)}
        except (http.client.HTTPException, OSError):
            reopened(server)
        print(json.dumps({**told, "ended": time.monotonic_ns()}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What a task waits for: existing tasks only, never in a circle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bmad_mcp.call import Call
from bmad_mcp.errors import Conflict, NotFound
from bmad_mcp.shapes import number_of
from bmad_mcp.tasks import queries


@dataclass(frozen=True, slots=True)
class Dependency:
    """A task that another one waits for."""

    id: UUID
    closed: bool


async def wait_for(call: Call, keys: Sequence[str]) -> list[Dependency]:
    """The tasks behind the keys, locked against being finished meanwhile; raises NotFound naming the unknown ones."""
    if not keys:
        return []
    rows = await call.db.fetch(queries.DEPENDENCIES_LOCKED, sorted({number_of(key) for key in keys}))
    if unknown := sorted(set(keys) - {row["key"] for row in rows}, key=number_of):
        raise NotFound(
            f"`depends_on` names {', '.join(unknown)}, which this project does not have. task_list shows the tasks.",
            field="depends_on",
        )
    return [Dependency(row["id"], row["closed"]) for row in rows]


async def lock_dependencies(call: Call, task: str, keys: Sequence[str]) -> None:
    """Take turns with other edits of dependencies, and lock all tasks of this one in the order that everybody takes."""
    await call.db.execute(queries.LOCK_DEPENDENCIES)
    await call.db.execute(queries.LOCK_IN_ORDER, sorted({number_of(key) for key in (task, *keys)}))


def _circle(rows: Sequence[Any], starts: Sequence[UUID], goal: UUID) -> list[int]:
    """The numbers on a shortest way from the starts to the goal; empty when no way leads there."""
    numbers = {row["id"]: row["number"] for row in rows}
    edges = {row["id"]: row["waits_for"] or () for row in rows}
    if goal not in numbers:
        return []
    ways: dict[UUID, list[int]] = {start: [numbers[start]] for start in starts}
    queue = list(starts)
    while queue and goal not in ways:
        here = queue.pop(0)
        for following in edges[here]:
            if following not in ways:
                ways[following] = [*ways[here], numbers[following]]
                queue.append(following)
    return ways.get(goal, [])


async def replace_dependencies(call: Call, task: str, task_id: UUID, keys: Sequence[str]) -> None:
    """Make the task wait for exactly these, under `lock_dependencies`; raises Conflict with a circle that closes."""
    found = await wait_for(call, keys)
    ids = [dependency.id for dependency in found]
    if circle := _circle(await call.db.fetch(queries.REACHED, ids), ids, task_id):
        steps = " → ".join(f"T-{number}" for number in circle)
        raise Conflict(
            f"{task} cannot wait for {keys[0] if len(keys) == 1 else 'these'}: {task} → {steps} is a circle."
            " Leave one of them out of `depends_on`.",
            field="depends_on",
        )
    await call.db.execute(queries.CLEAR_DEPENDENCIES, task_id)
    await call.db.execute(queries.ADD_DEPENDENCIES, task_id, ids)
    await call.db.execute(queries.SET_OPEN_DEPENDENCIES, task_id, sum(not one.closed for one in found))

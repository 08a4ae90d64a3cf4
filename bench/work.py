"""The core operations as one agent does them, over any client."""

from collections import deque
from collections.abc import Callable
from typing import Any

Call = Callable[..., dict[str, Any]]
HELD = 3
OTHER = "ux-expert"


class Work:
    """Each method is one call; what it needs from the calls before is at hand."""

    def __init__(self, call: Call, agent: str = "dev") -> None:
        self._call, self._agent = call, agent
        self._held: deque[tuple[str, int]] = deque()
        self._made = 0
        # Of another role, so that nobody claims it.
        self._key = self.create(agent=OTHER)
        self._is_blocked = False
        for _ in range(HELD):
            self.create()
            self.claim()

    def create(self, agent: str | None = None) -> str:
        self._made += 1
        title = f"Task {self._made}"
        key: str = self._call("task_create", title=title, agent=agent or self._agent)["task"]["key"]
        return key

    def get(self) -> None:
        self._call("task_get", task=self._key)

    def list(self) -> None:
        self._call("task_list")

    def list_pending(self) -> None:
        self._call("task_list", status="pending")

    def list_ready(self) -> None:
        self._call("task_list", ready=True)

    def next(self) -> None:
        self._call("story_next")

    def claim(self) -> None:
        claim = self._call("task_claim", agent=self._agent)
        self._held.append((claim["task"]["key"], claim["lease"]))

    def heartbeat(self) -> None:
        key, lease = self._held[-1]
        self._call("task_heartbeat", task=key, lease=lease)

    def complete(self) -> None:
        key, lease = self._held.popleft()
        self._call("task_complete", task=key, lease=lease)
        if not self._held:
            self.claim()

    def set_status(self) -> None:
        self._is_blocked = not self._is_blocked
        self._call("task_update", task=self._key, status="blocked" if self._is_blocked else "pending")

    def status(self) -> None:
        self._call("project_status")

    def ways(self) -> dict[str, Callable[[], Any]]:
        """The operations by the words of the report."""
        return {
            "create": self.create,
            "get": self.get,
            "list": self.list,
            "list by status": self.list_pending,
            "list ready": self.list_ready,
            "next": self.next,
            "claim": self.claim,
            "heartbeat": self.heartbeat,
            "complete": self.complete,
            "set status": self.set_status,
            "project status": self.status,
        }

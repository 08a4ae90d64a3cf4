"""The board as the contract tells it, in plain Python: what each call changes, what it answers, and why it is refused."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

PRIORITIES = ("low", "medium", "high", "critical")
ROLES = ("architect", "dev", "qa", "sm")
PLANNERS = ("sm", "po", "pm")

# Said once more and otherwise than in the product: `status: where it may go`.
TASK_MOVES = {
    "pending": "active in_progress blocked cancelled",
    "active": "pending active in_progress review completed blocked cancelled",
    "in_progress": "pending active in_progress review completed blocked cancelled",
    "review": "pending active in_progress completed blocked cancelled",
    "blocked": "pending cancelled",
    "completed": "",
    "cancelled": "pending",
}
STORY_MOVES = {
    "draft": "ready cancelled",
    "ready": "in_progress draft cancelled",
    "in_progress": "review ready cancelled",
    "review": "done in_progress cancelled",
    "done": "",
    "cancelled": "draft",
}
RUN_MOVES = {"active": "paused cancelled", "paused": "active cancelled", "completed": "", "cancelled": ""}
CLOSED = ("completed", "cancelled")
UNDER_WAY = ("active", "in_progress")
OPEN_STORIES = ("ready", "in_progress", "review")


class Refusal(Exception):
    """A call that the contract refuses, by the code of the refusal."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def need(holds: bool, code: str) -> None:
    if not holds:
        raise Refusal(code)


@dataclass
class Epic:
    number: int
    title: str
    status: str = "draft"


@dataclass
class Story:
    key: str
    epic: Epic
    number: int
    title: str
    status: str = "draft"
    version: int = 1

    @property
    def is_open(self) -> bool:
        """Whether its tasks may be worked on."""
        return self.status in OPEN_STORIES

    @property
    def place(self) -> tuple[int, int]:
        return self.epic.number, self.number


@dataclass
class Task:
    number: int
    title: str
    priority: str
    role: str
    story: Story | None
    depends_on: set[int]
    status: str = "pending"
    version: int = 1
    lease: int = 0
    holder: str | None = None
    # None: nobody has a lease; else whether its end has passed.
    has_passed: bool | None = None
    note: str | None = None
    summary: str | None = None
    quality: int | None = None

    @property
    def key(self) -> str:
        return f"T-{self.number}"

    @property
    def is_held(self) -> bool:
        return self.has_passed is False

    def free(self) -> None:
        self.holder = self.has_passed = None


@dataclass
class Handoff:
    number: int
    giver: str
    taker: str
    task: Task | None
    story: Story | None
    status: str = "offered"


@dataclass
class Run:
    number: int
    status: str = "active"
    # The stage to do now, as the server told it.
    stage: dict[str, Any] | None = None
    progress: dict[str, int] = field(default_factory=dict)


class Board:
    """Everything that a project holds; each change checks first and then changes, so a refusal leaves all as it was."""

    def __init__(self, roles: list[str]) -> None:
        self.roles = roles
        self.epics: list[Epic] = []
        self.stories: list[Story] = []
        self.tasks: list[Task] = []
        self.handoffs: list[Handoff] = []
        self.runs: list[Run] = []
        self.memories: list[str] = []
        self.in_session: str | None = None
        self.changed: set[str] = set()

    # Finding

    def task(self, number: int) -> Task:
        need(number <= len(self.tasks), "not_found")
        return self.tasks[number - 1]

    def story(self, key: str) -> Story:
        found = next((one for one in self.stories if one.key == key), None)
        need(found is not None, "not_found")
        return found

    def open_dependencies(self, task: Task) -> list[str]:
        return [self.tasks[n - 1].key for n in sorted(task.depends_on) if self.tasks[n - 1].status not in CLOSED]

    def may_begin(self, task: Task) -> bool:
        return not self.open_dependencies(task) and (task.story is None or task.story.is_open)

    def is_ready(self, task: Task) -> bool:
        return task.status == "pending" and self.may_begin(task)

    def is_lapsed(self, task: Task) -> bool:
        return task.status in UNDER_WAY and task.has_passed is True and self.may_begin(task)

    def is_claimable(self, task: Task) -> bool:
        return self.is_ready(task) or self.is_lapsed(task)

    def to_review(self) -> list[Task]:
        """What waits for a reviewer."""
        return [task for task in self.tasks if task.status == "review" and not task.is_held and self.may_begin(task)]

    def tasks_of(self, story: Story) -> list[Task]:
        return [task for task in self.tasks if task.story is story]

    # Changing: every change of an entity is one version more.

    def _touch(self, *entities: Task | Story) -> None:
        for entity in entities:
            entity.version += 1
            self.changed.add(entity.key)

    def epic_create(self, title: str) -> dict[str, Any]:
        epic = Epic(len(self.epics) + 1, title)
        self.epics.append(epic)
        return {"epic": {"key": str(epic.number), "title": title, "status": "draft", "version": 1}}

    def story_create(self, epic: str, title: str) -> dict[str, Any]:
        need(int(epic) <= len(self.epics), "not_found")
        parent = self.epics[int(epic) - 1]
        number = sum(one.epic is parent for one in self.stories) + 1
        story = Story(f"{parent.number}.{number}", parent, number, title)
        self.stories.append(story)
        self.changed.add(story.key)
        return {"story": self._state(story)}

    def _state(self, story: Story) -> dict[str, Any]:
        return {"key": story.key, "title": story.title, "status": story.status, "version": story.version}

    def story_update(
        self, story: str, expected_version: int, status: str | None = None, section: str | None = None
    ) -> dict[str, Any]:
        found, acting = self.story(story), self.in_session
        need(found.version == expected_version, "version_conflict")
        need(status is None or status in STORY_MOVES[found.status].split(), "invalid_move")
        if section is not None:
            need(acting in PLANNERS, "forbidden")
        if status is not None:
            moves = {("review", "done"), ("review", "in_progress")} if acting == "qa" else set()
            free = acting is None or acting == "dev" or acting in PLANNERS
            need(free or (found.status, status) in moves, "forbidden")
            self._move_story(found, status)
        self._touch(found)
        still_open = [
            {"key": task.key, "status": task.status, "held_by": task.holder if task.is_held else None}
            for task in self.tasks_of(found)
            if task.status not in CLOSED and status in ("review", "done", "cancelled")
        ]
        return {"story": self._state(found), "open_tasks": still_open[:20] or None}

    def _move_story(self, story: Story, status: str) -> None:
        was_open, story.status = story.is_open, status
        if story.is_open != was_open:
            self._touch(*self.tasks_of(story))
        if status in ("in_progress", "review", "done"):
            self._start_epic(story.epic)

    def _start_epic(self, epic: Epic) -> None:
        if epic.status in ("draft", "ready"):
            epic.status = "in_progress"

    def gate_record(self, story: str) -> dict[str, Any]:
        need(self.in_session in (None, "qa"), "forbidden")
        found = self.story(story)
        self._touch(found)
        return {"story": {"key": found.key, "status": found.status, "version": found.version}, "gate": {"gate": "PASS"}}

    def task_create(
        self, title: str, priority: str, agent: str | None, story: str | None, depends_on: list[int]
    ) -> dict[str, Any]:
        of = self.story(story) if story is not None else None
        need(of is None or of.status not in ("done", "cancelled"), "conflict")
        need(all(number <= len(self.tasks) for number in depends_on), "not_found")
        task = Task(len(self.tasks) + 1, title, priority, agent or "", of, set(depends_on))
        self.tasks.append(task)
        self.changed.add(task.key)
        keys = [f"T-{number}" for number in dict.fromkeys(depends_on)] or None
        made = {"key": task.key, "status": "pending", "priority": priority, "version": 1, "depends_on": keys}
        return {"task": made}

    def _take(self, task: Task, agent: str, status: str, *, is_own: bool = False) -> dict[str, Any]:
        task.status, task.holder, task.has_passed = status, agent, False
        task.lease += not is_own
        self._touch(task)
        if task.story is not None and task.story.status == "ready":
            task.story.status = "in_progress"
            self._touch(task.story)
            self._start_epic(task.story.epic)
        brief = {"key": task.key, "status": status, "version": task.version, "lease": task.lease, "held_by": agent}
        return {"task": brief, "lease": task.lease}

    def claim_best(self, agent: str) -> dict[str, Any]:
        fitting = [task for task in self.tasks if self.is_claimable(task) and task.role in ("", agent)]
        if not fitting:
            return {"task": None}
        best = min(fitting, key=lambda task: (-PRIORITIES.index(task.priority), task.number))
        return self._take(best, agent, "active")

    def claim(self, number: int, agent: str, status: str = "active", lease: int | None = None) -> dict[str, Any]:
        task = self.task(number)
        need(status in TASK_MOVES[task.status].split(), "invalid_move")
        need(self.may_begin(task), "conflict")
        is_own = status == "in_progress" and task.is_held and task.holder == agent and task.lease == lease
        need(task.status == "pending" or not task.is_held or is_own, "conflict")
        return self._take(task, agent, status, is_own=is_own)

    def _holds(self, task: Task, lease: int | None) -> bool:
        return task.is_held and task.lease == lease

    def heartbeat(self, number: int, lease: int) -> dict[str, Any]:
        task = self.task(number)
        need("active" in TASK_MOVES[task.status].split(), "invalid_move")
        need(self._holds(task, lease), "lease_lost")
        return {}

    def complete(
        self, number: int, lease: int, summary: str | None = None, quality: int | None = None
    ) -> dict[str, Any]:
        task = self.task(number)
        need("completed" in TASK_MOVES[task.status].split(), "invalid_move")
        need(self._holds(task, lease), "lease_lost")
        # Whose work it was stays on record.
        task.status, task.has_passed, task.summary, task.quality = "completed", None, summary or None, quality
        self._touch(task)
        unblocked = self._settle(task)
        answer: dict[str, Any] = {"task": {"key": task.key, "status": "completed"}, "unblocked": unblocked}
        if task.story is not None:
            done, total = self._progress(task.story)
            answer["story"] = {
                "key": task.story.key, "status": task.story.status, "tasks_done": done, "tasks_total": total
            }  # fmt: skip
        return answer

    def _progress(self, story: Story) -> tuple[int, int]:
        count = Counter(task.status for task in self.tasks_of(story))
        return count["completed"], count.total() - count["cancelled"]

    def _settle(self, task: Task) -> list[str]:
        """What follows when a task was closed or opened: those that wait for it, and its story."""
        waiting = [one for one in self.tasks if task.number in one.depends_on]
        self._touch(*waiting)
        if task.story is not None:
            theirs = [one.status for one in self.tasks_of(task.story)]
            is_over = all(one in CLOSED for one in theirs) and "completed" in theirs
            if is_over and task.story.status == "in_progress":
                task.story.status = "review"
                self._touch(task.story)
        return [one.key for one in waiting if self.is_ready(one)]

    def _reaches(self, starts: set[int], goal: int) -> bool:
        seen, queue = set(starts), list(starts)
        while queue:
            more = self.tasks[queue.pop() - 1].depends_on - seen
            seen |= more
            queue += more
        return goal in seen

    def update(
        self,
        number: int,
        lease: int | None = None,
        expected_version: int | None = None,
        status: str | None = None,
        depends_on: list[int] | None = None,
        **texts: str,
    ) -> dict[str, Any]:
        need(status is not None or depends_on is not None or bool(texts), "invalid")
        task = self.task(number)
        need(status is None or status in TASK_MOVES[task.status].split(), "invalid_move")
        if lease is None:
            need(status not in ("in_progress", "review"), "lease_lost")
            need(status is not None or task.status not in UNDER_WAY or task.is_held, "lease_lost")
        if depends_on is not None:
            need(all(one <= len(self.tasks) for one in depends_on), "not_found")
            need(not self._reaches(set(depends_on), number), "conflict")
        need(expected_version in (None, task.version), "version_conflict")
        need(self._holds(task, lease) or (lease is None and not task.is_held), "lease_lost")
        was_closed = task.status in CLOSED
        if depends_on is not None:
            task.depends_on = set(depends_on)
        for name, text in texts.items():
            setattr(task, name, text)
        if status is not None:
            task.status = status
            if status not in ("in_progress", "review"):
                task.free()
        self._touch(task)
        if (task.status in CLOSED) != was_closed:
            self._settle(task)
        return {"task": self.told(task)}

    def age(self, number: int) -> None:
        """The lease of a task passes."""
        if self.tasks[number - 1].is_held:
            self.tasks[number - 1].has_passed = True
            self.changed.add(self.tasks[number - 1].key)

    def offer(self, to: str, task: int | None, story: str | None) -> dict[str, Any]:
        of_task = self.task(task) if task is not None else None
        of_story = self.story(story) if story is not None else None
        need(of_task is None or of_task.status not in CLOSED, "conflict")
        theirs = of_story or (of_task.story if of_task is not None else None)
        need(theirs is None or theirs.status not in ("done", "cancelled"), "conflict")
        holder = of_task.holder if of_task is not None and of_task.is_held else None
        need(to != (self.in_session or holder), "invalid")
        if of_task is not None and of_story is not None:
            need(of_task.story in (None, of_story), "invalid")
        giver = self.in_session or holder or "user"
        found = Handoff(len(self.handoffs) + 1, giver, to, of_task, theirs)
        again = [
            one
            for one in self.handoffs
            if (one.status, one.giver, one.task) == ("offered", giver, of_task)
            and (of_task or (theirs and (one.story, one.taker) == (theirs, to)))
        ]
        if again:
            found = again[-1]
            found.taker = to
        else:
            self.handoffs.append(found)
        return {"handoff": self.told_handoff(found)}

    def told_handoff(self, handoff: Handoff) -> dict[str, Any]:
        return {
            "key": f"H-{handoff.number}",
            "status": handoff.status,
            "from": handoff.giver,
            "to": handoff.taker,
            "task": handoff.task.key if handoff.task else None,
            "story": handoff.story.key if handoff.story else None,
        }

    def accept(self, number: int, agent: str | None) -> dict[str, Any]:
        need(number <= len(self.handoffs), "not_found")
        found = self.handoffs[number - 1]
        need(found.status == "offered", "invalid_move")
        need((agent or self.in_session or found.taker) == found.taker, "forbidden")
        found.status = "accepted"
        answer: dict[str, Any] = {"handoff": self.told_handoff(found)}
        if (task := found.task) is not None:
            if task.status not in CLOSED:
                task.status = "pending" if task.status in UNDER_WAY else task.status
                task.role = found.taker
                task.free()
                self._touch(task)
            answer["task"] = {"key": task.key, "status": task.status, "agent": task.role}
        return answer

    def activate(self, agent: str) -> dict[str, Any]:
        self.in_session = agent
        return {"agent": {"agent": agent, "status": self.agent_status(agent)}}

    def deactivate(self, agent: str) -> dict[str, Any]:
        need(self.in_session == agent, "conflict")
        self.in_session = None
        return {"agent": {"agent": agent, "status": self.agent_status(agent)}}

    def held_by(self, agent: str) -> list[Task]:
        return [task for task in self.tasks if task.holder == agent and task.is_held]

    def work_of(self, agent: str) -> dict[str, list[str] | None]:
        """The keys of what an agent holds, had when the lease passed, and is to review; the first few of each."""
        lapsed = [task.key for task in self.tasks if task.holder == agent and self.is_lapsed(task)]
        review = [task.key for task in self.to_review()] if agent == "qa" else []
        held = [task.key for task in self.held_by(agent)]
        return {"held": held[:10], "lapsed": lapsed[:5] or None, "review": review[:5] or None}

    def agent_status(self, agent: str) -> str:
        if self.held_by(agent):
            return "busy"
        return "active" if agent == self.in_session else "idle"

    def move_run(self, number: int, status: str) -> dict[str, Any]:
        need(number <= len(self.runs), "not_found")
        run = self.runs[number - 1]
        need(status in RUN_MOVES[run.status].split(), "invalid_move")
        run.status = status
        # Only what was done is progress: a pause, a cancellation and their like change none.
        return {"workflow": {"key": f"W-{number}", "status": status, "progress": run.progress}}

    # Telling

    def told(self, task: Task) -> dict[str, Any]:
        """The task as task_get tells it; None where nothing is told."""
        keys = [f"T-{number}" for number in sorted(task.depends_on)]
        return {
            **self.told_in_list(task),
            "version": task.version,
            "lease": task.lease if task.is_held else None,
            "ready": self.is_claimable(task),
            "depends_on": keys or None,
            "waits_for": self.open_dependencies(task) or None,
            "note": task.note,
            "summary": task.summary,
            "quality": task.quality,
        }

    def told_in_list(self, task: Task) -> dict[str, Any]:
        return {
            "key": task.key,
            "title": task.title,
            "status": task.status,
            "priority": task.priority,
            "agent": task.role or None,
            "story": task.story.key if task.story else None,
            "held_by": task.holder if task.is_held else None,
        }

    def told_story(self, story: Story) -> dict[str, Any]:
        done, total = self._progress(story)
        return {
            "key": story.key, "title": story.title, "status": story.status, "tasks": f"{done}/{total}" if total else None
        }  # fmt: skip

    def status(self) -> dict[str, dict[str, int]]:
        """The counts of project_status."""
        return {
            "tasks": dict(Counter(task.status for task in self.tasks)),
            "stories": dict(Counter(story.status for story in self.stories)),
            "workflows": dict(Counter(run.status for run in self.runs)),
            "agents": dict(Counter(self.agent_status(role) for role in self.roles)),
        }

    def next_story(self) -> str | None:
        """The key that story_next answers."""
        agent = self.in_session

        def rank(story: Story) -> int:
            theirs = self.tasks_of(story)
            under_way = [task for task in theirs if task.is_held]
            free = [task for task in theirs if self.is_claimable(task)]
            if story.status == "review":
                return 1 if agent == "qa" else 7
            if story.status == "ready":
                return 6
            if agent and any(task.holder == agent for task in under_way):
                return 2
            if any(agent is None or task.role in ("", agent) for task in free):
                return 3
            return 4 if under_way or free else 5

        ranked = sorted((rank(story), story.place, story.key) for story in self.stories if story.is_open)
        drafts = sorted((story.place, story.key) for story in self.stories if story.status == "draft")
        return ranked[0][2] if ranked else drafts[0][1] if drafts else None

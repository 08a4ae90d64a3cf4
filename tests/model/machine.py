"""Steps of agents on a board, each taken by the real server and by the plain model; after each both must say the same."""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model.board import PRIORITIES, ROLES, Board, Refusal, Run, Task
from model.driven import Answer, Driven

# A number that stands for one of those there are; the last for one that is not there.
UNKNOWN = 30
PLACES = st.integers(0, UNKNOWN)
LEASES = st.sampled_from(["current", "current", "current", "stale", "future", "none"])
VERSIONS = st.sampled_from(["none", "current", "stale"])
AGENTS = st.sampled_from(ROLES)
TITLES = st.sampled_from(["Wire the pump", "Paint", "Überprüfung", "测试", "x" * 120])
TASK_STATUSES = ("pending", "in_progress", "review", "blocked", "cancelled")
STORY_STATUSES = ("draft", "ready", "in_progress", "review", "done", "cancelled")
IS_KEYED = st.sampled_from([False, False, True])
AGE = "UPDATE bmad_tasks SET lease_until = now() - interval '1 second' WHERE project_id = $1 AND number = $2"
# What the trail says of the changes, beside what the tools say.
TRAIL = "SELECT subject, count(*) AS rows FROM bmad_agent_activity WHERE project_id = $1 GROUP BY subject"


def differs(told: Any, wanted: Any, path: str = "answer") -> str | None:
    """Where an answer is not what is wanted: names that are not wanted may be there, and None is for what is not told."""
    if isinstance(wanted, dict) and isinstance(told, dict):
        found = (differs(told.get(name), value, f"{path}.{name}") for name, value in wanted.items())
        return next((one for one in found if one), None)
    if isinstance(wanted, list) and isinstance(told, list) and len(wanted) == len(told):
        pairs = enumerate(zip(told, wanted, strict=True))
        return next((one for at, pair in pairs if (one := differs(*pair, path=f"{path}[{at}]"))), None)
    return None if told == wanted else f"{path} is {told!r}, not {wanted!r}"


def is_held(task: Task) -> bool:
    return task.is_held


def without_nones(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


class BoardMachine(RuleBasedStateMachine):
    """Subclassed with the server to drive; counts the steps taken and what they were answered."""

    server: Driven
    taken: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.server.empty()
        roles = self.server.read(("agent_list", {"limit": 100}))[0]["items"]
        self.board = Board([one["agent"] for one in roles])
        self.kept: list[tuple[str, dict[str, Any], Answer]] = []
        self.keys = 0
        # Whether the last step was compared to its end, so that what is found then is not hidden by what follows.
        self.is_compared = True

    def write(
        self, tool: str, is_keyed: bool, wanted: Callable[[], dict[str, Any]], **arguments: Any
    ) -> dict[str, Any] | None:
        """Take the step on both sides and compare; the server's result, or None when both refuse."""
        self.is_compared = False
        asked = without_nones(arguments)
        if is_keyed:
            self.keys += 1
            asked["idempotency_key"] = f"key {self.keys}"
        try:
            expected, code = wanted(), None
        except Refusal as refusal:
            expected, code = {}, refusal.code
        answer = self.server.call(tool, **asked)
        self.taken[f"{tool}: {answer.code or 'done'}"] += 1
        assert answer.code == code, f"{tool} {asked}: wanted {code or 'done'}, {answer}"
        if code is not None:
            return None
        assert not (found := differs(answer.told, expected)), f"{tool} {asked}: {found}"
        if is_keyed:
            self.kept.append((tool, asked, answer))
        return answer.told

    def number(self, place: int, those: list[Any]) -> int:
        """The number of one of those, or of the one that would come next."""
        return len(those) + 1 if place == UNKNOWN or not those else place % len(those) + 1

    def task_number(self, place: int, fitting: Callable[[Task], bool]) -> int:
        """As `number`; of two places one stands for a task that fits, so that steps are not refused most of the time."""
        those = [task.number for task in self.board.tasks if fitting(task)]
        return those[place % len(those)] if place % 2 == 0 and those else self.number(place, self.board.tasks)

    def lease_of(self, number: int, which: str) -> int | None:
        lease = self.board.tasks[number - 1].lease if number <= len(self.board.tasks) else 1
        return {"current": lease or 1, "stale": lease - 1, "future": lease + 7, "none": None}[which]

    def story_key(self, place: int | None) -> str | None:
        if place is None:
            return None
        stories = self.board.stories
        return stories[place % len(stories)].key if stories and place != UNKNOWN else "99.1"

    @initialize(begun=st.integers(0, 3), roles=st.lists(st.none() | AGENTS, min_size=4, max_size=8))
    def board_with_work(self, begun, roles):
        """An epic with three stories, some of them ready, and tasks of each and of none."""
        self.epic("The tide", False)
        for place in range(3):
            self.story("A gauge", 0, False)
            if place < begun:
                self.story_goes_on(place)
        for place, role in enumerate(roles):
            story = None if place % 4 == 3 else place % 4
            self.task("Wire the pump", PRIORITIES[place % 4], role, story, [0] if place in (4, 5) else [], False)

    @rule(title=TITLES, is_keyed=IS_KEYED)
    def epic(self, title, is_keyed):
        self.write("epic_create", is_keyed, lambda: self.board.epic_create(title), title=title)

    @rule(title=TITLES, place=PLACES, is_keyed=IS_KEYED)
    def story(self, title, place, is_keyed):
        epic = str(self.number(place, self.board.epics))
        self.write("story_create", is_keyed, lambda: self.board.story_create(epic, title), epic=epic, title=title)

    @rule(
        title=TITLES,
        priority=st.sampled_from(PRIORITIES),
        agent=st.none() | AGENTS,
        story=st.none() | PLACES,
        waits_for=st.lists(PLACES, max_size=3),
        is_keyed=IS_KEYED,
    )
    def task(self, title, priority, agent, story, waits_for, is_keyed):
        key = self.story_key(story)
        numbers = [self.number(place, self.board.tasks) for place in waits_for]
        self.write(
            "task_create",
            is_keyed,
            lambda: self.board.task_create(title, priority, agent, key, numbers),
            title=title,
            priority=priority,
            agent=agent,
            story=key,
            depends_on=[f"T-{number}" for number in numbers],
        )

    @rule(agent=AGENTS, is_keyed=IS_KEYED)
    def claim_the_best(self, agent, is_keyed):
        self.write("task_claim", is_keyed, lambda: self.board.claim_best(agent), agent=agent, lease_seconds=86_400)

    @rule(agent=AGENTS, place=PLACES, is_keyed=IS_KEYED)
    def claim_one(self, agent, place, is_keyed):
        number = self.task_number(place, self.board.is_claimable)
        told = {"agent": agent, "task": f"T-{number}", "lease_seconds": 86_400}
        self.write("task_claim", is_keyed, lambda: self.board.claim(number, agent), **told)

    @rule(agent=AGENTS, place=PLACES, which=LEASES, is_keyed=IS_KEYED)
    def start(self, agent, place, which, is_keyed):
        number = self.task_number(place, self.board.is_claimable)
        lease = max(1, self.lease_of(number, which) or 1) if which != "none" else None
        told = {"agent": agent, "task": f"T-{number}", "lease": lease, "lease_seconds": 86_400}
        self.write("task_start", is_keyed, lambda: self.board.claim(number, agent, "in_progress", lease), **told)

    @rule(place=PLACES, which=LEASES.filter(lambda which: which != "none"), is_keyed=IS_KEYED)
    def renew(self, place, which, is_keyed):
        number = self.task_number(place, is_held)
        lease = self.lease_of(number, which)
        self.write(
            "task_heartbeat", is_keyed, lambda: self.board.heartbeat(number, lease), task=f"T-{number}", lease=lease
        )

    @rule(
        place=PLACES,
        which=LEASES.filter(lambda which: which != "none"),
        summary=st.sampled_from([None, "It holds."]),
        quality=st.sampled_from([None, 0, 90]),
        is_keyed=IS_KEYED,
    )
    def complete(self, place, which, summary, quality, is_keyed):
        number = self.task_number(place, is_held)
        lease = self.lease_of(number, which)
        told = {"task": f"T-{number}", "lease": lease, "summary": summary, "quality": quality}
        self.write("task_complete", is_keyed, lambda: self.board.complete(number, lease, summary, quality), **told)

    @rule(agent=AGENTS)
    def do_the_best(self, agent):
        """Claim and complete, as otherwise few tasks would come to their end."""
        told = self.write("task_claim", False, lambda: self.board.claim_best(agent), agent=agent)
        if told["task"] is not None:
            number, lease = int(told["task"]["key"][2:]), told["lease"]
            asked = {"task": f"T-{number}", "lease": lease}
            self.write("task_complete", False, lambda: self.board.complete(number, lease), **asked)

    @rule(
        place=PLACES,
        which=LEASES,
        version=VERSIONS,
        status=st.none() | st.sampled_from(TASK_STATUSES),
        texts=st.fixed_dictionaries({}, optional={"title": TITLES, "note": TITLES}),
        priority=st.none() | st.sampled_from(PRIORITIES),
        waits_for=st.none() | st.lists(PLACES, max_size=3),
        is_keyed=IS_KEYED,
    )
    def update(self, place, which, version, status, texts, priority, waits_for, is_keyed):
        number = self.task_number(place, is_held)
        if priority is not None:
            texts = {**texts, "priority": priority}
        now = self.board.tasks[number - 1].version if number <= len(self.board.tasks) else 1
        told = {
            "lease": self.lease_of(number, which),
            "expected_version": {"none": None, "current": now, "stale": now - 1}[version],
            "status": status,
            **texts,
        }
        numbers = None if waits_for is None else [self.number(one, self.board.tasks) for one in waits_for]
        keys = None if numbers is None else [f"T-{one}" for one in numbers]
        self.write(
            "task_update",
            is_keyed,
            lambda: self.board.update(number, depends_on=numbers, **told),
            task=f"T-{number}",
            depends_on=keys,
            **told,
        )

    @rule(place=PLACES, which=LEASES, status=st.sampled_from(TASK_STATUSES), is_keyed=IS_KEYED)
    def move(self, place, which, status, is_keyed):
        """As `update`, and more often allowed."""
        self.update(place, which, "none", status, {}, None, None, is_keyed)

    @rule(place=PLACES)
    def lease_passes(self, place):
        held = [task.number for task in self.board.tasks if is_held(task)]
        if held:
            number = held[place % len(held)]
            self.board.age(number)
            assert self.server.execute(AGE, number) == "UPDATE 1"

    @rule(
        place=PLACES,
        is_stale=st.sampled_from([False, False, False, True]),
        status=st.sampled_from(STORY_STATUSES),
        section=st.sampled_from([None, None, None, "Dev Notes"]),
        is_keyed=IS_KEYED,
    )
    def story_moves(self, place, is_stale, status, section, is_keyed):
        key = self.story_key(place)
        version = next((one.version for one in self.board.stories if one.key == key), 1) - is_stale
        self.write(
            "story_update",
            is_keyed,
            lambda: self.board.story_update(key, version, status, section),
            story=key,
            expected_version=version,
            status=status,
            section=section,
            text=section and "Mind the tide.",
        )

    @rule(place=PLACES)
    def story_goes_on(self, place):
        """The way that most stories take, as otherwise few would come far."""
        if self.board.stories:
            story = self.board.stories[place % len(self.board.stories)]
            following = {"draft": "ready", "ready": "in_progress", "in_progress": "review", "review": "done"}
            status = following.get(story.status, "draft")
            version = story.version
            self.write(
                "story_update",
                False,
                lambda: self.board.story_update(story.key, version, status),
                story=story.key,
                expected_version=version,
                status=status,
            )

    @rule(place=PLACES, is_keyed=IS_KEYED)
    def gate(self, place, is_keyed):
        key = self.story_key(place)
        told = {"story": key, "gate": "PASS", "reason": "All criteria are met."}
        self.write("gate_record", is_keyed, lambda: self.board.gate_record(key), **told)

    @rule(agent=AGENTS, is_keyed=IS_KEYED)
    def activate(self, agent, is_keyed):
        told = self.write("agent_activate", is_keyed, lambda: self.board.activate(agent), agent=agent)
        work = {name: [one["key"] for one in told["work"].get(name, ())] for name in ("held", "lapsed", "review")}
        assert work == {name: keys or [] for name, keys in self.board.work_of(agent).items()}

    @rule(agent=AGENTS, is_keyed=IS_KEYED)
    def deactivate(self, agent, is_keyed):
        self.write("agent_deactivate", is_keyed, lambda: self.board.deactivate(agent), agent=agent)

    @rule(to=AGENTS, place=st.none() | PLACES, story=st.none() | PLACES, is_keyed=IS_KEYED)
    def hand_over(self, to, place, story, is_keyed):
        number = None if place is None else self.number(place, self.board.tasks)
        key = self.story_key(story)
        self.write(
            "handoff_offer",
            is_keyed,
            lambda: self.board.offer(to, number, key),
            to=to,
            note="Half done.",
            task=None if number is None else f"T-{number}",
            story=key,
        )

    @rule(place=PLACES, agent=st.none() | AGENTS, is_keyed=IS_KEYED)
    def take_over(self, place, agent, is_keyed):
        number = self.number(place, self.board.handoffs)
        told = {"handoff": f"H-{number}", "agent": agent}
        self.write("handoff_accept", is_keyed, lambda: self.board.accept(number, agent), **told)

    @rule(is_keyed=IS_KEYED)
    def run_begins(self, is_keyed):
        number = len(self.board.runs) + 1
        wanted = {"workflow": {"key": f"W-{number}", "status": "active"}}
        told = self.write("workflow_start", is_keyed, lambda: wanted, type="brownfield-service")
        self.board.runs.append(Run(number, "active", told["stage"], told["workflow"]["progress"]))

    @rule(place=PLACES, is_wrong=st.sampled_from([False, False, False, True]), is_keyed=IS_KEYED)
    def run_goes_on(self, place, is_wrong, is_keyed):
        number = self.number(place, self.board.runs)
        run = self.board.runs[number - 1] if number <= len(self.board.runs) else None
        stage = run.stage if run and run.stage else {"position": 1, "kind": "agent"}
        outcome = sorted(stage["routes"])[0] if stage["kind"] == "decision" and stage.get("routes") else "done"

        def wanted() -> dict[str, Any]:
            if run is None:
                raise Refusal("not_found")
            if run.status != "active":
                raise Refusal("invalid_move")
            if is_wrong:
                raise Refusal("conflict")
            return {"workflow": {"key": f"W-{number}"}}

        position = stage["position"] + (99 if is_wrong else 0)
        told = self.write(
            "workflow_advance", is_keyed, wanted, workflow=f"W-{number}", outcome=outcome, position=position
        )
        if told is not None:
            before, run.progress, run.stage = run.progress, told["workflow"]["progress"], told["stage"]
            assert run.progress["done"] > before["done"]
            run.status = "active" if run.stage else "completed"
            assert told["workflow"]["status"] == run.status

    @rule(place=PLACES, status=st.sampled_from(["paused", "active", "cancelled"]), is_keyed=IS_KEYED)
    def run_is_moved(self, place, status, is_keyed):
        number = self.number(place, self.board.runs)
        tool = {"paused": "workflow_pause", "active": "workflow_resume", "cancelled": "workflow_cancel"}[status]
        self.write(tool, is_keyed, lambda: self.board.move_run(number, status), workflow=f"W-{number}")

    @rule(agent=st.none() | AGENTS, is_keyed=IS_KEYED)
    def remember(self, agent, is_keyed):
        text = f"Canary{len(self.board.memories)} sings at low tide."
        self.board.memories.append(text)
        self.write("memory_store", is_keyed, dict, text=text, agent=agent)

    @rule(place=PLACES)
    def recall(self, place):
        if self.board.memories:
            at = place % len(self.board.memories)
            (found,) = self.server.read(("memory_search", {"query": f"Canary{at}"}))
            assert found["items"][0]["text"] == self.board.memories[at]

    @rule(place=PLACES, is_the_same=st.booleans())
    def replay(self, place, is_the_same):
        """A key again: with the same arguments the first answer, with others a refusal; neither changes anything."""
        if not self.kept:
            return
        tool, asked, first = self.kept[place % len(self.kept)]
        again = dict(asked)
        if not is_the_same:
            name = next(iter(again))
            again[name] = {"T-1": "T-2", "1": "2", "dev": "qa"}.get(again[name], again[name])
            name = {"task_create": "description", "task_complete": "summary", "task_update": "note"}.get(tool)
            if name is not None:
                again[name] = "something else"
        answer = self.server.call(tool, **again)
        is_other = again != asked
        self.taken[f"replay with {'other' if is_other else 'the same'} arguments"] += 1
        if is_other:
            assert (answer.code, answer.field) == ("conflict", "idempotency_key"), str(answer)
        else:
            assert (answer.code, answer.told) == (None, first.told)

    @rule(
        status=st.none() | st.sampled_from([*TASK_STATUSES, "active", "completed"]),
        agent=st.none() | AGENTS,
        story=st.none() | st.integers(0, 25) | st.just(UNKNOWN),
        ready=st.sampled_from([None, True]),
        limit=st.integers(1, 4),
    )
    def list_tasks(self, status, agent, story, ready, limit):
        """A filtered list, page by page."""
        key = self.story_key(story)
        if story == UNKNOWN:
            assert self.server.call("task_list", story=key).code == "not_found"
            return
        wanted = [
            self.board.told_in_list(one)
            for one in self.board.tasks
            if status in (None, one.status)
            and agent in (None, one.role)
            and (key is None or (one.story is not None and one.story.key == key))
            and (not ready or self.board.is_claimable(one))
        ]
        asked = without_nones({"status": status, "agent": agent, "story": key, "ready": ready, "limit": limit})
        found, page = [], {"next_cursor": None}
        while not found or page["next_cursor"]:
            cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
            (page,) = self.server.read(("task_list", asked | cursor))
            assert len(page["items"]) <= limit
            found += page["items"]
            if not found:
                break
        assert not (wrong := differs(found, wanted)), f"task_list {asked}: {wrong}"

    @rule(status=st.sampled_from(STORY_STATUSES))
    def list_stories(self, status):
        (found,) = self.server.read(("story_list", {"status": status, "limit": 100}))
        stories = sorted(self.board.stories, key=lambda one: one.place)
        assert not (wrong := differs(found["items"], [self.board.told_story(s) for s in stories if s.status == status]))
        assert wrong is None

    @invariant()
    def what_is_told_is_what_was_done(self):
        """Each list, each count, and each entity that the step changed or might have changed."""
        self.taken["steps"] += 1
        board = self.board
        changed, board.changed = sorted(board.changed), set()
        tasks = [board.tasks[int(key[2:]) - 1] for key in changed if key.startswith("T-")]
        stories = [board.story(key) for key in changed if not key.startswith("T-")]
        runs = board.runs[-1:]
        everything = {"limit": 100}
        told = self.server.read(
            ("task_list", everything),
            ("story_list", everything),
            ("epic_list", everything),
            ("agent_list", everything),
            ("handoff_list", everything),
            ("workflow_list", everything),
            ("project_status", {}),
            ("story_next", {}),
            *(("task_get", {"task": task.key}) for task in tasks),
            *(("story_get", {"story": story.key}) for story in stories),
            *(("workflow_get", {"workflow": f"W-{run.number}"}) for run in runs),
        )
        in_order = sorted(board.stories, key=lambda one: one.place)
        wanted = [
            {"items": [board.told_in_list(task) for task in board.tasks]},
            {"items": [board.told_story(story) for story in in_order]},
            {"items": [self.told_epic(number) for number in range(1, len(board.epics) + 1)]},
            {"items": [self.told_agent(role) for role in board.roles]},
            {"items": [board.told_handoff(one) for one in reversed(board.handoffs)]},
            {"items": [{"key": f"W-{run.number}", "status": run.status} for run in reversed(board.runs)]},
            {},
            {"story": {"key": board.next_story()} if board.next_story() else None},
            *({"task": board.told(task)} for task in tasks),
            *(
                board.told_story(story) | {"tasks": self.told_tasks(story), "version": story.version}
                for story in stories
            ),
            *({"workflow": {"status": run.status}, "progress": run.progress} for run in runs),
        ]
        assert not (found := differs(told, wanted)), found
        counts = {name: told[6][name] for name in ("tasks", "stories", "workflows", "agents")}
        assert counts == board.status()
        assert told[6].get("review", []) == [task.key for task in board.to_review()][:5]
        held = {role: [task.key for task in board.held_by(role)][:3] for role in board.roles}
        first = dict([(role, keys) for role, keys in sorted(held.items()) if keys][:6])
        assert told[6].get("in_hand", {}) == first
        self.is_compared = True

    def told_epic(self, number: int) -> dict[str, Any]:
        epic = self.board.epics[number - 1]
        count = Counter(story.status for story in self.board.stories if story.epic is epic)
        return {"key": str(number), "title": epic.title, "status": epic.status, "stories": dict(count) or None}

    def told_agent(self, role: str) -> dict[str, Any]:
        held = self.board.held_by(role)
        return {"agent": role, "status": self.board.agent_status(role), "task": held[0].key if held else None}

    def told_tasks(self, story: Any) -> list[dict[str, Any]]:
        return [
            {
                "key": task.key,
                "status": task.status,
                "held_by": task.holder if task.is_held and task.status in ("active", "in_progress", "review") else None,
            }
            for task in self.board.tasks_of(story)
        ]

    def teardown(self) -> None:
        """At the end every task and story, whatever changed it last, and a line in the trail for each."""
        if not self.is_compared:
            return
        board = deepcopy(self.board)
        asked = [("task_get", {"task": task.key}) for task in board.tasks]
        asked += [("story_get", {"story": story.key}) for story in board.stories]
        told = self.server.read(*asked)
        wanted = [{"task": board.told(task)} for task in board.tasks]
        wanted += [{"version": story.version, "status": story.status} for story in board.stories]
        assert not (found := differs(told, wanted)), found
        trail = {row["subject"] for row in self.server.fetch(TRAIL)}
        assert {f"task {task.key}" for task in board.tasks} <= trail

"""Tickets of the coming v7: epics and stories that `tickets.toml` files tell; they are read and never written.

An initiative's folder has a `tickets.toml` with `[[epic]]` tables, each epic's folder one with `[[entry]]` tables. Beside
an entry there may be a ticket (`id` in its front matter) and a plan (`ticket`), which has the status.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.deviations import shown
from bmad_mcp.bmad_files.documents import TICKETS
from bmad_mcp.bmad_files.epics import GOAL_LIMIT, EpicText, slug
from bmad_mcp.bmad_files.stories import TITLE_LIMIT, order_of, part, wish
from bmad_mcp.bmad_files.trackers import story_of
from bmad_mcp.bmad_files.values import DocumentValue, Section, StoryValue
from bmad_mcp.counts import counted

LISTED = 8
_INITIATIVE = re.compile(r"(?:[^/]+/)*?initiative-[^/]+(?=/)")
_V6_EPIC = re.compile(r"(?:epic-)?([0-9]{1,6})")
_NUMBER = re.compile(r"[1-9][0-9]{0,5}")
_NAMED = re.compile(r"(?:ticket|story|bug|spike|task)-([0-9]{1,6})(?:-.*)?\.md", re.IGNORECASE)
# What of an entry is not a column of a story.
_KEPT = ("type", "covers", "hitl", "risk", "v6_key", "verify")


@dataclass(slots=True)
class _Ticket:
    """An entry while it gets its key; `id` is empty where there is none, or another one has it."""

    id: str
    table: Mapping[str, Any]
    key: str = ""


@dataclass(slots=True)
class _Epic:
    """An epic of v7 while it gets its number: what `path` tells of it (`table`), and its tickets, told by `list_path`."""

    path: str
    folder: str
    table: Mapping[str, Any]
    tickets: list[_Ticket] = field(default_factory=list)
    list_path: str = ""
    key: str = ""
    keys: dict[str, str] = field(default_factory=dict)


class _Beside:
    """The documents beside a list of tickets: which is an entry's ticket, and which its plan."""

    def __init__(self, documents: Iterable[DocumentValue]) -> None:
        self.documents = list(documents)
        self._by_path = {one.path: one for one in self.documents}
        self._tickets: dict[str, DocumentValue] = {}
        self._plans: dict[str, DocumentValue] = {}
        for one in self.documents:
            if "ticket" in one.meta:
                self._plans.setdefault(str(one.meta["ticket"]), one)
            elif one.meta.get("type") != "epic" and not one.path.endswith("-plan.md"):
                match = _NAMED.fullmatch(one.path.rsplit("/", 1)[-1])
                own = str(one.meta["id"]) if "id" in one.meta else str(int(match[1])) if match else ""
                self._tickets.setdefault(own, one)

    def of(self, ticket: _Ticket) -> tuple[DocumentValue | None, DocumentValue | None]:
        """(ticket, plan) of an entry."""
        if not ticket.id:
            return None, None
        own = self._tickets.get(ticket.id)
        named = self._by_path.get(own.path.removesuffix(".md") + "-plan.md") if own else None
        return own, self._plans.get(ticket.id) or named

    def epic(self, folder: str) -> DocumentValue | None:
        """The epic's own document."""
        told = next((one for one in self.documents if one.meta.get("type") == "epic"), None)
        return told or self._by_path.get(f"{folder}/{folder.rsplit('/', 1)[-1]}.md")


def add_tickets(
    found: Collected, epics: dict[str, EpicText], stories: dict[str, StoryValue], taken: Iterable[str]
) -> None:
    """Add what tickets tell to the epics and stories of other generations; `taken` are epics that trackers name.

    A ticket whose `v6_key` names a story that v6 files tell is that story; all others get keys that nobody has.
    """
    documents = [one for one in found.documents if one.generation == "v7" and one.kind == "ticket"]
    lists = {one.path: one for one in documents if one.path.rsplit("/", 1)[-1] == TICKETS}
    if not lists:
        return
    by_folder: dict[str, list[DocumentValue]] = {path.rpartition("/")[0]: [] for path in lists}
    for one in documents:
        if one.path not in lists:
            by_folder.setdefault(one.path.rpartition("/")[0], []).append(one)
    beside = {folder: _Beside(own) for folder, own in by_folder.items()}
    told = list(_epics(found, lists, beside))
    _number_epics(told, {*epics, *(one.epic_key for one in stories.values()), *taken})
    _number_tickets(told, stories)
    names = _by_name(told)
    known: dict[str, list[str]] = {}
    for epic in told:
        own = beside.get(epic.folder) or _Beside(())
        _add_epic(found, epic, own, epics)
        for ticket in epic.tickets:
            story = _story(found, epic, names, ticket, own)
            if ticket.key in stories:
                known.setdefault(epic.list_path, []).append(ticket.key)
                story = _joined(stories[ticket.key], story)
            stories[ticket.key] = story
    _tell(found, lists, told, known)


def _tell(
    found: Collected, lists: Mapping[str, DocumentValue], told: Iterable[_Epic], known: Mapping[str, list[str]]
) -> None:
    entries = sum(len(epic.tickets) for epic in told)
    message = (
        f"{counted(len(lists), 'ticket file')} of the coming v7 with {counted(entries, 'ticket')}. Their form is a preview;"
        " they are never written."
    )
    found.deviations.add(next(iter(lists)), None, "v7-tickets", message, "Nothing to do; change tickets by hand.")
    for path, keys in known.items():
        listed = ", ".join(keys[:LISTED]) + (" …" if len(keys) > LISTED else "")
        message = (
            f"{counted(len(keys), 'ticket is a story', 'tickets are stories')} that other files tell too: {listed}."
            " Those files count."
        )
        found.deviations.add(
            path, None, "ticket-known", message, "Nothing to do; drop the old files when you are done."
        )


# ── what is there ──


def _epics(found: Collected, lists: Mapping[str, DocumentValue], folders: Collection[str]) -> Iterator[_Epic]:
    """The epics: those that an initiative lists, in its order, then those of other folders."""
    tickets = {path.rpartition("/")[0]: list(_tickets(found, document)) for path, document in lists.items()}
    listed: set[str] = set()
    for path, document in lists.items():
        home = path.rpartition("/")[0]
        for table in (one for one in document.items if one["table"] == "epic"):
            folder = _folder_of(home, table, folders, listed)
            listed.add(folder)
            own = tickets.get(folder, [])
            yield _Epic(path, folder, table, own, f"{folder}/{TICKETS}" if own else path)
    for path in lists:
        home = path.rpartition("/")[0]
        if home not in listed and tickets[home]:
            yield _Epic(path, home, {}, tickets[home], path)


def _folder_of(home: str, table: Mapping[str, Any], folders: Collection[str], listed: Collection[str]) -> str:
    """The folder of an epic: the one by its slug or its title, or the one where it is told; empty without one."""
    if home.rsplit("/", 1)[-1].startswith("epic-"):
        return "" if home in listed else home
    for name in (str(table.get("slug") or ""), slug(str(table.get("title") or ""))):
        for folder in (f"{home}/{name}", f"{home}/epic-{name}"):
            if name and folder in folders and folder not in listed:
                return folder
    return ""


def _tickets(found: Collected, document: DocumentValue) -> Iterator[_Ticket]:
    seen: set[str] = set()
    for table in (one for one in document.items if one["table"] == "entry"):
        own = _id(table)
        if not own or own in seen:
            what = f"The id {shown(own)} is there twice" if own else "A ticket has no id"
            message = f"{what}; this one got a number of its own: {shown(table.get('title') or 'no title')}."
            found.deviations.add(document.path, None, "ticket-id", message, "Give each ticket an id of its own.")
        yield _Ticket("" if own in seen else own, table)
        seen.add(own)


def _id(table: Mapping[str, Any]) -> str:
    value = table.get("id")
    return "" if value is None or isinstance(value, bool) else str(value).strip()


# ── numbers ──


def _number_epics(told: list[_Epic], taken: set[str]) -> None:
    """A number for each epic: that of v6, else its id, else one after all others."""
    claimed: set[str] = set()
    for epic in told:
        number = _v6_number(epic)
        if number is not None and number not in claimed:
            epic.key = number
            claimed.add(number)
    for epic in told:
        own = _id(epic.table)
        if not epic.key and _NUMBER.fullmatch(own) and own not in claimed and own not in taken:
            epic.key = own
            claimed.add(own)
    following = max((int(one) for one in claimed | taken), default=0)
    for epic in told:
        if not epic.key:
            following += 1
            epic.key = str(following)


def _v6_number(epic: _Epic) -> str | None:
    if match := _V6_EPIC.fullmatch(str(epic.table.get("v6_key") or "")):
        return str(int(match[1]))
    named = {key.partition(".")[0] for one in epic.tickets if (key := _v6_key(one.table))}
    return named.pop() if len(named) == 1 else None


def _v6_key(table: Mapping[str, Any]) -> str | None:
    found = story_of(str(table.get("v6_key") or ""))
    return found[0] if found else None


def _number_tickets(told: Iterable[_Epic], stories: Collection[str]) -> None:
    """A key for each ticket: that of v6, else its id in its epic, else a number after all others of the epic.

    Ids are stable, and a new ticket between two others changes none of them.
    """
    each = [(epic, ticket) for epic in told for ticket in epic.tickets]
    used: set[str] = set()
    for _, ticket in each:
        key = _v6_key(ticket.table)
        if key is not None and key not in used:
            ticket.key = key
            used.add(key)
    for epic, ticket in each:
        key = f"{epic.key}.{ticket.id}"
        if not ticket.key and _NUMBER.fullmatch(ticket.id) and key not in used and key not in stories:
            ticket.key = key
            used.add(key)
    last: dict[str, int] = {}
    for epic_key, number, _ in map(order_of, (*stories, *used)):
        last[str(epic_key)] = max(number, last.get(str(epic_key), 0))
    for epic, ticket in each:
        if not ticket.key:
            last[epic.key] = last.get(epic.key, 0) + 1
            ticket.key = f"{epic.key}.{last[epic.key]}"
        if ticket.id:
            epic.keys[ticket.id] = ticket.key


# ── values ──


def _add_epic(found: Collected, epic: _Epic, beside: _Beside, epics: dict[str, EpicText]) -> None:
    own = beside.epic(epic.folder)
    name = epic.folder.rsplit("/", 1)[-1].removeprefix("epic-").removeprefix("initiative-")
    title = str(epic.table.get("title") or (own.title if own else "") or name.replace("-", " ").capitalize())
    text = _text(found, own)
    goal = (part(text, markdown.headings(text), ("outcome", "goal")) or "").strip()
    goal = goal or str(epic.table.get("description") or "").strip()
    status = _status(own) if own else None
    told = EpicText(epic.key, title[:TITLE_LIMIT], goal[:GOAL_LIMIT], None, epic.path, "v7", (), status)
    known = epics.get(epic.key)
    epics[epic.key] = told if known is None else replace(known, goal=known.goal or told.goal)


def _story(
    found: Collected, epic: _Epic, names: Mapping[tuple[str, str], _Epic], one: _Ticket, beside: _Beside
) -> StoryValue:
    entry = one.table
    ticket, plan = beside.of(one)
    title = str(entry.get("title") or "")[:TITLE_LIMIT] or f"Story {one.key}"
    description = str(entry.get("description") or "").strip()
    text = _text(found, ticket)
    criteria = markdown.items(part(text, markdown.headings(text), ("acceptance criteria",)) or "")
    role, want, benefit = wish(description)
    status = next((word for each in (plan, ticket) if each and (word := _status(each))), None)
    extra: dict[str, Any] = {name: entry[name] for name in _KEPT if name in entry}
    extra |= {"tickets": epic.list_path, "ticket": entry.get("id")}
    if "after" in entry:
        extra |= {"after": entry["after"], "after_keys": _after(found, epic, names, one)}
    extra |= {name: each.path for name, each in (("ticket_file", ticket), ("plan_file", plan)) if each}
    return StoryValue(
        key=one.key,
        epic_key=one.key.partition(".")[0],
        title=title,
        slug=slug(title),
        raw_status=status,
        status_form="front matter" if status else "none",
        role=role,
        want=want,
        benefit=benefit,
        acceptance=criteria or _lines(entry.get("verify")),
        tasks=(),
        sections=(Section("Story", 2, description),) if description else (),
        tracker_key=None,
        tracker_status=None,
        path=None,
        generation="v7",
        extra=extra,
    )


def _status(document: DocumentValue) -> str | None:
    word = document.meta.get("status")
    return word.strip() or None if isinstance(word, str) else None


def _lines(value: Any) -> tuple[str, ...]:
    """What is to be verified: a list, or a text with or without one."""
    if isinstance(value, list):
        return tuple(str(one).strip() for one in value if str(one).strip())
    return markdown.items(str(value or ""))


def _by_name(told: Iterable[_Epic]) -> dict[tuple[str, str], _Epic]:
    """The epics by the names that tickets of the same initiative call them: their ids and their folders."""
    names: dict[tuple[str, str], _Epic] = {}
    for epic in told:
        for name in (_id(epic.table) or epic.key, epic.folder.rsplit("/", 1)[-1]):
            names.setdefault((_home(epic), name), epic)
    return names


def _home(epic: _Epic) -> str:
    match = _INITIATIVE.match(epic.path)
    return match[0] if match else ""


def _after(found: Collected, epic: _Epic, names: Mapping[tuple[str, str], _Epic], one: _Ticket) -> list[str]:
    """What a ticket waits for, as keys of stories and `epic 2`; what is not there is told and left out."""
    after = one.table["after"]
    keys: list[str] = []
    for each in after if isinstance(after, list) else [after]:
        word = str(each).strip()
        outer, dot, inner = word.partition(".")
        key: str | None
        other = names.get((_home(epic), outer if dot else word))
        if dot:
            key = other.keys.get(inner) if other else None
        elif word.startswith("epic-"):
            key = f"epic {other.key}" if other else None
        else:
            key = epic.keys.get(word)
        if key is not None:
            keys.append(key)
            continue
        message = f"Ticket {shown(one.id)} waits for {shown(word)}, which no ticket here is."
        mend = 'Name a ticket by its id, one of another epic like "2.3", or an epic by its folder.'
        found.deviations.add(epic.list_path, None, "ticket-after", message, mend)
    return keys


def _joined(known: StoryValue, ticket: StoryValue) -> StoryValue:
    """A story that other files tell, with what its ticket adds."""
    added = {name: value for name, value in ticket.extra.items() if name not in known.extra}
    return replace(known, acceptance=known.acceptance or ticket.acceptance, extra={**known.extra, **added})


def _text(found: Collected, document: DocumentValue | None) -> str:
    source = found.folder.files.get(document.path) if document else None
    return (source.text or "") if source else ""

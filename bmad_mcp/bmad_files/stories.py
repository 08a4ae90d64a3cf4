"""Story files of every generation and form: number, status, wish, criteria, check boxes and sections."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from bmad_mcp.bmad_files import markdown
from bmad_mcp.bmad_files.deviations import Deviations, shown
from bmad_mcp.bmad_files.markdown import Heading
from bmad_mcp.bmad_files.statuses import plain
from bmad_mcp.bmad_files.values import Generation, Section, SourceFile, StatusForm, StoryTask, StoryValue
from bmad_mcp.bmad_files.yaml_guard import read_mapping

HEAD_LINES = 40
WISH_LIMIT = 4_000
TITLE_LIMIT = 500
_DIGITS = r"([0-9]{1,6})"
_V4_NAME = re.compile(
    rf"(?:story[-_. ]*)?{_DIGITS}\.{_DIGITS}([a-z]?)(?:\.([0-9]{{1,2}})(?=[.\-_ ]|$))?(?:[.\-_ ]+(.*))?", re.IGNORECASE
)
# Three digits at most: a name may begin with a date.
_V6_NAME = re.compile(r"(?:story[-_ ])?([0-9]{1,3})-([0-9]{1,3})([a-z]?)()(?:-(.+))?", re.IGNORECASE)
_LONG_NAME = re.compile(rf"epic[-_ ]?{_DIGITS}[-_. ]+story[-_ ]?{_DIGITS}([a-z]?)()(?:[.\-_ ]+(.*))?", re.IGNORECASE)
_TITLE = re.compile(
    rf"(?:user )?(?:story\b)?\s*(?:{_DIGITS}[.-]{_DIGITS}([a-z]?)(?:[.-]([0-9]{{1,2}}))?(?![0-9.]\d?))?", re.IGNORECASE
)
_STATUS_LABEL = re.compile(r"[\s>*_|-]{0,20}(?:story\s{1,3})?status\b([\s*_:|]{0,20})(.*)", re.IGNORECASE)
_COMMENT = re.compile(r"<!--[^>]{0,2000}-->")
# Headings without marks and brackets; `…` stands for any words behind.
_CRITERIA = ("acceptance criteria", "acceptance criteria …", "acceptance", "acs", "ac")
_TASKS = ("tasks", "tasks …", "subtasks", "task list", "implementation tasks", "dev tasks")
_WISHES = ("story", "user story", "story statement", "story description")
_BULLET = re.compile(r"^[-*+]\s+")
_EMPHASIS = re.compile(r"[*_>#]+")
_AS = re.compile(r"\bAs an? ", re.IGNORECASE)
_WANT = re.compile(r"[ ,](?:I want|I need|I can|I would like|we want|we need)\b", re.IGNORECASE)
_SO = re.compile(r"[ ,]so that\b|[ ,]so ", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_CRITERION = re.compile(r"[0-9]{1,4}[a-z]?")
_REFERENCES = re.compile(r"\(\s*(?:AC|ac)s?(?![a-z])([^()]{0,200})\)")


@dataclass(frozen=True, slots=True)
class StoryName:
    """What a file's name says: the story's key, the rest of the name, and whose grammar it follows.

    `number` is the number of a part of a story (10.3.2), which has a letter in the key (10.3b).
    """

    key: str
    slug: str
    is_v6: bool
    number: str = ""


@dataclass(frozen=True, slots=True)
class StatusMark:
    """A place where a story file tells its status."""

    word: str
    form: StatusForm
    line: int


def story_key(epic: str, number: str, suffix: str = "") -> str:
    """The key of a story: numbers without leading zeros, a small letter behind."""
    return f"{int(epic)}.{int(number)}{suffix.lower()}"


def _letter(part: str | None) -> str:
    """BMad tells the parts of a split story by letters; the third number of 10.3.2 becomes one."""
    return chr(ord("a") + int(part) - 1) if part and 1 <= int(part) <= 26 else ""


def order_of(key: str) -> tuple[int, int, str]:
    """What a key of a story sorts by."""
    epic, _, rest = key.partition(".")
    number = rest.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(epic), int(number or 0), rest[len(number) :]


def story_name(path: str) -> StoryName | None:
    """The story that a file is named for: `1.2.sign-in.md`, `1.2.story.md`, `1-2a-sign-in.md`, `epic-1-story-2.md`."""
    name = path.rsplit("/", 1)[-1]
    stem = name[: name.rfind(".")] if "." in name else name
    for pattern, is_v6 in ((_V4_NAME, False), (_V6_NAME, True), (_LONG_NAME, False)):
        if match := pattern.fullmatch(stem):
            key = story_key(match[1], match[2], match[3] or _letter(match[4]))
            number = f"{int(match[1])}.{int(match[2])}.{int(match[4])}" if match[4] else ""
            return StoryName(key, _slug(match[5] or "", is_v6), is_v6, number)
    return None


def _slug(rest: str, is_v6: bool) -> str:
    # A tracker's key holds the name as it is.
    if is_v6:
        return rest
    slug = re.sub(r"[.\s_]+", "-", rest).strip("-")
    return "" if slug.lower() == "story" else slug.removesuffix("-story")


def read_story(source: SourceFile, name: StoryName, generation: Generation, deviations: Deviations) -> StoryValue:
    """The story that a file tells; what is missing in it stays empty."""
    text = source.text or ""
    matter = markdown.front_matter(text)
    head = read_mapping(matter.text, source.path, deviations, matter.line) if matter else {}
    body = matter.body if matter else 0
    found = markdown.headings(text, body)
    first = found[0] if found and found[0].level == 1 else None
    below = found[1:] if first else found
    begin = below[0].start if below else len(text)
    sections = markdown.sections(text, below)
    marks = _status_marks(text, body, begin, sections, head)
    status = _settled(source.path, marks, deviations)
    wished = part(text, below, _WISHES)
    role, want, benefit = wish(wished if wished is not None else text[body:][: 2 * WISH_LIMIT])
    if not role and wished is not None:
        role, want, benefit = wish(text[body:][: 2 * WISH_LIMIT])
    title = _title(first, name, source.path, deviations)
    extra: dict[str, Any] = {key: value for key, value in head.items() if key not in ("title", "status")}
    extra["preamble"] = text[:begin]
    if status:
        extra["status_line"] = status.line
    if name.number:
        extra["number"] = name.number
        message = f"Story {name.number} has three numbers; it is story {name.key} here."
        deviations.add(source.path, None, "story-part", message, f"Nothing to do; ask for it as {name.key}.")
    return StoryValue(
        key=name.key,
        epic_key=name.key.split(".")[0],
        title=str(head.get("title") or title or _worded(name.slug) or f"Story {name.key}")[:TITLE_LIMIT],
        slug=name.slug,
        raw_status=status.word if status else None,
        status_form=status.form if status else "none",
        role=role,
        want=want,
        benefit=benefit,
        acceptance=markdown.items(part(text, below, _CRITERIA) or ""),
        tasks=tuple(_tasks(text, below)),
        sections=sections,
        tracker_key=None,
        tracker_status=None,
        path=source.path,
        generation=generation,
        extra=extra,
    )


def _worded(slug: str) -> str:
    return slug.replace("-", " ").strip().capitalize()


def _title(first: Heading | None, name: StoryName, path: str, deviations: Deviations) -> str:
    if first is None:
        return ""
    heading = first.name[:TITLE_LIMIT]
    match = _TITLE.match(heading)
    said = story_key(match[1], match[2], match[3] or _letter(match[4])) if match and match[1] else name.key
    if said != name.key:
        message = f"The heading says story {said}, the file's name {name.key}; the name counts."
        deviations.add(path, first.line, "story-number", message, "Give both the same number.")
    rest = heading[match.end() :] if match else heading
    return rest.strip().lstrip(":.–—-").strip().strip("*").strip()


# ── status ──


def status_marks(text: str) -> list[StatusMark]:
    """Every place where a story's text tells its status, the one that counts first."""
    matter = markdown.front_matter(text)
    body = matter.body if matter else 0
    head = read_mapping(matter.text, "", Deviations(), matter.line) if matter else {}
    found = markdown.headings(text, body)
    below = found[1:] if found and found[0].level == 1 else found
    begin = below[0].start if below else len(text)
    return _status_marks(text, body, begin, markdown.sections(text, below), head)


def _status_marks(
    text: str, body: int, begin: int, sections: Sequence[Section], head: Mapping[str, Any]
) -> list[StatusMark]:
    marks = list(_marks(text, body, begin, sections, head))
    return marks or list(_marks_on(islice(markdown.prose(text, body), HEAD_LINES)))


def _marks(
    text: str, body: int, begin: int, sections: Sequence[Section], head: Mapping[str, Any]
) -> Iterator[StatusMark]:
    """Every place where the status is told, the one that counts first."""
    level = min((one.level for one in sections if markdown.plain(one.name).split(" ")[0] == "status"), default=0)
    for section in sections:
        name = section.name.strip("*_ ")
        # Deeper ones tell the status of something else, such as a review.
        if section.level != level:
            continue
        if markdown.plain(name) == "status":
            for line in markdown.lines(section.text):
                if word := bare_word(line.text):
                    label = _STATUS_LABEL.fullmatch(word)
                    told = bare_word(label[2]) if label and ":" in label[1] else word
                    yield StatusMark(told or word, "section", section.line + line.number)
                    break
        elif (match := re.match(r"status\s{0,3}[:–—-]\s{0,3}(\S.*)", name, re.IGNORECASE)) and bare_word(match[1]):
            yield StatusMark(bare_word(match[1]), "heading", section.line)
    yield from _marks_on(markdown.prose(text, body, begin))
    if isinstance(head.get("status"), str) and bare_word(head["status"]):
        yield StatusMark(bare_word(head["status"]), "front matter", 1)


def _marks_on(lines: Iterable[markdown.Line]) -> Iterator[StatusMark]:
    for line in lines:
        if len(line.text) <= markdown.LINE_LIMIT and not line.text.lstrip().startswith("#"):
            yield from _mark_on(line)


def _mark_on(line: markdown.Line) -> Iterator[StatusMark]:
    match = _STATUS_LABEL.fullmatch(line.text)
    if match is None or not (word := bare_word(match[2].split("|")[0] if "|" in match[1] else match[2])):
        return
    is_bold = "**" in line.text[: match.start(2)] or "__" in line.text[: match.start(2)]
    ends_bold = "**" in match[1] or "__" in match[1]
    if "|" in match[1]:
        if set(word) - set("-: "):
            yield StatusMark(word, "table", line.number)
    elif ":" in match[1] or ends_bold:
        yield StatusMark(word, "bold" if is_bold else "line", line.number)


def bare_word(text: str) -> str:
    """A status as written, without comments, list marks and emphasis around it."""
    text = _COMMENT.sub("", text[: markdown.LINE_LIMIT]).strip()
    if text.startswith("<!--"):
        return ""
    text = _BULLET.sub("", text).replace("**", "")
    return text.strip("*_` \t\"'").strip()


def _settled(path: str, marks: Sequence[StatusMark], deviations: Deviations) -> StatusMark | None:
    if not marks:
        return None
    first = marks[0]
    others = {
        shown(one.word): one for one in marks[1:] if one.line != first.line and plain(one.word) != plain(first.word)
    }
    if others:
        message = f"The file says {shown(first.word)} and also {', '.join(others)}; the first counts."
        deviations.add(path, next(iter(others.values())).line, "status-twice", message, "Keep one of them.")
    return first


# ── parts ──


@lru_cache(maxsize=4096)
def _is_named(name: str, words: tuple[str, ...]) -> bool:
    return name in words or any(word.endswith("…") and name.startswith(word[:-1]) for word in words)


def part(text: str, found: Sequence[Heading], words: tuple[str, ...]) -> str | None:
    """The text under the first heading of such a name, with its sub-headings' texts; None when there is none."""
    for at, heading in enumerate(found):
        if _is_named(markdown.plain(heading.name), words):
            end = next((one.start for one in found[at + 1 :] if one.level <= heading.level), len(text))
            return text[heading.end : end]
    return None


def _tasks(text: str, found: Sequence[Heading]) -> Iterator[StoryTask]:
    """The check boxes under the tasks' heading."""
    for at, heading in enumerate(found):
        if not _is_named(markdown.plain(heading.name), _TASKS):
            continue
        end = next((one.start for one in found[at + 1 :] if one.level <= heading.level), len(text))
        for line in markdown.prose(text, heading.end, end):
            if box := markdown.box(line):
                done = box.mark.lower() in ("x", "✓", "✔", "✅")
                yield StoryTask(box.text, done, box.width, box.line, _references(box.text))
        return


def _references(text: str) -> tuple[str, ...]:
    """The criteria that a task names: `(AC: 1, 3)`, `(AC #2)`, `(AC1, AC2)`."""
    found = [word for match in _REFERENCES.finditer(text) for word in _CRITERION.findall(match[1])]
    return tuple(dict.fromkeys(found))


def wish(text: str) -> tuple[str, str, str]:
    """(role, want, benefit) of an "As a …, I want …, so that …" text; empty parts where there is none."""
    words = " ".join(_EMPHASIS.sub(" ", text[: 4 * WISH_LIMIT]).split())
    start = _AS.search(words)
    if start is None:
        return "", "", ""
    rest = words[start.end() :][:WISH_LIMIT]
    wanted = _WANT.search(rest)
    if wanted is None or wanted.start() > 400:
        return "", "", ""
    after = rest[wanted.end() :]
    so = _SO.search(after)
    want, benefit = (after[: so.start()], after[so.end() :]) if so else (_sentence(after), "")
    return rest[: wanted.start()].strip(" ,;-"), want.strip(" ,.;-"), _sentence(benefit).strip(" ,.;-")


def _sentence(text: str) -> str:
    end = _SENTENCE_END.search(text)
    return text[: end.start()] if end else text

"""The eight categories of memories, and the words by which a text finds its own."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class MemoryCategory(StrEnum):
    AGENT_CONTEXT = "AGENT_CONTEXT"
    WORKFLOW_PATTERNS = "WORKFLOW_PATTERNS"
    TASK_COMPLETION = "TASK_COMPLETION"
    AGENT_SESSIONS = "AGENT_SESSIONS"
    AGENT_COLLABORATION = "AGENT_COLLABORATION"
    WORKFLOW_OPTIMIZATION = "WORKFLOW_OPTIMIZATION"
    QUALITY_METRICS = "QUALITY_METRICS"
    USER_PREFERENCES = "USER_PREFERENCES"


class Found(NamedTuple):
    """A category and the words that led to it; no words: nothing fitted, so it is plain context."""

    category: MemoryCategory
    words: tuple[str, ...]


# One vote for each different wording; of two with equal votes the one named first here wins.
_SIGNS: Mapping[MemoryCategory, str] = {
    MemoryCategory.USER_PREFERENCES: r"""
        prefer\w* | (?:dis)?likes? | always | never | favou?r\w* | (?:the\ )?users?\ (?:wants?|asked|expects?|said)
        | please | by\ taste | no\ need\ to\ ask | wants?\ us\ to | tabs | spaces | tone | style\ guide""",
    MemoryCategory.WORKFLOW_OPTIMIZATION: r"""
        faster | slow(?:er|s|ed)? | bottlenecks? | optimi[sz]\w+ | speeds?\ up | (?:saves?|saved)\ (?:time|a\ day|hours)
        | wast\w+ | in\ parallel | shorten\w* | automat\w+ | streamlin\w+ | skip\w* | fewer | twice\ as | improv\w+
        | instead\ of\ waiting""",
    MemoryCategory.QUALITY_METRICS: r"""
        coverage | gate | pass(?:es|ed)?\ rate | defects? | bugs? | quality | score\w* | p(?:50|90|95|99) | latency
        | regress\w+ | flaky | lint | metrics? | percent | \d+(?:\.\d+)?\s?% | (?:all|\d+)\ tests? | benchmark\w*""",
    MemoryCategory.AGENT_COLLABORATION: r"""
        hand(?:s|ed|ing)?[ -]?(?:over|offs?) | collaborat\w+ | together\ with | pair(?:ed|ing|s)
        | h-\d+ | agreed\ with | asks?\ (?:dev|qa|sm|po|pm|ux|architect|analyst)
        | (?:dev|qa|sm|po|pm|ux|architect|analyst)\ and\ (?:dev|qa|sm|po|pm|ux|architect|analyst)
        | waits?\ for\ (?:dev|qa|sm|po|pm|ux|architect|analyst)""",
    MemoryCategory.WORKFLOW_PATTERNS: r"""
        workflows? | stages? | greenfield | brownfield | patterns? | processe?s? | steps? | w-\d+ | sequence
        | in\ this\ order | order\ of | iterations? | sprints?""",
    MemoryCategory.TASK_COMPLETION: r"""
        complet(?:ed|es|ion) | finished | done | implemented | fixed | merged | delivered | shipped | closed | t-\d+
        | resolved | mended""",
    MemoryCategory.AGENT_SESSIONS: r"""
        sessions? | worked\ on | left\ off | next\ time | picked\ up | stopped\ at | today | yesterday
        | to\ be\ continued | continue\ with""",
    MemoryCategory.AGENT_CONTEXT: r"""
        architectur\w+ | decisions? | decided | depends?\ on | schemas? | apis? | endpoints? | conventions? | lives?\ in
        | configur\w+ | because | modules? | databases? | tables? | assum\w+ | constraints?
        | librar(?:y|ies) | secrets?""",
}
_PATTERNS = {
    category: re.compile(rf"(?<![\w-])(?:{signs})(?!\w)", re.IGNORECASE | re.VERBOSE)
    for category, signs in _SIGNS.items()
}
READ_CHARACTERS = 4_000


def category_of(text: str) -> Found:
    """The category whose words the text uses most, and those words."""
    best = Found(MemoryCategory.AGENT_CONTEXT, ())
    for category, pattern in _PATTERNS.items():
        words = tuple(dict.fromkeys(found.lower() for found in pattern.findall(text[:READ_CHARACTERS])))
        if len(words) > len(best.words):
            best = Found(category, words)
    return best

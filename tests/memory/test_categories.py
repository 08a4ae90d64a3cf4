"""A text finds its category by its words, the same one each time."""

import pytest

from bmad_mcp.memory.categories import MemoryCategory, category_of


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("The user prefers tabs and never wants emoji in commit messages", "USER_PREFERENCES"),
        ("Handed over the login story to qa, who agreed with the open points", "AGENT_COLLABORATION"),
        ("T-14 is done: implemented the parser and merged it", "TASK_COMPLETION"),
        ("Session: worked on the importer, stopped at the tracker", "AGENT_SESSIONS"),
        ("In the brownfield workflow the architect's stage comes before the PO's", "WORKFLOW_PATTERNS"),
        (
            "Running lint in parallel made the build twice as fast; the bottleneck was the image step",
            "WORKFLOW_OPTIMIZATION",
        ),
        ("Coverage is 91 %, p95 latency 40 ms, no regressions", "QUALITY_METRICS"),
        ("The API depends on the session table; decided because of the schema", "AGENT_CONTEXT"),
    ],
)
def test_a_text_finds_its_category(text, category):
    found = category_of(text)
    assert found.category == category
    assert len(found.words) >= 2
    assert all(word in text.lower() for word in found.words)


def test_each_category_can_be_found():
    assert set(MemoryCategory) == {
        category_of(text).category
        for text in (
            "prefers", "handoff", "finished", "session", "workflow", "faster", "coverage", "schema"
        )
    }  # fmt: skip


def test_a_text_without_any_sign_is_plain_context():
    assert category_of("zebra") == (MemoryCategory.AGENT_CONTEXT, ())
    assert category_of("") == (MemoryCategory.AGENT_CONTEXT, ())


def test_a_word_inside_another_word_is_no_sign():
    assert category_of("The abundance of undone sessionless things").words == ()


def test_a_repeated_word_votes_once():
    assert category_of("done done done, but the user prefers short answers").category == "USER_PREFERENCES"

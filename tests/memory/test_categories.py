"""A text finds its category by its words, the same one each time."""

import pytest

from bmad_mcp.memory.categories import MemoryCategory, category_of
from bmad_mcp.memory.category_signs import SIGNS


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
    assert category_of("zebra") == (MemoryCategory.AGENT_CONTEXT, (), ())
    assert category_of("") == (MemoryCategory.AGENT_CONTEXT, (), ())
    assert category_of(" … -- ?! ").words == ()


def test_a_word_inside_another_word_is_no_sign():
    assert category_of("The abundance of undone sessionless things").words == ()


def test_a_repeated_word_votes_once():
    assert category_of("done done done, but the user prefers short answers").category == "USER_PREFERENCES"


def test_the_words_come_with_their_weights_the_weightiest_first():
    found = category_of("Pairing of dev and qa worked, they agreed on the fixture together")
    assert found.category == "AGENT_COLLABORATION"
    assert len(found.words) == len(found.weights) >= 3
    assert list(found.weights) == sorted(found.weights, reverse=True)
    assert all(weight > 0 for weight in found.weights)
    assert found == category_of("Pairing of dev and qa worked, they agreed on the fixture together")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("The archivist was prefering tea", "prefering"),
        ("zebra covrage zebra", "covrage"),
        ("zebra bottelneck zebra", "bottelneck"),
        ("zebra hannover zebra", None),
        ("zebra defect zebra", "defect"),
        ("zebra detect zebra", None),
    ],
)
def test_a_misspelt_word_counts_like_the_word_that_was_meant(text, word):
    assert category_of(text).words == ((word,) if word else ())


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("zebra -> lion -> tiger", "WORKFLOW_PATTERNS"),
        ("zebra 1, lion 22, tiger 5.1, ape 9, cat 12", "QUALITY_METRICS"),
        ("architect, zebra, qa", "AGENT_COLLABORATION"),
    ],
)
def test_the_shape_of_a_text_counts_too(text, category):
    assert category_of(text).category == category


def test_a_phrase_ends_where_the_sentence_does():
    assert "left off" in category_of("We left off at the parser").words
    assert "left off" not in category_of("The cat left. Off it went").words


def test_only_the_beginning_of_a_huge_text_is_read():
    assert category_of("zebra " * 1000 + "coverage").words == ()


@pytest.mark.parametrize("category", list(MemoryCategory))
def test_each_sign_counts_for_something(category):
    by_weight = SIGNS[category]
    signs = [sign.strip() for signs in by_weight.values() for sign in signs.split("|")]
    assert len(signs) == len(set(signs)), [sign for sign in signs if signs.count(sign) > 1]
    assert all(sign and weight for weight in by_weight for sign in signs)

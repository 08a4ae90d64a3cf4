"""Searching 2,000 memories: the built-in memory beside the two searches that one writes first."""

import statistics
from collections import Counter

import pytest

from bench import remembering
from bmad_mcp.db import Transaction

SIZE = 2_000


@pytest.fixture
async def figures(workspace):
    db = Transaction(workspace.opened.pool, workspace.opened.id)
    await remembering.fill(db, SIZE)
    yield await remembering.measured(db)
    await db.end("ROLLBACK")


async def test_it_finds_far_more_than_a_phrase_or_all_words(figures):
    ours, phrase, all_words = (figures[name] for name in ("built-in", "ILIKE", "plainto"))
    assert ours.recall >= 0.8, ours.missed
    assert ours.recall >= max(phrase.recall, all_words.recall) + 0.3
    # The other two do find something: the comparison is a fair one.
    assert 0.05 < phrase.recall < all_words.recall
    by_kind = {kind: statistics.fmean(hits) for kind, hits in ours.found.items()}
    assert by_kind["names"] == by_kind["plurals"] == 1
    assert by_kind["typos"] >= 0.9


def test_the_questions_have_one_right_answer_each():
    assert len(remembering.CASES) >= 60
    assert len({case.question for case in remembering.CASES}) == len(remembering.CASES)
    texts = Counter(text for text, _ in remembering.corpus(SIZE))
    assert texts.total() == SIZE
    assert all(texts[case.answer] == 1 for case in remembering.CASES)
    named = [(text, set(remembering.identifiers_of(text))) for text in texts]
    for case in remembering.CASES:
        if case.kind == "names":
            name = remembering.identifiers_of(case.question)[0]
            assert [text for text, names in named if name in names] == [case.answer], name


def test_the_corpus_is_the_same_each_time():
    assert list(remembering.corpus(300)) == list(remembering.corpus(300))
    assert list(remembering.corpus(300)) != list(remembering.corpus(300, seed=12))

"""Searching 2,000 memories: the built-in memory beside the two searches that one writes first."""

import statistics
from collections import Counter

import pytest

from bench import remembering
from bmad_mcp.db import Transaction
from bmad_mcp.memory.embedder import find_embedder
from bmad_mcp.memory.vectors import embed_missing

SIZE = 2_000
SHARE_A_WORD = """
SELECT tsvector_to_array(to_tsvector('english', $1)) && tsvector_to_array(to_tsvector('english', $2))
"""


@pytest.fixture
async def figures(workspace):
    db = Transaction(workspace.opened.pool, workspace.opened.id)
    await remembering.fill(db, SIZE)
    await db.end("COMMIT")
    embedder = find_embedder()
    await embed_missing(workspace.opened, embedder)
    yield await remembering.measured(db, embedder=embedder)
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
    assert by_kind["paraphrases"] == 0
    # Vectors find what no word leads to, and lose nothing.
    with_vectors = figures["+ vectors"]
    assert with_vectors.recall >= ours.recall
    by_kind = {kind: statistics.fmean(hits) for kind, hits in with_vectors.found.items()}
    assert by_kind["names"] == by_kind["plurals"] == 1
    assert by_kind["typos"] >= 0.9
    assert by_kind["paraphrases"] >= 0.2


def test_the_questions_have_one_right_answer_each():
    assert len(remembering.CASES) >= 60
    assert len({case.question for case in remembering.CASES}) == len(remembering.CASES)
    texts = Counter(text for text, _ in remembering.corpus(SIZE))
    assert texts.total() == SIZE
    assert all(texts[case.answer] == 1 for case in (*remembering.CASES, *remembering.HELD_OUT))
    named = [(text, set(remembering.identifiers_of(text))) for text in texts]
    for case in remembering.CASES:
        if case.kind == "names":
            name = remembering.identifiers_of(case.question)[0]
            assert [text for text, names in named if name in names] == [case.answer], name


async def test_a_paraphrase_shares_no_word_with_its_answer(call):
    for case in remembering.HELD_OUT:
        assert not await call.db.fetchval(SHARE_A_WORD, case.question, case.answer), case.question


def test_the_corpus_is_the_same_each_time():
    assert list(remembering.corpus(300)) == list(remembering.corpus(300))
    assert list(remembering.corpus(300)) != list(remembering.corpus(300, seed=12))

"""A misspelt word finds the words it may stand for."""

import pytest

from bmad_mcp.memory.spelling import alike, as_written, similarity, trigrams

KNOWN = ["translat", "transact", "checkout", "checker", "idempot", "invoic", "index", "browser", "zebra"]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("trasnlat", ["translat"]),
        ("chekout", ["checkout"]),
        ("idempotnci", ["idempot"]),
        ("invoc", ["invoic"]),
        ("browsr", ["browser"]),
        ("xebra", []),
        ("kubernet", []),
    ],
)
def test_the_words_most_alike_are_found(word, found):
    assert alike(word, KNOWN) == found


def test_at_most_two_the_most_alike_first():
    assert alike("checkou", ["checker", "checkout", "checkous", "checkin"]) == ["checkout", "checkous"]


@pytest.mark.parametrize(
    ("stem", "text", "written"),
    [
        ("invoic", "Each invoice in cents", "invoice"),
        ("stori", "One STORY at a time", "story"),
        ("checkout", "The checkout's totals", "checkout"),
        ("expir", "They expire and expired", "expire"),
        ("translat", "[This text cannot be read]", "translat"),
        ("cat", "a category", "category"),
        ("a4", "print on A4", "a4"),
        ("x", "", "x"),
    ],
)
def test_a_stem_is_told_as_the_text_writes_it(stem, text, written):
    assert as_written(stem, text) == written


def test_similarity_is_that_of_pg_trgm():
    assert similarity(trigrams("word"), trigrams("words")) == pytest.approx(4 / 7)
    assert similarity(trigrams("word"), trigrams("word")) == 1
    assert similarity(trigrams("abc"), trigrams("xyz")) == 0

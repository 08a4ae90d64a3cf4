"""Stored texts on a terminal and in files: nothing acts, nothing hides, and plain writing stays as it is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmad_mcp.memory.showing import json_of, lines_of, shortened, visible

PLAIN = ["Deploys", "Ärger – «ça va» 你好 שלום مرحبا", "👩‍💻 ❤️ 🏳️‍🌈 5️⃣", "می‌خواهم", "a\u0301"]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_writing_stays_as_it_is(text):
    assert visible(text) == text
    assert json.dumps(text, ensure_ascii=False) == json_of(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("letter\ufe01 \ufe0f", "letter\\ufe01 \\ufe0f"),
        ("❤\ufe0f\ufe01", "❤\ufe0f\\ufe01"),
        ("\u2028line", "\\u2028line"),
        ("narrow\u202fblank\u00a0", "narrow blank "),
    ],
)
def test_what_acts_or_hides_becomes_visible(text, shown):
    assert visible(text) == shown


def test_a_long_text_is_cut_and_says_how_long_it_was():
    assert shortened("x" * 4_000, 10) == "xxxxxxxxxx… (4,000 characters)"
    assert shortened("x" * 10, 10) == "x" * 10
    assert shortened("one \r\n\n\ttwo\nthree\rfour", 100) == "one two three\\rfour"


def test_lines_stay_lines():
    assert lines_of("a\r\nb\x1b\nc\u2028d") == ["a", "b\\x1b", "c\\u2028d"]


@given(st.text(st.characters(), max_size=60))
def test_no_text_gets_through_and_json_reads_back(text):
    shown, as_json = visible(text), json_of({"text": text}, indent=1)
    for letter in shown + as_json.replace("\n", ""):
        assert letter.isprintable() or letter in "\u200c\u200d"
    assert json.loads(as_json) == {"text": text}

"""The form of an access token: what is read back, and that nothing near it is taken."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmad_mcp.identity.token_form import new_token, read_token

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_. \n="


def test_a_new_token_is_read_back_and_keeps_only_a_hash():
    made = new_token()
    read = read_token(made.text)
    assert (read.id, read.secret_hash) == (made.id, made.secret_hash)
    assert len(made.secret_hash) == hashlib.sha256().digest_size
    assert made.text not in repr(made)
    assert made.text.split("_", 2)[2][:43] not in repr((made, read))


def test_no_two_tokens_share_an_id_or_a_secret():
    made = [new_token() for _ in range(2000)]
    assert len({one.id for one in made}) == len({one.secret_hash for one in made}) == 2000


@settings(max_examples=300)
@given(st.integers(0, 70), st.sampled_from(ALPHABET))
def test_a_token_with_one_other_letter_is_none(position, letter):
    text = new_token().text
    changed = text[:position] + letter + text[position + 1 :]
    assert changed == text or read_token(changed) is None


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "A", lambda t: t.upper(), lambda t: " " + t, str.title]
)
def test_a_token_that_was_cut_or_typed_wrongly_is_none(change):
    assert read_token(change(new_token().text)) is None


@given(st.text(max_size=120))
def test_text_is_no_token(text):
    assert read_token(text) is None

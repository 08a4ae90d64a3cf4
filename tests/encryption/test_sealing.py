"""One sealed text: it opens in its own place only, and whatever was changed in it is noticed."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmad_mcp.encryption.sealing import SealingKey, key_of
from bmad_mcp.encryption.vaults import Unreadable, row_of

PROJECT = uuid.UUID(int=7)
KEY = SealingKey("k1", bytes(32), PROJECT)
PLACE, ROW = "mcp_memories.text", "row-1"


@given(st.text(max_size=5_000))
def test_what_was_sealed_opens_as_it_was(text):
    sealed = KEY.seal(PLACE, ROW, text.encode())
    assert key_of(sealed) == "k1"
    assert KEY.open(PLACE, ROW, sealed).decode() == text


@pytest.mark.parametrize(
    ("key", "place", "row"),
    [
        (KEY, PLACE, "row-2"),
        (KEY, "mcp_memories.other", ROW),
        (KEY, "bmad_tasks.text", ROW),
        (SealingKey("k1", bytes(32), uuid.UUID(int=8)), PLACE, ROW),
        (SealingKey("k1", bytes(31) + b"x", PROJECT), PLACE, ROW),
    ],
    ids=["row", "column", "table", "project", "key"],
)
def test_a_text_that_was_moved_is_refused(key, place, row):
    sealed = KEY.seal(PLACE, ROW, b"the text")
    with pytest.raises(Unreadable):
        key.open(place, row, sealed)


def test_another_key_id_is_refused():
    sealed = KEY.seal(PLACE, ROW, b"the text")
    with pytest.raises(Unreadable):
        SealingKey("k2", bytes(32), PROJECT).open(PLACE, ROW, sealed.replace("v1.k1.", "v1.k2."))


def test_every_changed_character_is_noticed():
    sealed = KEY.seal(PLACE, ROW, b"the text of a memory")
    assert KEY.open(PLACE, ROW, sealed) == b"the text of a memory"
    for at, letter in enumerate(sealed):
        # The last character of base64 has bits that say nothing.
        if letter != "." and at != len(sealed) - 1:
            other = "A" if letter != "A" else "B"
            with pytest.raises(Unreadable):
                KEY.open(PLACE, ROW, sealed[:at] + other + sealed[at + 1 :])
    for cut in (sealed[:-4], sealed + "AAAA", "", "v1.k1.x.y"):
        with pytest.raises(Unreadable):
            KEY.open(PLACE, ROW, cut)


def test_the_same_text_never_looks_the_same():
    assert len({KEY.seal(PLACE, ROW, b"x").split(".")[2] for _ in range(5_000)}) == 5_000


@pytest.mark.parametrize(
    "text", ["", "v1", "v1.", "v1.k1.short.text", "v2.k1.AAAAAAAAAAAAAAAA." + "A" * 22, "see v1.k1"]
)
def test_what_only_begins_like_a_sealed_text_is_in_the_clear(text):
    assert key_of(text) is None


def test_marks_are_the_same_for_the_same_text_and_key_only():
    assert KEY.mark("word", "token") == KEY.mark("word", "token")
    others = {
        KEY.mark("word", "token"),
        KEY.mark("name", "token"),
        KEY.mark("word", "tokens"),
        SealingKey("k1", b"x" * 32, PROJECT).mark("word", "token"),
    }
    assert len(others) == 4
    assert all(len(mark) == 11 for mark in others)


def test_a_row_of_several_parts_has_one_name():
    assert len({row_of("a", "b:c"), row_of("a:b", "c"), row_of("a", "b", "c"), row_of("abc")}) == 4

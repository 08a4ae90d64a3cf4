"""Names that word search would break or blur are found in a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmad_mcp.memory.identifiers import LONGEST, MOST, identifiers_of


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("T-12 waits for W-3, see H-1.", ["t-12", "w-3", "h-1"]),
        ("Story 1.4b follows 1.4; release 4.44.3", ["1.4b", "1.4", "4.44.3"]),
        ("Epic 3 and epic-4", ["epic-3", "epic-4"]),
        ("see src/auth/login.ts, then `TokenStore`!", ["src/auth/login.ts", "login.ts", "tokenstore"]),
        ("lease_until and MAX_SIZE, getUser() in HTTPServer", ["lease_until", "max_size", "getuser", "httpserver"]),
        ("run story-dod-checklist from @acme/tools", ["story-dod-checklist", "@acme/tools"]),
        ("T-1/T-2 and he/she, and/or", ["t-1", "t-2"]),
        ("asyncio.gather, e.g. i.e. done.", ["asyncio.gather"]),
        ("SEC-001 (high)", ["sec-001"]),
        ("Plain words only, with full-text and 3-5 apples", []),
        ("", []),
    ],
)
def test_names_are_found_and_words_are_not(text, names):
    assert identifiers_of(text) == names


def test_the_same_name_counts_once_whatever_its_case():
    assert identifiers_of("t-1 T-1 TokenStore tokenStore") == ["t-1", "tokenstore"]


def test_a_text_full_of_names_keeps_a_bounded_number():
    assert len(identifiers_of(" ".join(f"T-{number}" for number in range(10_000)))) == MOST


@given(st.text(max_size=400))
def test_any_text_gives_short_distinct_lower_case_names(text):
    found = identifiers_of(text)
    assert len(set(found)) == len(found) <= MOST
    assert all(1 < len(name) <= LONGEST + 10 and name == name.lower() for name in found)
    assert identifiers_of(text) == found

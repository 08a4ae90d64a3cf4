"""How sure a memory is shown to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmad_mcp.memory.confidence import confidence_of

pytest_plugins = ("stories.fixtures",)


@pytest.mark.parametrize(
    ("stated", "author", "confirmed", "days", "shown"),
    [
        (0.7, "agent", 0, 0, 0.7),
        (0.9, "agent", 0, 0, 0.9),
        (0.6, "human", 0, 0, 0.7),
        (0.7, "agent", 1, 0, 0.79),
        (0.7, "agent", 5, 0, 0.95),
        (0.7, "agent", 500, 0, 0.95),
        (0.7, "agent", 0, 180, 0.56),
        (0.7, "agent", 0, 360, 0.49),
        (0.7, "agent", 0, 36_000, 0.42),
        (0.7, "human", 1, 180, 0.67),
        (1.0, "agent", 0, 0, 1.0),
        (0.0, "agent", 0, 0, 0.0),
        (0.0, "agent", 1, 0, 0.3),
        (0.7, "agent", -1, -5, 0.7),
    ],
)
def test_the_confidence_follows_the_table(stated, author, confirmed, days, shown):
    assert confidence_of(stated, author, confirmed, days) == shown


@given(st.floats(0, 1), st.sampled_from(["agent", "human", "tool"]), st.integers(0, 50), st.floats(0, 4000))
def test_evidence_raises_it_and_age_lowers_it(stated, author, confirmed, days):
    shown = confidence_of(stated, author, confirmed, days)
    assert 0 <= shown <= 1
    assert confidence_of(stated, author, confirmed + 1, days) >= shown
    assert confidence_of(stated, author, confirmed, days + 30) <= shown
    assert confidence_of(stated, "human", confirmed, days) >= shown


async def test_what_is_shown_counts_age_and_equal_texts(run, sql):
    for _ in range(3):
        await run("memory_store", text="The gate is green", confidence=0.6)
    await run("memory_store", text="The gate is blue", confidence=0.6)
    await sql("UPDATE mcp_memories SET created_at = now() - interval '180 days' WHERE text LIKE '%blue'")
    shown = {item.text: item.confidence for item in (await run("memory_search", query="gate")).items}
    assert shown == {"The gate is green": 0.8, "The gate is blue": 0.48}

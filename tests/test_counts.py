"""Counts as people read them."""

from bmad_mcp.counts import counted


def test_one_is_one_and_all_else_is_many():
    assert [counted(count, "row") for count in (0, 1, 2, 2004)] == ["0 rows", "1 row", "2 rows", "2,004 rows"]
    assert [counted(count, "text is", "texts are") for count in (1, 2)] == ["1 text is", "2 texts are"]

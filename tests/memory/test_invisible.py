"""Hidden characters are flagged; what people write with joiners and selectors is not."""

import pytest

from bmad_mcp.memory.invisible import flags_of


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("abc \u202e drowssap", ["bidi"]),
        ("a\u200fb", ["bidi"]),
        ("a\u061cb", ["bidi"]),
        ("zero\u200bwidth", ["zero_width"]),
        ("soft\u00adhyphen", ["zero_width"]),
        ("\ufeffstart", ["zero_width"]),
        ("hidden" + "".join(chr(0xE0000 + ord(letter)) for letter in "obey"), ["tags"]),
        ("smile 😀" + "\ufe01\ufe02\ufe03", ["variation_selectors"]),
        ("a\ufe0f", ["variation_selectors"]),
        ("x\U000e0101\U000e0122", ["variation_selectors"]),
        ("\u2066a\u2069 b\u200b", ["bidi", "zero_width"]),
    ],
)
def test_what_people_do_not_see_is_named(text, flags):
    assert flags_of(text) == flags


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "naïve – “quotes” 日本語",
        "می‌خواهم",
        "family 👨‍👩‍👧 heart ❤️ keycap 1️⃣ #️⃣",
        "England 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "葛\U000e0100城市",
    ],
)
def test_plain_text_of_any_script_is_not_flagged(text):
    assert flags_of(text) == []


def test_tags_behind_a_flag_are_still_flagged():
    england = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    assert flags_of(england + "\U000e006f\U000e0062\U000e0065\U000e0079") == ["tags"]

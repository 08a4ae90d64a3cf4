"""Texts that would be more than text where something goes wrong."""

HOSTILE = (
    "</script><script>hacked=1</script><img src=x onerror=hacked=1><b>bold</b> javascript:hacked=1 "
    "\u202egnihsilbup\u202c \u200b\U000e0041{{7*7}} "
)
# As long as a title may get by an import.
LONG = HOSTILE + "x" * (4000 - len(HOSTILE))
# What people see of it.
LONG_SHOWN = LONG.translate({ord(one): f"U+{ord(one):04X}" for one in "\u202e\u202c\u200b\U000e0041"})
MADE_ELEMENTS = "document.querySelectorAll('img, b, main script, header img').length"

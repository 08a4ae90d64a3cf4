"""How well texts find their category, on texts with labels; `tests/data/memory_labels` holds them.

`development` and `held_out` are one collection, split by hash. The author of the signs has seen both, so they only
guard against getting worse. `blind` was written after the signs were finished and its faults were never looked at:
its figure is the one to believe. Whoever improves the signs with it in sight must write a new one.
"""

import hashlib
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from bmad_mcp.memory.categories import MemoryCategory, category_of

LABELS = Path(__file__).parents[1] / "data" / "memory_labels"
PARTS = ("development", "held_out", "blind")
# A text whose hash begins below this is held out.
HELD_OUT = 116
FROZEN = {
    "held_out": "3de7f4ac0339ab97227110ca1a15d90e0242e60f4017e9a4e9a7d7dcab728236",
    "blind": "011975603e633ea955b3573c01927a1ffec3bfeb10f1cae5ba866e1109df53ba",
}


def labelled(part):
    lines = (LABELS / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["text"], row["category"]) for row in map(json.loads, lines)]


def quality(rows, choose):
    """Macro-F1 and a table of what was taken for what."""
    taken = Counter((wanted, str(choose(text))) for text, wanted in rows)
    table, scores = [], []
    for category in map(str, MemoryCategory):
        hits = taken[category, category]
        missed = sum(number for (wanted, _), number in taken.items() if wanted == category) - hits
        wrong = sum(number for (_, got), number in taken.items() if got == category) - hits
        scores.append(2 * hits / max(1, 2 * hits + missed + wrong))
        others = {got: number for (wanted, got), number in taken.items() if wanted == category != got}
        table.append(f"{category}: F1 {scores[-1]:.2f}, {hits} right, taken for {others or 'nothing else'}")
    return sum(scores) / len(scores), "\n".join(table)


@pytest.mark.parametrize("part", PARTS)
def test_texts_find_their_category(part):
    score, table = quality(labelled(part), lambda text: category_of(text).category)
    assert score >= 0.85, f"macro-F1 on {part} is {score:.3f}\n{table}"


def test_the_measure_can_tell_bad_from_good():
    rows = labelled("held_out")
    wanted = dict(rows)
    assert quality(rows, lambda text: "AGENT_CONTEXT")[0] < 0.1
    assert quality(rows, wanted.__getitem__)[0] == 1
    assert "taken for {'AGENT_CONTEXT'" in quality(rows, lambda text: "AGENT_CONTEXT")[1]


def test_the_parts_are_split_by_hash_and_hold_enough():
    sizes = {part: len(labelled(part)) for part in PARTS}
    assert sizes["development"] + sizes["held_out"] >= 260
    assert sizes["held_out"] >= 0.4 * (sizes["development"] + sizes["held_out"])
    for part in ("development", "held_out"):
        for text, _ in labelled(part):
            assert (hashlib.sha256(text.encode()).digest()[0] < HELD_OUT) == (part == "held_out"), text
    texts = [text for part in PARTS for text, _ in labelled(part)]
    assert len(set(texts)) == len(texts)
    assert {category for part in PARTS for _, category in labelled(part)} == set(MemoryCategory)


@pytest.mark.parametrize("part", FROZEN)
def test_the_texts_that_judge_stay_as_they_are(part):
    found = hashlib.sha256((LABELS / f"{part}.jsonl").read_bytes()).hexdigest()
    assert found == FROZEN[part], f"{part}.jsonl is frozen: a label changed to please the signs proves nothing"


def test_a_text_is_read_in_fifty_microseconds():
    texts = [text for part in PARTS for text, _ in labelled(part)]
    best = float("inf")
    for _ in range(10):
        began = time.process_time()
        for text in texts:
            category_of(text)
        best = min(best, time.process_time() - began)
    # Measured: 33 µs of processor time; three times the limit for a machine that is busy with other tests.
    assert best / len(texts) < 150e-6

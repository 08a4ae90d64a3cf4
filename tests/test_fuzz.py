"""The fuzzer's targets: its seeds and everything it ever found pass; `make fuzz` looks for more."""

from pathlib import Path

import pytest
from fuzz import targets

FOUND = Path(__file__).parent / "fuzz" / "found"
KEPT = [(path.parent.name, path) for path in sorted(FOUND.rglob("*")) if path.is_file()]


@pytest.fixture(autouse=True)
def cleaned_up():
    yield
    targets.clean_up()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_seeds_of_a_target_pass(name):
    seeds = targets.seeds()[name]
    assert seeds
    for seed in seeds:
        targets.TARGETS[name](seed)


@pytest.mark.parametrize(("name", "path"), KEPT, ids=[f"{name} {path.name}" for name, path in KEPT])
def test_what_the_fuzzer_found_passes(name, path):
    targets.TARGETS[name](path.read_bytes())

"""Agents who do anything at all on the real server, beside a model of what should come of it: never a difference."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from model.driven import Driven
from model.machine import BoardMachine
from processes import fresh_key

STEPS = 50
LONG = 20_000


@pytest.fixture
def driven(server_env, cluster):
    database = server_env.get("BMAD_DATABASE_URL", "/bmad").rpartition("/")[2]
    env = {**server_env, "BMAD_MEMORY_PROVIDER": "builtin"}
    server = Driven(env, fresh_key("model"), {**cluster.admin, "database": database})
    yield server
    server.close()


def taken(driven: Driven, examples: int, steps: int = STEPS, phases=tuple(Phase)) -> Counter[str]:
    """Drive the server; what was done, counted."""
    machine = type("Machine", (BoardMachine,), {"server": driven, "taken": Counter()})
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=checks,
            phases=phases,
        ),
    )
    return machine.taken


def test_the_server_does_what_the_model_does(driven):
    assert taken(driven, examples=4, steps=40)["steps"] > 120


@pytest.mark.soak
def test_the_server_does_what_the_model_does_in_twenty_thousand_steps(driven):
    counted = taken(driven, examples=LONG // STEPS + 20)
    # With `pytest -s`: what was tried, and how often.
    print("\n".join(f"{times:>7} {what}" for what, times in sorted(counted.items())))
    assert counted["steps"] >= LONG

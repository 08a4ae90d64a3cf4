"""A service that fails again and again is left alone, tried once, and taken back."""

import asyncio

import pytest

from bmad_mcp.memory.services.breaker import CircuitBreaker, Guards
from bmad_mcp.memory.services.http import Away, Garbage, Refused, Resting, TimedOut


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("read", failures=3, rest_seconds=10, longest_rest=25, clock=clock)


def fail(breaker, error=None):
    with pytest.raises(type(error) if error else Away), breaker.attempt():
        raise error or Away("gone")


def succeed(breaker):
    with breaker.attempt():
        pass


def test_three_failures_in_a_row_open_it(breaker):
    fail(breaker)
    fail(breaker)
    succeed(breaker)
    fail(breaker)
    fail(breaker)
    assert breaker.state == "closed"
    fail(breaker)
    assert (breaker.state, breaker.seconds_left) == ("open", 10)
    with pytest.raises(Resting) as resting, breaker.attempt():
        pytest.fail("nothing may be sent while it rests")
    assert resting.value.seconds == 10


@pytest.mark.parametrize("error", [Away("x"), TimedOut("x"), Garbage("x"), Refused(500), Refused(200), Refused(302)])
def test_what_says_that_the_service_is_ill_counts(breaker, error):
    for _ in range(3):
        fail(breaker, error)
    assert breaker.state == "open"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 499])
def test_a_request_that_was_wrong_does_not_count(breaker, status):
    for _ in range(10):
        fail(breaker, Refused(status))
    assert breaker.state == "closed"


def test_our_own_mistake_does_not_count(breaker):
    for _ in range(10):
        fail(breaker, ValueError("ours"))
    assert breaker.state == "closed"


def test_after_the_rest_one_may_try_and_the_others_wait(breaker, clock):
    for _ in range(3):
        fail(breaker)
    clock.now += 10
    assert breaker.state == "half_open"
    with breaker.attempt(), pytest.raises(Resting), breaker.attempt():
        pytest.fail("a second trial beside the first")
    assert breaker.state == "closed"


def test_a_failed_trial_doubles_the_rest_up_to_the_longest(breaker, clock):
    for _ in range(3):
        fail(breaker)
    rests = []
    for _ in range(3):
        clock.now += breaker.seconds_left
        fail(breaker)
        rests.append(breaker.seconds_left)
    assert rests == [20, 25, 25]
    clock.now += 25
    succeed(breaker)
    for _ in range(3):
        fail(breaker)
    assert breaker.seconds_left == 10, "a service that was well again starts anew"


def test_a_4xx_shows_in_the_trial_that_the_service_is_back(breaker, clock):
    for _ in range(3):
        fail(breaker)
    clock.now += 10
    fail(breaker, Refused(404))
    assert breaker.state == "closed"


async def test_a_cancelled_trial_lets_the_next_one_try(breaker, clock):
    for _ in range(3):
        fail(breaker)
    clock.now += 10

    async def hang():
        with breaker.attempt():
            await asyncio.sleep(60)

    task = asyncio.create_task(hang())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert breaker.state == "half_open"
    succeed(breaker)
    assert breaker.state == "closed"


def test_what_began_before_it_opened_decides_nothing(breaker, clock):
    with breaker.attempt():
        for _ in range(3):
            fail(breaker)
    assert breaker.state == "open"
    with pytest.raises(Resting), breaker.attempt():
        pytest.fail("a late success may not close it")


def test_each_purpose_has_its_own(clock):
    guards = Guards(clock)
    for _ in range(3):
        fail(guards.write)
    assert [guards.read.state, guards.write.state, guards.search.state] == ["closed", "open", "closed"]

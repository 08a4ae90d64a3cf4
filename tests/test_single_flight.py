"""Equal look-ups at once are one request."""

import asyncio

import pytest

from bmad_mcp.single_flight import SingleFlight


class LookUp:
    """Counts its runs; ends when it is told to."""

    def __init__(self, error=None):
        self.runs = 0
        self.cancelled = 0
        self.error = error
        self.may_end = asyncio.Event()

    async def __call__(self):
        self.runs += 1
        number = self.runs
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            # Closing a connection takes a moment.
            await asyncio.sleep(0.05)
            raise
        if self.error:
            raise self.error
        return number


async def waiting(flights, look_up, count, key="k"):
    tasks = [asyncio.create_task(flights.run(key, look_up)) for _ in range(count)]
    await asyncio.sleep(0.01)
    return tasks


async def test_equal_ones_share_and_different_ones_do_not():
    flights, look_up = SingleFlight(), LookUp()
    tasks = await waiting(flights, look_up, 10) + await waiting(flights, look_up, 3, key="other")
    look_up.may_end.set()
    assert await asyncio.gather(*tasks) == [1] * 10 + [2] * 3


async def test_nothing_is_kept_afterwards():
    flights, look_up = SingleFlight(), LookUp()
    look_up.may_end.set()
    assert [await flights.run("k", look_up), await flights.run("k", look_up)] == [1, 2]
    assert not flights._flights


async def test_an_error_is_everybodys_and_is_not_kept():
    flights, look_up = SingleFlight(), LookUp(ValueError("x"))
    tasks = await waiting(flights, look_up, 3)
    look_up.may_end.set()
    assert [type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == [ValueError] * 3
    look_up.error = None
    assert await flights.run("k", look_up) == 2


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_who_is_cancelled_leaves_it_to_the_others(leaver):
    flights, look_up = SingleFlight(), LookUp()
    tasks = await waiting(flights, look_up, 3)
    tasks[leaver].cancel()
    await asyncio.sleep(0.01)
    look_up.may_end.set()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ends.pop(leaver), asyncio.CancelledError)
    assert ends == [1, 1]
    assert (look_up.runs, look_up.cancelled) == (1, 0)


async def test_the_last_one_to_leave_ends_it_and_the_next_starts_anew():
    flights, look_up = SingleFlight(), LookUp()
    tasks = await waiting(flights, look_up, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # The cancelled one is still ending.
    late = asyncio.create_task(flights.run("k", look_up))
    await asyncio.sleep(0.01)
    look_up.may_end.set()
    assert await late == 2
    assert look_up.cancelled == 1

"""Threads for bytes from outside: what is cheap never waits, what is given up is not begun."""

import asyncio
import threading

import pytest

from artefacts import UsageError
from controller.daemon.inference.refusals import TooLateError
from controller.daemon.inference.working import CHEAP, HANG_S, MOST_WAITING, WorkPool
from controller.daemon.service import BusyError

pytestmark = pytest.mark.quick

LONG = 10.0


def pool(pixels=10**6, threads=1, **more):
    return WorkPool(lambda: pixels, threads, **more)


class Held:
    """Work that goes on until it is let go."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.go_on.wait(LONG)
        return "held"


async def until(event):
    await asyncio.to_thread(event.wait, LONG)
    assert event.is_set()


def test_what_is_cheap_is_done_while_every_other_thread_is_taken():
    async def go():
        work, held = pool(), [Held() for _ in range(5)]
        slow = [asyncio.create_task(work.run(one, CHEAP + 1)) for one in held]
        await until(held[0].begun)
        for cost in (0, 1000, CHEAP):
            assert await work.run(lambda: "done", cost, left_s=LONG) == "done"
        assert work.alive
        assert not held[1].begun.is_set()
        for one in held:
            one.go_on.set()
        assert await asyncio.gather(*slow) == ["held"] * 5
        work.close()

    asyncio.run(go())


def test_the_cheapest_is_next():
    async def go():
        work, first, order = pool(), Held(), []
        slow = asyncio.create_task(work.run(first, CHEAP + 1))
        await until(first.begun)
        costs = [CHEAP + n for n in (9, 3, 7, 5)]
        rest = [asyncio.create_task(work.run(lambda c=c: order.append(c), c)) for c in costs]
        await asyncio.sleep(0)
        first.go_on.set()
        await asyncio.gather(slow, *rest)
        assert order == sorted(costs)

    asyncio.run(go())


@pytest.mark.parametrize(("pixels", "together"), [(100, False), (120, True)])
def test_pictures_that_are_decoded_at_once_have_so_many_pixels_at_most(pixels, together):
    async def go():
        work, held = pool(pixels, threads=2), [Held(), Held()]
        tasks = [asyncio.create_task(work.run(one, CHEAP + 1, pixels=60)) for one in held]
        await until(held[0].begun)
        # a thread is free: it takes what is cheap, and the second picture only where it fits
        assert await work.run(lambda: "done", 1, left_s=LONG) == "done"
        if together:
            await until(held[1].begun)
        else:
            assert not held[1].begun.is_set()
        for one in held:
            one.go_on.set()
        assert await asyncio.gather(*tasks) == ["held"] * 2
        alone = await work.run(lambda: "alone", CHEAP + 1, pixels=10**9, left_s=LONG)
        assert alone == "alone"

    asyncio.run(go())


def test_what_is_given_up_is_never_begun():
    async def go():
        work, first, begun = pool(), Held(), threading.Event()
        slow = asyncio.create_task(work.run(first, CHEAP + 1))
        await until(first.begun)
        with pytest.raises(TooLateError, match="no answer in time"):
            await work.run(begun.set, CHEAP + 1, left_s=0.01)
        gone = asyncio.create_task(work.run(begun.set, CHEAP + 1))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        first.go_on.set()
        await slow
        assert await work.run(lambda: "next", CHEAP + 1, left_s=LONG) == "next"
        assert not begun.is_set()

    asyncio.run(go())


def test_an_error_is_the_askers_and_the_thread_goes_on():
    def wrong():
        raise UsageError("picture: found none")

    async def go():
        work = pool()
        for _ in range(3):
            for cost in (1, CHEAP + 1):
                with pytest.raises(UsageError, match="found none"):
                    await work.run(wrong, cost)
        assert work.alive

    asyncio.run(go())


def test_a_hanging_thread_is_reported_and_nobody_waits_for_it_at_the_end():
    now = [0.0]

    async def go():
        work, held = pool(clock=lambda: now[0]), [Held(), Held()]
        assert work.alive
        tasks = [asyncio.create_task(work.run(one, 1)) for one in held]
        for one in held:
            await until(one.begun)
        assert work.alive
        now[0] = HANG_S + 1.0
        assert not work.alive
        assert all(thread.daemon for thread in work._threads)
        for one in held:
            one.go_on.set()
        await asyncio.gather(*tasks)
        assert await work.run(lambda: 1, 1) == 1
        assert work.alive

    asyncio.run(go())


def test_where_too_much_waits_the_costliest_is_refused_and_never_the_cheap():
    async def go():
        work, first = pool(), Held()
        slow = asyncio.create_task(work.run(first, CHEAP + 1))
        await until(first.begun)
        costs = range(CHEAP + 2, CHEAP + 2 + MOST_WAITING)
        rest = [asyncio.create_task(work.run(lambda: "done", cost)) for cost in costs]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="cost less wait"):
            await work.run(lambda: "done", CHEAP + 1000)
        between = asyncio.create_task(work.run(lambda: "done", CHEAP + 1))
        with pytest.raises(BusyError):
            await rest[-1]
        assert await work.run(lambda: "done", 1, left_s=LONG) == "done"
        with pytest.raises(BusyError):  # that it is soon done is known behind it alone
            await rest[-2]
        first.go_on.set()
        done = await asyncio.gather(slow, between, *rest[:-2])
        assert done == ["held"] + ["done"] * (MOST_WAITING - 1)
        work.close()

    asyncio.run(go())

"""The queue before the models is fair and bounded, and never loses a turn."""

import asyncio

import pytest

from ui.service.fair_queue import Busy, FairQueue


def test_clients_take_turns_however_many_requests_one_of_them_has() -> None:
    async def order() -> list[str]:
        queue, served = FairQueue(1, waiting=10, each=10), []

        async def ask(client: str, name: str) -> None:
            async with queue.turn(client):
                served.append(name)
                await asyncio.sleep(0)

        names = [("a", "a1"), ("a", "a2"), ("a", "a3"), ("a", "a4"), ("b", "b1"), ("c", "c1"), ("b", "b2")]
        await asyncio.gather(*(ask(client, name) for client, name in names))
        return served

    assert asyncio.run(order()) == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_no_more_turns_are_held_than_allowed() -> None:
    async def most() -> int:
        queue, now, seen = FairQueue(3, waiting=50, each=50), 0, 0

        async def ask() -> None:
            nonlocal now, seen
            async with queue.turn("a"):
                now += 1
                seen = max(seen, now)
                await asyncio.sleep(0.001)
                now -= 1

        await asyncio.gather(*(ask() for _ in range(20)))
        return seen

    assert asyncio.run(most()) == 3


def test_a_full_queue_says_how_many_requests_wait() -> None:
    async def full() -> None:
        queue = FairQueue(1, waiting=2, each=1)
        async with queue.turn("a"):
            waiting = [asyncio.ensure_future(_hold(queue, client)) for client in "ab"]
            await asyncio.sleep(0)
            with pytest.raises(Busy, match="2 searches wait already"):
                await _hold(queue, "c")
        await asyncio.gather(*waiting)
        async with queue.turn("a"):
            waiting_already = asyncio.ensure_future(_hold(queue, "a"))
            await asyncio.sleep(0)
            with pytest.raises(Busy, match="your searches: 1 of them"):
                await _hold(queue, "a")
        await waiting_already

    asyncio.run(full())


def test_a_client_that_leaves_while_waiting_loses_no_turn() -> None:
    async def leaving() -> None:
        queue = FairQueue(1, waiting=5, each=5)
        async with queue.turn("a"):
            gone, stays = (asyncio.ensure_future(_hold(queue, client)) for client in "bc")
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
            assert queue.waiting == 1
        await asyncio.wait_for(stays, 1)
        async with queue.turn("a"):  # the client leaves at the moment its turn comes
            gone = asyncio.ensure_future(_hold(queue, "b"))
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await asyncio.wait_for(_hold(queue, "c"), 1)

    asyncio.run(leaving())


async def _hold(queue: FairQueue, client: str) -> None:
    async with queue.turn(client):
        await asyncio.sleep(0)

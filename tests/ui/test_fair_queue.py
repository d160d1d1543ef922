"""The queue before the models: fair, bounded, and no turn is ever lost."""

import asyncio

import pytest

from ui.service.fair_queue import Busy, FairQueue


def test_clients_take_turns_however_many_questions_one_of_them_has() -> None:
    async def order() -> list[str]:
        turns, served = FairQueue(1, waiting=10, each=10), []

        async def ask(client: str, name: str) -> None:
            async with turns.turn(client):
                served.append(name)
                await asyncio.sleep(0)

        names = [("a", "a1"), ("a", "a2"), ("a", "a3"), ("a", "a4"), ("b", "b1"), ("c", "c1"), ("b", "b2")]
        await asyncio.gather(*(ask(client, name) for client, name in names))
        return served

    assert asyncio.run(order()) == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


def test_no_more_are_under_way_at_once_than_may_be() -> None:
    async def most() -> int:
        turns, now, seen = FairQueue(3, waiting=50, each=50), 0, 0

        async def ask() -> None:
            nonlocal now, seen
            async with turns.turn("a"):
                now += 1
                seen = max(seen, now)
                await asyncio.sleep(0.001)
                now -= 1

        await asyncio.gather(*(ask() for _ in range(20)))
        return seen

    assert asyncio.run(most()) == 3


def test_past_its_bounds_the_queue_says_how_many_wait() -> None:
    async def full() -> None:
        turns = FairQueue(1, waiting=2, each=1)
        async with turns.turn("a"):
            waiting = [asyncio.ensure_future(_hold(turns, client)) for client in "ab"]
            await asyncio.sleep(0)
            with pytest.raises(Busy, match="2 searches wait already"):
                await _hold(turns, "c")
        await asyncio.gather(*waiting)
        async with turns.turn("a"):
            mine = asyncio.ensure_future(_hold(turns, "a"))
            await asyncio.sleep(0)
            with pytest.raises(Busy, match="your searches: 1 of them"):
                await _hold(turns, "a")
        await mine

    asyncio.run(full())


def test_who_goes_away_while_waiting_leaves_no_gap() -> None:
    async def leaving() -> None:
        turns = FairQueue(1, waiting=5, each=5)
        async with turns.turn("a"):
            gone, stays = (asyncio.ensure_future(_hold(turns, client)) for client in "bc")
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
            assert turns.waiting == 1
        await asyncio.wait_for(stays, 1)
        async with turns.turn("a"):  # one whose turn comes in the moment that it goes
            gone = asyncio.ensure_future(_hold(turns, "b"))
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await asyncio.wait_for(_hold(turns, "c"), 1)

    asyncio.run(leaving())


async def _hold(turns: FairQueue, client: str) -> None:
    async with turns.turn(client):
        await asyncio.sleep(0)

"""Whose search is next: one bounded, fair queue before the models, for the page, REST and MCP alike.

Clients take turns (round robin), so that one with fifty questions does not keep out one with a single question.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from retrieval.errors import FolioscopeError


class Busy(FolioscopeError):
    """Too many searches wait already."""

    exit_code = 3


class FairQueue:
    """For one event loop. At most `at_once` turns are held at a time; at most `waiting` wait, `each` of one client."""

    def __init__(self, at_once: int, waiting: int, each: int) -> None:
        self._free = at_once
        self._most, self._each = waiting, each
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    @asynccontextmanager
    async def turn(self, client: str, *, admitted: bool = False) -> AsyncIterator[None]:
        """Wait for a turn and hold it. Raises Busy at once where the queue is full, unless it was admitted before."""
        await self._enter(client, admitted)
        try:
            yield
        finally:
            self._leave()

    def admit(self, client: str) -> None:
        """Raises Busy where one more may not wait now."""
        mine = len(self._queues.get(client, ()))
        if self.waiting >= self._most:
            raise Busy(f"the server is busy: {self.waiting} searches wait already; try again in a moment")
        if mine >= self._each:
            raise Busy(
                f"the server is busy with your searches: {mine} of them wait already; let those end first"
            )

    async def _enter(self, client: str, admitted: bool) -> None:
        if self._free:  # then nobody waits
            self._free -= 1
            return
        if not admitted:
            self.admit(client)
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append(called)
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():  # the turn came as the client went
                self._leave()
            else:
                self._forget(client, called)
            raise

    def _leave(self) -> None:
        while self._queues:
            client, queue = self._queues.popitem(last=False)
            called = queue.popleft()
            if queue:
                self._queues[client] = queue  # behind all others
            if not called.done():
                called.set_result(None)
                return
        self._free += 1

    def _forget(self, client: str, called: "asyncio.Future[None]") -> None:
        queue = self._queues.get(client)
        if queue and called in queue:
            queue.remove(called)
            if not queue:
                del self._queues[client]

"""A bounded, fair queue before the models, for the web page, REST and MCP alike.

Clients take turns (round robin), so that a client with fifty questions does not block a client with one.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from retrieval.errors import FolioscopeError


class Busy(FolioscopeError):
    """Too many searches are waiting."""

    exit_code = 3


class FairQueue:
    """Lets at most `at_once` requests run at the same time. Belongs to one event loop.

    waiting: requests that may wait. each: requests of one client that may wait.
    """

    def __init__(self, at_once: int, waiting: int, each: int) -> None:
        self._free = at_once
        self._most, self._most_each = waiting, each
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # by client

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return sum(len(queue) for queue in self._queues.values())

    @asynccontextmanager
    async def turn(self, client: str, *, admitted: bool = False) -> AsyncIterator[None]:
        """Wait for a turn and hold it. Raises Busy at once if the queue is full, unless `admit` was called before."""
        await self._enter(client, admitted)
        try:
            yield
        finally:
            self._leave()

    def admit(self, client: str) -> None:
        """Raise Busy if one more request of this client may not wait now."""
        of_client = len(self._queues.get(client, ()))
        if self.waiting >= self._most:
            raise Busy(f"the server is busy: {self.waiting} searches wait already; try again in a moment")
        if of_client >= self._most_each:
            raise Busy(
                f"the server is busy with your searches: {of_client} of them wait already; wait for their results"
            )

    async def _enter(self, client: str, admitted: bool) -> None:
        if self._free:  # a free turn means that no client waits
            self._free -= 1
            return
        if not admitted:
            self.admit(client)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the client left at the moment its turn came
                self._leave()
            else:
                self._drop(client, turn)
            raise

    def _leave(self) -> None:
        """Give the turn to the next client that waits."""
        while self._queues:
            client, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._queues[client] = queue  # behind all other clients
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _drop(self, client: str, turn: "asyncio.Future[None]") -> None:
        queue = self._queues.get(client)
        if queue and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[client]

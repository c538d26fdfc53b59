"""Where the workers of a crew get their orders (crew.py), as an actor: it imports nothing that takes time."""

from __future__ import annotations

import asyncio
from typing import Any


class Desk:
    """Where workers get their orders, as an actor; numbers of orders count from 1."""

    def __init__(self, world: int) -> None:
        """For `world` workers."""
        self._world = world
        self._orders: list[Any] = []
        self._done: dict[int, list[str | None]] = {}
        self._news = asyncio.Condition()

    async def post(self, order: Any) -> None:
        """Add an order; None sends the workers home."""
        async with self._news:
            self._orders.append(order)
            self._news.notify_all()

    async def take(self, number: int) -> Any:
        """Order `number`, as soon as there is one."""
        async with self._news:
            await self._news.wait_for(lambda: len(self._orders) >= number)
            return self._orders[number - 1]

    async def done(self, number: int, mistake: str | None) -> None:
        """A worker is done with order `number`; `mistake` is the sentence in which it ended, if it did."""
        async with self._news:
            self._done.setdefault(number, []).append(mistake)
            self._news.notify_all()

    async def wait(self, number: int) -> str | None:
        """Return when all workers are done with order `number`, with the sentence in which it ended, if it did."""
        async with self._news:
            await self._news.wait_for(lambda: len(self._done.get(number, [])) == self._world)
            return self._done[number][0]

"""How a measurement reports its progress, and how long it waits for something."""

import asyncio
import time
from collections.abc import Awaitable, Callable

LIMIT_SECONDS = 300.0
"""Guards against waiting forever for what does not come; on any machine it comes in a small part of that."""


def say(text: str) -> None:
    """Report progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


async def until(
    condition: Callable[[], Awaitable[bool]], *, seconds: float = LIMIT_SECONDS, every: float = 0.1
) -> None:
    """Poll a condition until it holds.

    Raises:
        TimeoutError: it does not hold after so many seconds.
    """
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # the API server is polled, there is no event
            await asyncio.sleep(every)


def patience(objects: int) -> float:
    """Return after how many seconds the cleanup of so many objects is given up."""
    return LIMIT_SECONDS + 2.0 * objects

"""How does a task of the courier rest? Until its time has come, or until it is told."""

from __future__ import annotations

import asyncio


async def told(event: asyncio.Event, seconds: float) -> bool:
    """Whether it was set before the time was over."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True

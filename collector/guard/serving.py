"""How does a door answer and end? uvicorn's server without its tick: a quiet one does nothing.

uvicorn's loop wakes ten times a second to see whether it is to end and, each second, to write the date that answers
begin with: three quarters of what an idle process costs (schedstat). Here the end is an event, and the date is written
when somebody asks for it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate

import uvicorn
from uvicorn.server import ServerState


class _Dated(ServerState):
    """What answers begin with: the date, as of now. It is written once a second at most."""

    _written = (-1, b"")

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        now = int(time.time())
        if self._written[0] != now:
            self._written = now, formatdate(now, usegmt=True).encode()
        return [(b"date", self._written[1])]

    @default_headers.setter
    def default_headers(self, value: object) -> None:
        """uvicorn's own begin is empty."""


class Server(uvicorn.Server):
    """Serves until `end`; `ready` is told when the socket answers.

    Signals are the caller's: uvicorn would raise them again after its shutdown, and end the process.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        if config.date_header:
            self.server_state = _Dated()
        self._ready = ready
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Answer what is in hand, take nothing more; called in the loop's thread."""
        self.should_exit = True
        self._ending.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def main_loop(self) -> None:
        await self._ending.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

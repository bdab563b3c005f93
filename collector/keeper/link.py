"""One edge's connection, seen from the keeper: frames in, frames out, never waiting for an edge that does not read."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from typing import Final

from collector import telemetry
from collector.exchange.frames import Frames

log = telemetry.logger("keeper")

_READ_BYTES: Final = 1 << 18
_MOST_UNREAD: Final = 1 << 26  # bytes of answers that an edge leaves unread; then it is cut off

Heard = Callable[["Link", bytes], None]


class Link:
    """`heard` gets each whole frame; `gone` is called when the edge has ended or sends what is no frame."""

    def __init__(
        self, end: socket.socket, selector: selectors.BaseSelector, heard: Heard, gone: Callable[[Link], None]
    ) -> None:
        self._end, self._selector = end, selector
        self._heard, self._gone = heard, gone
        self._frames = Frames()
        self._unsent = bytearray()
        self._open = True
        selector.register(end, selectors.EVENT_READ, self._ready)

    def _ready(self) -> None:
        if self._unsent:
            self._flush()
        if not self._open:
            return
        try:
            data = self._end.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._gone(self)
            return
        try:
            for content in self._frames.feed(data):
                self._heard(self, content)
        except ValueError as error:
            log.failed("an edge sent what is no frame, and is cut off", error)
            self._gone(self)

    def send(self, content: bytes) -> None:
        """Send a frame, now or as soon as the edge reads; nothing once it is gone."""
        if not self._open:
            return
        self._unsent += content
        if len(self._unsent) == len(content) or len(self._unsent) > _MOST_UNREAD:
            self._flush()
        if len(self._unsent) > _MOST_UNREAD:
            log.error("an edge reads no answers, and is cut off")
            self._gone(self)

    def _flush(self) -> None:
        try:
            sent = self._end.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._gone(self)
            return
        del self._unsent[:sent]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._selector.get_key(self._end).events != wanted:
            self._selector.modify(self._end, wanted, self._ready)

    def drain(self, seconds: float) -> None:
        """Send what is unsent, for so long at most."""
        until = time.monotonic() + seconds
        while self._open and self._unsent and time.monotonic() < until:
            self._flush()
            time.sleep(0.001)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._selector.unregister(self._end)
            self._end.close()

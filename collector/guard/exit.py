"""How does an answer leave: head and body in one write, with its name, and never before the guard agrees to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

CONTINUE: Final = b"HTTP/1.1 100 "


class Exit:
    """All of a transport that uvicorn's request cycle uses; joins head and body, and asks the guard before it closes.

    The cycle writes the head of an answer and its body apart, which are two system calls (a quarter of a small
    request's time, measured). The head is held until the body follows, and no longer than this turn of the loop.
    """

    __slots__ = ("_close", "_early", "_head", "_name", "_soon", "_write", "is_closing")

    def __init__(
        self,
        transport: asyncio.Transport,
        close: Callable[[], None],
        soon: Callable[[Callable[[], None]], object],
        early: Callable[[], bool],
        name: Callable[[], str],
    ) -> None:
        """`early`: whether the answer comes before its request's body was read. `name`: the request's (names.py)."""
        self._early = early
        self._name = name
        self._write = transport.write
        self.is_closing = transport.is_closing
        self._close = close
        self._soon = soon
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._write(head + data)
        elif data.startswith(b"HTTP/1.1 "):
            named = (
                data if data.startswith(CONTINUE) else b"%brequest-id: %b\r\n\r\n" % (data[:-2], self._name().encode())
            )
            self._head = ending(named) if self._early() else named
            self._soon(self.flush)
        else:
            self._write(data)

    def flush(self) -> None:
        """Send a head that no body has followed."""
        if self._head:
            self.write(b"")

    def forget(self) -> None:
        """The connection is gone. Without this it and its body would live on until Python looks for cycles."""
        self._close, self._early, self._name = _nothing, bool, str

    def close(self) -> None:
        self.flush()
        self._close()


def _nothing() -> None:
    pass


def ending(head: bytes) -> bytes:
    """The head of an answer, saying that the connection ends: else a client would use it again (axios: "hang up")."""
    if head.startswith(CONTINUE) or b"\r\nconnection: close\r\n" in head:
        return head
    return head[:-2] + b"connection: close\r\n\r\n"

"""TLS under the guarded protocol, for an edge that no proxy stands before.

It lies between the socket and one connection, so that a client that shakes no hands, or shakes them slowly, is one of
the guard's connections from its first moment: counted, and closed by the same timer as one that never speaks. What came
in one read is handed up in one piece, so the fast lane takes it as it would without TLS.

A client that speaks plain HTTP, or breaks the protocol, is answered by nothing but TLS's own alert.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final

_PLAIN: Final = 16_384  # a record; fed at once too, for a MemoryBIO keeps the room of its largest write
# A record takes so much more than its data, at most (CBC with SHA-384; 22 is usual). What comes beyond is no data: new
# keys (TLS 1.3's KeyUpdate: 12 us for 27 bytes, as often as a client likes), refused hands; and a record's first part.
_OVERHEAD: Final = 96
_MOST_BARREN: Final = 32_768


class Secured(asyncio.Protocol, asyncio.Transport):
    """A protocol to the socket below, and a transport to the protocol above."""

    def __init__(self, context: ssl.SSLContext, above: asyncio.Protocol) -> None:
        self._context, self._above = context, above
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None  # made when the first byte comes: 10,000 silent clients cost none
        self._shaken = False
        self._unsent = b""  # said before the hands were shaken: why a client was turned away
        self._barren = 0  # bytes since the hands were shaken that have said nothing
        self._leaving = False  # nothing more is said, and what still comes is not read
        self._raw: asyncio.Transport = None  # type: ignore[assignment]

    # -- to the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = transport  # type: ignore[assignment]
        self._above.connection_made(self)

    def data_received(self, data: bytes) -> None:
        if self._leaving and self._shaken:
            self._above.data_received(data)  # it counts, and ends who goes on for ever
            return
        pieces, ended = [], False
        try:
            for at in range(0, len(data), _PLAIN):
                self._incoming.write(part := data[at : at + _PLAIN])
                said, ended = self._read()
                pieces += said
                if self._is_barren(len(part), said):
                    self._raw.close()
                    return
        except ssl.SSLError:
            self._send()
            self._raw.close()
            return
        self._send()
        if plain := b"".join(pieces):
            self._above.data_received(plain)
        if ended and not self._above.eof_received():
            self.close()

    def eof_received(self) -> bool | None:
        return self._above.eof_received()

    def pause_writing(self) -> None:
        self._above.pause_writing()

    def resume_writing(self) -> None:
        self._above.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leaving = True
        self._above.connection_lost(exc)
        self._tls = None

    # -- TLS

    def _is_barren(self, came: int, said: list[bytes]) -> bool:
        """Whether the client has sent too much that is no data; a browser sends next to nothing else."""
        if self._shaken:
            self._barren = max(0, self._barren + came - sum(map(len, said)) - _OVERHEAD * len(said))
        return self._barren > _MOST_BARREN

    def _read(self) -> tuple[list[bytes], bool]:
        """All that can be read by now, and whether the client has said that no more comes."""
        if self._tls is None:
            self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        pieces: list[bytes] = []
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
                self._say_what_waited()
            while piece := self._tls.read(_PLAIN):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            return pieces, False
        return pieces, True

    def _say_what_waited(self) -> None:
        waited, self._unsent = self._unsent, b""
        if waited:
            self._encrypt(waited)
        if self._leaving:
            self._leave()

    def _encrypt(self, data: bytes) -> None:
        assert self._tls is not None
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]

    def _send(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def _take_leave(self) -> None:
        """Say that no more comes (close_notify): without it a client could not tell the end from an attack."""
        assert self._tls is not None
        with contextlib.suppress(ssl.SSLError):  # it waits for the client's own, which we do not
            self._tls.unwrap()
        self._send()

    def _leave(self) -> None:
        self._take_leave()
        self._raw.write_eof()

    # -- to the protocol above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._shaken:
            self._unsent += data
        elif not self._leaving and data:
            try:
                self._encrypt(bytes(data))
            except ssl.SSLError:
                self._raw.abort()
                return
            self._send()

    def write_eof(self) -> None:
        if not self._leaving:
            self._leaving = True
            if self._shaken:
                self._leave()

    def close(self) -> None:
        if self._shaken and not self._leaving and not self._raw.is_closing():
            self._leaving = True
            self._take_leave()
        self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size() + len(self._unsent)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._context if name == "sslcontext" else self._raw.get_extra_info(name, default)


def secured(protocol: Callable[..., asyncio.Protocol], context: ssl.SSLContext) -> Callable[..., asyncio.Protocol]:
    """`protocol` (make_protocol's class) over TLS, for `uvicorn.Config(http=…)`."""
    return lambda *given, **named: Secured(context, protocol(*given, **named))

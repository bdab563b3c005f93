"""How do an edge and the keeper get their connection, and a new one after either has died?

Neither may open a connection itself. Each has a control socket to its supervisor. An edge without a connection asks
there; the supervisor makes a pair of sockets and sends one end to each. A keeper or an edge that dies takes its end
with it, so the other one sees the end of the stream.

    edge ── ASK ─▶ supervisor ── an end of a new pair ─▶ edge and keeper

Where edge and keeper run under supervisors of their own (a systemd unit each), the keeper's listens on a socket file in
the data directory and the edge's connects to it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Final, Literal

from collector.errors import StorageError

ASK: Final = b"?"
END: Final = b"."
_GIVEN: Final = b"!"
SOCKET: Final = "keeper.sock"
_BUFFER_BYTES: Final = 1 << 21  # a large batch at once; the kernel gives less where net.core.wmem_max is less
_LONGEST_PATH: Final = 107  # bytes, sockaddr_un


def control() -> tuple[socket.socket, socket.socket]:
    """A control socket: the supervisor's end, which never blocks, and the child's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def pair() -> tuple[socket.socket, socket.socket]:
    """A connection between an edge and the keeper."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        _widen(end)
    return ends


def _widen(end: socket.socket) -> None:
    end.setblocking(False)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)


def ask(control: socket.socket) -> None:
    """In an edge: ask for a connection. A supervisor that is gone or busy is asked again later."""
    with contextlib.suppress(OSError):
        control.send(ASK)


def asked(control: socket.socket) -> bool | None:
    """In the supervisor: whether the child asks for a connection; None once it is gone."""
    try:
        return control.recv(16) == ASK or None
    except BlockingIOError:
        return False
    except OSError:
        return None


def give(control: socket.socket, end: socket.socket) -> bool:
    """Send an end to a child and close it here; whether the child can still take it."""
    with end:
        try:
            socket.send_fds(control, [_GIVEN], [end.fileno()])
        except OSError:
            return False
    return True


def tell_to_end(control: socket.socket) -> None:
    """In the supervisor: nothing more will come. A signal would not do: service managers send one to all at once."""
    with contextlib.suppress(OSError):
        control.send(END)


def take(control: socket.socket) -> socket.socket | Literal["end"] | None:
    """In a child: the end that was sent, or "end" where it is told to; None once the supervisor is gone."""
    try:
        word, fds, _, _ = socket.recv_fds(control, 16, 1)
    except OSError:
        return None
    if not fds:
        return "end" if word == END else None
    end = socket.socket(fileno=fds[0])
    end.setblocking(False)
    return end


def listen(data_dir: str) -> socket.socket:
    """The keeper's socket file; StorageError says why it cannot be had. Its group may connect (an edge's own user)."""
    path = _path(data_dir)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.bind(path)
        os.chmod(path, 0o660)
        opened.listen()
    except OSError as error:
        opened.close()
        raise StorageError(f"cannot listen on {path}: {error.strerror}") from None
    opened.setblocking(False)
    return opened


def connect(data_dir: str) -> socket.socket | None:
    """A connection to the keeper of this data directory; None while it is not there."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.connect(_path(data_dir))
    except OSError:
        end.close()
        return None
    _widen(end)
    return end


def accept(listener: socket.socket) -> socket.socket | None:
    """A connection that somebody has opened to the socket file."""
    try:
        end, _ = listener.accept()
    except OSError:
        return None
    _widen(end)
    return end


def _path(data_dir: str) -> str:
    path = str(Path(data_dir).absolute() / SOCKET)
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise StorageError(f"the path {path} is too long for a socket file ({_LONGEST_PATH} bytes at most)")
    return path

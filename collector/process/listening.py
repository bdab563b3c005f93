"""How are the doors opened? Bound once by the supervisor, so that a crash of the edge never closes the port."""

from __future__ import annotations

import socket

from collector.config_loader.checks import parse_listen
from collector.errors import CollectorError

BACKLOG = 4096  # connections that wait while an edge restarts; the kernel caps it at net.core.somaxconn


def bind(listen: str) -> socket.socket:
    """A listening TCP socket for `host:port`; port 0 takes a free one. CollectorError says why it cannot be had."""
    host, port = parse_listen(listen)
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)  # noqa: S104
        family, kind, protocol, _, address = found[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        raise CollectorError(f"cannot listen on {listen}: {error.strerror or error}") from None
    opened.setblocking(False)
    return opened


def url_of(opened: socket.socket, *, tls: bool = False) -> str:
    """`http://127.0.0.1:8080`, with the port that was really taken."""
    host, port = opened.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

"""How the console's doors are served: uvicorn with the edge's guard (D3) on a socket that was handed over.

An orderly end, exit 0 on SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import uvicorn
import uvloop
from litestar.types import ASGIApp

from collector.config_loader.checks import parse_listen
from collector.core.addresses import Networks
from collector.errors import CollectorError
from collector.guard.bodies import BodyLimits, Scope
from collector.guard.gate import GuardLimits, share_of_files
from collector.guard.protocol import GuardedProtocol, make_protocol
from collector.guard.serving import Server

NOBODY: Final = Networks()

_BACKLOG = 256
# A browser opens six connections, a page of the console posts a form at most. The rest is the guard's own.
_CONNECTIONS: Final = 400
_PER_ADDRESS: Final = 50
_BODIES: Final = BodyLimits(of_page=8_192, in_all=1_048_576, of_address=65_536, of_vouched_address=65_536)


class Door(NamedTuple):
    """An application and the socket that it answers on."""

    app: ASGIApp
    opened: socket.socket


def open_socket(listen: str, fd: int | None) -> socket.socket:
    """The socket behind a descriptor that was handed over, else a new one; CollectorError says why there is none."""
    if fd is not None:
        return socket.socket(fileno=fd)
    host, port = parse_listen(listen)
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        raise CollectorError(f"cannot listen on {listen}: {error.strerror or error}") from None


def _nothing() -> None:
    pass


def serve(
    doors: Sequence[Door],
    ready: Callable[[], None],
    trusted: Networks = NOBODY,
    ending: Callable[[], None] = _nothing,
) -> int:
    """Serve until SIGTERM or SIGINT; the first door's application has the lifespan. Returns the exit code.

    `trusted` proxies are not held to the connections of one address. `ending` is called first of all at the end: it
    ends what would stay open.
    """
    return uvloop.run(_serve(doors, ready, trusted, ending))


async def _serve(
    doors: Sequence[Door], ready: Callable[[], None], trusted: Networks, ending: Callable[[], None]
) -> int:
    limits = _limits()
    servers = [
        Server(
            _settings(door, make_protocol(limits, trusted, None, _no_more), first=i == 0), ready if i == 0 else _nothing
        )
        for i, door in enumerate(doors)
    ]

    def stop() -> None:
        ending()
        for server in servers:
            server.end()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with asyncio.TaskGroup() as group:
        for server, door in zip(servers, doors, strict=True):
            group.create_task(server.serve(sockets=[door.opened]))
    return 0 if all(server.started for server in servers) else 1


def _limits() -> GuardLimits:
    share = share_of_files(_CONNECTIONS)
    return GuardLimits(
        connections=share.connections, connections_per_address=_PER_ADDRESS, told=share.told, bodies=_BODIES
    )


def _no_more(scope: Scope) -> int:
    return _BODIES.of_page


def _settings(door: Door, protocol: type[GuardedProtocol], *, first: bool) -> uvicorn.Config:
    return uvicorn.Config(
        door.app,
        loop="none",
        http=protocol,
        ws="none",
        lifespan="on" if first else "off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
    )

"""HTTP as a hostile client speaks it: bytes on a socket, and a small application that notes what reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import uvicorn

from collector.core.addresses import Networks, parse_networks
from collector.guard.gate import Gate, GuardLimits
from collector.guard.protocol import make_protocol

UNTRUSTED = Networks()
PATIENCE_SECONDS = 30.0  # a machine may stand still for seconds; what is waited for comes at once
LOOPBACK = parse_networks(["127.0.0.1/32"])


class Answer(NamedTuple):
    """What came back until the connection ended or the patience did."""

    data: bytes
    closed: bool
    seconds: float

    @property
    def status(self) -> int:
        return int(self.data[9:12]) if self.data.startswith(b"HTTP/1.1 ") else 0

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", self.data)]

    @property
    def body(self) -> Any:
        return json.loads(self.data.partition(b"\r\n\r\n")[2])


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS, source_address=(source, 0))


def read_to_end(sock: socket.socket, patience: float = PATIENCE_SECONDS) -> Answer:
    """Read until the other side closes or resets, at most `patience` seconds."""
    started, data, closed = time.monotonic(), b"", False
    while (left := started + patience - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            piece = sock.recv(65536)
        except TimeoutError:
            break
        except ConnectionError:
            closed = True
            break
        if not piece:
            closed = True
            break
        data += piece
    return Answer(data, closed, time.monotonic() - started)


def exchange(port: int, request: bytes, patience: float = PATIENCE_SECONDS, *, half_close: bool = False) -> Answer:
    """Send all bytes, then read to the end; the sending may break off where the server has had enough.

    Its seconds count from before the connection: a client that stands still has lost no time of the server's.
    """
    started = time.monotonic()
    with connect(port) as sock:
        with contextlib.suppress(ConnectionError, TimeoutError):
            sock.sendall(request)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        answer = read_to_end(sock, patience)
        return answer._replace(seconds=time.monotonic() - started)


def trickle(port: int, start: bytes, piece: bytes, every: float, patience: float = PATIENCE_SECONDS) -> Answer:
    """Send `start` at once and then `piece` again and again, until the server ends it."""
    with connect(port) as sock:
        sock.sendall(start)
        started, data = time.monotonic(), b""
        while time.monotonic() - started < patience:
            sock.settimeout(every)
            try:
                answer = sock.recv(65536)
                if not answer:
                    return Answer(data, True, time.monotonic() - started)
                data += answer
            except TimeoutError:
                with contextlib.suppress(ConnectionError):
                    sock.sendall(piece)
            except ConnectionError:
                return Answer(data, True, time.monotonic() - started)
        return Answer(data, False, time.monotonic() - started)


def get(path: str = "/", extra: bytes = b"") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: t\r\n".encode() + extra + b"\r\n"


def post(body: bytes, extra: bytes = b"", path: str = "/") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n".encode()
    return head + extra + b"\r\n" + body


class Notebook:
    """An ASGI application that answers 200 with the path, and notes each request whose body was complete.

    `/wait/N` answers after N seconds, `/held` once `release` is set, `/big` with 64 MB, `/refuse` with 413 before
    reading anything.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes, list[tuple[bytes, bytes]]]] = []
        self.broken = 0
        self.longest = 0  # bytes of a body, whole or not
        self.holding = 0
        self.release = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path: str = scope["path"]
        if path == "/refuse":
            await self.reply(send, 413, b"{}")
            return
        body = await self.read(receive)
        if body is None:
            self.broken += 1
            return
        if path.startswith("/wait/"):
            await asyncio.sleep(float(path[6:]))
        if path == "/held":
            self.holding += 1
            while not self.release.is_set():
                await asyncio.sleep(0.005)
        self.seen.append((path, body, scope["headers"]))
        await self.reply(send, 200, b"x" * 64_000_000 if path == "/big" else path.encode())

    async def read(self, receive: Any) -> bytes | None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message["body"]
            self.longest = max(self.longest, len(body))
            if not message["more_body"]:
                return body

    async def reply(self, send: Any, status: int, body: bytes) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Served(NamedTuple):
    port: int
    app: Notebook
    gate: Gate


@contextlib.contextmanager
def serve(
    limits: GuardLimits | None = None, trusted: Networks = UNTRUSTED, protocol: Any = None, allowance: Any = None
) -> Iterator[Served]:
    """A real uvicorn on uvloop in a thread; without `limits` its own protocol, unguarded."""
    app = Notebook()
    chosen = protocol or ("httptools" if limits is None else make_protocol(limits, trusted, None, allowance))
    gate = getattr(chosen, "gate", Gate(GuardLimits(), UNTRUSTED))
    config = uvicorn.Config(
        app,
        http=chosen,
        ws="none",
        loop="uvloop",
        lifespan="off",
        log_level="critical",
        access_log=False,
        server_header=False,
        backlog=4096,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield Served(listener.getsockname()[1], app, gate)
        finally:
            server.should_exit = True
            thread.join(timeout=PATIENCE_SECONDS)


def eventually(condition: Any, patience: float = PATIENCE_SECONDS) -> bool:
    """Whether `condition()` becomes true in time."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())

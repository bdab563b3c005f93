"""The console's application: its routes, its errors, and how it is run."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from typing import Any, Final

import uvicorn
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from collector.config import Config
from collector.config_loader.checks import parse_listen
from collector.console import overview as overview_page
from collector.console.auth import Password, Sessions, check_access
from collector.console.gate import Gate
from collector.console.metrics import metrics_text
from collector.console.shell import Desk, now_ms, page
from collector.core.ids import PublicIds
from collector.errors import StorageError
from collector.storage.reports.reader import NoStore, Reader, TooSlow, database

_ASSETS: Final = {"console.css": "text/css", "console.js": "text/javascript", "mark.svg": "image/svg+xml"}
_COUNT_EVERY_SECONDS: Final = 5.0
_COUNT_AT_ONCE_SECONDS: Final = 0.25


def create_app(config: Config, *, clock: Callable[[], int] = now_ms) -> ASGIApp:
    """The console as an ASGI application; raises ConfigError when it would be open to others without a password."""
    check_access(config.console)
    desk = Desk(config, Reader(database(config.storage.data_dir)), clock, _ids(config))
    sessions = Sessions(config.console.session_hours)
    password = Password(config.console.password_hash) if config.console.password_hash else None
    inner = Litestar(
        route_handlers=[overview, metrics, healthz, asset],
        state=State({"desk": desk, "sessions": sessions, "password": password}),
        lifespan=[_desk_open],
        exception_handlers={StorageError: _storage_trouble, HTTPException: _http_trouble, Exception: _trouble},
        openapi_config=None,
        logging_config=None,
        debug=False,
        request_max_body_size=8192,
    )
    return Gate(inner, sessions, password, clock)


@get("/")
async def overview(state: State, store: str = "") -> Response[bytes]:
    return await overview_page.overview(state.desk, store)


@get("/metrics")
async def metrics(state: State) -> Response[bytes]:
    text = await metrics_text(state.desk)
    return Response(text.encode(), media_type="text/plain; version=0.0.4")


@get("/healthz")
async def healthz() -> Response[bytes]:
    return Response(b'{"status":"ok"}', media_type="application/json")


@get("/assets/{name:str}")
async def asset(name: str) -> Response[bytes]:
    kind = _ASSETS.get(name)
    if kind is None:
        raise HTTPException("no such file", status_code=404)
    return Response(resources.files("collector.console").joinpath("assets", name).read_bytes(), media_type=kind)


def _ids(config: Config) -> Callable[[], PublicIds | None]:
    return lambda: None


@asynccontextmanager
async def _desk_open(app: Litestar) -> AsyncIterator[None]:
    """Counts in the background while the application runs, and closes the database after it."""
    desk: Desk = app.state.desk
    counting = asyncio.ensure_future(_keep_counting(desk))
    try:
        yield
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
        await desk.reader.close()


async def _keep_counting(desk: Desk) -> None:
    """A quarter of a second of counting, then a pause: history is counted without taking the machine from the edge."""
    while True:
        try:
            done = await desk.count(budget_seconds=_COUNT_AT_ONCE_SECONDS)
        except StorageError:
            done = True  # no store yet, or a slow disk: pages say so, the next round tries again
        await asyncio.sleep(_COUNT_EVERY_SECONDS if done else _COUNT_AT_ONCE_SECONDS)


def _storage_trouble(_: Request[Any, Any, Any], error: StorageError) -> Response[bytes]:
    if isinstance(error, NoStore):
        return page("message.html", title="Nothing here yet", sentence=str(error), back="", status=503)
    title = "That took too long" if isinstance(error, TooSlow) else "The store cannot be read"
    return page("message.html", title=title, sentence=str(error), back="/", status=503)


def _http_trouble(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    titles = {
        404: "No such page",
        405: "That cannot be done here",
        400: "That address makes no sense",
        413: "Too much at once",
    }
    return page(
        "message.html", title=titles.get(error.status_code, "Refused"), sentence="", back="/", status=error.status_code
    )


def _trouble(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    return page(
        "message.html", title="Our fault", sentence="This page failed; the log has the reason.", back="/", status=500
    )


class _Server(uvicorn.Server):
    """uvicorn, with our own ending: SIGTERM is an orderly exit 0, and `ready` is told when the socket answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn raises the signal again after its shutdown, which would end the process by it."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(config: Config, fd: int | None, ready: Callable[[], None]) -> int:
    """Serve the console until SIGTERM; on `fd` when given, else on its listen address. Returns the exit code."""
    app = create_app(config)
    host, port = parse_listen(config.console.listen)
    settings = uvicorn.Config(
        app,
        fd=fd,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=200,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
    )
    server = _Server(settings, ready)
    server.run()
    return 0 if server.started else 1

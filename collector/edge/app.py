"""The edge process: the Litestar application, its server, its start and its end."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvicorn
import uvloop
from litestar import Litestar, Request, Response, asgi
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler
from litestar.types import ExceptionHandlersMap, Receive, Scope, Send

from collector import telemetry
from collector.config import Config
from collector.core import addresses
from collector.core.capi import phones
from collector.edge import openapi
from collector.edge.collect import Collect
from collector.edge.door import WEBHOOKS, Door, Handler
from collector.edge.door import Request as DoorRequest
from collector.edge.keeper import Keeper
from collector.edge.lane import Lane, usual_verbs
from collector.edge.prepare import Preparer
from collector.edge.snippet import Script, Snippet
from collector.edge.tally import NO_VERB, Tally
from collector.edge.track import Tracker
from collector.edge.webhooks import Webhooks
from collector.errors import ApiError, StorageError
from collector.exchange import responses
from collector.exchange.responses import Answer
from collector.guard.gate import ENOUGH_FILES, Counts, GuardLimits, share_of_files
from collector.guard.names import request_id
from collector.guard.protocol import make_protocol
from collector.guard.serving import Server
from collector.guard.tls import secured

log = telemetry.logger("edge")

_GRACE_SECONDS = 8  # SIGTERM: answer what is in hand within this, so that the supervisor sees exit 0 within 10 s
_BACKLOG = 4096
_AGAIN_S = 1.0  # after the keeper was away
_GC_THRESHOLDS = (10_000, 20, 100)  # allocations, then passes of the younger generation; usual: 700, 10, 10
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def build(config: Config, keeper: Keeper, tracker: Tracker, tally: Tally) -> tuple[AsgiApp, Door, Webhooks]:
    """Every route of the public door, the busiest taken before Litestar routes them; and what judges them."""
    clock = keeper.clock
    preparer = Preparer(config, keeper.stores, keeper.names, keeper.public, clock, keeper.count)
    door = Door(config, keeper, preparer, tracker, tally, clock)
    collect = Collect(config, keeper, preparer, door, clock)
    shops = Webhooks(config, keeper, preparer, door)
    script = Script(Snippet(config.edge, config.privacy, config.store), door)
    busy: dict[str, AsgiApp] = {
        "/v1/track/click": door.endpoint("POST", "click", door.click, door.event_key),
        "/v1/track/conversion": door.endpoint("POST", "conversion", door.event, door.event_key),
        "/v1/track/event": door.endpoint("POST", "event", door.event, door.event_key),
        "/v1/track/batch": door.endpoint("POST", "batch", door.batch, door.batch_key),
        config.edge.beacon_path: door.endpoint("POST", "beacon", collect.beacon),
    }
    webhooks = door.endpoint("POST", "webhook", shops.take, shops.admit)
    handlers = [
        _route(script.path, script.serve),
        _route(script.pinned_path, script.serve),
        script.older(),
        _route(config.edge.pixel_path, door.endpoint("GET", "pixel", collect.pixel)),
        *(_route(path, app) for path, app in busy.items()),
        _below("/v1/conversions", door.endpoint("GET", "read_conversion", door.conversion_state)),
        _below("/v1/clicks", door.endpoint("GET", "read_click", door.click_state)),
        _below(WEBHOOKS.rstrip("/"), webhooks),
        _route("/healthz", door.endpoint("GET", "healthz", _constant(b'{"status":"ok"}'))),
        _route("/readyz", door.endpoint("GET", "readyz", _readiness(keeper))),
        _route("/openapi.json", door.endpoint("GET", "openapi", _constant(openapi.document(config.edge)))),
    ]
    app = Litestar(
        route_handlers=handlers,
        openapi_config=None,
        debug=False,
        logging_config=None,  # its own would replace telemetry's handler, which keeps data out of the log
        exception_handlers=_refusing(tally.of(NO_VERB)),
    )
    return _shortcut(busy, webhooks, app), door, shops


def _shortcut(busy: Mapping[str, AsgiApp], webhooks: AsgiApp, rest: Litestar) -> AsgiApp:
    """Straight to the busiest routes: Litestar's own way to them took 9 of 88 µs of a click (measured)."""

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = scope["path"]
        if path.startswith(WEBHOOKS):
            scope["path"] = path[len(WEBHOOKS) - 1 :]  # as a mount leaves it
            return webhooks(scope, receive, send)
        return busy.get(path, rest)(scope, receive, send)

    return app


def _route(path: str, app: AsgiApp) -> ASGIRouteHandler:
    """A raw ASGI route: 0.83 of plain ASGI's speed, where a decorated handler has 0.35 (measured)."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return asgi(path, is_mount=False, copy_scope=False)(handler)


def _below(path: str, app: AsgiApp) -> ASGIRouteHandler:
    """Everything below a path: Litestar 2.25 cannot route a raw ASGI handler by a path parameter (KeyError)."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return asgi(path, is_mount=True, copy_scope=False)(handler)


def _constant(body: bytes) -> Handler:
    async def constant(request: DoorRequest) -> Answer:
        return Answer(200, body)

    return constant


def _readiness(keeper: Keeper) -> Handler:
    """Whether an event could be stored now. Meta's trouble is never unreadiness."""

    async def readiness(request: DoorRequest) -> Answer:
        if keeper.refusing:
            raise ApiError("storage_unavailable", "the disk is full: posts are refused until there is room")
        if keeper.damage is not None:
            raise ApiError("storage_unavailable", keeper.damage)
        if not keeper.able:
            raise ApiError("storage_unavailable", "the last write failed; it is tried again every few seconds")
        return Answer(200, b'{"status":"ready"}')

    return readiness


def _refusing(counts: Counts) -> ExceptionHandlersMap:
    """How Litestar's own refusals and crashes are answered; `counts` by HTTP status."""

    def refuse(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
        answer = _http_error(error, request_id(request.scope))  # type: ignore[arg-type]
        counts[answer.status] += 1
        return _response(answer)

    def crash(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        name = request_id(request.scope)  # type: ignore[arg-type]
        log.failed("a request crashed", error, request_id=name)
        answer = responses.error_answer(ApiError("internal_error", "an internal error"), name)
        counts[answer.status] += 1
        return _response(answer)

    return {HTTPException: refuse, Exception: crash}


def _http_error(error: HTTPException, name: str) -> Answer:
    """Litestar's own refusals (no such path, a malformed Host) in the contract's shape."""
    code = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large"}.get(error.status_code)
    if code is None:
        code = "invalid_field" if error.status_code < 500 else "internal_error"
    return responses.error_answer(ApiError(code, "nothing is at this path" if code == "not_found" else "refused"), name)


def _response(answer: Answer) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, status_code=answer.status, media_type="application/json", headers=headers)


class _Server(Server):
    """The edge's: nobody waits for Meta any more once it ends."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], tracker: Tracker) -> None:
        super().__init__(config, ready)
        self._tracker = tracker

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            # 30 ms of imports that the first national phone number need not wait for, nor the start.
            self._warming = asyncio.get_running_loop().run_in_executor(None, phones.warm)

    def end(self) -> None:
        self._tracker.ending = True
        super().end()


def run(
    config: Config, fd: int, ready: Callable[[], None], control: socket.socket, tls: ssl.SSLContext | None = None
) -> int:
    """Serve until SIGTERM; the exit code. `fd`: the listening socket; `control`: the way to the keeper."""
    return uvloop.run(serve(config, socket.socket(fileno=fd), ready, control, tls))


async def serve(
    config: Config,
    listener: socket.socket,
    ready: Callable[[], None],
    control: socket.socket,
    tls: ssl.SSLContext | None = None,
) -> int:
    """Serve until SIGTERM; call it on uvloop."""
    keeper, tally = Keeper(control), Tally()
    await keeper.greeted(tally.totals)
    tracker = Tracker(keeper)
    app, door, shops = build(config, keeper, tracker, tally)
    server = _Server(_server_config(config, app, door, shops, tally, tls), ready, tracker)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.end)
    _spare_the_collector()
    reading = asyncio.create_task(_read_inbox(keeper, shops))
    try:
        await server.serve(sockets=[listener])
    finally:
        reading.cancel()
        keeper.close()
    return 0


async def _read_inbox(keeper: Keeper, shops: Webhooks) -> None:
    """Take in what a pull or a file has found, as soon as there is any; every edge does, and each order is one."""
    while True:
        await keeper.inbox_filled.wait()
        keeper.inbox_filled.clear()
        try:
            while await shops.take_waiting():
                pass
        except StorageError:
            keeper.inbox_filled.set()
            await asyncio.sleep(_AGAIN_S)


def _spare_the_collector() -> None:
    """Let Python look for cyclic garbage a tenth as often, and never at what lives as long as the process.

    Requests leave hardly any cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _server_config(
    config: Config, app: AsgiApp, door: Door, shops: Webhooks, tally: Tally, tls: ssl.SSLContext | None
) -> uvicorn.Config:
    share = share_of_files(config.edge.max_connections)
    if share.files < ENOUGH_FILES:
        log.warning(
            "few files may be open, so few connections are taken", files=share.files, connections=share.connections
        )
    limits = GuardLimits(
        connections=share.connections,
        connections_per_address=config.edge.max_connections_per_address,
        aside=WEBHOOKS.encode(),
        told=share.told,
    )
    trusted = addresses.parse_networks(config.edge.trusted_proxies)
    lane = Lane(door, usual_verbs(door), shops, limits)
    protocol = make_protocol(limits, trusted, tally.of(NO_VERB), door.allowance, lane)
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=protocol if tls is None else secured(protocol, tls),  # type: ignore[arg-type]  # it asks for a class
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

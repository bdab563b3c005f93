"""The console's application: its routes, its errors, and how it is run."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs, quote

from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import Cookie, State
from litestar.exceptions import HTTPException
from litestar.params import FromPath, FromQuery
from litestar.response import Stream
from litestar.types import ASGIApp

from collector.config import Config
from collector.console import campaigns as campaigns_page
from collector.console import credit as credit_page
from collector.console import delivery as delivery_page
from collector.console import events as events_page
from collector.console import left_out as left_out_page
from collector.console import live as live_page
from collector.console import order as order_page
from collector.console import orders as orders_page
from collector.console import share as share_page
from collector.console import system as system_page
from collector.console import today as today_page
from collector.console import trust as trust_page
from collector.console.auth import Attempts, Password, Sessions, TooMany, check_access
from collector.console.bar import Asked, Unknown
from collector.console.gate import COOKIE, FORM_COOKIE, Gate, address_of, cookie_of, is_https
from collector.console.metrics import MetricsDoor, metrics_text
from collector.console.reconcile import reconcile_page
from collector.console.serving import Door, open_socket, serve
from collector.console.shell import Desk, asset_bytes, page
from collector.core.addresses import parse_networks
from collector.errors import NoStore, StorageError, TooSlow
from collector.exchange.clock import boot_ms, system_ms
from collector.storage.reports import chosen
from collector.telemetry import logger

log = logger("console")

_ASSETS: Final = {"console.css": "text/css", "console.js": "text/javascript", "mark.svg": "image/svg+xml"}
_COUNT_EVERY_SECONDS: Final = 5.0
_COUNT_AT_ONCE_SECONDS: Final = 0.25


def open_desk(config: Config, *, clock: Callable[[], int] = system_ms) -> Desk:
    """What pages are made from; raises ConfigError when the console would be open to others without a password."""
    check_access(config.console)
    pages, counter = chosen.of_console(config)
    return Desk(config, pages, clock, counter)


def create_app(desk: Desk) -> ASGIApp:
    """The console as an ASGI application."""
    console = desk.config.console
    sessions = Sessions(console.session_hours)
    password = Password(console.password_hash, Attempts()) if console.password_hash else None
    trusted = parse_networks(desk.config.edge.trusted_proxies)
    inner = Litestar(
        route_handlers=_HANDLERS,
        state=State({"desk": desk, "sessions": sessions, "password": password, "trusted": trusted}),
        lifespan=[_desk_open],
        exception_handlers={
            Unknown: _unknown,
            StorageError: _storage_trouble,
            HTTPException: _http_trouble,
            Exception: _trouble,
        },
        openapi_config=None,
        logging_config=None,
        debug=False,
        request_max_body_size=8192,
    )
    return Gate(inner, sessions, password, boot_ms, trusted)


def _asked(request: Request[Any, Any, Any]) -> Asked:
    """The bar's state in the address; of a name that stands there twice, the last."""
    said = request.query_params
    names = ("shop", "range", "compare", "event", "from", "to")
    return Asked(*(str(said.get(name, "")) for name in names))


def _filters(request: Request[Any, Any, Any]) -> orders_page.Filters:
    return orders_page.Filters(*(str(request.query_params.get(name, "")) for name in orders_page.Filters._fields))


@get("/")
async def today(state: State, request: Request[Any, Any, Any]) -> Response[bytes]:
    return await today_page.today(state.desk, _asked(request), str(request.query_params.get("plot", "")))


@get("/orders")
async def orders(
    state: State, request: Request[Any, Any, Any], after: FromQuery[str] = "", sort: FromQuery[str] = ""
) -> Response[bytes]:
    return await orders_page.orders(state.desk, _asked(request), _filters(request), after, sort)


@get("/orders.csv")
async def orders_csv(state: State, request: Request[Any, Any, Any]) -> Stream:
    lines = await orders_page.orders_csv(state.desk, _asked(request), _filters(request))
    headers = {"content-disposition": 'attachment; filename="orders.csv"'}
    return Stream(lines, media_type="text/csv; charset=utf-8", headers=headers)


@get("/events")
async def events(state: State, before: FromQuery[str] = "") -> Response[bytes]:
    return await events_page.last(state.desk, before)


@get("/find")
async def find(state: State, id: FromQuery[str] = "") -> Response[bytes]:  # noqa: A002  the form's field
    wanted = id.strip()[:256]
    if wanted and not wanted.startswith(("click_", "conv_")):
        return await events_page.of_order(state.desk, wanted)
    place = "clicks" if wanted.startswith("click_") else "conversions"
    return Response(
        b"", status_code=303, headers={"location": f"/{place}/{quote(wanted, safe='')}" if wanted else "/events"}
    )


@get("/conversions/{public_id:str}")
async def conversion(state: State, public_id: FromPath[str]) -> Response[bytes]:
    return await order_page.order_page(state.desk, public_id)


@get("/clicks/{public_id:str}")
async def click(state: State, public_id: FromPath[str]) -> Response[bytes]:
    return await events_page.click(state.desk, public_id)


@get("/campaigns")
async def campaigns(
    state: State,
    request: Request[Any, Any, Any],
    by: FromQuery[str] = "campaign",
    under: FromQuery[str] = "",
    model: FromQuery[str] = "",
    window: FromQuery[str] = "",
    every: FromQuery[str] = "",
    after: FromQuery[str] = "",
) -> Response[bytes]:
    if campaigns_page.is_shared_out(by, model, window):
        return await credit_page.credit(state.desk, _asked(request), by, model, window, every)
    return await campaigns_page.campaigns(state.desk, _asked(request), by, under, after)


@get("/campaigns.csv")
async def campaigns_csv(
    state: State, request: Request[Any, Any, Any], by: FromQuery[str] = "campaign", under: FromQuery[str] = ""
) -> Response[bytes]:
    text = await campaigns_page.campaigns_csv(state.desk, _asked(request), by, under)
    headers = {"content-disposition": 'attachment; filename="campaigns.csv"'}
    return Response(text.encode(), media_type="text/csv; charset=utf-8", headers=headers)


@get("/delivery")
async def delivery(state: State, request: Request[Any, Any, Any], before: FromQuery[str] = "") -> Response[bytes]:
    return await delivery_page.delivery_page(state.desk, _asked(request), before)


@get("/trust")
async def trust(state: State, request: Request[Any, Any, Any]) -> Response[bytes]:
    return await trust_page.trust_page(state.desk, _asked(request))


@get("/signals")
async def signals() -> Response[bytes]:
    return _go("/trust")  # where it stands now; bookmarks stay good


@get("/left-out")
async def left_out(state: State, request: Request[Any, Any, Any]) -> Response[bytes]:
    return await left_out_page.left_out(state.desk, _asked(request))


@get("/reconcile")
async def reconcile(
    state: State,
    request: Request[Any, Any, Any],
    pixel: FromQuery[str] = "",
    day: FromQuery[str] = "",
    metas: FromQuery[str] = "",
    only: FromQuery[str] = "",
) -> Response[bytes]:
    return await reconcile_page(state.desk, _asked(request), pixel, day, metas, only)


@get("/live")
async def live(state: State, request: Request[Any, Any, Any], kind: FromQuery[str] = "") -> Response[bytes]:
    return await live_page.live(state.desk, _asked(request), kind)


@get("/live/stream")
async def live_stream(
    state: State, request: Request[Any, Any, Any], kind: FromQuery[str] = ""
) -> Response[bytes] | Stream:
    return await live_page.live_stream(state.desk, _asked(request), kind)


@get("/system")
async def system(state: State, request: Request[Any, Any, Any]) -> Response[bytes]:
    return await system_page.system(state.desk, _asked(request))


@get("/share/{token:str}")
async def shared(state: State, token: FromPath[str]) -> Response[bytes]:
    return await share_page.shared(state.desk, token)


@get("/metrics")
async def metrics(state: State) -> Response[bytes]:
    text = await metrics_text(state.desk)
    return Response(text.encode(), media_type="text/plain; version=0.0.4")


@get("/healthz")
async def healthz() -> Response[bytes]:
    return Response(b'{"status":"ok"}', media_type="application/json")


@get("/assets/{name:str}")
async def asset(name: FromPath[str]) -> Response[bytes]:
    kind = _ASSETS.get(name)
    if kind is None:
        raise HTTPException("no such file", status_code=404)
    return Response(asset_bytes(name), media_type=kind)


@get("/login")
async def login_form(state: State) -> Response[bytes]:
    return _login(state.sessions)


@post("/login", status_code=200)
async def login(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """Right password and our own form: a new session. Everything else: the form again, with the reason."""
    sessions, password = state.sessions, state.password
    headers = dict(request.scope["headers"])
    fields = parse_qs((await request.body()).decode("latin-1"), max_num_fields=10)
    guess, form = fields.get("password", [""])[0], fields.get("form", [""])[0]
    if password is None:
        return _go("/")
    if not sessions.is_ours(cookie_of(headers, FORM_COOKIE), form):
        return _login(sessions, "The form was too old. Please try again.", status=403)
    try:
        right = await password.accepts(guess, address_of(request.scope, state.trusted), boot_ms())
    except TooMany:
        return _login(sessions, "Too many attempts. Wait a minute.", status=429)
    if not right:
        return _login(sessions, "That is not the password.", status=401)
    answer = _go("/")
    answer.set_cookie(_cookie(COOKIE, sessions.open(boot_ms()), is_https(headers)))
    return answer


@post("/logout", status_code=303)
async def logout(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    headers = dict(request.scope["headers"])
    token = cookie_of(headers, COOKIE)
    form = parse_qs((await request.body()).decode("latin-1"), max_num_fields=10).get("form", [""])[0]
    if not state.sessions.is_ours(token, form):
        raise HTTPException("not our form", status_code=403)
    state.sessions.close(token)
    answer = _go("/login")
    answer.delete_cookie(COOKIE)
    return answer


def _go(place: str) -> Response[bytes]:
    return Response(b"", status_code=303, headers={"location": place})


def _login(sessions: Sessions, refused: str = "", status: int = 200) -> Response[bytes]:
    """The form, tied to a cookie of its own: a page elsewhere cannot send it."""
    nonce = secrets.token_urlsafe(16)
    answer = page("login.html", title="Log in", form_token=sessions.form_token(nonce), refused=refused, status=status)
    answer.set_cookie(_cookie(FORM_COOKIE, nonce, secure=False))
    return answer


def _cookie(name: str, value: str, secure: bool) -> Cookie:
    return Cookie(key=name, value=value, path="/", httponly=True, samesite="strict", secure=secure)


_HANDLERS: Final[list[Any]] = [
    login_form,
    login,
    logout,
    today,
    orders,
    orders_csv,
    events,
    find,
    conversion,
    click,
    campaigns,
    campaigns_csv,
    delivery,
    trust,
    signals,
    left_out,
    reconcile,
    live,
    live_stream,
    system,
    shared,
    metrics,
    healthz,
    asset,
]


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
        for reader in (desk.reader, desk.counter):
            if reader is not None:
                await reader.close()


async def _keep_counting(desk: Desk) -> None:
    """Counts for a quarter of a second, then pauses, so that history does not take the machine from the edge."""
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


def _unknown(_: Request[Any, Any, Any], error: Unknown) -> Response[bytes]:
    return page("message.html", title="That address makes no sense", sentence=str(error), back="/", status=400)


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


def _trouble(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.failed("a page failed", error, route="/" + request.scope["path"].split("/")[1])
    return page(
        "message.html", title="Our fault", sentence="This page failed; the log has the reason.", back="/", status=500
    )


def run(config: Config, fd: int | None, ready: Callable[[], None]) -> int:
    """Serve the console until SIGTERM; on `fd` when given, else on its listen address. Returns the exit code."""
    desk = open_desk(config)
    doors = [Door(create_app(desk), open_socket(config.console.listen, fd))]
    if config.metrics.listen:
        doors.append(Door(MetricsDoor(desk), open_socket(config.metrics.listen, None)))
    return serve(doors, ready, parse_networks(config.edge.trusted_proxies), desk.hub.close)

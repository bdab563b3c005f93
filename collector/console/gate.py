"""What every request must pass before a page sees it, and the headers that every answer carries."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from collector.console.auth import Password, Sessions, TooMany, is_loopback
from collector.console.shell import FORM_TOKEN
from collector.core.addresses import Networks, forwarded_address, match_prefix

COOKIE: Final = "collector_console"
FORM_COOKIE: Final = "collector_form"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
# same-origin and not no-referrer: with the latter browsers send `Origin: null` on our own forms.
SAFE_HEADERS: Final = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
_OPEN_PATHS: Final = frozenset({"/healthz", "/login"})
_OPEN_BELOW: Final = ("/assets/", "/share/")  # a shared link has a proof of its own
# The link is in the address: it is in no referrer, and in no index.
_SHARED_HEADERS: Final = [(b"referrer-policy", b"no-referrer"), (b"x-robots-tag", b"noindex, nofollow")]


class Gate:
    """Host, session and origin checks around the whole application, so that no route can be forgotten."""

    def __init__(
        self,
        app: ASGIApp,
        sessions: Sessions,
        password: Password | None,
        ticks: Callable[[], int],
        trusted: Networks,
    ) -> None:
        self.app, self.sessions, self.password, self.ticks, self.trusted = app, sessions, password, ticks, trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)  # the lifespan; uvicorn is told to take no web sockets
            return
        headers = dict(scope["headers"])
        answer = _with_headers(send, scope["path"])
        if self.password is None and not is_loopback(host_of(headers)):
            await _say(answer, 421, "The console answers only to its own address, such as http://127.0.0.1:8081.")
        elif scope["method"] not in ("GET", "HEAD") and not _same_origin(headers):
            await _say(answer, 403, "This form came from another site.")
        else:
            try:
                passes = await self._may_pass(scope, headers)
            except TooMany:
                await _say(answer, 429, "Too many attempts. Wait a minute.", (b"retry-after", b"60"))
                return
            await self._answer(passes, scope, receive, answer)

    async def _answer(self, passes: bool, scope: Scope, receive: Receive, answer: Send) -> None:
        if passes:
            await self.app(scope, receive, answer)
        elif scope["path"] == "/metrics":
            await _say(
                answer, 401, "Metrics need the console's password.", (b"www-authenticate", b'Basic realm="collector"')
            )
        else:
            await _say(answer, 303, "Log in first.", (b"location", b"/login"))

    async def _may_pass(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        path = scope["path"]
        if self.password is None or path in _OPEN_PATHS or path.startswith(_OPEN_BELOW):
            return True
        token = cookie_of(headers, COOKIE)
        if self.sessions.is_open(token, self.ticks()):
            FORM_TOKEN.set(self.sessions.form_token(token))
            return True
        guess = _basic_password(headers) if path == "/metrics" else None
        return guess is not None and await self.password.accepts(
            guess, address_of(scope, self.trusted), self.ticks(), known=True
        )


def address_of(scope: Scope, trusted: Networks) -> str:
    """Who calls, for the limits of the log-in: what trusted proxies say, and one home for one IPv6 network."""
    client = scope["client"]
    return match_prefix(forwarded_address(client[0] if client else "", scope["headers"], trusted))


def host_of(headers: dict[bytes, bytes]) -> str:
    """The host that the request names, without its port; empty when it is malformed."""
    try:
        return urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


def cookie_of(headers: dict[bytes, bytes], name: str) -> str:
    """A cookie's value, empty when absent."""
    try:
        jar = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return ""
    return jar[name].value if name in jar else ""


def is_https(headers: dict[bytes, bytes]) -> bool:
    """Whether the browser spoke TLS to a proxy before us; a lie here only makes the liar's own cookie secure."""
    return headers.get(b"x-forwarded-proto", b"").split(b",")[0].strip() == b"https"


def _same_origin(headers: dict[bytes, bytes]) -> bool:
    """A write must come from a page of ours: browsers say where a form came from, and cannot be made to lie."""
    if headers.get(b"sec-fetch-site", b"same-origin") != b"same-origin":
        return False
    origin = headers.get(b"origin")
    return origin is None or urlsplit(origin.decode("latin-1")).netloc == headers.get(b"host", b"").decode("latin-1")


def _basic_password(headers: dict[bytes, bytes]) -> str | None:
    scheme, _, rest = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return b64decode(rest, validate=True).decode().partition(":")[2]
    except (Base64Error, UnicodeDecodeError):
        return None


def _with_headers(send: Send, path: str) -> Send:
    own = dict(_SHARED_HEADERS) if path.startswith("/share/") else {}
    safe = list({**dict(SAFE_HEADERS), **own}.items())
    caching = b"public, max-age=31536000, immutable" if path.startswith("/assets/") else b"no-store"

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *safe, (b"cache-control", caching)]
        await send(message)

    return wrapped


async def _say(send: Send, status: int, sentence: str, *more: tuple[bytes, bytes]) -> None:
    body = sentence.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})

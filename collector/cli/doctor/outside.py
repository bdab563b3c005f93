"""What does the world see? Names, certificates, the tag on the shop's page, the way to the edge, Meta's own word.

Nothing is stored anywhere: the edge is asked under Sec-GPC, so that it takes no visit, and Meta only for what it has.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec

from collector.config import Config, PixelConfig, StoreConfig
from collector.core import cookies
from collector.core.capi.verdicts import Kind
from collector.core.insights import mend_of
from collector.courier import probe
from collector.courier.targets import base_of
from collector.storage.reports.findings import Finding, fail, ok, warn

_PATIENCE_S: Final = 8.0
_MOST: Final = 2 << 20  # bytes of a page
_CLOCK_WARN_S: Final = 60
_CLOCK_FAIL_S: Final = 600
_TLS_WARN_DAYS: Final = 14
_TOKEN_WARN_DAYS: Final = 14
_MIN_COOKIE_DAYS: Final = 30
_HALF: Final = {4: 16, 6: 64}  # bits by which Safari holds two addresses for one party's
_TAG: Final = re.compile(r"<script\b[^>]*\bdata-store\s*=\s*[\"']?([\w-]+)[^>]*>", re.I)
_SRC: Final = re.compile(r"\bsrc\s*=\s*[\"']?([^\"'\s>]+)", re.I)
_NEEDED: Final = ("ads_management", "business_management")
_AGENT: Final = "Mozilla/5.0 (compatible; collector doctor)"


class Web:
    """Questions over HTTP, each with a deadline and a bounded answer; a fault of the network is None and a reason."""

    def __init__(self) -> None:
        self._client = httpx.Client(
            trust_env=False, follow_redirects=True, timeout=_PATIENCE_S, headers={"User-Agent": _AGENT}
        )
        self.fault = ""

    def get(self, url: str, **headers: str) -> httpx.Response | None:
        """The answer with its body read; None where there is none."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            to_meta = "Authorization" in named  # what holds a token goes where it was sent and nowhere else
            with self._client.stream("GET", url, headers=named, follow_redirects=not to_meta) as answer:
                body = bytearray()
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > _MOST:
                        break
                return httpx.Response(answer.status_code, headers=answer.headers, content=bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, ValueError) as error:
            self.fault = type(error).__name__  # its text may hold a URL with a secret
            return None

    def close(self) -> None:
        self._client.close()


def look(config: Config) -> Iterator[Finding]:
    """All that can be seen from outside."""
    web = Web()
    try:
        for store in config.store:
            if store.active:
                for domain in store.domains:
                    yield from _domain(web, config, store, domain)
        if config.edge.public_url:
            yield from _door(web, config)
        if config.meta.mode == "live":
            yield from _meta(web, config)
        if config.insights.ad_account:
            yield from _ad_account(web, config)
    finally:
        web.close()


def _domain(web: Web, config: Config, store: StoreConfig, domain: str) -> Iterator[Finding]:
    host = domain.removeprefix("*.").partition(":")[0]
    mine = _addresses(host)
    if not mine:
        yield fail("domain.dns", f"{host} has no address", "is it spelled right in domains, and does its DNS answer?")
        return
    yield ok("domain.dns", f"{host} has {len(mine)} addresses")
    door = urlsplit(config.edge.public_url).hostname
    if door and door != host:
        yield from _halves(host, mine, door)
    page = f"{_scheme(host)}://{domain.removeprefix('*.')}/"
    answer = web.get(page)
    if answer is None or answer.status_code >= 400:
        said = web.fault if answer is None else f"HTTP {answer.status_code}"
        yield warn("page", f"{page} could not be read ({said})", "look whether the shop answers")
        return
    yield from _tag(web, config, store, page, answer.text)


def _scheme(host: str) -> str:
    return "http" if host == "localhost" or host.startswith("127.") else "https"


def _addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def _halves(host: str, mine: set[str], door: str) -> Iterator[Finding]:
    """Safari keeps a cookie for seven days where its server and the page's differ in their first half."""
    theirs = _addresses(door)
    if not theirs:
        yield fail("public_url.dns", f"{door} of [edge] public_url has no address", "add its DNS record")
    elif not {_half(address) for address in mine} & {_half(address) for address in theirs}:
        yield warn(
            "domain.address",
            f"{door} has another address than {host}: Safari keeps its cookies for 7 days only",
            f"have {host} itself pass a path such as /m/ on to the edge",
        )
    else:
        yield ok("domain.address", f"{door} and {host} share their address's first half")


def _half(address: str) -> Any:
    known = ipaddress.ip_address(address.partition("%")[0])
    return ipaddress.ip_network((known, _HALF[known.version]), strict=False)


def _tag(web: Web, config: Config, store: StoreConfig, page: str, html: str) -> Iterator[Finding]:
    tags = {found[1]: found[0] for found in _TAG.finditer(html)}
    if not tags:
        yield fail("tag", f"no tag on {page}", "put it first in the head of every page; collector init shows it")
        return
    if store.id not in tags:
        others = ", ".join(sorted(tags))
        yield fail("tag.store", f"the tag on {page} is of store {others}, not {store.id}", f'data-store="{store.id}"')
        return
    source = _SRC.search(tags[store.id])
    script = urljoin(page, source[1]) if source else ""
    answer = web.get(script) if script else None
    if answer is None or answer.status_code != 200 or b"collector" not in answer.content:
        said = f"HTTP {answer.status_code}" if answer is not None else web.fault or "it has no src"
        yield fail(
            "tag.path",
            f"the tag's script {script or '(none)'} does not come from the edge ({said})",
            "mend src or the proxy's path",
        )
        return
    yield ok("tag", f"{page} carries the tag of {store.id}")
    if config.edge.public_url and not script.startswith(config.edge.public_url.rstrip("/")):
        yield warn(
            "tag.public_url",
            f"the tag comes from {script}, and [edge] public_url is {config.edge.public_url}: it posts there",
            "make the two agree",
        )


# -- the way to the edge


def _door(web: Web, config: Config) -> Iterator[Finding]:
    base = config.edge.public_url.rstrip("/")
    host = urlsplit(base).hostname or ""
    if base.startswith("https:"):
        yield from _certificate(host, urlsplit(base).port or 443)
    elif _scheme(host) == "https":
        yield fail("tls", f"{base} is plain http: cookies and orders travel in clear", "put TLS before it")
    answer = web.get(f"{base}/healthz")
    if answer is None or answer.status_code != 200 or b'"ok"' not in answer.content:
        said = web.fault if answer is None else f"HTTP {answer.status_code}"
        yield fail(
            "proxy.path", f"{base}/healthz is not the edge's ({said})", "mend the proxy's path, or start the edge"
        )
        return
    yield ok("proxy.path", f"{base} leads to the edge")
    for store in config.store:
        if store.active and store.domains and config.privacy.gpc == "honour":
            yield from _cookie(web, config, store, base, host)
            return


def _certificate(host: str, port: int) -> Iterator[Finding]:
    try:
        with (
            socket.create_connection((host, port), _PATIENCE_S) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secured,
        ):
            ends = ssl.cert_time_to_seconds(str((secured.getpeercert() or {}).get("notAfter", "")))
    except ssl.SSLCertVerificationError as error:
        yield fail("tls", f"{host}: {error.verify_message}", "renew the certificate, with its whole chain")
    except (OSError, ValueError) as error:
        yield fail("tls", f"{host}:{port} speaks no TLS ({type(error).__name__})", "look at the proxy")
    else:
        days = int(ends - time.time()) // 86_400
        soon = days < _TLS_WARN_DAYS
        said = f"the certificate of {host} ends in {days} days"
        yield warn("tls.expiry", said, "renew it") if soon else ok("tls", said)


def _cookie(web: Web, config: Config, store: StoreConfig, base: str, host: str) -> Iterator[Finding]:
    """Under Sec-GPC the edge takes no visit and clears its cookies: their domain tells which Host it saw."""
    edge = config.edge
    answer = web.get(
        f"{base}{edge.pixel_path}?s={store.id}",
        Sec_GPC="1",
        Cookie=f"{edge.visitor_cookie}=v1.0.0",
        Referer=f"https://{store.domains[0].removeprefix('*.')}/",
    )
    if answer is None or answer.status_code != 200:
        yield fail("proxy.pixel", f"{base}{edge.pixel_path} does not answer as the edge does", "pass all its paths on")
        return
    given = [line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{edge.visitor_cookie}=")]
    wanted = (edge.cookie_domain or cookies.site_name(host)).lstrip(".")
    if not given:
        yield fail("cookie", "the edge's cookies do not come through the proxy", "let Cookie and Set-Cookie pass")
    elif _scheme(host) == "https" and not any(
        f"domain={wanted}" in line.lower().replace("domain=.", "domain=") for line in given
    ):
        yield fail(
            "proxy.host",
            f"cookies are set for another domain than {wanted}: the edge does not see the visitor's Host",
            "pass it on: proxy_set_header Host $host (nginx)",
        )
    else:
        yield ok("cookie", f"cookies are set for {wanted}")
    if edge.cookie_days < _MIN_COOKIE_DAYS:
        yield warn(
            "cookie.days", f"cookies live {edge.cookie_days} days", "cookie_days = 90: ads are bought for longer"
        )


# -- Meta


def _meta(web: Web, config: Config) -> Iterator[Finding]:
    base = base_of(config.meta)
    answer = web.get(base)
    if answer is None:
        yield fail("meta", f"{config.meta.graph_url} does not answer ({web.fault})", "let the courier out to it (443)")
        return
    yield from _clock(answer.headers.get("date", ""))
    for store in config.store:
        for pixel in store.pixel if store.active else []:
            yield from _pixel(web, base, pixel)


def _clock(date: str) -> Iterator[Finding]:
    try:
        apart = abs(time.time() - parsedate_to_datetime(date).timestamp())
    except (TypeError, ValueError):
        yield warn("clock.meta", "Meta's answer has no Date", "look whether a proxy stands between")
        return
    said = f"this machine's clock and Meta's are {apart:.0f} s apart"
    mend = "set the clock (timedatectl set-ntp true)"
    if apart > _CLOCK_FAIL_S:
        yield fail("clock.meta", said, mend)
    elif apart > _CLOCK_WARN_S:
        yield warn("clock.meta", said, mend)
    else:
        yield ok("clock.meta", said)


def _pixel(web: Web, base: str, pixel: PixelConfig) -> Iterator[Finding]:
    if not pixel.access_token:
        yield fail("token.missing", f"pixel {pixel.id} has no token", "access_token_file; Events Manager makes one")
        return
    bearer = f"Bearer {pixel.access_token}"
    answer = web.get(f"{base}/{pixel.id}?fields=id", Authorization=bearer)
    error = _error(answer)
    if answer is None or answer.status_code >= 500:
        yield warn("pixel", f"Meta does not answer for pixel {pixel.id}", "try again")
        return
    if error.get("code") == 190:
        yield fail("token", f"Meta refuses the token of pixel {pixel.id}", "make a new one: Events Manager, Settings")
        return
    yield ok("token", f"Meta takes the token of pixel {pixel.id}")
    if error:
        code = error.get("code")
        yield fail(
            "pixel",
            f"Meta shows no pixel {pixel.id} to this token (code {code})",
            "is the id right, and does the token's user have the dataset?",
        )
        return
    yield ok("pixel", f"pixel {pixel.id} exists")
    yield from _permissions(web, base, pixel, bearer)


def _ad_account(web: Web, config: Config) -> Iterator[Finding]:
    """Whether the token of [insights] sees its ad account."""
    account = config.insights.ad_account
    bearer = f"Bearer {config.insights.access_token}"
    answer = web.get(f"{base_of(config.meta)}/{account}?fields=currency", Authorization=bearer)
    if answer is None and config.meta.mode == "live":
        return  # said of Meta
    if answer is None or answer.status_code >= 500:
        yield warn("insights.account", f"Meta does not answer for {account}", "try again")
    elif error := _error(answer):
        code = error.get("code")
        known = code if isinstance(code, int) else None
        yield fail("insights.account", f"Meta does not show {account} (code {code})", mend_of(known, account))
    else:
        yield ok("insights.account", f"the token of [insights] sees {account}")


def take_a_test(config: Config, code: str | None, now: int) -> Iterator[Finding]:
    """Whether each pixel takes an event: a test purchase under `code`, or the pixel's own; it counts nowhere."""
    if config.meta.mode != "live":
        return
    for store in config.store:
        for pixel in store.pixel if store.active else []:
            if pixel.access_token and (own := code or pixel.test_event_code):
                yield _taken(config, store, pixel, own, now)
            elif pixel.access_token:
                yield ok("pixel.event", f"no test event was sent to pixel {pixel.id}: collector doctor --code CODE")


def _taken(config: Config, store: StoreConfig, pixel: PixelConfig, code: str, now: int) -> Finding:
    verdict = probe.send_test(config, store, pixel, code, now).verdict
    if verdict.kind is Kind.SENT:
        return ok("pixel.event", f"pixel {pixel.id} takes a test event; Events Manager shows it under Test events")
    said = verdict.message or verdict.kind.value
    what = f"pixel {pixel.id} does not take a test event: {said}"
    return fail("pixel.event", what, "collector send-test shows Meta's answer word for word")


def _error(answer: httpx.Response | None) -> dict[str, Any]:
    body = _json(answer)
    found = body.get("error")
    return found if isinstance(found, dict) else {}


def _json(answer: httpx.Response | None) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(answer.content) if answer is not None else {}
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _permissions(web: Web, base: str, pixel: PixelConfig, bearer: str) -> Iterator[Finding]:
    """What debug_token says. A token made in Events Manager names no scope, and is bound to its dataset instead."""
    answer = web.get(f"{base}/debug_token?input_token={pixel.access_token}", Authorization=bearer)
    data = _json(answer).get("data")
    if not isinstance(data, dict):
        return
    if (ends := data.get("expires_at")) and isinstance(ends, int):
        days = (ends - int(time.time())) // 86_400
        said = f"the token of pixel {pixel.id} ends on {datetime.fromtimestamp(ends, UTC):%Y-%m-%d}"
        if days < _TOKEN_WARN_DAYS:
            yield warn("token.expiry", said, "make one that does not: of a system user, or in Events Manager")
    scopes = data.get("scopes")
    if isinstance(scopes, list) and scopes and not set(scopes) & set(_NEEDED):
        yield fail("token.permission", f"the token of pixel {pixel.id} lacks ads_management", "make one that has it")

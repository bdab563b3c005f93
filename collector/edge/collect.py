"""What a page posts, and what goes back: beacon and pixel into the journal, cookies and a reason into the answer.

    request ─▶ core.beacon (what is said) ─▶ may it speak? ─▶ core.consent ─▶ core.cookies ─▶ the journal ─▶ 204

`Collector-Reason` says in one word why a hit was refused or is kept unused; the snippet's debug mode prints it. A 2xx
with no such header means that everything in the beacon is on disk and counts.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from collector.config import Config, StoreConfig
from collector.core import beacon as beacons
from collector.core import bots, consent, cookies
from collector.core.beacon import Beacon
from collector.core.consent import Decision
from collector.core.cookies import Fresh, Jar, Policy, Site
from collector.core.events import ClickBody, ConversionBody
from collector.core.intake import Caller
from collector.errors import ApiError

# One transparent pixel, the smallest GIF that every browser takes.
PIXEL: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01D\x00;"
)
_NEVER: Final = (b"cache-control", b"no-store, private")
_EXPOSED: Final = b"Collector-Reason, Retry-After"

Headers = list[tuple[bytes, bytes]]


class Visit(NamedTuple):
    """One request of a page, as the shell sees it. `headers` have lower-case names; `address` is the visitor's."""

    headers: Sequence[tuple[bytes, bytes]]
    address: str | None
    now: int

    def header(self, name: bytes) -> str:
        """The first header of this name as text, empty when there is none."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


class Answer(NamedTuple):
    """What goes back: a status, headers, a body. `error` is set when the shell shall render the contract's error."""

    status: int
    headers: Headers
    body: bytes = b""
    error: ApiError | None = None


class Journal(Protocol):
    """What the rest of the edge does with a page's bodies. A returned reason says why one is kept but not used."""

    async def click(self, body: ClickBody, caller: Caller) -> str | None:
        """Return once the click is on disk."""

    async def event(self, body: ConversionBody, caller: Caller) -> str | None:
        """Return once the event is on disk."""

    async def remembered(self, store_id: str, visitor_id: str, subdomain_index: int) -> Jar:
        """The newest `_fbc` and `_fbp` known of a visitor."""

    def publishable(self, key: str) -> str | None:
        """The store that a publishable key is for; None when it is no such key or revoked."""


class Collect:
    """The pages' door of one configuration."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self._config = config
        self._journal = journal
        self._stores: Mapping[str, StoreConfig] = {store.id: store for store in config.store if store.active}

    async def post(self, visit: Visit, body: bytes) -> Answer:
        """The beacon: 204 once everything in it is on disk."""
        try:
            status, headers = 204, await self._take(visit, beacons.decode(body))
        except ApiError as error:
            return Answer(error.status, self._cross_origin(visit, None) + _reason(error.code), error=error)
        return Answer(status, headers)

    async def pixel(self, visit: Visit, query: str) -> Answer:
        """The pixel: an image whatever happens, since a broken one would show on the page."""
        try:
            said = beacons.of_pixel(query, visit.header(b"referer"), visit.now)
            headers = await self._take(visit, said)
        except ApiError as error:
            headers = [_NEVER, *_reason(error.code)]
        length = (b"content-length", str(len(PIXEL)).encode())
        return Answer(200, [*headers, (b"content-type", b"image/gif"), length], PIXEL)

    def preflight(self, visit: Visit) -> Answer:
        """The browser's question before a JSON beacon from another host of the shop."""
        granted = self._cross_origin(visit, None)
        allow = [(b"access-control-allow-methods", b"POST"), (b"access-control-allow-headers", b"content-type")]
        return Answer(204, [*granted, *allow, (b"access-control-max-age", b"86400")])

    async def _take(self, visit: Visit, said: Beacon) -> Headers:
        store = self._stores.get(said.s)
        if store is None:
            raise ApiError("store_not_found", "no active store has this id", "storeId")
        self._admit(visit, said, store)
        headers = [_NEVER, *self._cross_origin(visit, store)]
        decision = self._decide(visit, said, store)
        policy = self._policy(visit)
        if said.x or decision.marketing == "denied":
            return headers + _set(cookies.clear_cookies(visit.header(b"cookie"), policy)) + _reason("consent_denied")
        if decision.held:
            return headers + _reason("consent_pending")
        return headers + await self._record(visit, said, policy)

    def _admit(self, visit: Visit, said: Beacon, store: StoreConfig) -> None:
        """Let in who may speak for the store: a page on one of its domains, or one with its key and no origin."""
        if said.k and self._journal.publishable(said.k) != store.id:
            raise ApiError("unauthorized", "this is no publishable key of the store")
        origin = _page_host(visit)
        if origin is None:
            if not said.k:
                raise ApiError("origin_not_allowed", "neither an origin nor a key says which page this is")
        elif not may_speak(origin, store):
            raise ApiError("origin_not_allowed", "this origin is not among the store's domains")

    def _decide(self, visit: Visit, said: Beacon, store: StoreConfig) -> Decision:
        privacy = self._config.privacy
        return consent.decide(
            beacons.consent_of(said),
            default=store.default_consent or privacy.default_consent,
            ldu=privacy.ldu if store.ldu is None else store.ldu,
            opted_out=consent.opted_out(visit.headers),
            gpc=privacy.gpc,
        )

    def _policy(self, visit: Visit) -> Policy:
        edge = self._config.edge
        where = cookies.site(visit.header(b"host"), edge.cookie_domain)
        return Policy(edge.visitor_cookie, edge.cookie_days, where, _over_tls(visit))

    async def _record(self, visit: Visit, said: Beacon, policy: Policy) -> Headers:
        agent = visit.header(b"user-agent")
        bot = bots.reason(agent, visit.headers, automated=bool(said.w))
        caller = Caller(
            secret=False,
            address=visit.address,
            user_agent=agent or None,
            bot=bot,
            opted_out=consent.opted_out(visit.headers),
        )
        found, fault = beacons.landing(said, visit.now)
        jar, written = cookies.read(visit.header(b"cookie"), policy.visitor_cookie), Jar()
        if bot is None:
            seen = await self._seen(jar, found, said, policy.site, visit.now)
            jar, written = seen.jar, seen.write
        why = await self._store(said, jar, caller, visit.now) or fault
        return _set(cookies.set_cookies(written, policy)) + (_reason(why) if why else [])

    async def _store(self, said: Beacon, jar: Jar, caller: Caller, now: int) -> str | None:
        """Put clicks, then events, into one group of the journal; a bad one fails alone. The first reason found."""
        waiting = [self._journal.click(click, caller) for click in beacons.clicks(said, jar, now)]
        waiting += [self._journal.event(event, caller) for event in beacons.events(said, jar, now)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        faults = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for fault in faults:
            if len(faults) == len(outcomes) or not isinstance(fault, ApiError) or fault.status >= 500:
                raise fault
        reasons = (one.code if isinstance(one, ApiError) else one for one in outcomes)
        return next((reason for reason in reasons if isinstance(reason, str)), None)

    async def _seen(self, jar: Jar, found: beacons.Landing | None, said: Beacon, site: Site, now: int) -> cookies.Visit:
        """The visitor's cookies after this hit; what a cleaner took is looked up by the visitor id."""
        known = cookies.EMPTY
        if jar.visitor and not (jar.fbc and jar.fbp):
            known = await self._journal.remembered(said.s, jar.visitor, site.subdomain_index)
        return cookies.visit(
            jar,
            fbclid=found.fbclid if found else None,
            clicked=found.at if found else now,
            now=now,
            subdomain_index=site.subdomain_index,
            fresh=Fresh(secrets.token_bytes(16), secrets.randbelow(1 << 31)),
            known=known,
        )

    def _cross_origin(self, visit: Visit, store: StoreConfig | None) -> Headers:
        """What lets another host of the shop read the answer and keep the cookies; nothing for strangers."""
        origin = visit.header(b"origin")
        host = _host_of(origin)
        if not host or not any(may_speak(host, one) for one in ([store] if store else self._stores.values())):
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", _EXPOSED),
        ]


def may_speak(host: str, store: StoreConfig) -> bool:
    """Say whether pages of a host belong to a store: one of its domains or a host below it."""
    return any(host == domain or host.endswith("." + domain) for domain in store.domains)


def _page_host(visit: Visit) -> str | None:
    """The host of the page that sends this: Origin, else (images have none) the Referer. "null" is nobody's."""
    origin = visit.header(b"origin")
    if origin == "null":
        return ""
    return _host_of(origin) or _host_of(visit.header(b"referer"))


def _host_of(url: str) -> str | None:
    if not url.isascii() or not url.isprintable():
        return None
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _over_tls(visit: Visit) -> bool:
    """Whether the visitor speaks TLS: a page on https can reach nothing else (mixed content)."""
    return (visit.header(b"origin") or visit.header(b"referer")).startswith("https:")


def _set(values: Sequence[str]) -> Headers:
    return [(b"set-cookie", value.encode("ascii")) for value in values]


def _reason(word: str) -> Headers:
    return [(b"collector-reason", word.encode("ascii"))]

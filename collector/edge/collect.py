"""What a page posts, and what goes back: beacon and pixel into the journal, cookies and a reason into the answer.

    request ─▶ core.beacon (what is said) ─▶ may it speak? ─▶ core.consent ─▶ core.cookies ─▶ the journal ─▶ 204

`Collector-Reason` says in one word why a hit was refused or is kept unused; the snippet's debug mode prints it. A 2xx
with no such header means that everything in the beacon is on disk and counts.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from collector.config import Config, StoreConfig
from collector.core import beacon as beacons
from collector.core import bots, consent, cookies, times
from collector.core.consent import Decision
from collector.core.cookies import Fresh, Jar, Policy, Site
from collector.core.events import ClickBody, ConversionBody, values_of
from collector.core.intake import Caller
from collector.core.said import MAX_BYTES, Beacon, Happening, decode
from collector.edge import auth
from collector.edge.door import Door, Request
from collector.edge.keeper import Keeper
from collector.edge.prepare import Preparer
from collector.edge.track import ignored_header
from collector.errors import ApiError
from collector.exchange import responses
from collector.exchange.operations import Remember, Withdraw
from collector.exchange.prepared import Prepared
from collector.exchange.responses import Answer, Headers
from collector.exchange.stores import Store

# One transparent pixel, the smallest GIF that every browser takes.
PIXEL: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00"
    b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01D\x00;"
)
# Pages post a few times in their first second; the cookies of the first answer are not with the others yet.
_SEED_IS_NEW_MS: Final = 2_000
_NEVER: Final = (b"cache-control", b"no-store, private")


Posted = ClickBody | ConversionBody


class Poor(NamedTuple):
    """What could not be read: of each event that is left out the reason, and the names of fields of the others."""

    faults: list[ApiError]
    ignored: list[str]


class Visit(NamedTuple):
    """One request of a page. `address` is the visitor's."""

    request: Request
    address: str
    now: int

    def header(self, name: bytes) -> str:
        """A header as text, empty when there is none."""
        return self.request.headers.get(name, b"").decode("latin-1")

    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Every header, names in lower case."""
        return self.request.scope["headers"]


class Collect:
    """The pages' door of one configuration."""

    def __init__(
        self, config: Config, keeper: Keeper, preparer: Preparer, door: Door, clock: Callable[[], int]
    ) -> None:
        self._config = config
        self._keeper = keeper
        self._preparer = preparer
        self._door = door
        self._clock = clock
        self._seed_key = keeper.names.subkey("visitor ids")

    async def beacon(self, request: Request) -> Answer:
        """POST of a beacon: 204 once everything in it is on disk."""
        if len(request.body) > MAX_BYTES:
            raise ApiError("payload_too_large", f"a beacon has at most {MAX_BYTES} bytes")
        visit = Visit(request, self._door.page_address(request), self._clock())
        posted = beacons.contract_body(request.body)
        poor = Poor([], [])
        said = decode(request.body, *poor) if posted is None else beacons.of_contract(posted)
        return Answer(204, b"", await self._take(visit, said, poor, posted))

    async def pixel(self, request: Request) -> Answer:
        """GET of the pixel: an image whatever happens, since a broken one would show on the page."""
        try:
            visit = Visit(request, self._door.page_address(request), self._clock())
            query = request.scope["query_string"].decode("latin-1")
            poor = Poor([], [])
            said = beacons.of_pixel(query, visit.header(b"referer"), visit.now, *poor)
            headers = await self._take(visit, said, poor)
        except ApiError as error:
            self._keeper.refuse("refused", error)
            headers = [_NEVER, responses.reason(error.code)]
        return Answer(200, PIXEL, [*headers, (b"content-type", b"image/gif")])

    async def _take(self, visit: Visit, said: Beacon, poor: Poor, posted: Posted | None = None) -> Headers:
        """Store what was said, and answer with what was left out of it, events and fields (F3)."""
        store = self._admit(visit, said)
        self._door.spend_values(visit.address, values_in(said, posted))
        headers: Headers = [_NEVER]
        decision = self._decide(visit, said, store.config)
        policy = self._policy(visit, store.config)
        if said.x or said.c == "denied":
            await self._withdraw(visit, said, store, policy)
        if said.x or decision.marketing == "denied":
            return (
                headers
                + _set(cookies.clear_cookies(visit.header(b"cookie"), policy))
                + [responses.reason("consent_denied")]
            )
        if decision.held:
            return [*headers, responses.reason("consent_pending")]
        return headers + await self._record(visit, said, poor, posted, store, policy)

    def _admit(self, visit: Visit, said: Beacon) -> Store:
        """The store for which this page may speak: by its key, one of the store's domains, or both; else ApiError."""
        store = self._keeper.stores.get(said.s)
        if store is None or not store.config.active:
            raise ApiError("store_not_found", "no active store has this id", "s")
        presented = auth.key_in_body(said.k)
        if presented is not None:
            visit.request.key = auth.authenticate(self._keeper, presented)
            auth.store_for(self._keeper.stores, visit.request.key, said.s)
        if not self._may_speak(_page(visit), visit, store.config, keyed=presented is not None):
            raise ApiError("origin_not_allowed", "this origin is not among the store's domains")
        return store

    def _may_speak(self, page: str, visit: Visit, store: StoreConfig, *, keyed: bool) -> bool:
        """Whether a page belongs to a store; one without domains takes its key's pages alone (D8)."""
        return auth.is_own(page, store) if store.domains else keyed and page != "null"

    def _decide(self, visit: Visit, said: Beacon, store: StoreConfig) -> Decision:
        privacy = self._config.privacy
        return consent.decide(
            beacons.consent_of(said),
            default=store.default_consent or privacy.default_consent,
            ldu=privacy.ldu if store.ldu is None else store.ldu,
            opted_out=consent.opted_out(visit.headers),
            gpc=privacy.gpc,
        )

    def _policy(self, visit: Visit, store: StoreConfig) -> Policy:
        edge = self._config.edge
        where = cookies.site(_host_seen(visit, store), edge.cookie_domain)
        return Policy(edge.visitor_cookie, edge.cookie_days, where, _over_tls(visit))

    async def _record(
        self,
        visit: Visit,
        said: Beacon,
        poor: Poor,
        posted: Posted | None,
        store: Store,
        policy: Policy,
    ) -> Headers:
        agent = visit.header(b"user-agent")
        bot = bots.reason(agent, visit.headers, automated=bool(said.w))
        caller = Caller(
            secret=False,
            address=visit.address,
            user_agent=agent or None,
            bot=bot,
            opted_out=consent.opted_out(visit.headers),
        )
        jar, written, cleared = (
            cookies.read(visit.header(b"cookie"), policy.visitor_cookie, visit.now),
            Jar(),
            list[str](),
        )
        found, fault = (beacons.landed(posted, visit.now), None) if posted else beacons.landing(said, visit.now, jar)
        erased = jar.visitor is not None and self._is_erased(jar.visitor, store)
        if erased:  # a new visitor, with nothing of the old one's
            jar = cookies.EMPTY
        if bot is None:
            jar, written = await self._seen(jar, found, said, store, policy.site, visit.now)
        if erased:
            cleared = cookies.clear_cookies(visit.header(b"cookie"), policy, written)
        prepare = self._preparing(said, posted, found, jar, caller, store, visit.now)
        left_out = poor.faults + await self._store(prepare, poor.ignored)
        if posted is not None and left_out:
            raise left_out[0]
        for _ in left_out:
            self._keeper.count(store.number, "left_out.event")
        reasons = [bot, *(one.code for one in left_out), fault if not left_out else None]
        set_anew = [*cleared, *cookies.set_cookies(written, policy)]
        told = ignored_header(list(dict.fromkeys(poor.ignored)))
        return _set(set_anew) + told + [responses.reason(why) for why in reasons if why]

    def _preparing(
        self,
        said: Beacon,
        posted: Posted | None,
        found: beacons.Landing | None,
        jar: Jar,
        caller: Caller,
        store: Store,
        now: int,
    ) -> list[Callable[[], Prepared]]:
        """What makes each click, and then each event, ready for the keeper."""
        if posted is not None:
            body = beacons.with_jar(posted, jar)
            if isinstance(body, ClickBody):
                return [partial(self._preparer.click, body, caller, store)]
            return [partial(self._preparer.event, body, caller, store)]
        told = beacons.clicks(said, jar, now, found)
        clicks = [partial(self._preparer.click, click, caller, store) for click in told]
        return [*clicks, *(partial(self._event, one, said, jar, caller, store, now) for one in said.e)]

    def _event(self, one: Happening, said: Beacon, jar: Jar, caller: Caller, store: Store, now: int) -> Prepared:
        ignored = list[str]()
        return self._preparer.event(beacons.event(said, one, jar, now, ignored), caller, store, ignored)

    async def _store(self, preparing: Sequence[Callable[[], Prepared]], ignored: list[str]) -> list[ApiError]:
        """Return once all is on disk, in one group; what is wrong with those that are not: a bad one fails alone."""
        ready, faults = list[Prepared](), list[ApiError]()
        for prepare in preparing:
            try:
                ready.append(prepare())
                ignored += ready[-1].ignored
            except ApiError as error:
                faults.append(error)
        results = await self._keeper.submit([one.operation for one in ready]) if ready else []
        return faults + [result for result in results if isinstance(result, ApiError)]

    async def _withdraw(self, visit: Visit, said: Beacon, store: Store, policy: Policy) -> None:
        """Return once the visitor, if we know one by cookie or seed, is forgotten."""
        held = cookies.read(visit.header(b"cookie"), policy.visitor_cookie, visit.now).visitor
        seeded = cookies.new_visitor(self._fresh(said, store).visitor) if said.v else None
        known = {visitor for visitor in (held, seeded) if visitor}
        if known:
            named = [(visitor, self._keeper.names.name(store.number, "visitor", visitor)) for visitor in known]
            await self._keeper.submit([Withdraw(store.number, visitor, name) for visitor, name in named])

    async def _seen(
        self, jar: Jar, found: beacons.Landing | None, said: Beacon, store: Store, site: Site, now: int
    ) -> cookies.Visit:
        """The visitor's cookies after this hit; what a cleaner took is looked up by the visitor id."""
        fresh = self._fresh(said, store)
        known = cookies.EMPTY
        # A cleaner takes both of Meta's cookies, so that an organic visitor, who has no _fbc, costs no look-up.
        if jar.fbp is None and (jar.visitor or beacons.seed_age(said) > _SEED_IS_NEW_MS):
            known = await self._remembered(jar.visitor or cookies.new_visitor(fresh.visitor), store, site, now)
        return cookies.visit(
            jar,
            fbclid=found.fbclid if found else None,
            clicked=found.at if found else now,
            now=now,
            subdomain_index=site.subdomain_index,
            fresh=fresh,
            known=known,
        )

    def _fresh(self, said: Beacon, store: Store) -> Fresh:
        """Randomness for a new visitor: the page's own seed under our key, so that posts at once agree; else ours."""
        if said.v is None:
            return Fresh(secrets.token_bytes(16), secrets.randbelow(1 << 31))
        seed = f"{store.number}\0{said.v.random}".encode()
        while True:
            digest = blake2b(seed, digest_size=20, key=self._seed_key).digest()
            if not self._is_erased(cookies.new_visitor(digest[:16]), store):
                return Fresh(digest[:16], int.from_bytes(digest[16:], "big") >> 1)
            seed = digest  # who was erased begins anew, and posts at once still agree

    def _is_erased(self, visitor: str, store: Store) -> bool:
        return self._keeper.is_erased(self._keeper.names.name(store.number, "visitor", visitor))

    async def _remembered(self, visitor: str, store: Store, site: Site, now: int) -> Jar:
        name = self._keeper.names.name(store.number, "visitor", visitor)
        since = now - self._config.matching.click_days * times.DAY_MS
        (known,) = await self._keeper.submit([Remember(store.number, visitor, name, since, site.subdomain_index)])
        return known if isinstance(known, Jar) else cookies.EMPTY


def values_in(said: Beacon, posted: Posted | None) -> int:
    """Values of people that a beacon carries, each of which may have orders matched anew (P4)."""
    own = posted.customer_data if isinstance(posted, ConversionBody) else None
    return values_of(own) + sum(_values_told(one.h) for one in said.e if isinstance(one.h, dict))


def _values_told(customer: dict[str, Any]) -> int:
    given = [customer.get(name) for name in ("email", "phone", "externalId")]
    return sum(len(value) if isinstance(value, list) else 1 for value in given if value)


def _page(visit: Visit) -> str:
    """The page that sends this: Origin, else (images have none) the Referer; "null" is nobody's, empty is unknown."""
    return visit.header(b"origin") or visit.header(b"referer")


def _host_seen(visit: Visit, store: StoreConfig) -> str:
    """The host that the browser has asked, where a proxy passes its own name for us instead (nginx does by default).

    The page's origin, which the store's domains have let in, stands for it where the browser says that both are of one
    site, or where the Host is a name that no cookie could be set for. A browser takes no cookie for another's domain.
    """
    host, page = visit.header(b"host"), _host_of(_page(visit)) or ""
    if not page or not store.domains or cookies.same_site(host, page):
        return host
    said = visit.header(b"sec-fetch-site")
    is_ours = said in ("same-origin", "same-site") or (not said and not cookies.can_be_shared(host))
    return page if is_ours else host


def _host_of(url: str) -> str | None:
    if not url.isascii() or not url.isprintable():
        return None
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _over_tls(visit: Visit) -> bool:
    """Whether the visitor speaks TLS: a page on https can reach nothing else (mixed content)."""
    return _page(visit).startswith("https:")


def _set(values: Sequence[str]) -> Headers:
    return [(b"set-cookie", value.encode("ascii")) for value in values]

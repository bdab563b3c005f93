"""A shop's public with known truth: who clicked, who bought, and which click last touch would pick knowing all.

Households on one line, carrier NAT, offices, relays that lend an address for minutes, in-app browsers with a cookie jar
of their own, cookie loss, stripped click ids, refused consent, organic orders, several devices, shared e-mails,
crawlers that pass for people; strangers who say that they are somebody else (attackers.py). The
matcher sees a conversion's own fields and stored clicks; `Order.truth` is kept from it.
"""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import accumulate
from math import exp
from random import Random
from zlib import crc32

from collector.core import flags
from collector.core.matching import Candidate
from collector.core.matching.links import Link, kept
from tests.kit.simulators.agents import user_agent
from tests.kit.simulators.attackers import Attackers

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
START = 1_767_225_600_000  # 2026-01-01
WINDOW = 7 * DAY
ORDERS_PER_CLICK = 0.12
MODELS = {"ios": 25, "android": 250, "windows": 1, "mac": 1}
# Shares of a system's versions, added up.
VERSIONS = {
    "ios": tuple(accumulate((30, 20, 15, 10, 8, 7, 5, 5))),
    "android": tuple(accumulate((25, 30, 20, 15, 10))),
    "windows": (1,),
    "mac": (1,),
}
HARDWARE = {"ios": 12, "android": 400, "windows": 600, "mac": 60}
APPS = tuple(accumulate((40, 25, 15, 10, 6, 4)))
HOUSEHOLDS = tuple(accumulate((35, 35, 15, 15)))


@dataclass(frozen=True)
class World:
    """The knobs that the sweeps turn, and the size."""

    seed: int
    people: int = 50_000
    days: int = 60
    cgnat: float = 0.30  # share of homes (half of it) and of phones (twice it) behind a carrier's NAT
    strip: float = 0.10  # clicks whose fbclid was taken off on the way
    consent: float = 0.75  # browsers that accept
    in_app: float = 0.65  # ad clicks on phones that open in the app's own browser
    organic: float = 2.0  # orders without an ad for each order with one
    clicks_per_person: float = 0.2
    server_only: float = 0.30  # orders told by the shop's server, without any cookie
    fingerprints: float = 0.5  # visits that carry a fingerprint
    visits: float = 2.0  # per person, without a click
    sign_in: float = 0.3  # visits that leave an e-mail
    relayed: float = 0.08  # people with Apple's devices whose browser goes through a relay
    employed: float = 0.25  # people who spend some of their working hours behind an office's address
    per_office: int = 300  # of the town's people for each office
    attack: float = 0.0  # share of the pages' traffic that is a stranger's (attackers.py)


@dataclass(slots=True)
class Jar:
    """One cookie jar: a browser's, or an app's own."""

    visitor: int
    fbp: int
    since: int
    used: int
    consent: bool
    last_fbclid: int | None = None


@dataclass(slots=True)
class Device:
    kind: str  # ios, android, windows, mac
    hardware: int
    model: str
    version: int  # of the system, an index
    app: int
    offset: int  # when in its four-week rhythm it updates
    jars: dict[str, Jar] = field(default_factory=dict)
    private: bool = False

    @property
    def phone(self) -> bool:
        return self.kind in ("ios", "android")


@dataclass(slots=True)
class Person:
    id: int
    home: int
    office: int
    pool: list[int]  # carrier addresses this phone comes from
    own_mobile: bool  # an IPv6 /64 of its own
    devices: list[Device]
    email: int
    isp: int = 0  # the network of the home
    carrier: int = 0  # that of the phone
    relayed: bool = False


Play = Callable[["Person", int], None]
Planned = tuple[int, int, Person, Play]  # when (ms), a number of its own, who, what


@dataclass(slots=True)
class Order:
    """A conversion as the collector gets it, and the truth that it does not get."""

    ts: int
    person: int
    ip_k: int | None
    ua_k: int | None
    ua_class: int
    fp_k: int | None = None
    visitor_k: int | None = None
    fbp_k: int | None = None
    fbc_k: int | None = None
    jar_since: int | None = None
    links: tuple[Link, ...] = ()  # visitors linked to the order's e-mail
    network: str = ""  # what kind of line it came by
    net_k: int | None = None
    denied: bool = False
    email: int = 0
    truth: int | None = None  # id of the click that last touch picks


@contextmanager
def collecting_nothing() -> Iterator[None]:
    """Without the cycle collector: it would walk over the growing public again and again, a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Public:
    """Builds clicks and orders in time order. One Random, so one seed is one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = Random(world.seed)
        self.clicks: list[Candidate] = []
        self.orders: list[Order] = []
        self._serial = 1 << 20
        self.owners: list[int] = []
        self.sign_ins: list[tuple[int, int, int]] = []  # (ms, visitor, mailbox)
        self._emails: dict[int, dict[int, Link]] = {}
        self.net_of: dict[int, int] = {}  # an address's network, as its /24 or /48
        self.kind_of: dict[int, str] = {}
        self._carrier_of: dict[int, int] = {}
        self.sightings: list[tuple[int, int, int]] = []  # (ms, visitor, address) of every consented hit
        with collecting_nothing():
            self.people = self._populate()
            self._events()

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    # -- who is there -------------------------------------------------------------------------------------------------

    def _populate(self) -> list[Person]:
        r, w = self.random, self.world
        pools = [[self.serial() for _ in range(r.randint(2, 5))] for _ in range(max(2, w.people // 6000))]
        homes_behind_nat = [self.serial() for _ in range(max(2, w.people // 2000))]
        offices = [self.serial() for _ in range(max(2, w.people // w.per_office))]
        isps = [self.serial() for _ in range(max(2, w.people // 400))]
        for at, pool in enumerate(pools):
            self._place_in(pool, self.serial(), "mobile NAT")
            self._carrier_of[pool[0]] = (1 << 40) + at
        for address in homes_behind_nat:
            self._place_in([-address], r.choice(isps), "home NAT")
        for address in offices:
            self._place_in([address], r.choice(isps), "office")
        self._relays = [[self.serial() for _ in range(150)] for _ in range(max(1, w.people // 25_000))]
        for relay in self._relays:
            self._place_in(relay, self.serial(), "relay")
        people: list[Person] = []
        while len(people) < w.people:
            size = r.choices((1, 2, 3, 4), cum_weights=HOUSEHOLDS)[0]
            home, isp = self._home(homes_behind_nat), r.choice(isps)
            email = len(people)
            for _ in range(size):
                own = email if r.random() < 0.02 else len(people)  # some couples share a mailbox
                office = r.choice(offices) if r.random() < w.employed else 0
                nat_phone = r.random() < min(1.0, 2 * w.cgnat)
                pool, devices = r.choice(pools), self._devices()
                apple = any(d.kind in ("ios", "mac") for d in devices)
                lent = apple and r.random() < w.relayed
                carrier = self._carrier_of[pool[0]]
                person = Person(len(people), home, office, pool, not nat_phone, devices, own, isp, carrier, lent)
                self._emails.setdefault(own, {})
                people.append(person)
        return people

    def _place_in(self, addresses: list[int], network: int, kind: str) -> None:
        for address in addresses:
            self.net_of[address], self.kind_of[address] = network, kind

    def _home(self, behind_nat: list[int]) -> int:
        return -self.random.choice(behind_nat) if self.random.random() < self.world.cgnat * 0.5 else self.serial()

    def _devices(self) -> list[Device]:
        r = self.random
        devices = [self._device("ios" if r.random() < 0.5 else "android")]
        if r.random() < 0.6:
            devices.append(self._device("windows" if r.random() < 0.7 else "mac"))
        return devices

    def _device(self, kind: str) -> Device:
        r, models, versions = self.random, MODELS[kind], VERSIONS[kind]
        model = str(min(models - 1, int(r.expovariate(1) * models / 4)))
        version = r.choices(range(len(versions)), cum_weights=versions)[0]
        hardware = r.randrange(HARDWARE[kind])
        private = r.random() < 0.05
        app = r.choices(range(6), cum_weights=APPS)[0]
        return Device(kind, hardware, model, version, app, r.randrange(28), {}, private)

    # -- where and with what ------------------------------------------------------------------------------------------

    def _place(self, ts: int) -> str:
        hour, weekday = ts // HOUR % 24, (ts // DAY) % 7
        x = self.random.random()
        if 8 <= hour < 18 and weekday < 5:
            return "office" if x < 0.4 else "home" if x < 0.75 else "mobile"
        return "home" if x < 0.78 else "mobile"

    def address_of(self, p: Person, device: Device, place: str, ts: int, shell: str = "browser") -> int:
        if p.relayed and shell == "browser" and device.kind in ("ios", "mac"):  # lent for a quarter of an hour
            relay = self._relays[p.id % len(self._relays)]
            return relay[hash((p.id, ts // (15 * MINUTE))) % len(relay)]
        if place == "office" and p.office:
            return p.office
        if place == "mobile" and device.phone:
            if p.own_mobile:  # a /64 that lasts a day
                return self._new(-(1 << 50) - p.id * 4096 - ts // DAY, p.carrier, "mobile")
            return p.pool[(p.id * 31 + ts // (3 * HOUR)) % len(p.pool)]
        # one line in five is renumbered every day, the others every month or so (Padmanabhan, IMC'16)
        era = ts // DAY if p.home % 5 == 0 else (ts // DAY + p.home % 30) // 30
        return p.home if p.home < 0 else self._new(p.home * 4096 + era, p.isp, "home")

    def _new(self, address: int, network: int, kind: str) -> int:
        self.net_of.setdefault(address, network)
        self.kind_of.setdefault(address, kind)
        return address

    def agent_of(self, d: Device, shell: str, ts: int) -> tuple[int, int]:
        return user_agent(d.kind, shell, d.model, d.version, d.app, (ts // DAY + d.offset) // 28 % 100)

    def _fingerprint(self, d: Device, ua_k: int) -> int | None:
        if self.random.random() > self.world.fingerprints:
            return None
        drift = self.random.randrange(1 << 30) if self.random.random() < 0.06 else 0
        return crc32(f"{ua_k} {d.hardware} {drift}".encode()) + 1

    def _jar(self, d: Device, shell: str, ts: int) -> Jar:
        """The jar as this visit finds it: lost to ITP, to a clean-up or to a private window, or as it was."""
        r = self.random
        jar = d.jars.get(shell)
        if jar is not None and not d.private:
            idle = ts - jar.used
            lost = r.random() < 1 - 0.99 ** (idle / DAY)
            if d.kind in ("ios", "mac") and shell == "browser" and idle > 7 * DAY:
                lost = lost or r.random() < 0.5
            if not lost:
                jar.used = ts
                return jar
        consent = jar.consent if jar is not None else r.random() < self.world.consent
        fresh = d.jars[shell] = Jar(self.serial(), self.serial(), ts, ts, consent)
        return fresh

    # -- what happens ----------------------------------------------------------------------------------------------

    def _events(self) -> None:
        """Everybody's visits, clicks and organic orders, played in time order; clicks add second clicks and orders."""
        r, w, span = self.random, self.world, self.world.days * DAY
        self._added: list[Planned] = []  # a heap of what the playing adds
        planned: list[Planned] = []
        clicks = 0

        def plan(ts: int, p: Person, play: Play) -> None:
            planned.append((ts, self.serial(), p, play))

        for p in self.people:
            for _ in range(_poisson(r, w.clicks_per_person)):
                clicks += 1
                plan(START + int(r.random() * span), p, self._first_click)
            for _ in range(_poisson(r, w.visits)):
                plan(START + int(r.random() * span), p, self._visit)
        for _ in range(int(clicks * ORDERS_PER_CLICK * w.organic)):
            plan(START + int(r.random() * span), r.choice(self.people), self._organic_order)
        if w.attack:
            strangers = Attackers(self, self.people)
            traffic = clicks + w.visits * len(self.people)
            for _ in range(int(traffic * w.attack / (1 - w.attack))):
                plan(START + int(strangers.random.random() * span), self.people[0], strangers.act)
        planned.sort(reverse=True)
        while planned or self._added:
            added = not planned or (self._added and self._added[0] < planned[-1])
            ts, _, p, play = heappop(self._added) if added else planned.pop()
            if ts >= START + span:
                break
            play(p, ts)
        self.sightings.sort()
        self._tell_truth()

    def _push(self, ts: int, p: Person, play: Play) -> None:
        heappush(self._added, (ts, self.serial(), p, play))

    def _pick_device(self, p: Person, ad: bool) -> Device:
        if len(p.devices) == 1 or self.random.random() < (0.85 if ad else 0.55):
            return p.devices[0]
        return p.devices[1]

    def _visit(self, p: Person, ts: int) -> None:
        d = self._pick_device(p, ad=False)
        jar = self._jar(d, "browser", ts)
        if jar.consent:
            address = self.address_of(p, d, self._place(ts), ts)
            self.sightings.append((ts, jar.visitor, address))
            if self.random.random() < self.world.sign_in:  # or leaves an e-mail
                self.claim(ts, jar.visitor, p.email, address)

    def claim(self, ts: int, visitor: int, email: int, address: int) -> None:
        """A page says so."""
        source = hash((self.net_of.get(address, address), ts // DAY))
        known = self._emails[email]
        if visitor not in known:
            known[visitor] = Link(visitor, ts, None, source)
            if len(known) > 30:
                self._emails[email] = {link.visitor: link for link in kept(known.values())}
        self.sign_ins.append((ts, visitor, email))

    def _first_click(self, p: Person, ts: int) -> None:
        r, w = self.random, self.world
        d = self._pick_device(p, ad=True)
        shell = "app" if d.phone and r.random() < w.in_app else "browser"
        place = self._place(ts)
        again = partial(self._click, d, shell, place)
        again(p, ts)
        if r.random() < 0.1:  # a second ad in the same session
            self._push(ts + r.randrange(1, 20) * MINUTE, p, again)
        if r.random() < ORDERS_PER_CLICK:
            self._push(ts + _delay(r), p, partial(self._ad_order, d, shell, place, ts))

    def _click(self, d: Device, shell: str, place: str, p: Person, ts: int) -> None:
        jar = self._jar(d, shell, ts)
        if self.random.random() < self.world.strip:
            return
        fbclid = self.serial()
        if jar.consent:
            jar.last_fbclid = fbclid
            ua_k, ua_class = self.agent_of(d, shell, ts)
            address = self.address_of(p, d, place, ts, shell)
            self.sightings.append((ts, jar.visitor, address))
            keys = (jar.visitor, jar.fbp, address, ua_k, self._fingerprint(d, ua_k), ua_class, 0)
        else:
            keys = (None, None, None, None, None, 0, flags.DENIED)
        self.add_click(Candidate(0, ts, ts, fbclid, *keys), p)

    def add_click(self, click: Candidate, owner: Person) -> None:
        click.id = len(self.clicks) + 1
        self.clicks.append(click)
        self.owners.append(owner.id)

    def _organic_order(self, p: Person, ts: int) -> None:
        self._order(p, ts, self._pick_device(p, ad=False), "browser", self._place(ts))

    def _ad_order(self, d: Device, shell: str, place: str, clicked: int, p: Person, ts: int) -> None:
        """The later, the likelier on another device, out of the app, elsewhere."""
        r = self.random
        far = bisect_left((10 * MINUTE, HOUR, 6 * HOUR, DAY), ts - clicked)
        if len(p.devices) > 1 and r.random() > (0.97, 0.93, 0.80, 0.70, 0.60)[far]:
            d, shell = next(other for other in p.devices if other is not d), "browser"
        elif shell == "app" and r.random() > (0.75, 0.60, 0.25, 0.20, 0.15)[far]:
            shell = "browser"
        stays = r.random() < (0.97, 0.88, 0.30, 0.10, 0.0)[far]
        self._order(p, ts, d, shell, place if stays else self._place(ts))

    def _order(self, p: Person, ts: int, d: Device, shell: str, place: str) -> None:
        jar = self._jar(d, shell, ts)
        ua_k, ua_class = self.agent_of(d, shell, ts)
        by_page = self.random.random() >= self.world.server_only
        linked = self._emails[p.email]
        address = self.address_of(p, d, place, ts, shell)
        order = Order(ts, p.id, address, ua_k, ua_class, denied=not jar.consent)
        order.network, order.net_k = self.kind_of[address], self.net_of[address]
        if by_page:
            order.fp_k = self._fingerprint(d, ua_k)
        if by_page and jar.consent:
            self.sightings.append((ts, jar.visitor, address))
            order.visitor_k, order.fbp_k, order.fbc_k, order.jar_since = (
                jar.visitor,
                jar.fbp,
                jar.last_fbclid,
                jar.since,
            )
        if self.random.random() < 0.98:  # a checkout asks for an e-mail
            order.links, order.email = tuple(linked.values()), p.email + 1
            if order.visitor_k is not None:  # the shop's server tells of both
                linked[order.visitor_k] = Link(order.visitor_k, ts, ts)
        self.orders.append(order)

    def _tell_truth(self) -> None:
        """Last touch with full knowledge: the person's newest stored and allowed click within the window."""
        theirs: dict[int, list[Candidate]] = {}
        for click, owner in zip(self.clicks, self.owners, strict=True):
            if not click.flags & flags.DENIED:
                theirs.setdefault(owner, []).append(click)
        for order in self.orders:
            own = [c for c in theirs.get(order.person, ()) if 0 <= order.ts - c.ts <= WINDOW]
            if own:
                order.truth = max(own, key=lambda c: c.ts).id


def _poisson(r: Random, mean: float) -> int:
    limit, n, product = exp(-mean), 0, r.random()
    while product > limit:
        n += 1
        product *= r.random()
    return n


def _delay(r: Random) -> int:
    """35 % within an hour, 50 % within a day, a tail to 30 days (Chapelle 2014)."""
    x = r.random()
    if x < 0.35:
        return int(MINUTE * 60 ** r.random())
    if x < 0.50:
        return int(HOUR * 24 ** r.random())
    return int(DAY + min(29.0, r.expovariate(1 / 6.0)) * DAY)

"""A matcher on trial: a public's orders against its clicks, as storage would play them, scored against the truth."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from msgspec import structs

from collector.core import flags
from collector.core.learning import Pair, crowded, learn, pair, see_again
from collector.core.matching import DEFAULT_MODEL, Candidate, Match, Model, Policy, Query, Statistics, match
from collector.core.matching.links import Link, people_of
from collector.core.matching.model import CAPS_KNOWN
from collector.core.sightings import Crowds, Hit, Sighting, crowds_of, seen_again
from tests.kit.simulators.truth import DAY, HOUR, START, WINDOW, Order, Public

Matcher = Callable[[Query, Sequence[Candidate], Statistics, Model, Policy], Match]
Timed = TypeVar("Timed", Order, Candidate)
Nightly = Callable[[Model, list[Match], int, Statistics], Model]
POLICY = Policy()
LIMIT = 32  # rows per key, as storage reads them


@dataclass(slots=True)
class Verdict:
    """One order, what was answered, and what was true."""

    order: Order
    answer: Match
    proof: bool  # one of its own identifiers names a stored click
    retrievable: bool  # the true click shares its address or fingerprint

    @property
    def right(self) -> bool:
        return self.answer.click is not None and self.answer.click == self.order.truth

    @property
    def would_be_right(self) -> bool:
        return (self.answer.click or self.answer.best_click) == self.order.truth

    @property
    def organic(self) -> bool:
        return self.order.truth is None


class Shelf:
    """Clicks by key, newest last; the stand-in for storage's index, with its limits and its statistics."""

    def __init__(self, public: Public) -> None:
        self.public = public
        self.clicks = public.clicks
        self.ends = START + public.world.days * DAY
        self.allowed = [c for c in sorted(public.clicks, key=lambda c: c.ts) if not c.flags & flags.INELIGIBLE]
        self._times = [c.ts for c in self.allowed]
        self._by: dict[tuple[str, object], list[Candidate]] = {}
        for c in self.allowed:
            pair = (c.ip_k, c.ua_k) if c.ip_k is not None else None
            for name, key in (
                ("v", c.visitor_k),
                ("f", c.fbclid_k),
                ("b", c.fbp_k),
                ("i", c.ip_k),
                ("p", c.fp_k),
                ("iu", pair),
            ):
                if key is not None:
                    self._by.setdefault((name, key), []).append(c)
        self._days: dict[int, tuple[int, Counter[int]]] = {}
        self.nights: dict[tuple[str, int], Any] = {}  # what no matcher changes: worked out once for all trials
        self.tally = Tally()

    def night(self, what: str, day: int, make: Callable[[], Any]) -> Any:
        """What one night finds, the same for every matcher tried on this public."""
        if (what, day) not in self.nights:
            self.nights[what, day] = make()
        return self.nights[what, day]

    def seek(self, name: str, key: object, since: int, until: int) -> list[Candidate]:
        rows = self._by.get((name, key), []) if key is not None else []
        first = bisect_left(rows, since, key=lambda c: c.ts)
        last = bisect_right(rows, until, key=lambda c: c.ts)
        return rows[max(first, last - LIMIT) : last]

    def candidates(self, q: Query, window: int = WINDOW) -> list[Candidate]:
        since, until = q.ts - window - 30 * DAY, q.ts + 300_000
        found = self.seek("v", q.visitor_k, since, until) + self.seek("f", q.fbc_k, since, until)
        found += self.seek("b", q.fbp_k, since, until)
        for visitor in q.identity_visitors:
            found += self.seek("v", visitor, since, until)
        near = q.ts - window
        found += self.seek("iu", (q.ip_k, q.ua_k), near, until) + self.seek("i", q.ip_k, near, until)
        return found + self.seek("p", q.fp_k, near, until)

    def statistics(self, q: Query, window: int = WINDOW) -> Statistics:
        visitors, agents = self._month(q.ts)
        clicks = bisect_right(self._times, q.ts) - bisect_left(self._times, q.ts - window)
        return Statistics(
            clicks_in_window=clicks,
            visitors=visitors,
            visitors_on_ip=self._distinct("i", q.ip_k, q.ts),
            visitors_on_ua=agents.get(q.ua_k or 0, 0),
            visitors_on_fp=self._distinct("p", q.fp_k, q.ts),
            **self.tally.statistics(q.ts),
        )

    def distinct_but(self, name: str, key: object, ts: int, own: int | None) -> int:
        rows = self.seek(name, key, ts - 30 * DAY, ts)
        return len({c.visitor_k for c in rows} - {own})

    def _distinct(self, name: str, key: object, ts: int) -> int:
        rows = self._by.get((name, key), [])
        first, last = (bisect_left(rows, t, key=lambda c: c.ts) for t in (ts - 30 * DAY, ts))
        return len({c.visitor_k for c in rows[first:last]})

    def _month(self, ts: int) -> tuple[int, Counter[int]]:
        day = ts // DAY
        if day not in self._days:
            rows = self.allowed[bisect_left(self._times, ts - 30 * DAY) : bisect_right(self._times, ts)]
            seen = {(c.visitor_k, c.ua_k) for c in rows}
            self._days[day] = (len({v for v, _ in seen}), Counter(ua for _, ua in seen if ua is not None))
        return self._days[day]


def query_of(order: Order) -> Query:
    """What storage asks: its own visitor is confirmed by the server that tells the order."""
    links = order.links
    if order.visitor_k is not None:
        links = (Link(order.visitor_k, order.ts, order.ts), *(x for x in links if x.visitor != order.visitor_k))
    people = people_of([("email", links)], order.ts)
    return Query(
        ts=order.ts, ip_k=order.ip_k, ua_k=order.ua_k, ua_class=order.ua_class, fp_k=order.fp_k,
        visitor_k=order.visitor_k, fbp_k=order.fbp_k, fbc_k=order.fbc_k, jar_since=order.jar_since,
        identity_visitors=people.visitors, claimed=people.claimed, net_k=order.net_k,
        consent="denied" if order.denied else "granted",
    )  # fmt: skip


def try_matcher(
    public: Public,
    matcher: Matcher = match,
    model: Model = DEFAULT_MODEL,
    policy: Policy = POLICY,
    since_day: int = 30,
    learn: Nightly | None = None,
    shelf: Shelf | None = None,
) -> list[Verdict]:
    """Every allowed order from `since_day` on, with its answer; `learn` makes the next day's model each night."""
    shelf = shelf or Shelf(public)
    verdicts: list[Verdict] = []
    answers: list[Match] = []
    today = 0
    tally = shelf.tally = Tally()
    for order in public.orders:
        day = (order.ts - START) // DAY
        if learn is not None and day > today:
            seen = shelf.statistics(Query(ts=START + day * DAY))
            model, answers, today = learn(model, answers, day, seen), [], day
        if order.denied:
            continue
        query = query_of(order)
        answer = matcher(query, shelf.candidates(query), shelf.statistics(query), model, policy)
        answers.append(answer)
        tally.note(order, answer)
        if day >= since_day:
            verdicts.append(_verdict(shelf, order, answer))
    return verdicts


def _verdict(shelf: Shelf, order: Order, answer: Match) -> Verdict:
    true = shelf.clicks[order.truth - 1] if order.truth is not None else None
    near = true is not None and ((true.ip_k == order.ip_k) or (true.fp_k is not None and true.fp_k == order.fp_k))
    return Verdict(order, answer, answer.tier in ("click", "device", "identity"), near)


def counted(public: Public, shelf: Shelf | None = None) -> Nightly:
    """A new store's nights: no label is learnt from; visitors seen again tell of their networks."""
    shelf = shelf or Shelf(public)

    def met(day: int) -> list[Pair]:
        clicks = _between(shelf.allowed, START + (day - 1) * DAY, START + day * DAY)
        return [Pair(-1, False, -1, 0, *_neighbourhood(public, shelf, c)) for c in clicks]

    def step(model: Model, answers: list[Match], day: int, seen: Statistics) -> Model:
        counts = dict(model.counts)
        strangers = shelf.night("strangers", day, lambda: met(day))
        crowds = crowds_by(public, shelf, day)
        networks = see_again(model.networks, again_by(public, shelf, day), strangers, counts, 1.0)
        return crowded(structs.replace(model, networks=networks, counts=counts, caps=CAPS_KNOWN), crowds)

    return step


def crowds_by(public: Public, shelf: Shelf, day: int) -> Crowds:
    """Who was seen where in the month before a day."""

    def find() -> Crowds:
        until = START + day * DAY
        first, last = (bisect_left(public.sightings, (ts,)) for ts in (until - 30 * DAY, until))
        seen = (Hit(*hit, public.net_of[hit[2]]) for hit in public.sightings[first:last])
        clicked = {c.visitor_k for c in _between(shelf.allowed, until - 30 * DAY, until) if c.visitor_k is not None}
        return crowds_of(seen, clicked)

    found: Crowds = shelf.night("crowds", day, find)
    return found


def _neighbourhood(public: Public, shelf: Shelf, c: Candidate) -> tuple[int, int | None]:
    """Other visitors on a click's address, and its network."""
    near = shelf.distinct_but("i", c.ip_k, c.ts, c.visitor_k)
    return near, public.net_of[c.ip_k] if c.ip_k is not None else None


def again_by(public: Public, shelf: Shelf, day: int) -> list[Sighting]:
    """Who came back on the day before."""

    def find() -> list[Sighting]:
        until = START + day * DAY
        first, last = (bisect_left(public.sightings, (ts,)) for ts in (until - 8 * DAY, until))
        return seen_again([Hit(*hit, public.net_of[hit[2]]) for hit in public.sightings[first:last]], until - DAY)

    found: list[Sighting] = shelf.night("again", day, find)
    return found


class Tally:
    """Orders with cookies that proof names, the others, and all; by hour, as storage/index/origins.py counts them."""

    def __init__(self) -> None:
        self._hours: dict[int, list[int]] = {}
        self._known: dict[int, dict[str, float]] = {}  # orders come in time order: an hour that is over stays so

    def note(self, order: Order, answer: Match) -> None:
        hour = self._hours.setdefault(order.ts // HOUR, [0, 0, 0])
        if answer.tier in ("click", "device"):
            hour[0] += 1
        elif order.visitor_k is not None:
            hour[1] += 1
        hour[2] += 1

    def statistics(self, ts: int) -> dict[str, float]:
        end = ts // HOUR
        if end not in self._known:
            self._known[end] = self._before(end)
        return self._known[end]

    def _before(self, end: int) -> dict[str, float]:
        month = [n for hour, n in self._hours.items() if end - 720 <= hour < end]
        week = [n for hour, n in self._hours.items() if end - 168 <= hour < end]
        return {
            "proven": sum(n[0] for n in month),
            "unproven": sum(n[1] for n in month),
            "orders_in_window": sum(n[2] for n in week),
        }


def decoy(shelf: Shelf, order: Order, matcher: Matcher, model: Model) -> Match:
    """The order moved 15 days into the future, without its proofs: every link to a click is false."""
    query = query_of(order)
    jar = query.jar_since + 15 * DAY if query.jar_since is not None else None
    moved = structs.replace(query, ts=query.ts + 15 * DAY, jar_since=jar, identity_visitors={}, fbc_k=None)
    own = (query.visitor_k, query.fbp_k)
    clicks = [c for c in shelf.candidates(moved) if c.visitor_k != own[0] and c.fbp_k != own[1]]
    return matcher(moved, clicks, shelf.statistics(moved), model, POLICY)


def _between(rows: Sequence[Timed], since: int, until: int) -> Sequence[Timed]:
    """Of rows in time order those of [since, until)."""
    return rows[bisect_left(rows, since, key=lambda row: row.ts) : bisect_left(rows, until, key=lambda row: row.ts)]


def nightly(public: Public, pairs_a_night: int = 600, decoys_a_night: int = 100, shelf: Shelf | None = None) -> Nightly:
    """The store's own nightly step: the day's answers, and random pairs of its orders and the window's clicks."""
    random, shelf = Random(1), shelf or Shelf(public)
    orders = [o for o in public.orders if not o.denied]

    def step(model: Model, answers: list[Match], day: int, seen: Statistics) -> Model:
        until = START + day * DAY
        now_orders = _between(orders, until - DAY, until)
        now_clicks = _between(shelf.allowed, until - WINDOW, until)
        pairs = []
        if now_orders and now_clicks:
            for _ in range(pairs_a_night):
                o, c = random.choice(now_orders), random.choice(now_clicks)
                near, net = _neighbourhood(public, shelf, c)
                pairs.append(pair(o.ua_k, o.ua_class, o.jar_since, c.ua_k, c.ua_class, c.ts, near, net))
        old = _between(orders, until - 16 * DAY, until - 15 * DAY) if day >= 16 + 8 else []
        decoys = [decoy(shelf, o, match, model) for o in random.sample(old, min(len(old), decoys_a_night))]
        again, crowds = again_by(public, shelf, day), crowds_by(public, shelf, day)
        return learn(model, answers, pairs, decoys, again, crowds, now=until, seen=seen)

    return step

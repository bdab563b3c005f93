"""What does a night teach? Labels of settled conversions, pairs of strangers, decoys: a new model for each store.

The cost is bounded: so many conversions, pairs and decoys a night. An engine reads in slices (`Past`), and makes one
short write. Runs in the courier, beside delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from collector.config import Config
from collector.core import addresses, clickid, flags
from collector.core.keyed import KeyedHash
from collector.core.learning import FUNNEL, Pair, is_order, learn, pair
from collector.core.matching import DEFAULT_MODEL, Candidate, Match, Model, Policy, Query, Statistics, match
from collector.exchange.rows import ClickRow
from collector.storage.rules.matched import candidate
from collector.storage.verbs.ports import Finding
from collector.storage.verbs.sightings import Seen, of_addresses

DAY_MS: Final = 86_400_000
# Most of what changes an answer later (late clicks, new links) has arrived after a day.
SETTLED_MS: Final = DAY_MS
MOST_ROWS: Final = 300_000
SLICE: Final = 2_000
NEIGHBOURS_MS: Final = 30 * DAY_MS
MOST_NEIGHBOURS: Final = 32  # clicks read of an address
LATEST: Final = 1_000  # rows of which the newest event time tells what time it is in a store
_SAMPLE: Final = 400  # clicks and orders that make pairs; each click meets ten orders
_PARTNERS: Final = 10
_DECOYS: Final = 200
# Clicks made 8 to 15 days after the order. However long the store's own window is: a longer one would reach back to the
# order, and to the click that it came from.
_DECOY_SHIFT_MS: Final = 15 * DAY_MS
_DECOY_WINDOW_MS: Final = 7 * DAY_MS
_GOLDEN: Final = 0.6180339887498949  # multiples of it, modulo 1, spread evenly: a sample without randomness
_decode_match = msgspec.msgpack.Decoder(Match).decode


class _Fbp(Struct):
    """The one field of a stored event that tells how old its cookies are."""

    fbp: str | None = None


_decode_fbp = msgspec.msgpack.Decoder(_Fbp).decode


class Until(Struct, frozen=True):
    """What a lesson covers: "now", the moment until which conversions are settled, and by which time of theirs."""

    now: int
    settled: int
    clock: Literal["received", "ts"]


class Stored(NamedTuple):
    """A conversion, as a night reads it."""

    id: int
    store: int
    ts: int
    event_type: str
    flags: int
    match: bytes


class Past(Protocol):
    """What an engine has of one store. Moments (ms) are by the clock of its lesson; ids rise with them."""

    def newest(self) -> Model | None:
        """The model in force; None for a store that runs on the defaults."""
        ...

    def settled(self, after: int) -> tuple[int, Iterable[Sequence[Stored]]]:
        """The last settled id, and the store's conversions above `after` up to it, but for tests and bots; in slices.

        Of a flood only the newest MOST_ROWS: a night never takes longer, and never lags behind.
        """
        ...

    def told(self, through: int) -> int:
        """The event time of the newest conversion up to this id, of whichever store; 0 where there is none."""
        ...

    def seen(self, table: Literal["click", "conversion"]) -> Iterator[Seen]:
        """Visitors by address, in the newest rows of all stores."""
        ...

    def clicks(self, since: int, most: int) -> list[ClickRow]:
        """Eligible ones of the store among `most` that are evenly spread over all since then, by their ids."""
        ...

    def neighbours(self, clicks: Sequence[ClickRow]) -> list[int]:
        """Of each, how many other visitors are on its address in 30 days; -1 where it has none."""
        ...

    def networks(self, clicks: Sequence[ClickRow]) -> list[str | None]:
        """Of each, the raw address, while it is kept."""
        ...

    def orders(self, ids: Sequence[int]) -> list[Query]:
        """Stored orders as inference sees them: without their proofs."""
        ...

    def some(self, since: int, until: int, most: int) -> Iterator[Stored]:
        """At most so many conversions of any store, evenly spread over these moments, by their ids."""
        ...

    def stood(self, queries: Sequence[Query], policy: Policy) -> list[tuple[list[Candidate], Statistics]]:
        """Of each, the clicks that it could come from, and how common its values are."""
        ...

    def statistics(self, ts: int, window_ms: int) -> Statistics: ...
    def keep(self, model: Model, figures: Sequence[tuple[str, int]], day: int) -> None:
        """Put a new version in force and add to the day's figures, in one transaction."""
        ...


class Lesson(Struct):
    """What one store's settled conversions of a night hold; `answers` and `ids` go together."""

    through: int
    answers: list[Match] = []
    ids: list[int] = []
    first_ts: int = 0
    last_ts: int = 0
    purchases: bool = False

    def add(self, row: Stored) -> None:
        """Keep an order's answer. A renewal is no order of its own: no click was looked for."""
        if not is_order(row.event_type, self.purchases):
            return
        answer = _decode_match(row.match)
        if answer.inherited:
            return
        if row.event_type == "Purchase" and not self.purchases:
            self.purchases, self.first_ts, self.last_ts = True, 0, 0
            self.answers.clear()
            self.ids.clear()
        self.answers.append(answer)
        self.ids.append(row.id)
        self.first_ts = min(row.ts, self.first_ts or row.ts)
        self.last_ts = max(row.ts, self.last_ts)


def models_of(
    stores: Iterable[tuple[int, str]],
    config: Config,
    names: KeyedHash | None,
    past: Callable[[int, Until], Past],
    until: Callable[[int], Until],
    now: int,
    only: str | None,
) -> dict[str, Model]:
    """Learn for these stores, or for one; the new models by store id. Without new conversions a store keeps its own."""
    found: dict[str, Model] = {}
    for number, name in stores:
        if only in (None, name):
            covered = until(number)
            night = _Night(past(number, covered), names, number, policy_of(config, name), covered)
            if (model := night.model(now)) is not None:
                found[name] = model
    return found


def policy_of(config: Config, name: str) -> Policy:
    """What the store wants of the matcher."""
    matching, store = config.matching, config.store_by_id(name)
    own = store.probabilistic if store is not None else None
    return Policy(
        window_ms=matching.window_days * DAY_MS,
        click_ms=matching.click_days * DAY_MS,
        threshold=matching.threshold,
        strong=matching.strong,
        probabilistic=matching.probabilistic if own is None else own,
    )


class _Night(NamedTuple):
    """One store's step."""

    past: Past
    names: KeyedHash | None
    store: int
    policy: Policy
    until: Until

    def model(self, now: int) -> Model | None:
        """The next model, in force; `now` (ms) by our clock. None where nothing has settled."""
        past, until = self.past, self.until
        before = past.newest() or DEFAULT_MODEL
        lesson = self._lesson(before.through)
        if not lesson.ids:
            return None
        decoys = self._decoys(before)
        seen = (past.seen("click"), past.seen("conversion"))
        sightings, crowds = of_addresses(*seen, self.names, self.store, past.told(before.through), until.now)
        after = learn(
            before,
            lesson.answers,
            self._pairs(lesson.ids),
            decoys,
            sightings,
            crowds,
            now=now,
            elapsed_days=(now - before.created) / DAY_MS if before.created else 0.0,
            seen=past.statistics(until.now, self.policy.window_ms),
        )
        after = msgspec.structs.replace(after, through=lesson.through)
        past.keep(after, [figure for figure in _figures(decoys) if figure[1]], now // DAY_MS)
        return after

    def _lesson(self, after: int) -> Lesson:
        last, slices = self.past.settled(after)
        lesson = Lesson(max(after, last))
        for rows in slices:
            for row in rows:
                lesson.add(row)
        return lesson

    def _pairs(self, orders: Sequence[int]) -> list[Pair]:
        """Random clicks of the window beside random orders of the night: how often strangers agree."""
        past = self.past
        clicks = sorted(past.clicks(self.until.now - self.policy.window_ms, _SAMPLE), key=lambda c: c.id)
        strangers = [orders[at] for at in spread(min(_SAMPLE, len(orders)), 0, len(orders) - 1)]
        queries = past.orders(strangers)
        if not queries:
            return []
        pairs: list[Pair] = []
        beside = zip(clicks, past.neighbours(clicks), past.networks(clicks), strict=True)
        for at, (c, near, ip) in enumerate(beside):
            for k in range(min(_PARTNERS, len(queries))):
                q = queries[(at * _PARTNERS + k) % len(queries)]
                known = (near, self._network(ip)) if k == 0 else (-1, None)
                one = pair(q.ua_k, q.ua_class, q.jar_since, c.ua_k, c.ua_class, c.ts, *known)
                # A click's class counts once.
                pairs.append(one if k == 0 else msgspec.structs.replace(one, click_class=0))
        return pairs

    def _network(self, ip: str | None) -> int | None:
        """The name of a network."""
        return self.names.name(self.store, "net", addresses.truncate(ip)) if ip and self.names is not None else None

    def _decoys(self, model: Model) -> list[Match]:
        """Unproven orders of the day 16 days ago against clicks made 8 to 15 days after them: every link is false.

        An upper bound of the true rate: the same person may well have clicked again.
        """
        if not self.policy.probabilistic:
            return []
        policy = msgspec.structs.replace(self.policy, window_ms=min(self.policy.window_ms, _DECOY_WINDOW_MS))
        queries = self.past.orders(self._unproven())
        queries = [query for query in queries if not (query.ip_k is None and query.fp_k is None)]
        moved = [_moved(query) for query in queries]
        stood = self.past.stood(moved, policy)
        return [_decoy(*each, model, policy) for each in zip(queries, moved, stood, strict=True)]

    def _unproven(self) -> list[int]:
        """At most so many orders of the day 16 days ago whose answer no proof gave."""
        ends = self.until.now - _DECOY_SHIFT_MS
        found: list[int] = []
        for row in self.past.some(ends - DAY_MS, ends, 4 * _DECOYS):
            if row.store != self.store or row.event_type in FUNNEL or row.flags & flags.NO_SALE:
                continue
            answer = _decode_match(row.match)
            if answer.tier in ("inferred", "none") and answer.reason != "consent" and not answer.inherited:
                found.append(row.id)
            if len(found) == _DECOYS:
                break
        return found


def _moved(query: Query) -> Query:
    """The order moved into the future; it keeps its cookies' age and brings no proof."""
    jar = query.jar_since + _DECOY_SHIFT_MS if query.jar_since is not None else None
    return msgspec.structs.replace(query, ts=query.ts + _DECOY_SHIFT_MS, jar_since=jar)


def _decoy(
    query: Query, moved: Query, stood: tuple[list[Candidate], Statistics], model: Model, policy: Policy
) -> Match:
    own = (query.visitor_k, query.fbp_k)  # a click of the same browser is no false link, nor a proof here
    others = [c for c in stood[0] if not (_same(c.visitor_k, own[0]) or _same(c.fbp_k, own[1]))]
    return match(moved, others, stood[1], model, policy)


def _same(one: int | None, other: int | None) -> bool:
    return one is not None and one == other


def _figures(decoys: Sequence[Match]) -> list[tuple[str, int]]:
    """Decoys and false links, as the console reads them."""
    links = [decoy.confidence for decoy in decoys if decoy.attributed]
    return [
        ("decoy.orders", len(decoys)),
        ("decoy.80", sum(confidence >= 80 for confidence in links)),
        ("decoy.90", sum(confidence >= 90 for confidence in links)),
    ]


def spread(of: int, first: int, last: int) -> list[int]:
    """`of` numbers in [first, last], evenly spread and the same each time."""
    return sorted({first + int((k * _GOLDEN) % 1.0 * (last - first + 1)) for k in range(of)})


def query_of(row: Sequence[Any]) -> Query:
    """What inference is asked of an order: its ts, visitor_k, fbp_k, ip_k, ua_k, fp_k, ua_class, flags and body."""
    ts, visitor_k, fbp_k, ip_k, ua_k, fp_k, ua_class, marks, body = row
    fbp = _decode_fbp(body).fbp
    return Query(
        ts=ts,
        visitor_k=visitor_k,
        fbp_k=fbp_k,
        ip_k=ip_k,
        ua_k=ua_k,
        fp_k=fp_k,
        ua_class=ua_class,
        flags=marks,
        jar_since=clickid.fbp_created(fbp) if fbp else None,
    )


def stood(lookup: Finding, store: int, query: Query, policy: Policy) -> tuple[list[Candidate], Statistics]:
    """The clicks that share a key with an order, and how common its values are."""
    ids = lookup.named(query, policy.click_ms, store=store).ids | lookup.alike(query, policy.window_ms, store=store)
    return list(map(candidate, lookup.rows_of(store, ids))), lookup.statistics(store, query, policy.window_ms)


def lean(before: Model) -> Model:
    """A model that is in force no more: what explains its answers."""
    return msgspec.structs.replace(before, networks={}, crowds={}, bunched={})

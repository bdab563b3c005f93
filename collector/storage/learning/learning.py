"""What does a night teach? Labels of settled conversions, pairs of strangers, decoys: a new model for each store.

The cost is bounded: so many conversions, pairs and decoys a night. Reads go in slices, and there is one short write.
Runs in the courier, beside delivery, on a connection of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast

import apsw
import msgspec
from msgspec import Struct

from collector.config import Config
from collector.core import addresses, clickid, flags
from collector.core.keyed import KeyedHash
from collector.core.learning import FUNNEL, Pair, is_order, learn, pair
from collector.core.matching import DEFAULT_MODEL, Match, Model, Policy, Query, match
from collector.errors import CollectorError, StorageError
from collector.exchange.rows import ClickRow
from collector.storage.ground.database import INDEX, immediate, load_pepper
from collector.storage.index.index import unfolded
from collector.storage.index.lookup import Lookup
from collector.storage.learning import models
from collector.storage.learning.sightings import network_of, of_addresses
from collector.storage.rules.tables import CLICKS, click_tag

DAY_MS: Final = 86_400_000
# Most of what changes an answer later (late clicks, new links) has arrived after a day.
SETTLED_MS: Final = DAY_MS
MOST_ROWS: Final = 300_000
MOST_UNFOLDED: Final = 200_000  # rows that a night holds in memory, 0.5 KB each: some seconds of the fullest load
_SLICE: Final = 2_000
_SAMPLE: Final = 400  # clicks and orders that make pairs; each click meets ten orders
_PARTNERS: Final = 10
_DECOYS: Final = 200
# Clicks made 8 to 15 days after the order. However long the store's own window is: a longer one would reach back to the
# order, and to the click that it came from.
_DECOY_SHIFT_MS: Final = 15 * DAY_MS
_DECOY_WINDOW_MS: Final = 7 * DAY_MS
_NEIGHBOURS_MS: Final = 30 * DAY_MS
_LATEST: Final = "SELECT max(ts) FROM (SELECT ts FROM conversion WHERE store = ?1 ORDER BY id DESC LIMIT 1000) "
_GOLDEN: Final = 0.6180339887498949  # multiples of it, modulo 1, spread evenly: a sample without randomness
_ROWS: Final = (
    "SELECT id, ts, event_type, match FROM conversion "
    f"WHERE id > ? AND id <= ? AND store = ? AND flags & {flags.NO_SALE} = 0 ORDER BY id"
)
_ORDER: Final = "SELECT ts, visitor_k, fbp_k, ip_k, ua_k, fp_k, ua_class, flags, body FROM conversion WHERE id = ?"
_COUNT: Final = "INSERT INTO counter VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n"
# When a night was, whatever it found: its day, and the millisecond of it in place of a count.
_NIGHT: Final = f"SELECT max(day * {DAY_MS} + n) FROM counter WHERE store = 0 AND name = 'night'"
_KEEP_NIGHT: Final = "INSERT OR REPLACE INTO counter VALUES (?, 0, 'night', ?)"
_decode_match = msgspec.msgpack.Decoder(Match).decode


class _Fbp(Struct):
    """The one field of a stored event that tells how old its cookies are."""

    fbp: str | None = None


_decode_fbp = msgspec.msgpack.Decoder(_Fbp).decode


class Lesson(Struct):
    """What one store's settled conversions of a night hold; `answers` and `ids` go together."""

    through: int
    answers: list[Match] = []
    ids: list[int] = []
    first_ts: int = 0
    last_ts: int = 0
    purchases: bool = False

    def add(self, row_id: int, ts: int, event_type: str, body: bytes) -> None:
        """Keep an order's answer. A renewal is no order of its own: no click was looked for."""
        if not is_order(event_type, self.purchases):
            return
        answer = _decode_match(body)
        if answer.inherited:
            return
        if event_type == "Purchase" and not self.purchases:
            self.purchases, self.first_ts, self.last_ts = True, 0, 0
            self.answers.clear()
            self.ids.clear()
        self.answers.append(answer)
        self.ids.append(row_id)
        self.first_ts = min(ts, self.first_ts or ts)
        self.last_ts = max(ts, self.last_ts)


def due(db: apsw.Connection, now: int) -> bool:
    """Whether a day has passed since the last night, or since the first conversion of a new installation."""
    for sql in (_NIGHT, "SELECT max(created) FROM model", "SELECT received FROM conversion ORDER BY id LIMIT 1"):
        last = cast("int | None", db.execute(sql).get)
        if last is not None:
            return now - last >= DAY_MS
    return False


def night_if_due(db: apsw.Connection, config: Config, now: int) -> dict[str, Model]:
    """`night`, once a day: one that taught nothing was a night as well."""
    return night(db, config, now) if due(db, now) else {}


def night(db: apsw.Connection, config: Config, now: int, settled_ms: int = SETTLED_MS) -> dict[str, Model]:
    """Learn for every store; the new models by store id. A store without new conversions keeps its model."""
    data_dir = Path(config.storage.data_dir)  # the keeper may be building the index anew
    if not (data_dir / INDEX).exists() or unfolded(db, data_dir, config.storage) > MOST_UNFOLDED:
        return {}
    found = _learn_all(db, config, now, lambda number: Until(now, now - settled_ms, "received"), None)
    with immediate(db):
        db.execute(_KEEP_NIGHT, divmod(now, DAY_MS))
    return found


def at_once(db: apsw.Connection, config: Config, now: int, store: str | None) -> dict[str, Model]:
    """As `night`, for all stores or one, whenever it is asked for: each store's own events tell what time it is.

    StorageError where the index lacks much: the rows that it lacks would be held in memory.
    """
    if (lacking := unfolded(db, Path(config.storage.data_dir), config.storage)) > MOST_UNFOLDED:
        raise StorageError(f"the index lacks {lacking} rows: start the collector, which builds it, and learn then")

    def until(number: int) -> Until:
        latest = cast("int | None", db.execute(_LATEST, (number,)).get) or 0
        return Until(latest, latest - SETTLED_MS, "ts")

    return _learn_all(db, config, now, until, store)


class Until(Struct, frozen=True):
    """What a lesson covers: "now", the moment until which conversions are settled, and by which time of theirs."""

    now: int
    settled: int
    clock: Literal["received", "ts"]


def _learn_all(
    db: apsw.Connection, config: Config, now: int, until: Callable[[int], Until], only: str | None
) -> dict[str, Model]:
    lookup = Lookup(db, Path(config.storage.data_dir), config.storage)
    found: dict[str, Model] = {}
    try:
        names = _names(db, config)
        for number, name in cast("list[tuple[int, str]]", db.execute("SELECT id, name FROM store").fetchall()):
            if only in (None, name):
                night = _Night(db, lookup, names, number, policy_of(config, name), until(number))
                if (model := night.model(now)) is not None:
                    found[name] = model
    finally:
        lookup.close()
    return found


def _names(db: apsw.Connection, config: Config) -> KeyedHash | None:
    """The key of names; a courier on another machine has none, and its nights learn nothing of networks."""
    try:
        return KeyedHash(load_pepper(db, Path(config.storage.data_dir), config.privacy.pepper_file))
    except CollectorError:
        return None


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

    db: apsw.Connection
    lookup: Lookup
    names: KeyedHash | None
    store: int
    policy: Policy
    until: Until

    def model(self, now: int) -> Model | None:
        """The next model, in force; `now` (ms) by our clock. None where nothing has settled."""
        db, store = self.db, self.store
        before = models.newest(db, store) or DEFAULT_MODEL
        lesson = _lesson(db, store, before.through, self.until)
        if not lesson.ids:
            return None
        decoys = _decoys(db, self.lookup, store, self.policy, before, self.until)
        told = db.execute("SELECT ts FROM conversion WHERE id <= ? ORDER BY id DESC LIMIT 1", (before.through,)).get
        sightings, crowds = of_addresses(db, store, self.names, cast("int | None", told) or 0, self.until.now)
        after = learn(
            before,
            lesson.answers,
            _pairs(self, lesson.ids),
            decoys,
            sightings,
            crowds,
            now=now,
            elapsed_days=(now - before.created) / DAY_MS if before.created else 0.0,
            seen=self.lookup.statistics(store, Query(ts=self.until.now), self.policy.window_ms),
        )
        after = msgspec.structs.replace(after, through=lesson.through)
        with immediate(db):
            models.save(db, store, after)
            db.executemany(_COUNT, [(now // DAY_MS, store, name, n) for name, n in _figures(decoys) if n])
        return after


def _figures(decoys: Sequence[Match]) -> list[tuple[str, int]]:
    """Decoys and false links, as the console reads them."""
    links = [decoy.confidence for decoy in decoys if decoy.attributed]
    return [
        ("decoy.orders", len(decoys)),
        ("decoy.80", sum(confidence >= 80 for confidence in links)),
        ("decoy.90", sum(confidence >= 90 for confidence in links)),
    ]


def _lesson(db: apsw.Connection, store: int, after: int, until: Until) -> Lesson:
    """The store's settled conversions since the last night, tests, bots and steps of the funnel left out.

    Of a flood only the newest rows are read: a night never takes longer, and never lags behind.
    """
    last = _first(db, "conversion", until.clock, until.settled) - 1
    first = max(after, last - MOST_ROWS)
    lesson = Lesson(max(after, last))
    for start in range(first, last, _SLICE):
        rows = db.execute(_ROWS, (start, min(start + _SLICE, last), store)).fetchall()
        for row_id, ts, event_type, body in cast("list[tuple[int, int, str, bytes]]", rows):
            lesson.add(row_id, ts, event_type, body)
    return lesson


def _spread(of: int, first: int, last: int) -> list[int]:
    """`of` numbers in [first, last], evenly spread and the same each time."""
    return sorted({first + int((k * _GOLDEN) % 1.0 * (last - first + 1)) for k in range(of)})


def _pairs(night: _Night, orders: Sequence[int]) -> list[Pair]:
    """Random clicks of the window beside random orders of the night: how often strangers agree."""
    db, lookup, until = night.db, night.lookup, night.until
    last = lookup.last[CLICKS]
    first = max(1, min(_first(db, "click", until.clock, until.now - night.policy.window_ms), last))
    wanted = set(_spread(_SAMPLE, first, last)) if last else set()
    clicks = [c for c in lookup.click_rows(wanted) if c.store == night.store and not c.flags & flags.INELIGIBLE]
    strangers = [orders[at] for at in _spread(min(_SAMPLE, len(orders)), 0, len(orders) - 1)]
    queries = [query for row_id in strangers if (query := order_query(db, row_id)) is not None]
    pairs: list[Pair] = []
    for at, c in enumerate(sorted(clicks, key=lambda c: c.id)):
        for k in range(min(_PARTNERS, len(queries))):
            q = queries[(at * _PARTNERS + k) % len(queries)]
            near, net = (_neighbours(lookup, c), _network_of(night, c)) if k == 0 else (-1, None)
            one = pair(q.ua_k, q.ua_class, q.jar_since, c.ua_k, c.ua_class, c.ts, near, net)
            pairs.append(one if k == 0 else msgspec.structs.replace(one, click_class=0))  # a click's class counts once
    return pairs


def _network_of(night: _Night, click: ClickRow) -> int | None:
    """The name of a click's network, while its raw address is kept."""
    ip, _ = network_of(night.db, click.id)
    return night.names.name(night.store, "net", addresses.truncate(ip)) if ip and night.names is not None else None


def _neighbours(lookup: Lookup, click: ClickRow) -> int:
    """Other visitors on the click's address in 30 days."""
    if click.ip_k is None:
        return -1
    found = lookup.index.find_tagged("ip", click.ip_k, click.received - _NEIGHBOURS_MS, 32)
    return len({tag for _, tag, _ in found} - {click_tag(click)})


def order_query(db: apsw.Connection, row_id: int) -> Query | None:
    """A stored order as inference sees it: without its proofs."""
    row = cast("tuple[Any, ...] | None", db.execute(_ORDER, (row_id,)).fetchone())
    if row is None:
        return None
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


def _decoys(db: apsw.Connection, lookup: Lookup, store: int, policy: Policy, model: Model, until: Until) -> list[Match]:
    """Unproven orders of the day 16 days ago against clicks made 8 to 15 days after them: every link is false.

    An upper bound of the true rate: the same person may well have clicked again.
    """
    found: list[Match] = []
    if not policy.probabilistic:
        return found
    policy = msgspec.structs.replace(policy, window_ms=min(policy.window_ms, _DECOY_WINDOW_MS))
    for row_id in _unproven(db, store, until):
        query = order_query(db, row_id)
        if query is not None and not (query.ip_k is None and query.fp_k is None):
            found.append(_decoy(lookup, store, query, policy, model))
    return found


def _decoy(lookup: Lookup, store: int, query: Query, policy: Policy, model: Model) -> Match:
    """The order moved into the future; it keeps its cookies' age and brings no proof."""
    jar = query.jar_since + _DECOY_SHIFT_MS if query.jar_since is not None else None
    moved = msgspec.structs.replace(query, ts=query.ts + _DECOY_SHIFT_MS, jar_since=jar)
    candidates = lookup.candidates(store, moved, policy.window_ms, policy.click_ms, True)
    own = (query.visitor_k, query.fbp_k)  # a click of the same browser is no false link, nor a proof here
    others = [c for c in candidates if not (_same(c.visitor_k, own[0]) or _same(c.fbp_k, own[1]))]
    return match(moved, others, lookup.statistics(store, moved, policy.window_ms), model, policy)


def _same(one: int | None, other: int | None) -> bool:
    return one is not None and one == other


def _unproven(db: apsw.Connection, store: int, until: Until) -> list[int]:
    """At most so many orders of the day 16 days ago whose answer no proof gave."""
    ends = until.now - _DECOY_SHIFT_MS
    first, last = (_first(db, "conversion", until.clock, moment) for moment in (ends - DAY_MS, ends))
    found: list[int] = []
    sql = "SELECT store, event_type, flags, match FROM conversion WHERE id = ?"
    for row_id in _spread(4 * _DECOYS, first, last - 1) if last > first else []:
        row = cast("tuple[Any, ...] | None", db.execute(sql, (row_id,)).fetchone())
        if row is None or row[0] != store or row[1] in FUNNEL or row[2] & flags.NO_SALE:
            continue
        answer = _decode_match(row[3])
        if answer.tier in ("inferred", "none") and answer.reason != "consent" and not answer.inherited:
            found.append(row_id)
        if len(found) == _DECOYS:
            break
    return found


def _first(db: apsw.Connection, table: str, column: str, moment: int) -> int:
    """The first row whose time is `moment` or later, by halving: rows come in the order of receipt."""
    low, high = 0, cast("int | None", db.execute(f"SELECT max(id) FROM {table}").get) or 0
    high += 1
    while low < high:
        middle = (low + high) // 2
        row: Any = db.execute(
            f"SELECT id, {column} FROM {table} WHERE id >= ? ORDER BY id LIMIT 1", (middle,)
        ).fetchone()
        if row is None or row[1] >= moment:
            high = middle
        else:
            low = row[0] + 1
    return low

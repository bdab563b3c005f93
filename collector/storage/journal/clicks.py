"""The keeper's verb for clicks: append, or recognise one that is here already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw
import msgspec
from msgspec import structs

from collector.core import flags
from collector.core.events import StoredClick
from collector.core.matching.shapes import FP_VERSION_MASK
from collector.exchange.clicks import ClickResult, NewClick, without_visitor
from collector.exchange.rows import ClickRow
from collector.storage.ground import kept, multirow
from collector.storage.index.bloom import Bloom
from collector.storage.index.lookup import PER_KEY, Lookup
from collector.storage.index.tables import CLICKS

_row = tuple.__new__  # a named tuple of values that are there already: half the time of calling its class
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredClick).decode
_SIGHTED = "UPDATE click SET ts = ?, last_ts = ? WHERE id = ?"
_LAST_SEEN_STEP_MS = 60_000  # a reload within a minute does not rewrite the row
_FILLED = ("referrer", "visitor_id", "fbp", "fbc", "fingerprint_version", "event_id")
_REFUSED = flags.DENIED | flags.WITHDRAWN
_EITHER = _REFUSED | flags.RECOVERED
_UNLESS_BOTH = flags.BOT | flags.PREFETCH | flags.PENDING | flags.TEST | flags.TIME_CORRECTED
_COMPLETED = f"UPDATE click SET {', '.join(f'{column} = ?' for column in ClickRow._fields[6:])} WHERE id = ?"
_NETWORK = "INSERT INTO click_network VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
_EARLIER_NETWORK = f"{_NETWORK}ip = coalesce(excluded.ip, ip), user_agent = coalesce(excluded.user_agent, user_agent)"
_LATER_NETWORK = f"{_NETWORK}ip = coalesce(ip, excluded.ip), user_agent = coalesce(user_agent, excluded.user_agent)"


class Clicks:
    """Owned by the writer thread. Appended clicks are findable at once and written by `flush`."""

    def __init__(self, db: apsw.Connection, lookup: Lookup, click_ms: int) -> None:
        self._db = db
        self._lookup = lookup
        self._click_ms = click_ms
        self._known = Bloom.holding(lookup.last[CLICKS])
        self.filtered = False  # the filter knows every stored click; until then each is looked up
        self._rows: list[ClickRow] = []
        self._networks: list[tuple[int, str | None, str | None]] = []

    def learn(self, names: Iterable[int]) -> None:
        """Fill the filter with names that the index has (the tail's are added as they come)."""
        self._known.update(names)

    def append(self, clicks: Sequence[NewClick]) -> list[ClickResult]:
        """Store each click, unless the same visitor's same click is here from the last `click_days`."""
        maybe_known, filtered = self._known.add, self.filtered
        results: list[ClickResult] = []
        rows: list[ClickRow] = []
        last = self._lookup.last[CLICKS]
        for click in clicks:
            columns = click.row
            if maybe_known(columns[4]) or not filtered:
                self._take(rows)  # the same click may be among them
                rows = []
                if (seen := self._recognised(click)) is not None:
                    results.append(seen)
                    continue
            last += 1
            rows.append(_row(ClickRow, (last, *columns)))
            ip, agent = click.network
            if ip is not None or agent is not None:
                self._networks.append((last, ip, agent))
            results.append(ClickResult(last, columns[1], False))
        self._take(rows)
        return results

    def _take(self, rows: list[ClickRow]) -> None:
        """Make new rows findable, and have `flush` write them."""
        if rows:
            self._lookup.append_clicks(rows)
            self._rows += rows

    def _recognised(self, click: NewClick) -> ClickResult | None:
        """What became of a click that is here already."""
        while (known := self._earlier(click)) is not None:
            if self._lookup.confirm(known.id):
                return self._seen_again(known, click)
        return None

    def _earlier(self, click: NewClick) -> ClickRow | None:
        """The stored click with the same store, fbclid and visitor whose window holds this one; the earliest."""
        store, ts, fbclid_k = click.row[0], click.row[1], click.row[4]
        since = ts - self._click_ms
        ids = set(self._lookup.find(CLICKS, "fbclid", fbclid_k, since))
        if len(ids) >= PER_KEY and click.row[5] is not None:  # a link that many passed on: its newest hits are others'
            ids.update(self._lookup.find(CLICKS, "visitor", click.row[5], since))
        same = []
        for row in self._lookup.click_rows(ids):
            if row.flags & flags.RECOVERED != click.row[11] & flags.RECOVERED:
                continue  # known from an fbc only: the click itself is another, and takes its place in matching
            if row.store == store and row.fbclid_k == fbclid_k and abs(row.ts - ts) <= self._click_ms:
                stored = _decode(row.body)
                if stored.fbclid == click.fbclid and stored.visitor_id == click.visitor:
                    same.append(row)
        return min(same, key=lambda row: (row.ts, row.id)) if same else None

    def _seen_again(self, row: ClickRow, click: NewClick) -> ClickResult:
        """One click however often it is reported: its window starts at the first sighting, the last one is kept."""
        ts = click.row[1]
        first, last = min(row.ts, ts), max(row.last_ts, ts)
        united = row if click.row[4:] == row[5:] else _united(row, ClickRow(row.id, *click.row))
        if united != row:
            self.flush()
            self._db.execute(_COMPLETED, (*united[6:], row.id))
            self._unite_networks(united, click.network, earlier=ts < row.ts)
        if united != row or first < row.ts or last >= row.last_ts + _LAST_SEEN_STEP_MS:
            self.flush()
            self._db.execute(_SIGHTED, (first, last, row.id))
            self._lookup.changed(row, united._replace(ts=first, last_ts=last))
        return ClickResult(row.id, first, True, row if united != row else None)

    def _unite_networks(self, row: ClickRow, network: tuple[str | None, str | None], *, earlier: bool) -> None:
        if row.flags & _REFUSED:
            self._db.execute("DELETE FROM click_network WHERE id = ?", (row.id,))
        elif network != (None, None):
            self._db.execute(_EARLIER_NETWORK if earlier else _LATER_NETWORK, (row.id, *network))

    def flush(self) -> None:
        """Write what was appended into the open transaction."""
        if self._rows:
            with kept.counting(self._db, self._rows):
                multirow.write(self._db, "INSERT INTO click", self._rows)
            self._rows = []
        if self._networks:
            multirow.write(self._db, "INSERT INTO click_network", self._networks)
            self._networks = []

    def forget(self) -> None:
        """Drop what was appended: the transaction is rolled back. The filter may keep it: it only says "maybe"."""
        self._rows = []
        self._networks = []


def _united(row: ClickRow, other: ClickRow) -> ClickRow:
    """Two reports of a click as one, whichever came first: each adds what the other lacks, the earlier sighting wins.

    A refusal stands, also beside a grant; a grant ends the wait for a decision; a person's hit confirms what a crawler
    or a prefetch told before.
    """
    first, second = (other, row) if other.ts < row.ts else (row, other)
    bits = first.flags & second.flags & _UNLESS_BOTH | (first.flags | second.flags) & _EITHER
    if bits & _REFUSED:
        bits &= ~flags.PENDING
        body = without_visitor(_unite_bodies(first, second, bits))
        bare = row._replace(visitor_k=None, fbp_k=None, ip_k=None, ua_k=None, fp_k=None, ua_class=0)
        return bare._replace(flags=bits, body=_encode(body))
    bits |= (first if first.fp_k is not None else second).flags & FP_VERSION_MASK
    agent = first if first.ua_k is not None else second
    return row._replace(
        visitor_k=_either(first.visitor_k, second.visitor_k),
        fbp_k=_either(first.fbp_k, second.fbp_k),
        ip_k=_either(first.ip_k, second.ip_k),
        ua_k=agent.ua_k,
        fp_k=_either(first.fp_k, second.fp_k),
        ua_class=agent.ua_class,
        flags=bits,
        body=_encode(_unite_bodies(first, second, bits)),
    )


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first


def _unite_bodies(first: ClickRow, second: ClickRow, bits: int) -> StoredClick:
    a, b = _decode(first.body), _decode(second.body)
    filled = {name: getattr(b, name) for name in _FILLED if getattr(a, name) is None}
    return structs.replace(
        a,
        **filled,
        marketing="denied" if bits & _REFUSED else "pending" if bits & flags.PENDING else "granted",
        ldu=a.ldu or b.ldu,
        bot=a.bot or b.bot if bits & flags.BOT else None,
    )

"""The keeper's verb for clicks: append, or recognise one that is here already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw
import msgspec

from collector.core import flags
from collector.core.events import StoredClick
from collector.exchange.clicks import ClickResult, NewClick
from collector.exchange.rows import ClickRow
from collector.storage.ground import multirow
from collector.storage.ground.kept import NewRows
from collector.storage.index.bloom import Bloom
from collector.storage.index.lookup import Lookup
from collector.storage.rules.click_reports import LAST_SEEN_STEP_MS, REFUSED, united
from collector.storage.rules.matched import PER_KEY
from collector.storage.rules.tables import CLICKS

_row = tuple.__new__  # a named tuple of values that are there already: half the time of calling its class
_decode = msgspec.msgpack.Decoder(StoredClick).decode
_SIGHTED = "UPDATE click SET ts = ?, last_ts = ? WHERE id = ?"
_COMPLETED = f"UPDATE click SET {', '.join(f'{column} = ?' for column in ClickRow._fields[6:])} WHERE id = ?"
_WITHDRAWN = (
    "UPDATE click SET visitor_k = NULL, fbp_k = NULL, ip_k = NULL, ua_k = NULL, fp_k = NULL, flags = ?, body = ? "
    "WHERE id = ?"
)
_NETWORK = "INSERT INTO click_network VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
_EARLIER_NETWORK = f"{_NETWORK}ip = coalesce(excluded.ip, ip), user_agent = coalesce(excluded.user_agent, user_agent)"
_LATER_NETWORK = f"{_NETWORK}ip = coalesce(ip, excluded.ip), user_agent = coalesce(user_agent, excluded.user_agent)"


class Clicks:
    """Owned by the writer thread. Appended clicks are findable at once and written by `flush`."""

    def __init__(self, db: apsw.Connection, lookup: Lookup, click_ms: int, sums: NewRows) -> None:
        self._db = db
        self._lookup = lookup
        self._click_ms = click_ms
        self._known = Bloom.holding(lookup.last[CLICKS])
        self.filtered = False  # the filter knows every stored click; until then each is looked up
        self._rows: list[ClickRow] = []
        self._networks: list[tuple[int, str | None, str | None]] = []
        self._sums = sums

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
        both = row if click.row[4:] == row[5:] else united(row, ClickRow(row.id, *click.row))
        if both != row:
            self.flush()
            self._db.execute(_COMPLETED, (*both[6:], row.id))
            self._unite_networks(both, click.network, earlier=ts < row.ts)
        if both != row or first < row.ts or last >= row.last_ts + LAST_SEEN_STEP_MS:
            self.flush()
            self._db.execute(_SIGHTED, (first, last, row.id))
            self._lookup.changed(row, both._replace(ts=first, last_ts=last))
        return ClickResult(row.id, first, True, row if both != row else None)

    def _unite_networks(self, row: ClickRow, network: tuple[str | None, str | None], *, earlier: bool) -> None:
        if row.flags & REFUSED:
            self._db.execute("DELETE FROM click_network WHERE id = ?", (row.id,))
        elif network != (None, None):
            self._db.execute(_EARLIER_NETWORK if earlier else _LATER_NETWORK, (row.id, *network))

    def withdraw(self, row: ClickRow, changed: ClickRow) -> None:
        """Keep a stored click without its visitor, and nothing of his network."""
        self._db.execute(_WITHDRAWN, (changed.flags, changed.body, row.id))
        self._db.execute("DELETE FROM click_network WHERE id = ?", (row.id,))
        self._lookup.changed(row, changed)

    def flush(self) -> None:
        """Write what was appended into the open transaction."""
        if self._rows:
            self._sums.put_off_clicks(self._rows)
            multirow.write(self._db, "INSERT INTO click", self._rows)
            self._rows = []
        if self._networks:
            multirow.write(self._db, "INSERT INTO click_network", self._networks)
            self._networks = []

    def forget(self) -> None:
        """Drop what was appended: the transaction is rolled back. The filter may keep it: it only says "maybe"."""
        self._rows = []
        self._networks = []

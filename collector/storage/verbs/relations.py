"""Which earlier answers may change by something that becomes known: a click, another answer?"""

from __future__ import annotations

from typing import Final

from collector.core.flags import INELIGIBLE, PENDING, RECOVERED
from collector.exchange.rows import ClickRow, ConversionRow
from collector.exchange.stores import Store
from collector.storage.rules.tables import CLICKS, CONVERSIONS
from collector.storage.verbs.conversions import Conversions
from collector.storage.verbs.ports import Parts

# Clocks of callers differ: a click may be stamped this much later than the conversion that it caused.
SKEW_MS: Final = 5 * 60_000
MOST: Final = 32  # conversions of a key
_NEVER_SHARED: Final = INELIGIBLE & ~PENDING  # that a visitor has not decided yet is an answer's reason


class Relations:
    """Works inside the transaction of a group."""

    def __init__(self, parts: Parts, conversions: Conversions) -> None:
        self._lookup = parts.lookup
        self._rows = parts.rows
        self._identities = parts.identities
        self._conversions = conversions

    def sharing(self, click: ClickRow) -> set[int]:
        """Conversions that share a key with the click and are not earlier than it."""
        if click.flags & _NEVER_SHARED:
            return set()
        ids: set[int] = set()
        since, store = click.ts - SKEW_MS, click.store
        find, identities = self._lookup.find, self._identities
        for key, name in (("fbclid", click.fbclid_k), ("visitor", click.visitor_k), ("fbp", click.fbp_k)):
            if name is not None:
                ids.update(find(CONVERSIONS, key, name, since, MOST, store=store))
        if ids or self._conversions.gained:
            ids |= self._of_recovered(click)
        for key, name in (("ip", click.ip_k), ("fp", click.fp_k)):
            if name is not None and (found := find(CONVERSIONS, key, name, since, MOST, store=store)):
                ids |= self._rows.inferable(found, click.ts)
        if click.visitor_k is not None and (values := identities.values_of(store, click.visitor_k)):
            ids |= identities.conversions_with(values, store=store)
        if self._conversions.gained:  # by a merge after their rows were folded into the index, or beside a first fbclid
            names = [n for n in (click.fbclid_k, click.visitor_k, click.fbp_k, click.ip_k, click.fp_k) if n is not None]
            ids |= identities.conversions_with(names, store=store)
        return ids

    def _of_recovered(self, click: ClickRow) -> set[int]:
        """Conversions that were given the click when it was known from an fbc alone: some name it by its id."""
        if click.fbclid_k is None or click.flags & RECOVERED:
            return set()
        same = self._lookup.find(CLICKS, "fbclid", click.fbclid_k, 0, store=click.store)
        rows = self._lookup.click_rows(set(same))
        known = [r.id for r in rows if r.flags & RECOVERED and (r.store, r.fbclid_k) == (click.store, click.fbclid_k)]
        if known:
            self._conversions.flush()
        return {found for row_id in known for found in self._rows.given(row_id, store=click.store)}

    def resting_on(self, before: ConversionRow | None, row: ConversionRow, known: Store) -> set[int]:
        """Its renewals and, where a click may be given once, later ones that have its click, or may have its former."""
        ids: set[int] = set()
        if row.dedup_k is not None and self._conversions.renewed:  # 20 µs, in every order
            ids |= self._identities.renewals_of(row.dedup_k, MOST, store=row.store)
        if known.config.count == "one":
            self._conversions.flush()
            if row.click is not None:
                ids.update(self._rows.later(row))
            if before is not None and before.click != row.click:
                ids |= self.heirs(before)
        return ids - {row.id}

    def heirs(self, before: ConversionRow) -> set[int]:
        """Who may have the click that this conversion had, unless an earlier one has it still."""
        if before.click is None or self._rows.earlier(before):
            return set()
        return {i for click in self._lookup.click_rows({before.click}) for i in self.sharing(click)}

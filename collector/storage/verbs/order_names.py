"""Which order is meant by a name that is not its own (O8)?

Names that the platform itself gives always lead to the order; numbers as people write them only where value, currency,
time and e-mail say that it is the same sale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence

from collector.core.events import StoredEvent
from collector.exchange.rows import ConversionRow
from collector.storage.rules.shop_tellings import is_same_sale
from collector.storage.rules.tables import CONVERSIONS
from collector.storage.verbs.ports import Finding
from collector.storage.verbs.queueing import Figures


class OrderNames(ABC):
    """The rule; an engine has the names."""

    any: bool  # most stores' orders have but one name

    def __init__(self, lookup: Finding, figures: Figures) -> None:
        self._lookup, self._figures = lookup, figures

    def order(
        self,
        store: int,
        event: StoredEvent,
        own: int | None,
        names: Sequence[int] = (),
        numbers: Sequence[int] = (),
        webhook: str | None = None,
    ) -> ConversionRow | None:
        """The order that a telling means, where it is known by another name.

        `own`: the name that it has in the telling; `names`, `numbers`: what else the shop itself calls it; `webhook`:
        by which it tells.
        """
        mine = [own] if own is not None else []
        sure = self._rows(store, [*mine, *names], number=0) if self.any else []
        sure = sure or self._own(store, event, names)
        if sure:
            return sure[0]
        near = self._own(store, event, numbers)
        if self.any:
            near += self._rows(store, [*mine, *numbers], number=1)
        near = [row for row in near if webhook is None or not self._has_told(webhook, row.id)]
        for row in near:
            if is_same_sale(store, event, row):
                return row
        if near:
            self.note(store, "name_conflict", event, near[0])
        return None

    def note(self, store: int, kind: str, event: StoredEvent, held_against: ConversionRow) -> None:
        """Count and list an order that a person should look at."""
        self._figures.append((store, f"shop.{kind}"))
        self._list(store, kind, event, held_against)

    def _own(self, store: int, event: StoredEvent, names: Iterable[int]) -> list[ConversionRow]:
        """Orders whose own name is one of these."""
        found = [named(self._lookup, store, event.event_type, name) for name in names]
        return [row for row in found if row is not None]

    @abstractmethod
    def keep(self, conversion: int, names: Collection[int], numbers: Collection[int], *, store: int = 0) -> None:
        """Have an order found by these names as well."""

    @abstractmethod
    def forget(self) -> None:
        """The transaction is rolled back: nothing of it is kept."""

    @abstractmethod
    def _rows(self, store: int, names: Iterable[int], *, number: int) -> list[ConversionRow]:
        """Orders that are called so, the first first."""

    @abstractmethod
    def _has_told(self, webhook: str, conversion: int) -> bool:
        """Whether the same platform has told this order by its own id, which was another one: then it is another."""

    @abstractmethod
    def _list(self, store: int, kind: str, event: StoredEvent, held_against: ConversionRow) -> None: ...


def named(lookup: Finding, store: int, event_type: str, name: int | None) -> ConversionRow | None:
    """The event of this name: the order, or what else it is by that."""
    ids = lookup.find(CONVERSIONS, "dedup", name, 0, 4, store=store) if name is not None else []
    for row in lookup.conversion_rows(set(ids)) if ids else ():
        if row.store == store and row.dedup_k == name and row.event_type == event_type:
            return row
    return None

"""What an event's values say of its visitor: who they lead to, and which links it adds to what is known."""

from __future__ import annotations

from msgspec import Struct

from collector.core.matching.links import MOST_VALUES, MOST_VISITORS, Link, People, people_of
from collector.core.matching.shapes import Identity
from collector.exchange.naming import KINDS, Keys, Witness


class Known(Struct, gc=False):
    """What the journal knows of the values that an event carries, and of the visitor who brought it."""

    store: int
    keys: Keys
    visitor: int | None
    seen: list[list[Link]]  # the visitors of each value
    held: dict[tuple[int, int], bool]  # the visitor's values, as (kind, key), and whether a server told of both
    carried: bool  # some earlier conversion carries one of the values
    former: dict[int, int] = {}  # former names, by those of now

    def people(self, ts: int, witness: Witness | None = None) -> People:
        """Whom the values lead to, for a conversion of `ts` (ms); `witness`: what the conversion itself tells."""
        values = zip([kind for kind, _ in self.keys], self.seen, strict=True)
        if witness is None or self.visitor is None or not witness.keys:
            return people_of(values, ts)
        own = Link(self.visitor, ts, ts)
        return people_of(
            [
                (kind, [own, *(x for x in links if x.visitor != own.visitor)] if pair in witness.keys else links)
                for pair, (kind, links) in zip(self.keys, values, strict=True)
            ],
            ts,
        )

    def take_over(self) -> None:
        """Have what is known under former names under those of now; each visitor once, its confirmed link rather."""
        for (kind, key), links in zip(self.keys, self.seen, strict=True):
            links[:] = {link.visitor: link for link in sorted(links, key=lambda x: x.confirmed_ts is not None)}.values()
            was = self.held.pop((KINDS[kind], self.former[key]), None) if key in self.former else None
            if was is not None:
                self.held[KINDS[kind], key] = was or self.held.get((KINDS[kind], key), False)


class Linked(Struct, frozen=True):
    """A link that is to be kept. `crowded`: of the value's others some must go; `news`: an answer may change by it."""

    crowded: bool
    news: bool


def linked_by(known: Known, kind: Identity, key: int, links: list[Link], witness: Witness) -> Linked | None:
    """Whether a value is to be known as the visitor's, by a telling that has both.

    A visitor with many values is a shared device and no person: it gets no more of them; claims never take the place of
    what a server tells. A value that leads nowhere, since too many share it, is no news.
    """
    number, confirmed = KINDS[kind], (kind, key) in witness.keys
    others = [sure for (k, v), sure in known.held.items() if k == number and v != key]
    if (sum(others) if confirmed else len(others)) >= MOST_VALUES:
        return None
    before = known.held.get((number, key))
    crowded = before is None and len(links) > MOST_VISITORS
    if crowded and not confirmed and any(link.source == witness.source for link in links):
        return None  # it would be the first to be dropped
    sure = sum(link.confirmed_ts is not None for link in links)
    if confirmed:
        return Linked(crowded, not before and sure <= MOST_VISITORS)
    return Linked(crowded, before is None and not sure and not crowded)

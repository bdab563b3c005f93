"""Who vouches that a visitor is a person: links between an e-mail, a phone or a customer id and a visitor.

A page is anybody on the internet, so what a page says of a person is a claim; an order or an event told by a server
with both, visitor and value, confirms.

    P1  a claim proves nothing beside a confirmed link of the same person, and little alone: CLAIMED_CAP, never
        "strong", and nothing of its click is added to the order
    P2  more than MOST_VISITORS are too many to be one person's; of claims, which count where nothing is confirmed, one
        for each address prefix (/24, /48) and day, so that one stranger cannot make a value worthless
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from collector.core.matching.shapes import OPEN_MS, Identity

# Beyond these a value is a shop's own, a till's or a placeholder, and no person's.
MOST_VISITORS: Final = 20
MOST_VALUES: Final = 3
CLAIMED_CAP: Final = 75


class Link(Struct, frozen=True, gc=False):
    """A value seen with a visitor. Times are event times in ms; `source` names the claim's address prefix and day."""

    visitor: int
    first_ts: int
    confirmed_ts: int | None = None  # when a server first told of both; None: only claimed
    source: int = 0


class People(Struct, frozen=True):
    """Visitors one hop from an order, with the strongest kind of link; of which of them a page alone vouches."""

    visitors: dict[int, Identity] = {}
    claimed: frozenset[int] = frozenset()


def people_of(values: Iterable[tuple[Identity, Sequence[Link]]], ts: int) -> People:
    """Whom an order's values lead to; the strongest kind first in `values`, each with its links.

    As of 96 hours after `ts` (ms): who signs in later changes no earlier answer, whatever arrives first.
    """
    confirmed: dict[int, Identity] = {}
    claimed: dict[int, Identity] = {}
    for kind, links in values:
        sure, said = apart(links, ts + OPEN_MS)
        if not too_many(sure, said):
            for link in sure or said:
                (confirmed if sure else claimed).setdefault(link.visitor, kind)
    if confirmed or not claimed:
        return People(confirmed)
    return People(claimed, frozenset(claimed))


def apart(links: Iterable[Link], until: int) -> tuple[list[Link], list[Link]]:
    """The links known by `until` (ms): confirmed ones, and those that were only claimed then."""
    known = [link for link in links if link.first_ts <= until]
    sure = [link for link in known if link.confirmed_ts is not None and link.confirmed_ts <= until]
    return sure, [link for link in known if link.confirmed_ts is None or link.confirmed_ts > until]


def too_many(sure: Sequence[Link], said: Sequence[Link]) -> bool:
    """Whether confirmed and claimed links are too many to be one person's (P2).

    Claims never make what is confirmed worthless: 21 address prefixes are cheap.
    """
    return len(sure) > MOST_VISITORS or (not sure and len({link.source for link in said}) > MOST_VISITORS)


def kept(links: Iterable[Link]) -> list[Link]:
    """As many links of a value as are worth keeping: confirmed ones, then the oldest claim of each source, then others.

    One more than MOST_VISITORS, which shows that a value has too many.
    """
    nth: Counter[int] = Counter()
    ranked: list[tuple[bool, int, int, int, Link]] = []
    for link in sorted(links, key=lambda link: (link.first_ts, link.visitor)):
        claim = link.confirmed_ts is None
        nth[link.source] += claim
        ranked.append((claim, nth[link.source] if claim else 0, link.first_ts, link.visitor, link))
    ranked.sort(key=lambda row: row[:4])
    return [link for *_, link in ranked[: MOST_VISITORS + 1]]

"""Which rows may a match ask for, as whom does the matcher see them, and what does an order take from its click?"""

from __future__ import annotations

from typing import Final

from collector.core import clickid
from collector.core.events import Enrichment, StoredClick, StoredEvent
from collector.core.keyed import KeyedHash
from collector.core.matching import Candidate, Query
from collector.exchange.rows import ClickRow

AHEAD_MS: Final = 10 * 60_000  # a click's own time is at most this far ahead of its receipt
PER_KEY: Final = (
    32  # candidates of a key, the newest: on a hot address the right click is usually under (address, agent)
)
PER_VISITOR: Final = 8  # candidates of a visitor that an identity leads to
MOST_CANDIDATES: Final = 96


def candidate(row: ClickRow) -> Candidate:
    """A click's row as the matcher sees it."""
    return Candidate(row.id, row.ts, row.last_ts, *row[5:13])


def first_order(names: KeyedHash, store: int, event: StoredEvent) -> int:
    """The name of the order that a renewal renews."""
    return names.name(store, "once", f"{event.event_type}\0o{event.renewal_of}")


def alike(query: Query, c: Candidate) -> bool:
    """Whether inference would weigh the click."""
    return (c.ip_k == query.ip_k and c.ip_k is not None) or (c.fp_k == query.fp_k and c.fp_k is not None)


def _same_click(click: StoredClick) -> bool:
    fbc = clickid.parse_fbc(click.fbc) if click.fbc else None
    return fbc is not None and fbc.fbclid == click.fbclid


def enrichment_of(row: ClickRow, click: StoredClick, network: tuple[str | None, str | None]) -> Enrichment:
    """All that a click adds to an order on proof; `network`: its address and user agent, while they are kept."""
    ip, agent = network
    return Enrichment(
        fbc=click.fbc if _same_click(click) else clickid.build_fbc(click.fbclid, row.ts),
        fbp=click.fbp,
        ip=ip,
        user_agent=agent,
        event_source_url=click.landing_page or None,
    )

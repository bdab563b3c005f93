"""What is still known of a visitor whose cookies a cleaner or Safari dropped: the newest `_fbc` and `_fbp`."""

from __future__ import annotations

import msgspec

from collector.core.clickid import build_fbc
from collector.core.cookies import EMPTY, Jar
from collector.core.events import StoredClick, StoredEvent
from collector.core.flags import INELIGIBLE
from collector.exchange.operations import Remember
from collector.storage.rules.tables import CLICKS, CONVERSIONS
from collector.storage.verbs.ports import Finding

_click = msgspec.msgpack.Decoder(StoredClick).decode
_event = msgspec.msgpack.Decoder(StoredEvent).decode
_READ = 4  # the newest few; a page view of the same visitor is enough for `_fbp`


def recall(lookup: Finding, asked: Remember) -> Jar:
    """The values of the visitor's newest click, and `_fbp` from an event where no click has it."""
    ids = lookup.find(CLICKS, "visitor", asked.visitor_k, asked.since, _READ, store=asked.store)
    rows = [row for row in lookup.click_rows(set(ids)) if row.store == asked.store and not row.flags & INELIGIBLE]
    for row in sorted(rows, key=lambda row: (row.ts, row.id), reverse=True):
        click = _click(row.body)
        if click.visitor_id == asked.visitor:
            fbc = click.fbc or build_fbc(click.fbclid, row.ts, asked.subdomain_index)
            return Jar(asked.visitor, fbc, click.fbp or _browser_id(lookup, asked))
    return EMPTY._replace(fbp=_browser_id(lookup, asked))


def _browser_id(lookup: Finding, asked: Remember) -> str | None:
    ids = lookup.find(CONVERSIONS, "visitor", asked.visitor_k, asked.since, _READ, store=asked.store)
    rows = [row for row in lookup.conversion_rows(set(ids)) if row.store == asked.store and not row.flags & INELIGIBLE]
    for row in sorted(rows, key=lambda row: row.id, reverse=True):
        event = _event(row.body)
        if event.visitor_id == asked.visitor and event.fbp:
            return event.fbp
    return None

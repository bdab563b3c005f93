"""What the verbs ask of SQLite: its ports (storage/verbs/ports.py), over the writer's connection."""

from __future__ import annotations

import apsw

from collector.core.keyed import KeyedHash
from collector.storage.ground.event_names import EventNames
from collector.storage.ground.kept import NewRows
from collector.storage.index.lookup import Lookup
from collector.storage.journal.clicks import Clicks
from collector.storage.journal.refunds import Refunds
from collector.storage.journal.rows import Rows
from collector.storage.journal.shared_ids import SharedIds
from collector.storage.journal.shop_orders import OrderNames
from collector.storage.journal.tellings import Tellings
from collector.storage.learning import models
from collector.storage.outbox.outbox import Bound
from collector.storage.people.identities import Identities
from collector.storage.verbs.ports import Parts
from collector.storage.verbs.queueing import Figures


def parts_of(
    db: apsw.Connection,
    names: KeyedHash,
    lookup: Lookup,
    clicks: Clicks,
    figures: Figures,
    tellings: Tellings,
    sums: NewRows,
    outbox: Bound,
) -> Parts:
    """All of them; owned by the writer thread."""
    return Parts(
        lookup=lookup,
        clicks=clicks,
        rows=Rows(db, lookup, sums),
        outbox=outbox,
        identities=Identities(db),
        refunds=Refunds(db, outbox),
        order_names=OrderNames(db, lookup, figures),
        tellings=tellings,
        shared=SharedIds(db, names),
        event_names=EventNames(db),
        models=models.in_force(db),
    )

"""Several reports of one click: what they are together."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import structs

from collector.core import flags
from collector.core.events import StoredClick
from collector.core.matching.shapes import FP_VERSION_MASK
from collector.exchange.clicks import without_visitor
from collector.exchange.rows import ClickRow

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredClick).decode
LAST_SEEN_STEP_MS: Final = 60_000  # a reload within a minute does not rewrite the row
_FILLED = ("referrer", "visitor_id", "fbp", "fbc", "fingerprint_version", "event_id")
REFUSED = flags.DENIED | flags.WITHDRAWN
_EITHER = REFUSED | flags.RECOVERED
_UNLESS_BOTH = flags.BOT | flags.PREFETCH | flags.PENDING | flags.TEST | flags.TIME_CORRECTED


def united(row: ClickRow, other: ClickRow) -> ClickRow:
    """Two reports of a click as one, whichever came first: each adds what the other lacks, the earlier sighting wins.

    A refusal stands, also beside a grant; a grant ends the wait for a decision; a person's hit confirms what a crawler
    or a prefetch told before.
    """
    first, second = (other, row) if other.ts < row.ts else (row, other)
    bits = first.flags & second.flags & _UNLESS_BOTH | (first.flags | second.flags) & _EITHER
    if bits & REFUSED:
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
        marketing="denied" if bits & REFUSED else "pending" if bits & flags.PENDING else "granted",
        ldu=a.ldu or b.ldu,
        bot=a.bot or b.bot if bits & flags.BOT else None,
    )

"""What a shop is told of an answer that changed after it was given: from the conversion's row, the newest."""

from __future__ import annotations

from typing import Final, cast

import msgspec
from msgspec import Struct

from collector.core.events import StoredEvent
from collector.core.ids import PublicIds

# Beyond it a shop that could not be reached asks GET /v1/conversions instead.
KEPT_MS: Final = 7 * 86_400_000


class Revision(Struct, frozen=True, rename="camel"):
    """What the shop is told of one conversion; the rest is at GET /v1/conversions/{conversionId}. Nothing personal."""

    conversion_id: str
    store_id: str
    event_type: str
    order_id: str | None
    revision: int
    attributed: bool
    click_id: str | None
    confidence_score: int | None
    method: str | None


Noted = tuple[int, int, Revision]  # conversion, the revision that was noted, and what is told: the newest


def noted(public: PublicIds, row: tuple[object, ...]) -> Noted:
    """Of conversion, revision as noted and as it is, store, event type, click, confidence, method and body."""
    conversion, was, revision, store, event_type, click, confidence, method, body = cast(
        "tuple[int, int, int, str, str, int | None, int | None, str | None, bytes]", row
    )
    return (
        conversion,
        was,
        Revision(
            conversion_id=public.public("conv", conversion),
            store_id=store,
            event_type=event_type,
            order_id=msgspec.msgpack.decode(body, type=StoredEvent).order_id,
            revision=revision,
            attributed=method is not None,
            click_id=public.public("click", click) if click is not None else None,
            confidence_score=confidence,
            method=method,
        ),
    )

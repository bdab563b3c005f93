"""Who asked to be forgotten stays forgotten: what arrives about an erased person afterwards.

    the order that was erased           refused: it would be stored, and sent to Meta, a second time
    anything from before the erasure    refused: it is late word of what was erased
    anything newer                      taken, without the old names: a new visitor

`at`: when (ms) each was erased, by keyed name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import structs

from collector.core.events import StoredClick
from collector.core.orders import without_person
from collector.errors import ApiError
from collector.exchange.clicks import NewClick
from collector.exchange.naming import NewEvent

_encode = msgspec.msgpack.Encoder().encode
_decode_click = msgspec.msgpack.Decoder(StoredClick).decode
_LATE: Final = "this is from before its visitor or customer was erased on request, and is not stored again"
_ORDER: Final = "this order was erased on request; it is neither stored nor sent again"


def admit(at: Mapping[int, int], click: NewClick) -> NewClick | ApiError:
    """A click as it may be stored."""
    _, ts, _, _, fbclid_k, visitor_k, fbp_k, *_ = click.row
    if fbclid_k in at:  # reported again: the click that was erased
        return _refused("forbidden", _LATE)
    if visitor_k not in at and fbp_k not in at:
        return click
    if ts <= max(at.get(visitor_k, 0), at.get(fbp_k, 0)):
        return _refused("forbidden", _LATE)
    return _newcomer(click)


def _newcomer(click: NewClick) -> NewClick:
    """The click without the visitor that it still names."""
    row = list(click.row)
    row[5] = row[6] = None  # visitor_k, fbp_k
    row[-1] = _encode(structs.replace(_decode_click(click.row[-1]), visitor_id=None, fbp=None, fbc=None))
    return NewClick(tuple(row), click.network, None, click.fbclid)


def admit_event(at: Mapping[int, int], new: NewEvent) -> NewEvent | ApiError:
    """A conversion or funnel event as it may be stored."""
    query = new.query
    if new.dedup_k in at:
        return _refused("order_conflict", _ORDER, "orderId")
    if new.order_k in at:  # a page is not told that there was such an order: of its telling nobody is kept
        nobody = structs.replace(query, visitor_k=None, fbp_k=None, fbclid_k=None, fbc_k=None, ip_k=None, fp_k=None)
        return structs.replace(new, event=without_person(new.event), query=nobody, identities=[], told=None)
    own = [query.visitor_k, query.fbp_k, query.fbclid_k, query.fbc_k]
    own += [key for kind, key in new.identities if kind != "email_weak"]  # a mailbox may be a whole family's
    own += [new.former.get(name or 0) for name in own]
    held = {name for name in own if name in at}
    if held and new.event.ts <= max(at.get(name, 0) for name in held if name is not None):
        return _refused("forbidden", _LATE)
    held |= {key for _, key in new.identities if key in at or new.former.get(key) in at}
    if not held:
        return new
    gone = {column for column in ("visitor", "fbp", "fbclid", "fbc") if getattr(query, f"{column}_k") in held}
    event = structs.replace(new.event, **{"visitor_id" if c == "visitor" else c: None for c in gone})
    query = structs.replace(query, **{f"{column}_k": None for column in gone})
    if "fbp" in gone:
        query.jar_since = None
    if "fbc" in gone:
        query.fbc_created = None
    kept = [(kind, key) for kind, key in new.identities if key not in held]
    return structs.replace(new, event=event, query=query, identities=kept)


def _refused(code: str, text: str, field: str | None = None) -> ApiError:
    """Word of somebody who was erased: the order's number is not kept with its refusal either."""
    error = ApiError(code, text, field)
    error.order = ""
    return error


def or_raise(admitted: NewEvent | ApiError) -> NewEvent:
    """The event; raised where it is a refusal."""
    if isinstance(admitted, ApiError):
        raise admitted
    return admitted

"""Which event_id does an event get when its caller gives none?

    event_id = first 32 hex characters of SHA-256( UTF-8( storeId + "|" + eventType + "|" + orderId ) )

A page computes the same one for the browser pixel's `eventID`, so that Meta keeps one of the two (it compares event_id
and event_name within 48 hours):

    const bytes = new TextEncoder().encode(`${storeId}|${eventType}|${orderId}`);
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const eventID = [...hash.slice(0, 16)].map(b => b.toString(16).padStart(2, "0")).join("");
    fbq("track", eventType, {value, currency}, {eventID});
"""

from __future__ import annotations

from hashlib import sha256


def derive(store_id: str, event_type: str, order_id: str) -> str:
    """The event_id of an order's event: the same for the same three values, on any machine, for ever."""
    return sha256(f"{store_id}|{event_type}|{order_id}".encode()).hexdigest()[:32]

"""A stored event without the raw address and user agent that it came with."""

from __future__ import annotations

import msgspec

from collector.core.events import StoredEvent


def without_network(body: bytes) -> bytes | None:
    """The encoded event without them; None when it had none."""
    event = msgspec.msgpack.decode(body, type=StoredEvent)
    if event.ip is None and event.user_agent is None:
        return None
    event.ip = event.user_agent = None
    return msgspec.msgpack.encode(event)

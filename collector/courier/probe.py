"""What does Meta say to one test purchase, word for word?"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from hashlib import sha256

from msgspec import Struct

from collector.config import Config, PixelConfig, StoreConfig
from collector.core.capi.payload import Profile, build_event
from collector.core.capi.verdicts import Answer, Verdict, classify
from collector.core.events import Enrichment, StoredEvent
from collector.courier.graph import GraphClient
from collector.courier.targets import Target, base_of


class Probe(Struct, frozen=True):
    """The answer as it came, and how the courier reads it."""

    pixel: str
    answer: Answer
    verdict: Verdict


def send_test(config: Config, store: StoreConfig, pixel: PixelConfig, test_code: str, now: int) -> Probe:
    """Post one Purchase of a made-up person under `test_code`; nothing is stored. `now` in ms."""
    payload = build_event(_event(store, now), Enrichment(), Profile()).payload
    return asyncio.run(_send(config, pixel, payload, test_code))


def _event(store: StoreConfig, now: int) -> StoredEvent:
    domain = store.domains[0] if store.domains else "example.com"
    return StoredEvent(
        event_type="Purchase",
        event_id=f"collector-test-{now}",
        ts=now,
        received=now,
        order_id=f"collector-test-{now}",
        value=Decimal("1.00"),
        currency=store.currency or "USD",
        user_data={"em": [sha256(b"collector-test@example.com").hexdigest()]},
        user_agent="Mozilla/5.0 (compatible; collector send-test)",
        event_source_url=f"https://{domain}/",
    )


async def _send(config: Config, pixel: PixelConfig, payload: bytes, test_code: str) -> Probe:
    graph = GraphClient(config.meta)
    try:
        target = Target(pixel.id, base_of(config.meta), pixel.access_token, config.meta.app_secret)
        answer = await graph.send(target, [payload], test_code)
    finally:
        await graph.close()
    return Probe(pixel.id, answer, classify(answer, 1))

"""The stores of the configuration as edge and keeper need them: their numbers, their terms, their pixels."""

from __future__ import annotations

from msgspec import Struct

from collector.config import StoreConfig
from collector.core.capi import gate
from collector.core.capi.gate import Gate, Terms
from collector.core.capi.payload import Profile
from collector.core.capi.states import CapiState
from collector.core.events import StoredEvent
from collector.core.matching import Policy


class Pixel(Struct, frozen=True):
    """A pixel of a store; `events` empty: it takes all."""

    number: int
    events: frozenset[str]

    def takes(self, event_type: str) -> bool:
        return not self.events or event_type in self.events


class Store(Struct, frozen=True):
    """One store, ready for the writer."""

    number: int
    config: StoreConfig
    terms: Terms
    profile: Profile
    policy: Policy
    pixels: tuple[Pixel, ...]
    siblings: tuple[int, ...]  # other stores that share a registrable domain with it
    purchase_wait: float
    other_wait: float
    dry_run: bool


def decide(event: StoredEvent, store: Store) -> Gate:
    """What the store's terms make of the event."""
    pixels = sum(p.takes(event.event_type) for p in store.pixels)
    verdict = gate.decide(event, store.terms, pixels or int(store.dry_run))
    if not pixels and verdict.state is CapiState.QUEUED:
        return Gate(CapiState.DRY_RUN)
    return verdict

"""How long is each kind of record kept, and what is cut now?"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from collector.config import PrivacyConfig

DAY_MS: Final = 86_400_000
COUNTER_DAYS: Final = 400


class Cuts(Struct, frozen=True):
    """The moments (ms) before which a kind of record goes."""

    network: int  # raw addresses and user agents, wherever they stand
    clicks: int
    conversions: int
    dead_payloads: int  # what Meta refused: its payload holds an address too, so the shorter of the two
    identities: int
    idempotency: int
    counter_day: int


def cuts(privacy: PrivacyConfig, now: int) -> Cuts:
    """What the settings say at `now`."""
    return Cuts(
        network=now - privacy.network_days * DAY_MS,
        clicks=now - privacy.click_days * DAY_MS,
        conversions=now - privacy.conversion_days * DAY_MS,
        dead_payloads=now - min(privacy.dead_letter_days, privacy.network_days) * DAY_MS,
        identities=now - privacy.click_days * DAY_MS,
        idempotency=now,
        counter_day=now // DAY_MS - COUNTER_DAYS,
    )

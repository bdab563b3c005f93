"""The stores of the configuration as the writer needs them: their numbers, their terms, their pixels."""

from __future__ import annotations

import apsw

from collector.config import Config, StoreConfig
from collector.core.capi.gate import Terms
from collector.core.capi.payload import Profile
from collector.core.cookies import site_name
from collector.core.matching import Policy
from collector.exchange.stores import Pixel, Store

_DAY_MS = 86_400_000


def load(db: apsw.Connection, config: Config) -> dict[str, Store]:
    """Every store of the configuration by its id; numbers are made at first use, inside the caller's transaction."""
    numbers = {s.id: _number(db, s.id) for s in config.store}
    pixels = {p.id: pixel_number(db, p.id) for s in config.store for p in s.pixel}
    sites = {s.id: set(map(site_name, s.domains)) for s in config.store}
    return {s.id: _store(s, config, numbers, pixels, sites) for s in config.store}


def _number(db: apsw.Connection, name: str) -> int:
    db.execute("INSERT INTO store (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    return int(db.execute("SELECT id FROM store WHERE name = ?", (name,)).get)


def pixel_number(db: apsw.Connection, name: str) -> int:
    """The short number of Meta's pixel id, made at first use."""
    db.execute("INSERT INTO pixel (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    return int(db.execute("SELECT id FROM pixel WHERE name = ?", (name,)).get)


def _store(
    store: StoreConfig, config: Config, numbers: dict[str, int], pixels: dict[str, int], sites: dict[str, set[str]]
) -> Store:
    matching, meta = config.matching, config.meta
    probabilistic = matching.probabilistic if store.probabilistic is None else store.probabilistic
    return Store(
        number=numbers[store.id],
        config=store,
        terms=Terms(mode=meta.mode, send_purchase_on=store.send_purchase_on, browser_purchases=store.browser_purchases),
        profile=Profile(
            ldu=config.privacy.ldu if store.ldu is None else store.ldu,
            url=f"https://{store.domains[0].removeprefix('*.').removesuffix('.')}/" if store.domains else None,
        ),
        policy=Policy(
            window_ms=matching.window_days * _DAY_MS,
            click_ms=matching.click_days * _DAY_MS,
            threshold=matching.threshold,
            strong=matching.strong,
            probabilistic=probabilistic,
        ),
        pixels=tuple(Pixel(pixels[p.id], frozenset(p.events)) for p in store.pixel),
        siblings=tuple(numbers[o.id] for o in config.store if o.id != store.id and sites[o.id] & sites[store.id]),
        purchase_wait=meta.batch_wait_seconds.purchase,
        other_wait=meta.batch_wait_seconds.other,
        dry_run=meta.mode == "dry_run",
    )

"""The stores of the configuration as the writer needs them: their numbers, their terms, their pixels."""

from __future__ import annotations

from collections.abc import Mapping

from collector.config import Config, StoreConfig
from collector.core.capi.gate import Terms
from collector.core.capi.payload import Profile
from collector.core.cookies import site_name
from collector.core.matching import Policy
from collector.exchange.stores import Pixel, Store

_DAY_MS = 86_400_000


def stores_of(config: Config, numbers: Mapping[str, int], pixels: Mapping[str, int]) -> dict[str, Store]:
    """Every store by its id; `numbers` of stores and of `pixels` are the database's."""
    sites = {s.id: set(map(site_name, s.domains)) for s in config.store}
    return {s.id: _store(s, config, numbers, pixels, sites) for s in config.store}


def _store(
    store: StoreConfig,
    config: Config,
    numbers: Mapping[str, int],
    pixels: Mapping[str, int],
    sites: Mapping[str, set[str]],
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

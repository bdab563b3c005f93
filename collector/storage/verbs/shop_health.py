"""Is a shop's word missing? What a person should look at, in sentences (C7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from collector.config import Config, StoreConfig
from collector.core.capi.states import CapiState

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_FIRST_PULL_MS: Final = 7 * _DAY_MS
_WRONG: Final = 5  # wrong signatures within EVERY_S of courier/shops/watch.py
_FEW: Final = 20
# How an order may end that is as it should be.
FINE: Final = tuple(
    map(int, (CapiState.SENT, CapiState.HELD, CapiState.SKIPPED, CapiState.DRY_RUN, CapiState.DISABLED))
)


class Figures(Protocol):
    """What an engine has counted of a store; times in ms."""

    def number(self, store: str) -> int | None:
        """What the store is called in the rows."""
        ...

    def counted(self, name: str, store: int, day: int) -> int:
        """The figure of this name since a day (since 1970)."""
        ...

    def missed(self, store: int, since: int, first_pull: int) -> int:
        """Orders placed since then that the pull alone has told, over 15 minutes after they were placed.

        Not those of the first pull, from before its time: it goes back so long.
        """
        ...

    def told(self, store: int) -> tuple[int, int | None, int | None]:
        """Of the deliveries that are known: how many have told an order, when the last one came, the newest order."""
        ...

    def purchased(self, store: int, after: int, since: int) -> bool:
        """Whether a purchase behind this row came since then."""
        ...

    def stood(self, store: int, since: int, until: int) -> tuple[int, int]:
        """The shop's orders of these times, and of how many the end is known and as it should be."""
        ...


class Health:
    """Over what an engine has counted."""

    def __init__(self, figures: Figures, config: Config) -> None:
        self._figures, self._config = figures, config
        self._refused: dict[str, int] = {}

    def look(self, now: int) -> dict[str, str]:
        """What is amiss, by the alert's kind; several stores' sentences are one text."""
        found: dict[str, str] = {}
        for store in self._config.store:
            number = self._figures.number(store.id)
            for kind, text in self._amiss(store, number, now) if number is not None else ():
                found[kind] = f"{found[kind]}; {store.id}: {text}" if kind in found else f"{store.id}: {text}"
        return found

    def _amiss(self, store: StoreConfig, number: int, now: int) -> Iterator[tuple[str, str]]:
        if (wrong := self._newly(store.id, number, now)) >= _WRONG:
            yield "shop_signature", f"{wrong} webhooks with a wrong signature: is the secret the shop's present one?"
        if self._figures.counted("shop.redacted", number, now // _DAY_MS):
            yield "shop_redacted", "orders come without a person: the app lacks access to protected customer data"
        if self._figures.counted("shop.too_large", number, now // _DAY_MS):
            yield "shop_too_large", "an order was larger than [edge] max_webhook_bytes; it can only come by the pull"
        if store.pixel_mode == "pixel+server" and self._figures.counted("shop.page_number", number, now // _DAY_MS):
            yield "shop_order_key", "pages tell another order number, and Meta counts such orders twice: set order_key"
        if silent := self._silent(number, now):
            yield (
                "shop_silent",
                f"purchases go on, and no webhook came for {silent // 60_000} minutes: is it switched off?",
            )
        if missed := self._figures.missed(number, now - _DAY_MS, _FIRST_PULL_MS):
            yield "shop_missed", f"the pull found {missed} orders that no webhook told: is one for each topic set up?"
        if (share := self._share(number, now)) is not None and share < self._config.alerts.accuracy_percent:
            yield "shop_accuracy", f"accuracy is {share:.1f} %: see `collector report reconcile --since 2d --by reason`"

    def _newly(self, store: str, number: int, now: int) -> int:
        """Wrong signatures since the last look."""
        count = self._figures.counted("shop.refused.signature_invalid", number, now // _DAY_MS - 1)
        before = self._refused.get(store, count)
        self._refused[store] = count
        return max(count - before, 0)

    def _silent(self, number: int, now: int) -> int:
        """For how long (ms) a shop that used to tell has told nothing, while purchases come by another way."""
        told, last, conversion = self._figures.told(number)
        if not told or last is None:
            return 0
        quiet = now - last
        if quiet < max(_HOUR_MS, 10 * (8 * _DAY_MS // told)):
            return 0
        return quiet if self._figures.purchased(number, conversion or 0, last + _HOUR_MS) else 0

    def _share(self, number: int, now: int) -> float | None:
        """Of yesterday (24 h that ended 2 h ago), the percentage whose end is known; None of few orders."""
        until = now - 2 * _HOUR_MS
        orders, fine = self._figures.stood(number, until - _DAY_MS, until)
        return 100 * fine / orders if orders >= _FEW else None

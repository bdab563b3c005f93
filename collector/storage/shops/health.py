"""Is a shop's word missing? What a person should look at, in sentences (C7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import apsw

from collector.config import Config, StoreConfig
from collector.core.capi.states import CapiState

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000
_FIRST_PULL_MS: Final = 7 * _DAY_MS
_WRONG: Final = 5  # wrong signatures within EVERY_S of courier/shops/watch.py
_FEW: Final = 20
_FINE: Final = (CapiState.SENT, CapiState.HELD, CapiState.SKIPPED, CapiState.DRY_RUN, CapiState.DISABLED)
_REFUSED: Final = """
SELECT coalesce(sum(n), 0) FROM counter WHERE store = ? AND name = 'shop.refused.signature_invalid' AND day >= ?"""
_LARGE: Final = "SELECT coalesce(sum(n), 0) FROM counter WHERE store = ? AND name = 'shop.too_large' AND day >= ?"
_REDACTED: Final = "SELECT coalesce(sum(n), 0) FROM counter WHERE store = ? AND name = 'shop.redacted' AND day >= ?"
_OTHER_NUMBER: Final = (
    "SELECT coalesce(sum(n), 0) FROM counter WHERE store = ? AND name = 'shop.page_number' AND day >= ?"
)
# Found by the pull alone, over 15 minutes after they were placed; not those of the first pull, from before its time.
_MISSED: Final = """
SELECT count(*) FROM shop_order s JOIN store t ON t.id = s.store JOIN shop_pull p ON p.store = t.name
 WHERE s.store = ? AND s.ts > ? AND s.ts > p.since + ? AND s.seen & 3 = 2 AND s.first > s.ts + 900000"""
_TOLD: Final = "SELECT count(*), max(at), max(conversion) FROM shop_delivery WHERE store = ? AND conversion IS NOT NULL"
_BESIDE: Final = """
SELECT 1 FROM conversion WHERE id > ? AND store = ? AND event_type = 'Purchase' AND received > ? LIMIT 1"""
_STOOD: Final = f"""
SELECT count(*), coalesce(sum(coalesce(o.state, c.capi) IN ({", ".join(str(int(s)) for s in _FINE)})
       OR (s.conversion IS NULL AND s.reason IS NOT NULL)), 0)
  FROM shop_order s LEFT JOIN conversion c ON c.id = s.conversion LEFT JOIN outbox o ON o.conversion = s.conversion
 WHERE s.store = ? AND s.ts >= ? AND s.ts < ?"""


class Health:
    """Over a connection of its thread's own."""

    def __init__(self, db: apsw.Connection, config: Config) -> None:
        self._db, self._config = db, config
        self._refused: dict[str, int] = {}

    def look(self, now: int) -> dict[str, str]:
        """What is amiss, by the alert's kind; several stores' sentences are one text."""
        found: dict[str, str] = {}
        for store in self._config.store:
            number = self._db.execute("SELECT id FROM store WHERE name = ?", (store.id,)).get
            for kind, text in self._amiss(store, number, now) if number is not None else ():
                found[kind] = f"{found[kind]}; {store.id}: {text}" if kind in found else f"{store.id}: {text}"
        return found

    def _amiss(self, store: StoreConfig, number: int, now: int) -> Iterator[tuple[str, str]]:
        if (wrong := self._newly(store.id, number, now)) >= _WRONG:
            yield "shop_signature", f"{wrong} webhooks with a wrong signature: is the secret the shop's present one?"
        if self._count(_REDACTED, number, now // _DAY_MS):
            yield "shop_redacted", "orders come without a person: the app lacks access to protected customer data"
        if self._count(_LARGE, number, now // _DAY_MS):
            yield "shop_too_large", "an order was larger than [edge] max_webhook_bytes; it can only come by the pull"
        if store.pixel_mode == "pixel+server" and self._count(_OTHER_NUMBER, number, now // _DAY_MS):
            yield "shop_order_key", "pages tell another order number, and Meta counts such orders twice: set order_key"
        if silent := self._silent(number, now):
            yield (
                "shop_silent",
                f"purchases go on, and no webhook came for {silent // 60_000} minutes: is it switched off?",
            )
        if missed := self._count(_MISSED, number, now - _DAY_MS, _FIRST_PULL_MS):
            yield "shop_missed", f"the pull found {missed} orders that no webhook told: is one for each topic set up?"
        if (share := self._share(number, now)) is not None and share < self._config.alerts.accuracy_percent:
            yield "shop_accuracy", f"accuracy is {share:.1f} %: see `collector report reconcile --since 2d --by reason`"

    def _count(self, sql: str, *bound: int) -> int:
        return cast(int, self._db.execute(sql, bound).get)

    def _newly(self, store: str, number: int, now: int) -> int:
        """Wrong signatures since the last look."""
        count = self._count(_REFUSED, number, now // _DAY_MS - 1)
        before = self._refused.get(store, count)
        self._refused[store] = count
        return max(count - before, 0)

    def _silent(self, number: int, now: int) -> int:
        """For how long (ms) a shop that used to tell has told nothing, while purchases come by another way."""
        row = self._db.execute(_TOLD, (number,)).fetchone()
        told, last, conversion = cast("tuple[int, int | None, int | None]", row)
        if not told or last is None:
            return 0
        quiet = now - last
        if quiet < max(_HOUR_MS, 10 * (8 * _DAY_MS // told)):
            return 0
        return quiet if self._db.execute(_BESIDE, (conversion, number, last + _HOUR_MS)).get else 0

    def _share(self, number: int, now: int) -> float | None:
        """Of yesterday (24 h that ended 2 h ago), the percentage whose end is known; None of few orders."""
        until = now - 2 * _HOUR_MS
        row = self._db.execute(_STOOD, (number, until - _DAY_MS, until)).fetchone()
        orders, fine = cast("tuple[int, int]", row)
        return 100 * fine / orders if orders >= _FEW else None

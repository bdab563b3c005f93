"""PostgreSQL's sums, counted anew from the rows: each body is decoded here."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Protocol

from collector.core.flags import NO_SALE
from collector.storage.rules import counted
from collector.storage.rules.counted import NOWHERE, QUARTER_MS

Sums = dict[str, dict[tuple[Any, ...], Any]]
_DAY: Final = 96
_VIEWS: Final = {
    "click_sums": ("store, quarter, place, apart", "sum(n)"),
    "click_days": ("store, day, place, apart", "sum(n)"),
    "click_quarters": ("store, quarter", "sum(n)"),
    "sale_sums": ("store, event, quarter, currency, place, tier", "ARRAY[sum(n), sum(units), sum(reversed)]"),
    "sale_days": ("store, event, day, currency, place, tier", "ARRAY[sum(n), sum(units), sum(reversed)]"),
    "sale_quarters": ("store, event, quarter, currency, tier", "ARRAY[sum(n), sum(units), sum(reversed)]"),
    "delivery_sums": ("store, event, quarter, sale, pixel, state, doubt", "sum(n)"),
    "truth_sums": ("store, day, purchase, label", "sum(n)"),
    "wait_sums": ("pixel, quarter, step", "sum(n)"),
}


class Rows(Protocol):
    def rows(self, sql: str) -> list[Any]: ...


def told(kit: Rows) -> Sums:
    """What the sums say, folded or not."""
    found: Sums = {}
    for view, (keys, sums) in _VIEWS.items():
        rows = kit.rows(f"SELECT {keys}, {sums} FROM {view} GROUP BY {keys}")
        found[view] = {tuple(row[:-1]): _plain(row[-1]) for row in rows}
        found[view] = {key: n for key, n in found[view].items() if n not in (0, (0, 0, 0))}
    return found


def _plain(n: Any) -> Any:
    return tuple(map(int, n)) if isinstance(n, list) else int(n)


def recounted(kit: Rows) -> Sums:
    """What the rows are, one by one."""
    places = {(store, name): number for number, store, name in kit.rows("SELECT id, store, name FROM place")}
    clicks: dict[int, int] = {}
    found: dict[str, Counter[tuple[Any, ...]]] = {view: Counter() for view in _VIEWS}
    for number, store, ts, marks, body in kit.rows("SELECT id, store, ts, flags, body FROM click"):
        clicks[number] = places.get((store, counted.click_place(body)), 0)
        place, apart = 0 if marks & NOWHERE else clicks[number], counted.click_apart(marks, body)
        quarter = ts // QUARTER_MS
        found["click_sums"][store, quarter, place, apart] += 1
        found["click_days"][store, quarter // _DAY, place, apart] += 1
        found["click_quarters"][store, quarter] += not apart
    queued: dict[int, list[tuple[int, int, bool]]] = {}
    for order, pixel, state, doubts, created, settled in kit.rows(
        "SELECT conversion, pixel, state, doubts, created, settled FROM outbox"
    ):
        queued.setdefault(order, []).append((pixel, state, doubts > 0))
        if state == 10 and settled >= created:
            found["wait_sums"][pixel, created // QUARTER_MS, counted.wait_step(settled - created)] += 1
    sales: dict[str, dict[tuple[Any, ...], list[int]]] = {"sale_sums": {}, "sale_days": {}, "sale_quarters": {}}
    for number, store, ts, name, marks, click, capi, body, match in kit.rows(
        "SELECT id, store, ts, event_type, flags, click, capi, body, match FROM conversion"
    ):
        event, quarter, sale = counted.event_name_of(name), ts // QUARTER_MS, not marks & NO_SALE
        for one in queued.get(number, [(0, capi, False)]):
            found["delivery_sums"][store, event, quarter, sale, *one] += 1
        if not sale:
            continue
        if (label := counted.match_label(match, name)) is not None:
            found["truth_sums"][store, ts // 86_400_000, name == "Purchase", label] += 1
        currency, tier, place = counted.event_currency(body), counted.match_tier(match), clicks.get(click, 0)
        for view, key in (
            ("sale_sums", (store, event, quarter, currency, place, tier)),
            ("sale_days", (store, event, quarter // _DAY, currency, place, tier)),
            ("sale_quarters", (store, event, quarter, currency, tier)),
        ):
            sums = sales[view].setdefault(key, [0, 0, 0])
            for i, n in enumerate((1, counted.event_units(body), counted.event_ended(body))):
                sums[i] += n
    for view, rows in sales.items():
        found[view] = {key: tuple(n) for key, n in rows.items()}  # type: ignore[assignment]
    return {view: {key: n for key, n in counts.items() if n not in (0, (0, 0, 0))} for view, counts in found.items()}


def compare(kit: Rows) -> Sums:
    """What the sums say, which is what the rows are."""
    found, wanted = told(kit), recounted(kit)
    for view in _VIEWS:
        assert found[view] == wanted[view], view
    return found

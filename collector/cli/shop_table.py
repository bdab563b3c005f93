"""The sums of a shop's orders as a table."""

from __future__ import annotations

from collector.cli.output import print_table
from collector.core.shops.counted import CLASSES, Line


def percent(share: float | None) -> str:
    """A share as people read it; a dash where there was nothing to share."""
    return "–" if share is None else f"{share:.2f} %"


def show(lines: list[Line], by: str = "day") -> None:
    """The lines as a table, newest last."""
    rows = [
        [
            line.store,
            line.pixel or "-",
            line.day,
            line.currency,
            line.orders,
            *(getattr(line, name) for name in CLASSES),
            percent(line.accuracy),
            percent(line.delivered),
            line.basis,
        ]
        for line in lines
    ]
    print_table(rows, head=["store", "pixel", by, "currency", "orders", *CLASSES, "accuracy", "delivered", "basis"])

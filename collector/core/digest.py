"""What do some days of a shop come to? The sums that Campaigns, a shared link and the weekly report have alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from collector.core.capi.parts import GOOD

Money = dict[str, Decimal]  # by currency: never added up


def _money() -> Money:
    return defaultdict(Decimal)


@dataclass(slots=True)
class Line:
    """What one name brought, and what its ads cost."""

    clicks: int = 0
    orders: int = 0
    proven: int = 0
    value: Money = field(default_factory=_money)
    sure: Money = field(default_factory=_money)  # of the proven ones alone
    spend: Money = field(default_factory=_money)

    def add(self, other: Line) -> None:
        self.clicks, self.orders = self.clicks + other.clicks, self.orders + other.orders
        self.proven += other.proven
        for own, more in ((self.value, other.value), (self.sure, other.sure), (self.spend, other.spend)):
            for code, amount in more.items():
                own[code] += amount

    @property
    def cost_each(self) -> tuple[str, Decimal] | None:
        """What an order cost; of two currencies nobody can say."""
        if len(self.spend) != 1 or not self.orders:
            return None
        ((code, spend),) = self.spend.items()
        return code, spend / self.orders

    @property
    def roas(self) -> list[tuple[Decimal, Decimal]]:
        """Value for each unit spent in the same currency: of the proven orders alone, and with the likely ones."""
        return [
            (self.sure.get(code, Decimal(0)) / spend, self.value.get(code, Decimal(0)) / spend)
            for code, spend in sorted(self.spend.items())
            if spend > 0 and (code in self.value or not self.value)
        ]


def whole(lines: Iterable[Line]) -> Line:
    """All lines in one."""
    out = Line()
    for line in lines:
        out.add(line)
    return out


@dataclass(slots=True)
class Day:
    """One day of the shop's."""

    orders: int = 0
    attributed: int = 0
    clicks: int = 0
    value: Money = field(default_factory=_money)


def added(days: Iterable[Day]) -> Day:
    """Several days in one."""
    out = Day()
    for day in days:
        out.orders, out.attributed = out.orders + day.orders, out.attributed + day.attributed
        out.clicks += day.clicks
        for code, amount in day.value.items():
            out.value[code] += amount
    return out


@dataclass(slots=True)
class Digest:
    """The sums of some days. `parts`: where the events stand with Meta, each pixel's; `campaigns` by name."""

    days: dict[date, Day]
    parts: dict[str, int]
    campaigns: dict[str, Line]

    @property
    def orders(self) -> int:
        return sum(day.orders for day in self.days.values())

    @property
    def attributed(self) -> int:
        return sum(day.attributed for day in self.days.values())

    @property
    def clicks(self) -> int:
        return sum(day.clicks for day in self.days.values())

    @property
    def value(self) -> Money:
        return {code: amount for code, amount in sorted(added(self.days.values()).value.items()) if code}

    @property
    def delivered(self) -> tuple[int, int]:
        """How many Meta has or were left out on purpose, of how many."""
        return sum(self.parts.get(part, 0) for part in GOOD), sum(self.parts.values())

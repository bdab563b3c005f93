"""What did the ads cost, by our own lines? The ad account's figures, joined; what joins with none is a line as well.

Days are the account's (its zone, its calendar); each currency is a sum of its own and never added to another's.
Whatever is asked, the lines add up to the account's spend of these days, to the cent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from msgspec import Struct

from collector.config import Config
from collector.core import times
from collector.core.days import Days, day_of, zone_of
from collector.core.insights import EPOCH, NONE, NOT_JOINED, UNITS, Ad, Lines, Path, ShopLine, day_number
from collector.core.landing import Campaign
from collector.storage.reports.kept import SEPARATOR, Span, clicks_by_place
from collector.storage.reports.questions import Questions, named

_SPENT: Final = named(
    "spent",
    """
SELECT i.ad, coalesce(a.ad_name, ''), coalesce(a.adset, ''), coalesce(a.adset_name, ''), coalesce(a.campaign, ''),
       coalesce(a.campaign_name, ''), i.currency, i.spend, i.impressions, i.clicks, i.purchases, i.purchase_units
  FROM (SELECT ad, currency, sum(spend) AS spend, sum(impressions) AS impressions, sum(link_clicks) AS clicks,
               sum(purchases) AS purchases, sum(purchase_units) AS purchase_units
          FROM insight WHERE account = ? AND day BETWEEN ? AND ? GROUP BY ad, currency) i
  LEFT JOIN insight_ad a ON a.account = ? AND a.ad = i.ad""",
)
_STATE: Final = named(
    "ad account",
    "SELECT currency, timezone, since, until, at, unread, fault, fault_at FROM insight_account WHERE account = ?",
)
_PLACES: Final = named("all places", "SELECT id, store, name FROM place")


class InsightState(Struct, frozen=True, rename="camel", kw_only=True):
    """How the reading of the ad account stands; null where it never was read."""

    account: str
    currency: str | None = None
    timezone: str | None = None
    since: str | None = None  # the first day from which on all are known
    until: str | None = None
    last_read: str | None = None
    unread: int = 0  # rows of the last reading that were of no use
    fault: str | None = None
    fault_since: str | None = None


@dataclass(slots=True)
class Spent:
    """What ads did, in one currency. `purchases`, `value`: Meta's own, a day after a view or seven after a click."""

    spend: Decimal = Decimal(0)
    impressions: int = 0
    clicks: int = 0
    purchases: int = 0
    value: Decimal = Decimal(0)

    def add(self, other: Spent) -> None:
        self.spend, self.value = self.spend + other.spend, self.value + other.value
        self.impressions, self.clicks = self.impressions + other.impressions, self.clicks + other.clicks
        self.purchases += other.purchases


ByLine = dict[Path, dict[str, Spent]]  # line -> currency -> what its ads did


async def state(reader: Questions, config: Config) -> InsightState | None:
    """How the ad account of the configuration stands; None where none is set."""
    if not config.insights.ad_account:
        return None
    row = await reader.one(_STATE, config.insights.ad_account)
    if row is None:
        return InsightState(account=config.insights.ad_account)
    currency, timezone, since, until, at, unread, fault, fault_at = row
    return InsightState(
        account=config.insights.ad_account,
        currency=currency,
        timezone=timezone,
        since=_day(since),
        until=_day(until),
        last_read=None if at is None else times.text(at),
        unread=unread,
        fault=fault,
        fault_since=None if fault_at is None else times.text(fault_at),
    )


def _day(number: int | None) -> str | None:
    return None if number is None else str(EPOCH.fromordinal(EPOCH.toordinal() + number))


async def account_days(reader: Questions, config: Config, since: int, until: int) -> Days:
    """The account's days that a span (ms, `until` excluded) touches."""
    found = await state(reader, config)
    zone = zone_of((found and found.timezone) or "UTC") or zone_of("UTC")
    assert zone is not None
    return Days(day_of(since, zone), day_of(until - 1, zone))


async def spent(reader: Questions, config: Config, days: Days) -> list[tuple[Ad, str, Spent]]:
    """What each ad did in these days of the account's, by currency."""
    account = config.insights.ad_account
    if not account:
        return []
    rows = await reader.rows(_SPENT, account, day_number(days.first), day_number(days.last), account)
    return [(Ad(row[0], *row[1:6]), row[6], _spent(*row[7:])) for row in rows]


def _spent(spend: int, impressions: int, clicks: int, purchases: int, units: int) -> Spent:
    return Spent(Decimal(spend) / UNITS, impressions, clicks, purchases, Decimal(units) / UNITS)


async def total(reader: Questions, config: Config, days: Days) -> dict[str, Spent]:
    """What the whole account did, by currency: Meta's own figures, for beside ours."""
    out: dict[str, Spent] = defaultdict(Spent)
    for _, currency, one in await spent(reader, config, days):
        out[currency].add(one)
    return dict(out)


async def by_line(
    reader: Questions, config: Config, days: Days, span: Span, clicks: Mapping[int, int] | None = None
) -> ByLine:
    """The same by the lines of `span`'s stores; what is another store's, or nobody's, is `(not joined)`.

    `clicks`: those of the span by place, where they have been read.
    """
    found = await spent(reader, config, days)
    out: ByLine = defaultdict(lambda: defaultdict(Spent))
    if found:
        lines = Lines(await _lines(reader, span, clicks or {}))
        for ad, currency, one in found:
            store, *path = lines.of(ad)
            known = store in span.stores
            out[(path[0], path[1], path[2]) if known else (NOT_JOINED,) * 3][currency].add(one)
    return out


async def _lines(reader: Questions, span: Span, clicks: Mapping[int, int]) -> Mapping[ShopLine, int]:
    """Every store's lines, with their clicks in the span: an ad is one store's, whoever is looked at."""
    rows = await reader.rows(_PLACES)
    read = span.stores if clicks else ()
    others = tuple(sorted({store for _, store, _ in rows} - {*read}))
    more = await clicks_by_place(reader, Span(others, span.since, span.until)) if others else {}
    known: dict[ShopLine, int] = defaultdict(int)
    for number, store, name in rows:
        known[store, *path_of(Campaign(*name.split(SEPARATOR)))] += clicks.get(number, 0) + more.get(number, 0)
    return known


def path_of(place: Campaign) -> Path:
    """A place's line: campaign, ad set, ad."""
    return place.campaign or NONE, place.adset or NONE, place.ad or NONE

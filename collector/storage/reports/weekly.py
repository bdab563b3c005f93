"""A week of each shop, compared with the one before: the figures of Today and Campaigns, by the same sums."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

from collector.config import Config
from collector.core.days import Days, zone_of
from collector.core.digest import Digest
from collector.core.weekly import Shop, Week
from collector.core.weeks import days_before
from collector.storage.reports import insights
from collector.storage.reports.digest import digest
from collector.storage.reports.kept import Span
from collector.storage.reports.questions import Questions, named

_STORES: Final = named("stores by number", "SELECT id, name FROM store")


async def weekly(reader: Questions, config: Config, days: Days, store: str | None = None) -> Week:
    """The week of one shop, or of each active one; every shop's days are its own zone's."""
    numbers = {name: number for number, name in await reader.rows(_STORES)}
    shops = []
    for one in config.store:
        if one.id == store or (store is None and one.active):
            zone = zone_of(one.timezone) or ZoneInfo("UTC")
            stores = (numbers[one.id],) if one.id in numbers else ()
            own = await _digest(reader, config, stores, days, zone)
            before = await _digest(reader, config, stores, days_before(days), zone)
            shops.append(Shop(one.name or one.id, zone.key, own, before))
    spent, doubt = None, ""
    if config.insights.ad_account:
        spent = {code: found.spend for code, found in (await insights.total(reader, config, days)).items()}
        doubt = _doubt(await insights.state(reader, config), days)
    return Week(days, shops, spent, config.alerts.console_url.rstrip("/"), doubt)


def _doubt(account: insights.InsightState | None, days: Days) -> str:
    """What the spend of these days lacks, in a sentence; empty where the account was read after the last of them."""
    if account is None or account.since is None or account.until is None:
        return "Spend is not known: the ad account was not read yet."
    if account.since <= str(days.first) and str(days.last) < account.until:
        return ""
    return f"Spend is not whole, nor are cost and ROAS: known from {account.since} to a part of {account.until}."


def zone_of_week(config: Config, store: str | None = None) -> ZoneInfo:
    """By whose calendar a week is the last: that of the one shop that is reported of; of several, the console's."""
    shops = [one for one in config.store if one.id == store or (store is None and one.active)]
    return zone_of(shops[0].timezone if len(shops) == 1 else config.console.timezone) or ZoneInfo("UTC")


async def _digest(reader: Questions, config: Config, stores: tuple[int, ...], days: Days, zone: ZoneInfo) -> Digest:
    return await digest(reader, Span(stores, *days.span(zone)), days, zone, spend=config)

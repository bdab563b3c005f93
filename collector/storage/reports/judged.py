"""What do the database's facts mean? Pure judgements: facts, settings and a time in, findings out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from collector.config import Config, StoreConfig
from collector.core import saying, times
from collector.storage.reports.findings import Finding, fail, ok, warn
from collector.storage.reports.health import Facts

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_SILENT_DAYS: Final = 3
_BEAT_MS: Final = 60_000
_ENOUGH_ADDRESSES: Final = 10


def judge(facts: Facts, config: Config, now: int) -> Iterator[Finding]:
    """All that the database tells at `now` (ms)."""
    yield from _schema(facts)
    yield from _clock(facts, now)
    yield from _processes(facts, now)
    yield from _queue(facts, config, now)
    yield from _pixels(facts, config, now)
    yield from _visitors(facts)
    yield from _insights(facts, config)
    for store in config.store:
        if store.active:
            yield from _store(facts, store, now)


def _schema(facts: Facts) -> Iterator[Finding]:
    known = facts.held.newest_schema
    if facts.schema > known:
        yield fail(
            "schema", f"the database has schema {facts.schema}, this program knows {known}", "run the newer release"
        )
    elif facts.schema < known:
        yield warn(
            "schema", f"the database has schema {facts.schema} of {known}", "restart: a start brings it up to date"
        )
    else:
        yield ok("schema", f"schema {known}")


def _clock(facts: Facts, now: int) -> Iterator[Finding]:
    ahead = max((beat.at - now for beat in facts.beats), default=0)
    if ahead > _MINUTE_MS:
        yield fail(
            "clock.heartbeat",
            f"this machine's clock is {ahead // 1000} s behind the collector's own last sign of life",
            "set the clock (timedatectl set-ntp true)",
        )
    if facts.clock.advice:
        yield fail("clock.held", facts.clock.advice, "collector clock show; set the clock, or collector clock accept")


def _processes(facts: Facts, now: int) -> Iterator[Finding]:
    if not facts.beats:
        yield warn("processes", "no process has ever run on this database", "start it: collector serve")
    for beat in facts.beats:
        if now - beat.at > _BEAT_MS:
            age = saying.age(now - beat.at)
            yield fail("processes", f"{beat.process} gave its last sign of life {age} ago", "start it: collector serve")
        else:
            yield ok("processes", f"{beat.process} lives")


def _queue(facts: Facts, config: Config, now: int) -> Iterator[Finding]:
    limit = config.alerts.backlog_minutes * _MINUTE_MS
    for name in sorted({waiting.pixel for waiting in facts.waiting}):
        own = [waiting for waiting in facts.waiting if waiting.pixel == name and waiting.state < 2]
        oldest = min((waiting.oldest for waiting in own), default=now)
        if now - oldest > limit:
            events = sum(waiting.events for waiting in own)
            yield fail(
                "queue.age",
                f"{_pixel(config, name)}: {events} events wait, the oldest for {saying.age(now - oldest)}",
                "collector status says what Meta answers",
            )
    for pixel in facts.pixels:
        if pixel.deadline is not None and pixel.deadline - now < _DAY_MS:
            named, at = _pixel(config, pixel.name), times.text(pixel.deadline)
            yield fail(
                "queue.expiring",
                f"{named}: the first event that waits must reach Meta by {at}",
                "mend what stops the queue before then; collector status names it",
            )
    if facts.dead:
        yield warn(
            "queue.dead",
            f"{facts.dead} events were rejected or expired in the last day",
            "collector export deliveries says why; collector replay --dry-run says what can go again",
        )


def _pixels(facts: Facts, config: Config, now: int) -> Iterator[Finding]:
    for pixel in facts.pixels:
        if pixel.state != "open":
            yield fail(
                "pixel.state",
                f"{_pixel(config, pixel.name)} is {pixel.state}: {pixel.reason}",
                "mend what Meta names; it is tried again by itself, and at once after a reload (SIGHUP)",
            )
        if config.meta.mode != "live":
            continue
        last, named = facts.successes.get(pixel.name), _pixel(config, pixel.name)
        if last is None:
            yield warn("pixel.success", f"Meta has never taken an event of {named}", "collector send-test")
        elif now - last > _SILENT_DAYS * _DAY_MS:
            days = (now - last) // _DAY_MS
            yield warn("pixel.success", f"{named}: Meta took its last event {days} days ago", "collector send-test")
        else:
            yield ok("pixel.success", f"{named}: Meta took events at {times.text(last)}")
    known = {pixel.name for pixel in facts.pixels}
    for name in sorted(known - {pixel.id for store in config.store for pixel in store.pixel}):
        if any(waiting.pixel == name for waiting in facts.waiting):
            yield fail(
                "pixel.gone", f"events wait for pixel {name}, which is not configured", "put [[store.pixel]] back"
            )


def _pixel(config: Config, name: str) -> str:
    """A pixel, and whose it is."""
    shop = next((store.name or store.id for store in config.store if name in [p.id for p in store.pixel]), "")
    return f"pixel {name} ({shop})" if shop else f"pixel {name}"


def _insights(facts: Facts, config: Config) -> Iterator[Finding]:
    account, state = config.insights.ad_account, facts.insights
    if not account:
        return
    if state is not None and state.fault:
        yield fail(
            "insights.fault",
            f"the ad account cannot be read since {state.fault_since}: {state.fault}",
            "mend what it names; a new token is taken within a minute, and SIGHUP tries at once",
        )
    elif state is None or state.last_read is None:
        yield warn(
            "insights.never", f"the ad account {account} was never read", "the courier reads it: collector serve"
        )
    elif state.unread:
        what = f"{state.unread} rows of the ad account's answer were of no use"
        yield warn("insights.unread", what, "their spend is missing; is there a newer release? collector version")
    else:
        yield ok(
            "insights", f"the ad account {account} was read at {state.last_read}, days {state.since} to {state.until}"
        )


def _visitors(facts: Facts) -> Iterator[Finding]:
    """All visitors under one address, or under a private one, are a proxy's: its word is not believed."""
    seen = set(facts.addresses)
    if len(facts.addresses) < _ENOUGH_ADDRESSES:
        return
    if all(_is_private(address) for address in seen):
        yield fail(
            "proxy.address",
            f"the last {len(facts.addresses)} clicks all came from {sorted(seen)[0]}: a proxy's address",
            f'add it: [edge] trusted_proxies = ["{sorted(seen)[0]}"], and have the proxy send X-Forwarded-For',
        )
    elif len(seen) == 1:
        yield warn(
            "proxy.one_address",
            f"the last {len(facts.addresses)} clicks all have one address",
            "is it a proxy's? then add it to [edge] trusted_proxies",
        )
    else:
        yield ok("proxy.address", f"{len(seen)} addresses among the last {len(facts.addresses)} clicks")


def _is_private(address: str) -> bool:
    try:
        return not ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _store(facts: Facts, store: StoreConfig, now: int) -> Iterator[Finding]:
    if not any(key == ("secret", store.id) or key == ("secret", "") for key in facts.keys) and not _has_webhooks(store):
        yield warn(
            "store.key",
            f"store {store.id} has neither a secret key nor webhooks: no server can tell its orders",
            f"collector keys create --store {store.id} --kind secret",
        )
    yield from _clicks(facts, store, now)
    yield from _orders(facts, store, now)
    for name in _webhooks(store):
        last = facts.webhooks.get((store.id, name))
        if last is None:
            yield warn(
                "webhook.never",
                f"store {store.id}: {name} has sent nothing in 8 days",
                f"the shop's own page of its webhooks shows whether it posts to /v1/webhooks/{name}/{store.id}",
            )
        elif now - last > _SILENT_DAYS * _DAY_MS:
            days = (now - last) // _DAY_MS
            yield warn(
                "webhook.silent", f"store {store.id}: {name} last posted {days} days ago", "is it still on there?"
            )
        else:
            yield ok("webhook", f"store {store.id}: {name} posted at {times.text(last)}")


def _webhooks(store: StoreConfig) -> list[str]:
    return [*store.webhook_secrets, *(webhook.name for webhook in store.webhook)]


def _has_webhooks(store: StoreConfig) -> bool:
    return bool(_webhooks(store))


def _clicks(facts: Facts, store: StoreConfig, now: int) -> Iterator[Finding]:
    last = facts.clicks.get(store.id)
    if last is None or now - last > _SILENT_DAYS * _DAY_MS:
        when = "ever" if last is None else f"since {times.text(last)}"
        yield warn(
            "store.clicks", f"store {store.id}: no click {when}", "is the tag on its pages, and are ads running?"
        )
    else:
        yield ok("store.clicks", f"store {store.id}: the last click came at {times.text(last)}")


def _orders(facts: Facts, store: StoreConfig, now: int) -> Iterator[Finding]:
    orders = facts.orders.get(store.id)
    if orders is None or now - orders.last > _SILENT_DAYS * _DAY_MS:
        when = "ever" if orders is None else f"since {times.text(orders.last)}"
        yield warn("store.orders", f"store {store.id}: no order {when}", "does its server or webhook post them?")
    elif orders.n and orders.held * 2 > orders.n and store.browser_purchases == "hold":
        yield fail(
            "store.server_orders",
            f"store {store.id}: {orders.held} of its last {orders.n} orders wait: pages told them, no server did",
            'have the server or a webhook tell them too, or set browser_purchases = "send"',
        )
    else:
        yield ok("store.orders", f"store {store.id}: the last order came at {times.text(orders.last)}")

"""How long does one event for Meta take to build, beside Meta's own SDK."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from msgspec import Struct

from collector.bench import people
from collector.bench.storing import now_ms
from collector.core.capi.normalise import hash_customer
from collector.core.capi.payload import Profile, build_event
from collector.core.events import CustomerData, Enrichment, Product, StoredEvent

NO_TOKEN: Final = "bench"
SDK: Final = "facebook_business"
_AT_ONCE: Final = 1000  # events of a request; the SDK serialises them together
_PROFILE: Final = Profile()
_NOTHING: Final = Enrichment()


class Buyer(Struct, frozen=True):
    """What both are given."""

    number: int
    email: str
    phone: str
    first_name: str
    last_name: str
    city: str
    zip_code: str
    country: str


class Building(Struct, frozen=True):
    """Microseconds per event: hashing, building the bytes, and what the SDK takes for both (None: not installed)."""

    at_intake: float
    splice: float
    sdk: float | None


def buyer(n: int) -> Buyer:
    return Buyer(n, f"P.{n}@Example.com", f"+1 (202) 555-{n % 10000:04d}", "Jo", f"Doe{n}", "New York", "10001", "US")


def hashed(who: Buyer) -> dict[str, list[str]]:
    """Meta's normal form and SHA-256 of everything, as at intake."""
    return hash_customer(
        CustomerData(
            email=who.email,
            phone=who.phone,
            first_name=who.first_name,
            last_name=who.last_name,
            city=who.city,
            zip_code=who.zip_code,
            country=who.country,
        ),
        country="US",
        this_year=2026,
    ).user_data


def event_of(who: Buyer, user_data: dict[str, list[str]], at: int) -> StoredEvent:
    """An order as it is stored; its payload has what the SDK's event has."""
    return StoredEvent(
        event_type="Purchase",
        event_id=f"bench-{who.number}",
        ts=at,
        received=at,
        order_id=str(who.number),
        value=Decimal("49.90"),
        currency="USD",
        user_data=user_data,
        products=[Product(product_id="sku-1", price=Decimal("24.95"), quantity=2)],
        fbp=f"fb.1.1700000000000.{who.number:010d}",
        fbc=f"fb.1.{at}.{people.fbclid(who.number)}",
        ip="81.2.69.142",
        user_agent=people.agent(who.number),
        event_source_url="https://shop.example/thanks",
    )


def spliced(event: StoredEvent) -> bytes:
    return build_event(event, _NOTHING, _PROFILE).payload


def sdk_events(buyers: list[Buyer], at: int) -> list[Any]:
    """The SDK's events of these buyers, not yet normalised; needs `pip install 'collector[dev]'`."""
    side = import_module(f"{SDK}.adobjects.serverside.event")
    user = import_module(f"{SDK}.adobjects.serverside.user_data").UserData
    custom = import_module(f"{SDK}.adobjects.serverside.custom_data").CustomData
    content = import_module(f"{SDK}.adobjects.serverside.content").Content
    website = import_module(f"{SDK}.adobjects.serverside.action_source").ActionSource.WEBSITE
    return [
        side.Event(
            event_name="Purchase",
            event_time=at // 1000,
            event_id=f"bench-{who.number}",
            event_source_url="https://shop.example/thanks",
            action_source=website,
            user_data=user(
                emails=[who.email],
                phones=[who.phone],
                first_names=[who.first_name],
                last_names=[who.last_name],
                cities=[who.city],
                zip_codes=[who.zip_code],
                country_codes=[who.country],
                client_ip_address="81.2.69.142",
                client_user_agent=people.agent(who.number),
                fbc=f"fb.1.{at}.{people.fbclid(who.number)}",
                fbp=f"fb.1.1700000000000.{who.number:010d}",
            ),
            custom_data=custom(
                value=49.90,
                currency="USD",
                order_id=str(who.number),
                content_type="product",
                content_ids=["sku-1"],
                contents=[content(product_id="sku-1", quantity=2, item_price=24.95)],
            ),
        )
        for who in buyers
    ]


def sdk_body(events: list[Any]) -> bytes:
    """The request's body as the SDK sends it: normalised, hashed, each event JSON, the list JSON again, then a form."""
    request = import_module(f"{SDK}.adobjects.serverside.event_request").EventRequest(
        pixel_id="111", access_token=NO_TOKEN, events=events
    )
    form = import_module(f"{SDK}.api")._top_level_param_json_encode(request.get_params())
    body: str = import_module("requests").Request("POST", "http://127.0.0.1/", data=form).prepare().body
    return body.encode()


def measure(rounds: int) -> Building:
    """The median round of each, interleaved; a round is one request's events."""
    buyers, at = [buyer(n) for n in range(_AT_ONCE)], now_ms()
    events = [event_of(who, hashed(who), at) for who in buyers]
    with_sdk = find_spec(SDK) is not None
    intake, splice, sdk = [], [], []
    for _ in range(rounds):
        intake.append(_per_event(lambda: [hashed(who) for who in buyers]))
        splice.append(_per_event(lambda: b",".join([spliced(event) for event in events])))
        if with_sdk:
            sdk.append(_per_event(lambda: sdk_body(sdk_events(buyers, at))))
    middle = rounds // 2
    return Building(sorted(intake)[middle], sorted(splice)[middle], sorted(sdk)[middle] if sdk else None)


def _per_event(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return 1e6 * (time.process_time() - began) / _AT_ONCE

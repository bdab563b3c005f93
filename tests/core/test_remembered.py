"""What strangers send pins no memory: answers are remembered by their bytes, not by their number alone."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from sys import getsizeof
from typing import Any

import pytest

from collector.core import remembered, urls, useragents
from collector.core.capi import normalise, phones, regions
from collector.core.consent import Decision
from collector.core.events import ConversionBody, CustomerData
from collector.core.intake import Caller, check_event
from collector.core.keyed import KeyedHash
from collector.core.remembered import LONGEST, Remembered
from collector.exchange import clicks, naming
from tests.kit.journal_kit import NOW

PAGE = Caller(secret=False, address="198.51.100.9", user_agent="Mozilla/5.0")
NAMES = KeyedHash(b"k" * 32)
TOLD = 4
MOST_KEPT = 20_000  # bytes; what is told is 64 kB and more


def long(number: int, start: str = "x") -> str:
    """4,096 characters of which one makes each take four bytes."""
    return f"{start}{number:08}".ljust(4095, "x") + "\U0001f600"


def whole_event(number: int) -> None:
    """A page's event of 45 KB, through all that an edge makes of it."""
    person = {name: long(number) for name in CustomerData.__struct_fields__}
    body = ConversionBody(
        store_id="s", event_type="Lead", customer_data=CustomerData(**person), user_agent=long(number)
    )
    check_event(body, PAGE, Decision("granted", False), NOW, None, "us")
    naming.keys_of(NAMES, 1, body.customer_data, "US")


def many_fields(number: int) -> None:
    """None of them long, all together yes."""
    person = {name: long(number)[:9] + long(number)[-512:] for name in CustomerData.__struct_fields__}
    normalise.hash_customer(CustomerData(**person), country="us", this_year=2026)


WAYS: dict[str, Callable[[int], Any]] = {
    "a whole event": whole_event,
    "a name": lambda n: normalise.hash_customer(CustomerData(first_name=long(n)), country="us", this_year=2026),
    "many fields": many_fields,
    "an id": lambda n: naming.keys_of(NAMES, 1, CustomerData(external_id=long(n)), "US"),
    "an e-mail": lambda n: naming.keys_of(NAMES, 1, CustomerData(email=long(n) + "@example.org"), "US"),
    "a country": lambda n: naming.keys_of(NAMES, 1, CustomerData(email="a@b.org", country=long(n)), "US"),
    "a country's code": lambda n: regions.country_code(long(n)),
    "a phone": lambda n: phones.e164_readings(long(n, "+49"), "de"),
    "an agent": lambda n: useragents.classify(long(n)),
    "a click's agent": lambda n: clicks._agent(NAMES, 1, long(n)),
    "a parameter's name": lambda n: urls._kind(long(n)),
}


def kept_by(tell: Callable[[int], Any], times: int = TOLD) -> int:
    """How many bytes stay of so many tellings."""
    tell(0)  # what is read once
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1, times + 1):
            tell(number)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", WAYS)
def test_of_what_a_stranger_tells_at_length_nothing_stays(way: str) -> None:
    assert kept_by(WAYS[way]) < MOST_KEPT


def test_the_control_where_they_are_counted_and_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "_bytes", lambda _: 0)
    assert kept_by(whole_event) > 10 * MOST_KEPT


def every() -> Iterator[Remembered[Any, Any]]:
    for place in (normalise, phones, regions, useragents, urls, naming, clicks):
        yield from (one for one in vars(place).values() if isinstance(one, Remembered))


def test_what_may_be_remembered_at_most_is_a_few_megabytes() -> None:
    most = {one: one.cache_info().maxsize * one._longest for one in every()}
    assert len(most) == 7
    assert max(most.values()) <= 8 << 20


def test_what_is_short_is_answered_once_and_what_is_long_each_time() -> None:
    asked: list[object] = []
    known = remembered.remembered(8)(lambda *values: asked.append(values))
    edge = "x" * (LONGEST - getsizeof(""))
    for values in [("a", 1), ("a", 1), (edge,), (edge,), (edge + "x",), (edge + "x",), ((edge, "x"),), ((edge, "x"),)]:
        known(*values)
    assert [len(values) for values in asked] == [2, 1, 1, 1, 1, 1]


def test_an_ordinary_customer_is_remembered() -> None:
    normalise._remembered.cache_clear()
    person = CustomerData(
        email="jane.doe@example-company.com",
        phone="+49 151 23456789",
        first_name="Jána",
        last_name="Doe-Müller",
        city="Frankfurt am Main",
        state="Hessen",
        country="DE",
        zip_code="60311",
        external_id="cus_0123456789abcdef",
    )
    for _ in range(2):
        normalise.hash_customer(person, country="de", this_year=2026)
    assert normalise._remembered.cache_info().hits == 1

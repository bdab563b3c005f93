"""Days are a zone's: their begin, their length, the ranges that an address names, and what they are compared with."""

from __future__ import annotations

from datetime import date

import pytest

from collector.core.days import Days, before, begin, day_of, days_of, zone_of

TODAY = date(2026, 3, 30)
BERLIN = zone_of("Europe/Berlin")
HOUR = 3_600_000


def test_the_day_of_a_clock_change_has_23_hours_and_its_neighbours_24() -> None:
    assert BERLIN is not None
    lengths = [Days(day, day).span(BERLIN) for day in (date(2026, 3, 28), date(2026, 3, 29), date(2026, 10, 25))]
    assert [(until - since) / HOUR for since, until in lengths] == [24, 23, 25]


@pytest.mark.parametrize("name", ["Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham", "UTC"])
def test_every_day_begins_at_a_quarter_and_belongs_to_itself(name: str) -> None:
    zone = zone_of(name)
    assert zone is not None
    for month in range(1, 13):
        at = begin(date(2026, month, 15), zone)
        assert at % 900_000 == 0
        assert (day_of(at, zone), day_of(at - 1, zone)) == (date(2026, month, 15), date(2026, month, 14))


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("today", date(2026, 3, 30), TODAY),
        ("yesterday", date(2026, 3, 29), date(2026, 3, 29)),
        ("7", date(2026, 3, 24), TODAY),
        ("28", date(2026, 3, 3), TODAY),
        ("month", date(2026, 3, 1), TODAY),
        ("last_month", date(2026, 2, 1), date(2026, 2, 28)),
        ("2026-03-01..2026-03-05", date(2026, 3, 1), date(2026, 3, 5)),
        ("2026-03-29..2027-01-01", date(2026, 3, 29), TODAY),
    ],
)
def test_a_range_names_its_days(name: str, first: date, last: date) -> None:
    assert days_of(name, TODAY) == Days(first, last)


@pytest.mark.parametrize(
    "name", ["", "8", "tomorrow", "2026-03-05..2026-03-01", "2026-02-30..2026-03-01", "0001-01-01..2026-01-01"]
)
def test_what_names_no_days_is_not_guessed(name: str) -> None:
    assert days_of(name, TODAY) is None


def test_comparisons_have_as_many_days_and_the_same_weekdays() -> None:
    days = Days(date(2026, 3, 21), TODAY)
    assert before(days, "previous") == Days(date(2026, 3, 11), date(2026, 3, 20))
    weekdays = before(days, "weekdays")
    assert weekdays is not None
    assert (weekdays.first.weekday(), weekdays.length) == (days.first.weekday(), days.length)
    assert before(Days(date(2024, 2, 29), date(2024, 2, 29)), "year") == Days(date(2023, 2, 28), date(2023, 2, 28))
    assert before(days, "none") is None


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "x\0y"])
def test_what_is_no_zone_is_none(name: str) -> None:
    assert zone_of(name) is None

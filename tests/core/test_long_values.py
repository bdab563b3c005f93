"""A value takes no more than its length: what takes its square holds an edge for minutes by one anonymous beacon."""

from __future__ import annotations

import contextlib

import pytest

from collector.errors import ApiError
from tests.core.test_poor_fields import told

SQUARE = 300_000  # characters: what takes their square takes minutes


@pytest.mark.parametrize(
    "value",
    ["a" + " " * SQUARE + "a", "\u200b" * SQUARE + "a", "a" * SQUARE + "@", "%" * SQUARE, "{{" * SQUARE, "a." * SQUARE],
)
@pytest.mark.parametrize("field", ["orderId", "eventType", "referrer", "visitorId", "fbc", "orderStatus", "userAgent"])
def test_a_value_takes_no_more_than_its_length(field: str, value: str) -> None:
    with contextlib.suppress(ApiError):
        told(**{field: value})


@pytest.mark.parametrize("field", ["firstName", "city", "email", "phone", "zipCode", "country", "dateOfBirth"])
def test_a_persons_value_takes_no_more_than_its_length(field: str) -> None:
    for value in ("a" * SQUARE + "@", " " * SQUARE + "a", "a@" * SQUARE, "1 " * SQUARE):
        told(customerData={field: value})

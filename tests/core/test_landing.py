"""Labels are read without the click id, which every landing page has its own of; that changes no label."""

from __future__ import annotations

from random import Random
from urllib.parse import parse_qsl, urlsplit

import pytest

from collector.core import landing
from collector.core.landing import label_of, labels_of

PARTS = (
    *("fbclid=IwAR1", "fbclid=", "xfbclid=IwAR2", "utm_source=fb", "utm_source=fbclid=ig", "utm_campaign=spring+sale"),
    *("utm_campaign=%66bclid=1", "ad_id=7", "utm_id=9", "adset_id=3", "fbclid=utm_source=x", "=", "ad_id=", "v=1"),
)


def read_whole(page: str) -> tuple[str, str, str, str]:
    """Of the query as it stands, the first value of a name, and of several names the first that has one."""
    values: dict[str, str] = {}
    for name, value in parse_qsl(urlsplit(page).query):
        values.setdefault(name, label_of(value))
    names = (landing._SOURCE, landing._CAMPAIGN, landing._ADSET, landing._AD)
    first = [next((values[name] for name in some if values.get(name)), "") for some in names]
    return first[0], first[1], first[2], first[3]


@pytest.mark.parametrize("seed", range(200))
def test_labels_are_those_of_the_whole_query(seed: int) -> None:
    dice = Random(seed)
    page = "https://shop.example/p?" + "&".join(dice.choices(PARTS, k=dice.randrange(7)))
    assert labels_of(page + dice.choice(("", "#utm_source=no"))) == read_whole(page)

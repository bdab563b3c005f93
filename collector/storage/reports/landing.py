"""Which campaign does a landing page name: UTM parameters and Meta's ad ids from its query."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

_LABEL_MAX = 120  # what callers put in a query is cut before it becomes a key


class Campaign(NamedTuple):
    """Where a click came from, as its landing page says; empty where it says nothing."""

    source: str = ""
    campaign: str = ""
    adset: str = ""
    ad: str = ""
    page: str = ""  # host and path, without the query


# utm_id and utm_term carry the ids in Meta's own URL templates; the plain names are what merchants write by hand.
_CAMPAIGN = ("utm_campaign", "campaign_id", "utm_id", "campaign")
_ADSET = ("adset_id", "utm_term", "adset")
_AD = ("ad_id", "utm_content", "ad")


@lru_cache(maxsize=4096)
def campaign_of(landing_page: str) -> Campaign:
    """The campaign that a landing page names; never raises, whatever the caller wrote."""
    try:
        url = urlsplit(landing_page)
        query = dict(parse_qsl(url.query, max_num_fields=100))
    except ValueError:
        return Campaign()
    page = _cut(f"{url.hostname or ''}{url.path}")
    return Campaign(
        _first(query, ("utm_source",)), _first(query, _CAMPAIGN), _first(query, _ADSET), _first(query, _AD), page
    )


def _first(query: dict[str, str], names: tuple[str, ...]) -> str:
    return next((_cut(query[name]) for name in names if query.get(name)), "")


def _cut(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:_LABEL_MAX]

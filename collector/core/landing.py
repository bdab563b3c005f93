"""Which campaign does a landing page name: UTM parameters and Meta's ad ids from its query."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_plus, urlsplit

_LABEL_MAX = 120  # what callers put in a query is cut before it becomes a key


class Campaign(NamedTuple):
    """Where a click came from, as its landing page says; empty where it says nothing."""

    source: str = ""
    campaign: str = ""
    adset: str = ""
    ad: str = ""
    page: str = ""  # host and path, without the query


# utm_id and utm_term carry the ids in Meta's own URL templates; the plain names are what merchants write by hand.
_SOURCE = ("utm_source",)
_CAMPAIGN = ("utm_campaign", "campaign_id", "utm_id", "campaign")
_ADSET = ("adset_id", "utm_term", "adset")
_AD = ("ad_id", "utm_content", "ad")
# Only what is looked for: each landing page has its own fbclid, so parsing whole queries (10 µs) could not be cached.
_WANTED = re.compile(rf"(?:^|&)({'|'.join((*_SOURCE, *_CAMPAIGN, *_ADSET, *_AD))})=([^&#]+)")


def campaign_of(landing_page: str) -> Campaign:
    """The campaign that a landing page names; never raises, whatever the caller wrote."""
    place, _, query = landing_page.partition("?")
    return _parsed(place.partition("#")[0], tuple(_WANTED.findall(query.partition("#")[0])))


@lru_cache(maxsize=4096)
def _parsed(place: str, found: tuple[tuple[str, str], ...]) -> Campaign:
    query = {name: _cut(unquote_plus(value)) for name, value in reversed(found)}  # the first of two counts
    source, campaign, adset, ad = (_first(query, names) for names in (_SOURCE, _CAMPAIGN, _ADSET, _AD))
    return Campaign(source, campaign, adset, ad, _page(place))


def _page(place: str) -> str:
    try:
        url = urlsplit(place)
        return _cut(f"{url.hostname or ''}{url.path}")
    except ValueError:
        return ""


def _first(query: dict[str, str], names: tuple[str, ...]) -> str:
    return next((query[name] for name in names if query.get(name)), "")


def _cut(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:_LABEL_MAX]

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
_ID = re.compile(r"(?:^|&)(?:utm_id|campaign_id)=([^&#]+)")
_WANTED = re.compile(rf"(?:^|&)({'|'.join((*_SOURCE, *_CAMPAIGN, *_ADSET, *_AD))})=([^&#]+)")


def campaign_of(landing_page: str) -> Campaign:
    """The campaign that a landing page names; never raises, whatever the caller wrote."""
    return Campaign(*labels_of(landing_page), _page(landing_page.partition("?")[0].partition("#")[0]))


def labels_of(landing_page: str) -> tuple[str, str, str, str]:
    """Source, campaign, ad set and ad alone: they repeat where pages differ. Never raises."""
    query = landing_page.partition("?")[2].partition("#")[0]
    # Each landing page has its own fbclid; without it the query is that of all who clicked on the ad.
    before, named, after = query.partition("fbclid=")
    if named and (not before or before.endswith("&")):
        query = before + after.partition("&")[2]
    return _labels(query)


def campaign_id_of(landing_page: str) -> str:
    """Meta's own id of the campaign, where the landing page has one beside the name; never raises."""
    found = _ID.search(landing_page.partition("?")[2].partition("#")[0])
    return label_of(unquote_plus(found[1])) if found else ""


@lru_cache(maxsize=4096)
def _labels(text: str) -> tuple[str, str, str, str]:
    found = reversed(_WANTED.findall(text))  # the first of two counts
    query = {name: label_of(unquote_plus(value)) for name, value in found}
    return _first(query, _SOURCE), _first(query, _CAMPAIGN), _first(query, _ADSET), _first(query, _AD)


@lru_cache(maxsize=4096)
def _page(place: str) -> str:
    try:
        url = urlsplit(place)
        return label_of(f"{url.hostname or ''}{url.path}")
    except ValueError:
        return ""


def _first(query: dict[str, str], names: tuple[str, ...]) -> str:
    return next((query[name] for name in names if query.get(name)), "")


def label_of(text: str) -> str:
    """A name as it becomes a label: printable, and short."""
    return "".join(c for c in text if c.isprintable())[:_LABEL_MAX]

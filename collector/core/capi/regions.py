"""Which ISO code does a country or a state written by a person mean?"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import sha256
from html import unescape
from importlib.resources import files
from typing import Final

from collector.core.remembered import remembered

_NAMES: Final = "assets/territories.txt"
# As shops (WooCommerce's and Shopify's lists) and people write them, beside ISO's and CLDR's names.
_COUNTRY_ALIASES: Final = {
    "gb": ("UK", "Great Britain", "England", "Scotland", "Wales", "Northern Ireland", "Großbritannien", "Gran Bretaña"),
    "us": ("America", "EE. UU.", "EE.UU.", "E.U.A."),
    "de": ("Bundesrepublik Deutschland", "Federal Republic of Germany"),
    "at": ("Oesterreich",),
    "fr": ("France métropolitaine", "Metropolitan France"),
    "ru": ("Российская Федерация", "РФ"),
    "sk": ("Slovenská republika", "Slovak Republic"),
    "al": ("Shqipëria",),
    "th": ("ประเทศไทย",),
    "tl": ("East Timor",),
    "la": ("Lao PDR",),
    "re": ("Réunion Island", "La Réunion"),
    "in": ("Bharat",),
    "kr": ("Korea",),
    "nl": ("Holland",),
    "mk": ("Macedonia", "FYROM", "Republic of Macedonia", "Macedonia, the former Yugoslav Republic of"),
    "tr": ("Turkey",),
    "cz": ("Czech Republic", "Česká republika"),
    "sz": ("Swaziland",),
    "cv": ("Cape Verde",),
    "mm": ("Burma",),
    "ci": ("Ivory Coast",),
    "ps": ("Palestine", "Palestinian Territory", "Palestinian Territory, Occupied"),
    "ae": ("UAE", "الإمارات"),
    "va": ("Vatican", "Vatican City State", "Holy See"),
    "fm": ("Micronesia",),
    "pw": ("Belau",),
    "cg": ("Congo", "Congo (Brazzaville)", "Republic of the Congo"),
    "cd": (
        "Congo (Kinshasa)",
        "Congo, The Democratic Republic of the",
        "Democratic Republic of the Congo",
        "DRC",
        "DR Congo",
    ),
    "ie": ("Republic of Ireland", "Eire"),
    "hk": ("Hong Kong SAR", "香港"),
    "mo": ("Macau", "Macau SAR", "澳門", "澳门"),
    "tw": ("臺灣",),
    "cn": ("PR China", "People's Republic of China"),
    "sa": ("السعودية",),
    "ch": ("Schweiz/Suisse",),
    "ly": ("Libyan Arab Jamahiriya",),
    "cm": ("Republic of Cameroon",),
    "mf": ("Saint Martin (French part)",),
    "sx": ("Saint Martin (Dutch part)",),
    "vg": ("Virgin Islands (British)",),
    "vi": ("Virgin Islands (US)",),
    "um": ("United States (US) Minor Outlying Islands",),
    "bq": ("Bonaire, Saint Eustatius and Saba",),
    "gs": ("South Georgia/Sandwich Islands",),
}

US_STATES: Final = {
    "alabama": "al",
    "alaska": "ak",
    "arizona": "az",
    "arkansas": "ar",
    "california": "ca",
    "colorado": "co",
    "connecticut": "ct",
    "delaware": "de",
    "districtofcolumbia": "dc",
    "washingtondc": "dc",
    "florida": "fl",
    "georgia": "ga",
    "hawaii": "hi",
    "idaho": "id",
    "illinois": "il",
    "indiana": "in",
    "iowa": "ia",
    "kansas": "ks",
    "kentucky": "ky",
    "louisiana": "la",
    "maine": "me",
    "maryland": "md",
    "massachusetts": "ma",
    "michigan": "mi",
    "minnesota": "mn",
    "mississippi": "ms",
    "missouri": "mo",
    "montana": "mt",
    "nebraska": "ne",
    "nevada": "nv",
    "newhampshire": "nh",
    "newjersey": "nj",
    "newmexico": "nm",
    "newyork": "ny",
    "northcarolina": "nc",
    "northdakota": "nd",
    "ohio": "oh",
    "oklahoma": "ok",
    "oregon": "or",
    "pennsylvania": "pa",
    "rhodeisland": "ri",
    "southcarolina": "sc",
    "southdakota": "sd",
    "tennessee": "tn",
    "texas": "tx",
    "utah": "ut",
    "vermont": "vt",
    "virginia": "va",
    "washington": "wa",
    "westvirginia": "wv",
    "wisconsin": "wi",
    "wyoming": "wy",
    "puertorico": "pr",
    "guam": "gu",
    "americansamoa": "as",
    "usvirginislands": "vi",
    "northernmarianaislands": "mp",
    "virginislands": "vi",
    "usminoroutlyingislands": "um",
    "dc": "dc",
    "armedforcesamericas": "aa",
    "armedforcesamericasexceptcanada": "aa",
    "armedforcesaa": "aa",
    "armedforcesafrica": "ae",
    "armedforcescanada": "ae",
    "armedforceseurope": "ae",
    "armedforcesmiddleeast": "ae",
    "armedforcesae": "ae",
    "armedforcespacific": "ap",
    "armedforcesap": "ap",
}

CA_PROVINCES: Final = {
    "alberta": "ab",
    "britishcolumbia": "bc",
    "manitoba": "mb",
    "newbrunswick": "nb",
    "newfoundlandandlabrador": "nl",
    "newfoundlandlabrador": "nl",
    "newfoundland": "nl",
    "labrador": "nl",
    "northwestterritories": "nt",
    "novascotia": "ns",
    "nunavut": "nu",
    "ontario": "on",
    "princeedwardisland": "pe",
    "quebec": "qc",
    "québec": "qc",
    "saskatchewan": "sk",
    "yukon": "yt",
    "yukonterritory": "yt",
    "colombiebritannique": "bc",
    "îleduprinceédouard": "pe",
    "nouveaubrunswick": "nb",
    "nouvelleécosse": "ns",
    "terreneuveetlabrador": "nl",
    "territoiresdunordouest": "nt",
}

# A name that both lists would read differently does not exist, so one table serves an address without a country.
_BOTH: Final = US_STATES | CA_PROVINCES
_STATES_OF: Final = {"us": US_STATES, "ca": CA_PROVINCES}
_APOSTROPHES: Final = str.maketrans("", "", "'’‘`´ʻʼ")
_SMALL_WORDS: Final = frozenset({"the", "and", "of"})
_IN_BRACKETS: Final = re.compile(r"\s*\([^()]*\)\s*$")


def fold(text: str) -> str:
    """The letters and digits of a name, without case, accents and the small words that people leave out."""
    decomposed = unicodedata.normalize("NFKD", text.casefold().replace("&", " and ").translate(_APOSTROPHES))
    words = "".join(c if c.isalnum() else "" if unicodedata.combining(c) else " " for c in decomposed)
    kept = [word for word in words.split() if word not in _SMALL_WORDS]
    return "".join("saint" if word == "st" else word for word in kept)


@lru_cache(maxsize=1)
def _iso() -> dict[str, str]:
    """Every alpha-2 and alpha-3 code and English name of ISO 3166-1, folded, to its lower-case alpha-2 code."""
    import iso3166

    table: dict[str, str] = {}
    for country in iso3166.countries_by_alpha2.values():
        for name in (country.name, country.apolitical_name):
            first, _, rest = name.partition(", ")
            table[fold(name)] = table[fold(f"{rest} {first}")] = country.alpha2.lower()
        table[country.alpha3.lower()] = table[country.alpha2.lower()] = country.alpha2.lower()
    return table | {fold(name): code for code, names in _COUNTRY_ALIASES.items() for name in names}


@lru_cache(maxsize=1)
def _cldr() -> dict[str, str]:
    """Names of countries in their own languages and in those that shops use, folded (Unicode CLDR)."""
    lines = files(__package__).joinpath(_NAMES).read_text("utf-8").splitlines()
    named = (line.split("\t") for line in lines if not line.startswith("#"))
    return {name: code for code, *names in named for name in names}


@remembered(1024)
def country_code(text: str) -> str | None:
    """The lower-case ISO 3166-1 alpha-2 code that `text` (a code, a name, a shop's label) means, or None."""
    text = unescape(text) if "&" in text else text
    known = _code_of(fold(text))
    return known or _code_of(fold(_IN_BRACKETS.sub("", text)))


def _code_of(folded: str) -> str | None:
    return (_iso().get(folded) or _cldr().get(folded)) if folded else None


@lru_cache(maxsize=1)
def _hashes() -> dict[str, str]:
    codes = set(_iso().values())
    return {sha256(code.encode()).hexdigest(): code for code in codes}


def country_of_hash(digest: str) -> str | None:
    """The code behind the SHA-256 of one: there are 250, and a phone's reading and a date's hang on it."""
    return _hashes().get(digest)


def state_code(letters: str, country: str | None, *, said: bool = True) -> str:
    """The two-letter code of a US state or Canadian province; anything else comes back as it is.

    `said`: the customer named the country. Where it is the store's only, or none is known, both lists are looked at.
    """
    if said and country is not None:
        return _STATES_OF.get(country, {}).get(letters, letters)
    if country is None or country in _STATES_OF:
        return _BOTH.get(letters, letters)
    return letters

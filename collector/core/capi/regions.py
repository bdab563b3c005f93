"""Which ISO code does a country or a state written by a person mean?"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

# How people write countries that ISO 3166 names otherwise. Keys are lower case, letters and digits only.
_COUNTRY_ALIASES: Final = {
    "uk": "gb",
    "unitedkingdom": "gb",
    "greatbritain": "gb",
    "england": "gb",
    "scotland": "gb",
    "wales": "gb",
    "northernireland": "gb",
    "unitedstates": "us",
    "america": "us",
    "russia": "ru",
    "southkorea": "kr",
    "korea": "kr",
    "vietnam": "vn",
    "taiwan": "tw",
    "turkey": "tr",
    "turkiye": "tr",
    "czechrepublic": "cz",
    "netherlands": "nl",
    "holland": "nl",
    "deutschland": "de",
    "österreich": "at",
    "schweiz": "ch",
    "suisse": "ch",
    "svizzera": "ch",
    "españa": "es",
    "italia": "it",
    "brasil": "br",
    "méxico": "mx",
    "polska": "pl",
    "sverige": "se",
    "norge": "no",
    "danmark": "dk",
    "suomi": "fi",
    "belgique": "be",
    "belgië": "be",
    "iran": "ir",
    "syria": "sy",
    "bolivia": "bo",
    "venezuela": "ve",
    "tanzania": "tz",
    "moldova": "md",
    "laos": "la",
    "brunei": "bn",
    "ivorycoast": "ci",
    "macedonia": "mk",
    "northmacedonia": "mk",
    "swaziland": "sz",
    "capeverde": "cv",
    "palestine": "ps",
    "kosovo": "xk",
    "hongkong": "hk",
    "macau": "mo",
    "uae": "ae",
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
}

CA_PROVINCES: Final = {
    "alberta": "ab",
    "britishcolumbia": "bc",
    "manitoba": "mb",
    "newbrunswick": "nb",
    "newfoundlandandlabrador": "nl",
    "newfoundland": "nl",
    "northwestterritories": "nt",
    "novascotia": "ns",
    "nunavut": "nu",
    "ontario": "on",
    "princeedwardisland": "pe",
    "quebec": "qc",
    "québec": "qc",
    "saskatchewan": "sk",
    "yukon": "yt",
}

# A name that both lists would read alike does not exist, so one table serves an address without a country.
_BOTH: Final = US_STATES | CA_PROVINCES
_STATES_OF: Final[dict[str | None, dict[str, str]]] = {
    "us": US_STATES,
    "ca": CA_PROVINCES,
    None: _BOTH,
}


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


@lru_cache(maxsize=1)
def _iso() -> dict[str, str]:
    """Every alpha-2 and alpha-3 code and English name of ISO 3166-1, to its lower-case alpha-2 code."""
    import iso3166

    table: dict[str, str] = {}
    for country in iso3166.countries_by_alpha2.values():
        for name in (
            country.name,
            country.apolitical_name,
            country.alpha3,
            country.alpha2,
        ):
            table[_letters(name)] = country.alpha2.lower()
    return table | _COUNTRY_ALIASES


@lru_cache(maxsize=1024)
def country_code(text: str) -> str | None:
    """The lower-case ISO 3166-1 alpha-2 code that `text` (a code or a name) means, or None."""
    return _iso().get(_letters(text))


def state_code(letters: str, country: str | None) -> str:
    """The two-letter code of a US state or Canadian province; anything else comes back as it is."""
    table = _STATES_OF.get(country)
    return table.get(letters, letters) if table else letters

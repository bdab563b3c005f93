"""The table of country names in core/capi/assets, made anew from Unicode's CLDR as Babel carries it.

`python -m tests.kit.cldr > collector/core/capi/assets/territories.txt` after an update of Babel; a test compares them.
Babel itself would add 36 MB to the program for these 100 KB.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import iso3166
from babel import Locale, UnknownLocaleError
from babel.languages import get_official_languages

from collector.core.capi.regions import fold

# Languages in which shops print the names of others' countries.
SHOPS = (
    "en de fr es it pt nl pl sv da nb fi cs sk hu ro bg hr sl sr el tr ru uk ja ko zh zh_Hant ar he th vi id ms et lv "
    "lt fa hi is ca ga"
).split()
CODES = sorted(iso3166.countries_by_alpha2)


def own_names(code: str) -> Iterator[str]:
    """What the country is called in each of its own languages."""
    for language in get_official_languages(code, de_facto=True):
        try:
            locale = Locale.parse(f"{language}_{code}")
        except UnknownLocaleError:
            continue
        if name := locale.territories.get(code):
            yield name


def table() -> dict[str, list[str]]:
    """Lower-case alpha-2 code to its folded names; a name that means two countries is nobody's, but for its own."""
    own = {fold(name): code for code in CODES for name in own_names(code)}
    meant: dict[str, set[str]] = defaultdict(set)
    for language in SHOPS:
        for code in CODES:
            if name := Locale.parse(language).territories.get(code):
                meant[fold(name)].add(code)
    one = {name: codes.pop() for name, codes in meant.items() if len(codes) == 1} | own
    names: dict[str, list[str]] = defaultdict(list)
    for name, code in sorted(one.items()):
        names[code.lower()].append(name)
    return dict(sorted(names.items()))


def text() -> str:
    """The file."""
    head = "# Names of countries, folded: Unicode CLDR (Unicode License v3, https://www.unicode.org/license.txt)."
    return "\n".join([head, *("\t".join([code, *names]) for code, names in table().items())]) + "\n"


if __name__ == "__main__":
    print(text(), end="")

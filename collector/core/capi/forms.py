"""What is the normal form of each kind of customer field, before it is hashed?

Meta's own text (Customer Information Parameters) decides, not one of its SDKs, which disagree with it and with one
another.

    em       trimmed, lower case; dots and +tags stay; read out of "mailto:" and "Jo <jo@…>"
    fn, ln   lower case; letters, marks and digits of every script; of several words both with single spaces, as the
             pixel and the SDKs have it, and without, as the param builder has it
    ct       as a name, without spaces
    st       two letters in the US and Canada; elsewhere as ct
    zp       lower case, no space or dash; a US ZIP+4 is cut to its first five; digits of full width are digits
    db       YYYYMMDD, a day that exists, from 1900 to the current year
    ge       f or m
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from html import unescape
from typing import Final
from urllib.parse import unquote

from collector.core.capi.regions import state_code
from collector.core.nobody import LONGEST, NOTHING, is_nothing


class Bad(Exception):
    """This value has no normal form; the text says why, without the value."""


_OTHER_HASH: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}", re.ASCII | re.IGNORECASE)  # MD5, SHA-1
_PLAIN_EMAIL: Final = re.compile(r"[\w.+-]+@(?:[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*\.)+[A-Za-z]{2,}", re.ASCII)
_LONGEST_EMAIL: Final = 320  # nothing longer is searched: that takes the square of the length
_EMAIL: Final = re.compile(r"[^\s@,;:<>()\[\]\"\\]+@((?:[^\W_]+(?:-+[^\W_]+)*\.)+[^\W\d_](?:[\w-]*[^\W_])?)")
_IN_ANGLES: Final = re.compile(r"[^<>]*<\s*([^<>]+?)\s*>\s*")
_ESCAPED: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_SHORTEST_HASH: Final = 32
_ASCII_DROP: Final = {n: " " if chr(n).isspace() else None for n in range(128) if not chr(n).isalnum()}
_KEEP: Final = frozenset("LMN")  # letters, marks, numbers; not P(unctuation), S(ymbol), Z (space), C(ontrol)
# Meta's param builder reads these words; the last row's are those of shops' forms in other languages.
_FEMALE: Final = """
    f female woman women girl lady miss ms mrs madam ma'am daughter mother mom mama mommy aunt niece sister wife
    girlfriend bride widow queen princess duchess countess empress goddess maiden lass gal chick dame belle she her
    hers herself
    frau weiblich femme femenino feminino mujer donna femmina mevrouw vrouw kvinna kvinde kvinne kobieta mme señora
""".split()
_MALE: Final = """
    m male man men boy gentleman guy sir mister mr son father dad daddy papa uncle nephew brother husband boyfriend
    groom widower king prince duke count emperor god lord lad fellow chap bloke dude he him his himself
    herr mann männlich homme masculino hombre uomo maschio heer mężczyzna monsieur señor
""".split()
_GENDERS: Final = dict.fromkeys(_FEMALE, "f") | dict.fromkeys(_MALE, "m")
_ISO_DATE: Final = re.compile(r"(\d{4})([-/.]?)(\d{1,2})\2(\d{1,2})(?:[T ]\d.*| *\(.*\))?", re.ASCII)
_DAY_LAST: Final = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?:[T ]\d.*| *\(.*\))?", re.ASCII)
_AS_FLOAT: Final = re.compile(r"(\d+)\.0+", re.ASCII)  # 94035.0: a column of a table with gaps in it
_DASHES: Final = dict.fromkeys(range(0x2010, 0x2016), "-")
FIRST_YEAR: Final = 1900


def email(text: str) -> str:
    """Trimmed, lower case; raises Bad for what is no address."""
    if _PLAIN_EMAIL.fullmatch(text):
        return text.lower()
    lowered = unicodedata.normalize("NFC", _unwrapped(text)).lower()
    if len(lowered) > _LONGEST_EMAIL or not _EMAIL.fullmatch(lowered):
        raise Bad("not an e-mail address")
    return lowered


def _unwrapped(text: str) -> str:
    """The address in `mailto:…?subject=`, in `Jo Smith <…>`, in quotes, written for a URL or for HTML."""
    text = _as_typed(text)
    if found := _IN_ANGLES.fullmatch(text):
        text = found[1]
    text = text.strip(" \t'\"“”‘’").rstrip(".,;")
    return text[7:].split("?", 1)[0].strip() if text[:7].lower() == "mailto:" else text


def _as_typed(text: str) -> str:
    """What the person typed, where a page wrote it for HTML (`d&#39;Angelo`) or for a URL (`Jos%C3%A9+Luis`)."""
    if "&" in text:
        text = unescape(text)
    if "%" in text and "@" not in text and _ESCAPED.search(text):
        try:
            decoded = unquote(text, errors="strict")
        except UnicodeDecodeError:
            return text
        return decoded if "@" in decoded else decoded.replace("+", " ")
    return text


def letters(text: str) -> str:
    """Lower case; letters, marks and digits of every script. Raises Bad where there are none, and for nobody's."""
    if text.isascii():
        lowered = text.lower()
        squeezed = lowered.replace(" ", "")
        if squeezed.isalnum() and not is_nothing(lowered) and squeezed.strip("0") and len(lowered) < _SHORTEST_HASH:
            return squeezed
    if not (found := "".join(_words(text))):
        raise Bad("no letters or digits")
    if not found.strip("0"):
        raise Bad("a placeholder, nobody's")
    return found


def name(text: str) -> str | tuple[str, str]:
    """A person's name: one form, or two where it has several words, the one with spaces first."""
    if text.isascii() and text.isalnum() and len(text) < _SHORTEST_HASH and (lowered := text.lower()) not in NOTHING:
        return lowered
    if not (words := _words(text)):
        raise Bad("no letters")
    return words[0] if len(words) == 1 else (" ".join(words), "".join(words))


def _words(text: str) -> list[str]:
    """As `letters`, word by word."""
    text = _as_typed(text)
    if len(text) <= LONGEST and is_nothing(text):
        raise Bad("a placeholder, nobody's")
    if len(text) in (32, 40) and _OTHER_HASH.fullmatch(text):
        raise Bad("hashed, but not with SHA-256")
    if "@" in text and len(text) <= _LONGEST_EMAIL and _EMAIL.search(text):
        raise Bad("an e-mail address, not a name")
    if text.isascii():
        return text.lower().translate(_ASCII_DROP).split()
    lowered = unicodedata.normalize("NFC", text).lower()
    return "".join(" " if c.isspace() else c if unicodedata.category(c)[0] in _KEEP else "" for c in lowered).split()


def state(text: str, country: str | None, *, said: bool) -> str:
    """A state or region. `said`: `country` is the customer's own word, not the store's."""
    if country and text.lower().startswith(country + "-"):  # ISO 3166-2: US-CA
        text = text[3:]
    return state_code(letters(text), country, said=said)


def zip_code(text: str, country: str | None) -> str:
    """A postal code. Nine digits are a ZIP+4 in the United States only."""
    form = letters(_plain_digits(text))
    return form[:5] if country == "us" and len(form) == 9 and form.isdigit() else form


def _plain_digits(text: str) -> str:
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return found[1] if (found := _AS_FLOAT.fullmatch(text)) else text


def gender(text: str) -> str:
    if (found := _GENDERS.get(text.lower().rstrip("."))) is None:
        raise Bad("Meta knows f and m only")
    return found


def birth_date(text: str, country: str | None, this_year: int) -> str:
    """YYYYMMDD. 3/4/1990 is March in the United States, April elsewhere, and nothing where the country is unknown."""
    text = _plain_digits(text.translate(_DASHES))
    if (found := _ISO_DATE.fullmatch(text)) and (found[2] or len(text.split("T")[0].split(" ")[0]) == 8):
        year, month, day = int(found[1]), int(found[3]), int(found[4])
    elif found := _DAY_LAST.fullmatch(text):
        year = int(found[4])
        month, day = _month_and_day(int(found[1]), int(found[3]), found[2], country)
    else:
        raise Bad("not a date; write YYYY-MM-DD")
    try:
        born = date(year, month, day)
    except ValueError:
        raise Bad("not a possible date of birth") from None
    if not FIRST_YEAR <= year <= this_year:
        raise Bad("not a possible date of birth")
    return f"{born:%Y%m%d}"


def _month_and_day(first: int, second: int, separator: str, country: str | None) -> tuple[int, int]:
    if first > 12 or separator == ".":
        return second, first
    if second > 12 or first == second or country == "us":
        return first, second
    if country is None or country in {"ca", "ph"}:  # both orders are in use there
        raise Bad("day or month first? write YYYY-MM-DD")
    return second, first

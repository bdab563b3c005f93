"""A page's address as it is kept and sent: absolute, plain ASCII, short enough, and without personal data (D9).

Browsers are lenient with addresses (WHATWG URL 4.4), so this is too: blanks around one and line ends inside go, what is
not ASCII is percent-encoded, a relative one is completed with the store's domain. What has another scheme, or is no
address at all, is None.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

import idna

from collector.core.remembered import remembered

MAX_LENGTH: Final = 4096
_CACHED_LENGTH: Final = 512  # with 4,096 entries: 2 MB at most
_SHORT: Final = 20  # what is no longer may be a part of anything
_BLANK: Final = "".join(map(chr, range(33)))
_LINE_ENDS: Final = str.maketrans("", "", "\t\r\n")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?!\d)")
_PARTS: Final = re.compile(r"(https?)://(?:[^/?#\\]*@)?([^\s/?#@\\<>\"]+)(.*)", re.IGNORECASE | re.DOTALL)
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_*](?:[A-Za-z0-9_.~*-]*))(?::\d*)?")
_RELATIVE: Final = re.compile(r"[\w.~%-]+[/?#.]\S*")
_SAFE: Final = "!#$%&'()*+,/:;=?@[]~|\\^{}"  # of what follows the host: as it stands


def read(text: str, site: str | None = None, click_id: str = "") -> str | None:
    """The address of a page, without personal data; None where it is none.

    `site`: what relative ones begin with; `click_id`: a checked one that is in the address, which is then faster.
    """
    if site is not None and text[:1] == "/" != text[1:2]:  # as shops tell landings: most need no closer look
        whole = site.rstrip("/") + text
        if len(whole) <= MAX_LENGTH and _HARMLESS.fullmatch(whole):
            return whole
    # Each landing has its own click id: without it, one answer serves all of a campaign.
    if len(click_id) > _SHORT:
        shared = text[: -len(click_id)] if text.endswith(click_id) else text.replace(click_id, "", 1)
    else:
        shared = text
    clean = _usual(shared) if len(shared) <= _CACHED_LENGTH else _read_usual(shared)
    if clean is None or len(text) > MAX_LENGTH:
        return _read(text, site)
    return text if clean == shared else clean if shared is text else without_personal_data(text)


def _read_usual(text: str) -> str | None:
    """An address in its usual form, without personal data; None where it has to be looked at."""
    if _HARMLESS.fullmatch(text):
        return text
    if not text.startswith("https://") or not text.isascii() or not text.isprintable() or " " in text:
        return None
    return without_personal_data(text) if len(text) > 8 and text[8] not in "/?#:" else None


_usual: Final = lru_cache(maxsize=4096)(_read_usual)


def _read(text: str, site: str | None) -> str | None:
    absolute = _absolute(text.strip(_BLANK).translate(_LINE_ENDS), site)
    plain = None if absolute is None else _plain(absolute)
    return None if plain is None else cut(without_personal_data(plain))


def _absolute(text: str, site: str | None) -> str | None:
    """With scheme and host, where it has one or `site` gives it."""
    if scheme := _SCHEME.match(text):
        return text if scheme[1].lower() in ("http", "https") else None
    if text.startswith("//"):
        return "https:" + text
    if text.startswith("www.") or _is_on(text, site):
        return "https://" + text
    if site is None or not (text.startswith(("/", "?", "#")) or _RELATIVE.fullmatch(text)):
        return None
    return site.rstrip("/") + ("" if text.startswith("/") else "/") + text


def _is_on(text: str, site: str | None) -> bool:
    """Whether it begins with the site's host, the scheme forgotten."""
    host = site.partition("://")[2].strip("/.").lower().removeprefix("www.") if site else ""
    named = re.split(r"[/?#]", text, maxsplit=1)[0].lower()
    return bool(host) and (named == host or named.endswith("." + host))


def _plain(url: str) -> str | None:
    parts = _PARTS.fullmatch(url)
    host = _ascii_host(parts[2]) if parts else None
    if parts is None or host is None:
        return None
    return f"{parts[1].lower()}://{host}{quote(parts[3], safe=_SAFE, errors='replace')}"


def _ascii_host(host: str) -> str | None:
    if not host.isascii():
        name, colon, port = host.partition(":")
        try:
            host = idna.encode(name, uts46=True).decode("ascii") + colon + port
        except idna.IDNAError:
            return None
    return host if _HOST.fullmatch(host) else None


def cut(url: str) -> str:
    """At most 4,096 characters of an address; its click id is kept wherever it stands."""
    if len(url) <= MAX_LENGTH:
        return url
    kept = _whole_escapes(url[:MAX_LENGTH])
    lost = _CLICK_ID.search(url)
    if lost is None or lost.end() <= len(kept):
        return kept
    room = MAX_LENGTH - len(lost[2]) - 1
    head = _whole_escapes(url[: min(room, lost.start())])
    return head + ("&" if "?" in head else "?") + lost[2]


_CLICK_ID: Final = re.compile(r"([?&#;])(fbclid=[A-Za-z0-9_-]{1,500})(?![A-Za-z0-9_-])")


def _whole_escapes(text: str) -> str:
    """Without a percent escape that was cut in two."""
    return text[:-1] if text[-1:] == "%" else text[:-2] if text[-2:-1] == "%" else text


# -- personal data

_WITHIN: Final = r"[^\s@/?&=#;,:<>()\"']"
_EMAIL: Final = re.compile(rf"{_WITHIN}{{1,64}}@{_WITHIN}+\.[^\W\d_]{{2,}}")
_ABROAD: Final = re.compile(r"(?<![\w.+])(?:\+|00)[ ]?[1-9](?:[ ().-]{0,2}\d){7,13}(?![\w.])")
_SPACED: Final = re.compile(r"(?=(?:\D*\d){9,15}\D*\Z)\(?\d+\)?(?:[ ./()-]{1,2}\d+){1,6}")
_DATE_OR_FIGURE: Final = re.compile(r"\d{4}[-./]\d\d?[-./]\d\d?\b.*|\d+\.\d+|\d{1,3}(?:\.\d{1,3}){3}")
_AT_HOME: Final = re.compile(r"0[1-9]\d{8,9}|1[2-9]\d{2}[2-9]\d{6}")
_BARE: Final = re.compile(r"[1-9]\d{10,12}")
_CLOCK: Final = re.compile(r"1[5-9]\d{8}|1[5-9]\d{11}")  # Unix seconds and milliseconds of our days

# The names of parameters whose values are somebody's own, in the words of several languages.
_IN_NAME: Final = re.compile(
    "e?mail(?!ing|chimp)|courriel|correo|phone|telefon|celular|msisdn|whatsapp|passw|passphrase|kennwort|contrasen|motdepasse|senha"
    "|token|secret|credential|authori[sz]|sess(?:ion)?id|firstname|lastname|fullname|surname|username|middlename|givenname"
    "|familyname|customername|billingname|shippingname|vorname|nachname|prenom|apellido|sobrenome"
    "|birth|zipcode|postcode|postalcode|streetaddress|homeaddress|addressline|creditcard|cardnumber|apikey|accesskey"
)
_WORDS: Final = frozenset("em ph tel key pwd pw pass auth sid jwt otp fn ln dob ssn iban bic cvv cvc login".split())
_WHOLE: Final = frozenset(
    "name fname lname user address street zip zp db mobile cell handy gsm session sig signature pin ip".split()
)
_CAMPAIGN: Final = re.compile(
    r"utm_\w+|\w*cl(?:ic)?k?id|gad_\w+|gbraid|wbraid|epik|li_fat_id|_gl|fbc|fbp"
    r"|(?:campaign|adset|adgroup|ad|creative|placement|site_source)(?:_?(?:id|name))?"
)
_IDENTIFIER: Final = re.compile(
    r".*(?:id|ids|sku|ean|gtin|upc|isbn|variant|order|number|nr|no|ref|ts|time|stamp|date|product|item|cart|code|ver|hash"
    r"|rnd|random|nonce|cb)|[tv_]"
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CAMPAIGNS, _PERSONAL, _NUMBERED, _PLAIN = range(4)


# What nearly every landing is: a page of plain characters with campaign parameters alone, and no value that begins
# like a phone abroad. A seventh of the time of looking at each parameter, and the same answer.
_LABEL: Final = (
    r"(?:utm_[a-z_]++|fbclid|(?:campaign|adset|ad)(?:_id|_name)?|placement)=(?:[-~]*+(?!00)[A-Za-z0-9_.]++)*+[-~]*+"
)
_HARMLESS: Final = re.compile(
    rf"https://[A-Za-z0-9][A-Za-z0-9.-]*+(?:/[A-Za-z0-9_.~/-]*+)?(?:\?{_LABEL}(?:&{_LABEL})*+)?"
)
_SUSPECT: Final = re.compile(r"[?#;@%+]")
_FIRST_MARK: Final = re.compile(r"[?#;]")
_PIECE: Final = re.compile(r"([?&;#])([^?&;#]*)")
_START: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?([^/?#]*)")


def without_personal_data(url: str) -> str:
    """The address without values that look like an e-mail or a phone, or whose names say that they are somebody's own.

    Campaign parameters and click ids stay; so does a parameter's name, with nothing behind it.
    """
    if _SUSPECT.search(url) is None:
        return url
    start = _START.match(url)
    begin, rest = (start[1] + start[2], url[start.end() :]) if start else ("", url)
    mark = _FIRST_MARK.search(rest)
    path, query = (rest[: mark.start()], rest[mark.start() :]) if mark else (rest, "")
    return begin + _clean_path(path) + _PIECE.sub(_clean_piece, query)


def _clean_path(path: str) -> str:
    """Without an e-mail or a phone among its segments."""
    if "@" not in path and "%" not in path and "+" not in path:
        return path
    return "/".join("" if is_personal(_decoded(part)) else part for part in path.split("/"))


def _clean_piece(piece: re.Match[str]) -> str:
    name, equals, value = piece[2].partition("=")
    if not equals:
        return piece[1] + _clean_path(name)
    if is_personal(_decoded(name)):  # a form whose field is named after its visitor
        return piece[1]
    return f"{piece[1]}{name}={'' if value and is_somebodys(name, value) else value}"


def is_somebodys(name: str, value: str) -> bool:
    kind = _kind(name)
    if kind == _PERSONAL:
        return True
    text = _decoded(value)
    if is_personal(text) or (text != value and _names_somebody(text)):
        return True
    return kind == _PLAIN and _is_phone(text.strip())


def is_personal(text: str) -> bool:
    """Whether an e-mail address stands in a text, or a phone with its plus."""
    return ("@" in text and _EMAIL.search(text) is not None) or _ABROAD.search(text) is not None


def _names_somebody(text: str) -> bool:
    """Whether an address inside a value has a parameter of somebody's own."""
    return any(_kind(name) == _PERSONAL for name in re.findall(r"[?&;#]([^?&;#=]+)=[^&;#]", text))


def _is_phone(text: str) -> bool:
    """Whether a value is a phone as people write it at home, or one with its country's code and no plus."""
    if _BARE.fullmatch(text) and not _CLOCK.fullmatch(text):
        return _AT_HOME.fullmatch(text) is not None or _is_valid(text)
    if _AT_HOME.fullmatch(text):
        return True
    return _SPACED.fullmatch(text) is not None and _DATE_OR_FIGURE.fullmatch(text) is None


@lru_cache(maxsize=4096)
def _is_valid(digits: str) -> bool:
    import phonenumbers  # 40 ms to import: only for a number of this length

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse("+" + digits))
    except phonenumbers.NumberParseException:
        return False


def _decoded(text: str) -> str:
    """Without percent escapes, however often it was escaped."""
    for _ in range(3):
        if "%" not in text:
            break
        text = unquote(text)
    return text


@remembered(4096)
def _kind(name: str) -> int:
    """What a parameter's name says of its value."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", _decoded(name)[:200]) if not unicodedata.combining(c))
    if _CAMPAIGN.fullmatch(plain.lower()):
        return _CAMPAIGNS
    words = [word for word in re.split(r"[^a-z0-9]+", _CAMEL.sub("_", plain).lower()) if word]
    whole = "".join(words)
    if _IN_NAME.search(whole) or not _WORDS.isdisjoint(words) or whole in _WHOLE or words[-1:] == ["name"] == words[:1]:
        return _PERSONAL
    return _NUMBERED if _IDENTIFIER.fullmatch(whole) else _PLAIN

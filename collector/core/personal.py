"""What of a person stands in clear where it should not: in custom data, in names of products, in ids.

Meta forbids it, and reports it ("personal data" diagnostics). Three things tell it: the key that it stands under, in
whatever spelling and language (core/urls.py knows the names of parameters, here are those of whole records), its own
form (an e-mail address, a phone number), and what the same event says of its customer: a name is known by nothing else.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final
from urllib.parse import unquote_plus

from msgspec import UNSET, Struct

from collector.core import urls
from collector.core.events import CustomerData

# Records of a person, whole: nothing in them is left.
_PERSONS: Final = frozenset(
    """
    customer user buyer client contact recipient payer guest member visitor person profile account billing shipping
    shipto billto address addresses identity traits userdata userinfo userproperties customerdata customerinfo
    customerdetails billingaddress shippingaddress billingdetails shippingdetails deliveryaddress contactinfo
    contactdetails advancedmatching ordercustomer kunde client cliente klant persona
    """.split()
)
_ROLES: Final = r"customer|user|buyer|client|contact|recipient|payer|guest|member|billing|shipping|delivery|receiver"
_OF_A_ROLE: Final = re.compile(
    rf"(?:{_ROLES})(?:the)?(?:name|names|first|last|fname|lname|city|state|province|zip|postal|post|address\d?|street|company"
    r"|country|tel|mobile|fax|contact|gender|dob|age|ip)"
)
_NAMES: Final = frozenset(
    """
    ordername ordercontact nom nombre nome naam imie nazwisko cognome voornaam achternaam buyer recipient namn navn ime
    priezvisko meno jmeno prijmeni 姓名 氏名 имя фамилия
    """.split()
)
_EXACTLY: Final = frozenset(
    """
    em ph fn ln db dob ge ct st zp telephone mobile cellphone fax contactnumber contactno mobilenumber mobileno
    telnumber telno callnumber faxnumber ip ipaddress clientip clientipaddress remoteip remoteaddr userip
    """.split()
)
# Beside one of these, "name" is a thing's.
_OF_A_THING: Final = frozenset(
    """
    price quantity qty sku id product_id productId item_id itemId item_price category brand variant item_name item_brand
    coupon discount value list_name
    """.split()
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SHORTEST: Final = 3  # letters of a name that is looked for alone
_SHORTEST_WHOLE: Final = 5  # letters of first and last name, which are looked for inside a text


class Said(Struct, frozen=True):
    """What an event says of its customer, folded: whole names, single names, the ends of phones, mailboxes."""

    whole: frozenset[str] = frozenset()
    single: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()

    def is_in(self, text: str, *, alone: bool = True) -> bool:
        """Whether the customer's name or phone stands in a text; `alone`: also a single name that is all of it."""
        if not (self.whole or self.single or self.phones):
            return False
        folded = _fold(text)
        if (alone and folded in self.single) or any(name in folded for name in self.whole):
            return True
        digits = _digits(text) if self.phones else ""
        return len(digits) >= _PHONE_END and any(end in digits for end in self.phones)

    def may_be_in(self, text: str) -> bool:
        """Whether one of its parts may have the customer in it: False says that none has, at a fifth of the price."""
        folded = _fold(text)
        if any(name in folded for name in self.single) or any(name in folded for name in self.whole):
            return True
        digits = _digits(text) if self.phones else ""
        return any(end in digits for end in self.phones)


NOBODY: Final = Said()
_PHONE_END: Final = 8  # digits at a phone's end, the same with its country code and without


def said_of(customer: CustomerData | None) -> Said:
    """What `customer` says in clear; hashes say nothing."""
    if customer is None or not (customer.first_name or customer.last_name or customer.phone):
        return NOBODY
    first, last = _fold(customer.first_name or ""), _fold(customer.last_name or "")
    whole = {first + last, last + first} if first and last else set()
    numbers = customer.phone if isinstance(customer.phone, list) else [customer.phone or ""]
    digits = [_digits(number) for number in numbers if len(number) < 64]
    return Said(
        frozenset(name for name in whole if _SHORTEST_WHOLE <= len(name) < 64),
        frozenset(name for name in (first, last) if _SHORTEST <= len(name) < 64),
        frozenset(number[-_PHONE_END:] for number in digits if len(number) >= _PHONE_END),
    )


_PART: Final = re.compile(r"(?:^|(?<=[/?&;#]))([^/?&;#=]+=)?([^/?&;#]+)")


def page_without(url: str, said: Said) -> str:
    """The address without the parts of its path and query in which the event's own customer stands.

    /products/rose stays what it is for a customer called Rose; ?recipient=rose does not.
    """
    start = url.find("/", 8)
    if start < 0 or said is NOBODY or not said.may_be_in(unquote_plus(url[start:])):
        return url

    def without(part: re.Match[str]) -> str:
        name, text = part[1] or "", unquote_plus(part[2])
        return name if said.is_in(text, alone=bool(name)) else part[0]

    return url[:start] + _PART.sub(without, url[start:])


_NO_LETTER_OR_DIGIT: Final = bytes(n for n in range(128) if not chr(n).isalnum())
_NO_DIGIT: Final = bytes(n for n in range(128) if not chr(n).isdigit())


def _fold(text: str) -> str:
    if text.isascii():  # a tenth of the time
        return text.lower().encode().translate(None, _NO_LETTER_OR_DIGIT).decode()
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).lower()))


def _digits(text: str) -> str:
    if text.isascii():
        return text.encode().translate(None, _NO_DIGIT).decode()
    return "".join(filter(str.isdigit, text))


def is_in(text: str) -> bool:
    """Whether an e-mail address or a phone with its plus stands in a text, or in an id: a UPC may begin with 00."""
    if "@" in text or "+" in text or "%40" in text:
        return urls.is_personal(text.replace("%40", "@"))
    return False


def cleaned(key: str, value: Any, said: Said = NOBODY, *, known: bool = False) -> Any:
    """The value without what is a person's; UNSET where nothing of it is left. `known`: a key of Meta's own."""
    if isinstance(value, dict):
        return _line(value, said) if known else _record(key, value, said)
    if isinstance(value, list):
        parts = [part for one in value if (part := cleaned(key, one, said, known=known)) is not UNSET]
        return parts if parts or not value else UNSET
    if known:
        return UNSET if isinstance(value, str) and (is_in(value) or said.is_in(value, alone=False)) else value
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    if is_in(key) or said.is_in(text):
        return UNSET
    plain = text.lstrip("0") if text.isdigit() else text  # a UPC may begin with 00, as what is dialled abroad
    if names_somebody(key) or urls.is_somebodys(key, plain):
        return UNSET
    return urls.without_personal_data(text) if "://" in text else value


def _line(line: dict[str, Any], said: Said) -> Any:
    """A line of `contents`; UNSET where its id is a person's."""
    parts = {name: cleaned(name, part, said, known=True) for name, part in line.items()}
    return UNSET if parts["id"] is UNSET else {name: part for name, part in parts.items() if part is not UNSET}


def _record(key: str, value: dict[str, Any], said: Said) -> Any:
    if is_record(key):
        return UNSET
    thing = not _OF_A_THING.isdisjoint(value)
    parts = {name: cleaned("title" if thing and name == "name" else name, part, said) for name, part in value.items()}
    kept = {name: part for name, part in parts.items() if part is not UNSET}
    return kept if kept or not value else UNSET


def is_record(key: str) -> bool:
    """Whether what stands under this key is somebody's record."""
    return _plain(key) in _PERSONS or names_somebody(key)


def names_somebody(key: str) -> bool:
    """Whether a key says that its value is somebody's own: in camel case, with dots, dashes or underscores."""
    plain = _plain(key)
    return plain in _NAMES or plain in _EXACTLY or _OF_A_ROLE.fullmatch(plain) is not None


def _plain(key: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", key[:200]).lower() if c.isalnum())

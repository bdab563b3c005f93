"""One lenient reader per kind of value, at the door (F1): a poor field makes an event poorer, never lost.

Only what the strict types refuse comes here. Each optional field is read as what it must have meant (a number for a
text, `[]` for `{}`), or left out and named; what comes out fits the strict type, whatever came in. The fields without
which there is no order or click have no reader: the strict types refuse them in the contract's words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Struct

from collector.core import urls
from collector.core.events import ClickBody, Consent, ConversionBody, CustomerData, Marketing, Product
from collector.errors import ApiError

# A reader has the value, the field's path, and the names of what was left out so far. UNSET: it cannot be read.
Reader = Callable[[Any, str, list[str]], Any]
MOST_DEPTH: Final = 16
MOST_NODES: Final = 2_000
MOST_INTEGER: Final = 1 << 53  # beyond it JavaScript and Meta lose digits
_MOST_DIGITS: Final = 40
_MOST_PRODUCTS: Final = 1_000
_MOST_TEXTS: Final = 20
_MOST_PIECES: Final = 1_000_000_000
_MOST_AGENT: Final = 4_096
_YES: Final = frozenset({"true", "1", "yes", "on", "y"})
_NO: Final = frozenset({"false", "0", "no", "off", "n"})
_GRANTED: Final = _YES | {"granted", "grant", "allow", "allowed", "accept", "accepted", "opt_in", "opted_in"}
_DENIED: Final = _NO | {"denied", "deny", "refused", "reject", "rejected", "declined", "opt_out", "opted_out"}


class _Field(NamedTuple):
    read: Reader
    fits: Any  # the strict type


class Shape(NamedTuple):
    """What is known of a body's type: its optional fields with their readers, and the names of all."""

    optional: Mapping[str, _Field]
    names: frozenset[str]


def is_nothing(value: Any) -> bool:
    """Whether a caller said nothing: null, or a text of blanks."""
    return value is None or (isinstance(value, str) and not value.strip())


def read(tree: Mapping[str, Any], shape: Shape, path: str, left_out: list[str]) -> dict[str, Any]:
    """The members that the strict type takes; `left_out` gets the names of the others."""
    kept: dict[str, Any] = {}
    for name, value in tree.items():
        field = shape.optional.get(name)
        if field is None:
            if name not in shape.names:
                left_out.append(path + name)
            elif not is_nothing(value):
                kept[name] = _ESSENTIAL[name](value) if name in _ESSENTIAL else value
        elif not is_nothing(value):
            found = _fitting(field, value, path + name, left_out)
            if found is not UNSET:
                kept[name] = found
    return kept


def _fitting(field: _Field, value: Any, path: str, left_out: list[str]) -> Any:
    found = field.read(value, path, left_out)
    if found is not UNSET:
        try:
            msgspec.convert(found, field.fits)
        except (msgspec.ValidationError, OverflowError):
            found = UNSET
    if found is UNSET:
        left_out.append(path)
    return found


# -- readers


def text_of(value: Any) -> str | None:
    """A text, or a number as its digits; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = Decimal(value) if isinstance(value, int) else Decimal(str(value))
    if not number.is_finite() or not -_MOST_DIGITS < number.adjusted() < _MOST_DIGITS:
        return None
    whole = number == number.to_integral_value()
    return f"{number.to_integral_value() if whole else number:f}"


def number_of(value: Any) -> Decimal | None:
    """A finite number, or a text that is one."""
    text = text_of(value)
    try:
        number = Decimal(text.strip()) if text is not None else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


def _text(value: Any, path: str, left_out: list[str]) -> Any:
    text = text_of(value)
    return UNSET if text is None else text


def _agent(value: Any, path: str, left_out: list[str]) -> Any:
    """A user agent, cut: its beginning says most."""
    if not isinstance(value, str):
        return UNSET
    if len(value) > _MOST_AGENT:
        left_out.append(path)
    return value[:_MOST_AGENT]


def page(value: Any, path: str, left_out: list[str]) -> Any:
    """A page's address, cut."""
    if not isinstance(value, str):
        return UNSET
    if len(value) <= urls.MAX_LENGTH:
        return value
    left_out.append(path)
    return urls.cut(urls.without_personal_data(value))


def _addresses(value: Any, path: str, left_out: list[str]) -> Any:
    """Network addresses: a text, or a list of texts as one with commas."""
    return ",".join(map(str, value)) if isinstance(value, list) and value else _text(value, path, left_out)


def _texts(value: Any, path: str, left_out: list[str]) -> Any:
    """One text or several, as a person's e-mails are."""
    if not isinstance(value, list):
        return _text(value, path, left_out)
    texts = [text_of(one) for one in value if not is_nothing(one)]
    fitting = [text for text in texts if text is not None and len(text) <= urls.MAX_LENGTH]
    if len(fitting) < len(texts) or len(fitting) > _MOST_TEXTS:
        left_out.append(path)
    return fitting[:_MOST_TEXTS]


def _price(value: Any, path: str, left_out: list[str]) -> Any:
    number = number_of(value)
    return UNSET if number is None else number


def _quantity(value: Any, path: str, left_out: list[str]) -> Any:
    number = number_of(value)
    if number is None or not 0 <= number <= _MOST_PIECES or number != number.to_integral_value():
        return UNSET
    return int(number)


def _flag(value: Any, path: str, left_out: list[str]) -> Any:
    word = str(value).strip().lower()
    return True if word in _YES else False if word in _NO else UNSET


def marketing_of(value: Any) -> Marketing | None:
    """A decision in any common wording; None where it cannot be told."""
    word = str(value).strip().lower().replace("-", "_")
    if word in _GRANTED:
        return "granted"
    return "denied" if word in _DENIED else "pending" if word == "pending" else None


def _marketing(value: Any, path: str, left_out: list[str]) -> Any:
    """A decision that cannot be read is none yet: nothing is sent on the strength of it, and nothing is lost."""
    if (said := marketing_of(value)) is None:
        left_out.append(path)
    return said or "pending"


def _consent(value: Any, path: str, left_out: list[str]) -> Any:
    if value == []:
        return {}
    return read(value if isinstance(value, dict) else {"marketing": value}, _CONSENT, f"{path}.", left_out)


def _customer(value: Any, path: str, left_out: list[str]) -> Any:
    if value == []:
        return {}
    return read(value, _CUSTOMER, f"{path}.", left_out) if isinstance(value, dict) else UNSET


def _products(value: Any, path: str, left_out: list[str]) -> Any:
    """The lines of an order; PHP writes a list with gaps as an object, and a single line may stand alone."""
    if isinstance(value, dict):
        value = [value] if value.keys() & _PRODUCT.names else list(value.values())
    if not isinstance(value, list):
        return UNSET
    if len(value) > _MOST_PRODUCTS:
        left_out.append(path)
    lines = []
    for number, line in enumerate(value[:_MOST_PRODUCTS]):
        if isinstance(line, dict):
            lines.append(read(line, _PRODUCT, f"{path}[{number}].", left_out))
        else:
            left_out.append(f"{path}[{number}]")
    return lines


def person(said: dict[str, Any], left_out: list[str]) -> CustomerData | None:
    """Who a page says it is, as far as that can be read."""
    known = read(said, _CUSTOMER, "customerData.", left_out)
    return msgspec.convert(known, CustomerData) if known else None


def custom_data(value: Any, path: str, left_out: list[str]) -> Any:
    """An object's members as far as they are few, flat and exact enough."""
    if value == []:
        return {}
    if not isinstance(value, dict):
        return UNSET
    kept: dict[str, Any] = {}
    room = MOST_NODES - 1
    for name, member in value.items():
        nodes = count_nodes(member, 1)
        if nodes is None or nodes > room:
            left_out.append(f"{path}.{name}")
        else:
            kept[name] = _plain(member)
            room -= nodes
    return kept


def count_nodes(tree: Any, depth: int = 0) -> int | None:
    """How many values a tree has; None where it is too deep, or holds a number that not everybody can."""
    if depth > MOST_DEPTH:
        return None
    if isinstance(tree, dict | list):
        total = 1
        for value in tree.values() if isinstance(tree, dict) else tree:
            if (nodes := count_nodes(value, depth + 1)) is None:
                return None
            total += nodes
        return total
    if isinstance(tree, int):
        return 1 if abs(tree) <= MOST_INTEGER else None
    return 1 if not isinstance(tree, Decimal) or abs(tree) <= _MOST_FLOAT else None


def is_fit(tree: dict[str, Any]) -> bool:
    """Whether custom data may stay as it came."""
    nodes = count_nodes(tree)
    return nodes is not None and nodes <= MOST_NODES


_MOST_FLOAT: Final = Decimal(2) ** 1023


def _plain(tree: Any) -> Any:
    """With floats where decimals stand."""
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value) for value in tree]
    return float(tree) if isinstance(tree, Decimal) else tree


# -- which field is of which kind

_READERS: Final[Mapping[str, Reader]] = {
    "customerData": _customer,
    "consent": _consent,
    "products": _products,
    "customData": custom_data,
    "marketing": _marketing,
    "price": _price,
    "quantity": _quantity,
    "test": _flag,
    "ldu": _flag,
    "email": _texts,
    "phone": _texts,
    "externalId": _texts,
    "ipAddress": _addresses,
    "userAgent": _agent,
    "eventSourceUrl": page,
    "referrer": page,
    "firstTouch": page,
    "lastTouch": page,
}


def _essential_text(value: Any) -> Any:
    return value if isinstance(value, str) else text_of(value) or value


def _order_id(value: Any) -> Any:
    """Java and Python write 1001 as 1001.0; what is negative or broken is no order's id."""
    text = None if isinstance(value, str) else text_of(value)
    return text if text is not None and text.isdigit() else value


def _event_value(value: Any) -> Any:
    if isinstance(value, str):
        raise ApiError("invalid_field", "eventValue: expected a number, got a string", "eventValue")
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


# Without these there is no click or order: what has another form is for the strict types to refuse.
_ESSENTIAL: Final[Mapping[str, Callable[[Any], Any]]] = {
    "storeId": _essential_text,
    "landingPage": lambda value: page(value, "", []) if isinstance(value, str) else value,
    "eventType": lambda value: value.strip() if isinstance(value, str) else value,
    "orderId": _order_id,
    "eventValue": _event_value,
}
_OF_CLICK: Final = frozenset({"fbclid", "storeId", "landingPage", "type"})
_OF_CONVERSION: Final = frozenset({"storeId", "eventType", "orderId", "eventValue", "currency", "type"})


def _shape(struct: type[Struct], essential: frozenset[str] = frozenset()) -> Shape:
    fields = {f.encode_name: f.type for f in msgspec.structs.fields(struct)}
    optional = {n: _Field(_READERS.get(n, _text), kind) for n, kind in fields.items() if n not in essential}
    return Shape(optional, frozenset(fields) | essential)


_CONSENT: Final = _shape(Consent)
_CUSTOMER: Final = _shape(CustomerData)
_PRODUCT: Final = _shape(Product)
CLICK: Final = _shape(ClickBody, _OF_CLICK)
CONVERSION: Final = _shape(ConversionBody, _OF_CONVERSION)


def field_of(name: str) -> str | None:
    """The field that a left-out name means, the same for every line of an order; None for one that we do not have."""
    field = _INDEX.sub("", name)
    return "customData" if field.startswith("customData") else field if field in _FIELDS else None


_INDEX: Final = re.compile(r"\[\d+\]")
_FIELDS: Final = frozenset(
    [
        *CLICK.names,
        *CONVERSION.names,
        *_CUSTOMER.names,  # as normalising names them
        *(f"customerData.{name}" for name in _CUSTOMER.names),
        *(f"products.{name}" for name in _PRODUCT.names),
        *(f"consent.{name}" for name in _CONSENT.names),
    ]
)

"""The order that a webhook tells of, and its way to the body that the tracking API takes: the shop is the highest rank.

A signed message of which nothing can come is a value too, with its reason: a repeat would not mend it (R3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Final, Literal

from msgspec import Struct

from collector.core import lenient, refunds, statuses, times
from collector.core.events import Consent, ConversionBody, CustomerData, GivenBack, Product
from collector.core.shops import paths
from collector.core.shops.mapping import Platform, Said, decimal_of

_MOST_LINES: Final = 1_000
_LONGEST: Final = {"user_agent": 4096, "event_source_url": 4096, "referrer": 4096, "fbclid": 1024, "fbc": 1024}
_MOST_TEXT: Final = 512
_MOST_IDENT: Final = 256
IGNORE: Final = "ignore:"
REQUEST: Final = "request:"
REFUND: Final = "refund:"  # of one refund alone
_MOST_ORDERS: Final = 1_000
_GIVES_BACK: Final = ("partially_refunded", "refunded")

Channel = Literal["send", "ignore", "offline", "renewal"]


class Terms(Struct, frozen=True):
    """How a store wants its orders read."""

    channels: Mapping[str, str] = {}  # over the platform's own
    renewals: Literal["ignore", "send"] = "ignore"
    shop: str = ""  # the platform's domain that all its webhooks must be of (S9)
    refunds: bool = False  # Meta is told of them (O5)


class Ignored(Struct, frozen=True):
    """Signed, and of no use; why, in a word. `order`: where it is an order all the same, which the shop counts."""

    reason: str
    order: ShopOrder | None = None


class Request(Struct, frozen=True):
    """What the platform asks for a person, or for the whole shop (P1-P4)."""

    kind: str
    external_id: str = ""
    email: str = ""
    phone: str = ""
    orders: tuple[str, ...] = ()


class ShopOrder(Struct, frozen=True):
    """One telling of an order. `ends`: it says only that an order, if we have it, has ended, or was refunded.

    `refund`: the one that it tells of, and nothing else, with what was given back.
    """

    topic: str
    body: ConversionBody
    names: tuple[str, ...] = ()  # what else the platform itself calls the order
    numbers: tuple[str, ...] = ()  # what people call it, which others may be called too (O8)
    unsent: str | None = None  # why it is kept, and never sent
    ends: bool = False
    left_out: tuple[str, ...] = ()
    odd_amounts: int = 0
    channel: str = ""  # in the shop's word
    refunds: tuple[GivenBack, ...] = ()
    refund: GivenBack | None = None


class Read(Struct, frozen=True):
    """A body that was read: its topic and its sender's id for it, and what came of it."""

    topic: str
    delivery: str
    outcome: ShopOrder | Ignored | Request


def read(
    platform: Platform, terms: Terms, store_id: str, headers: Mapping[str, str], body: bytes, delivery: str = ""
) -> Read:
    """What a signed body tells; `headers` by their lower-case names, `delivery`: the sender's id where it is signed."""
    tree = paths.tree(body, platform.shape)
    if tree is None:
        return Read("", delivery, Ignored("not_json"))
    said = Said(platform, headers, tree)
    topic = (said.topic() or "")[:_MOST_TEXT]
    return Read(
        topic, delivery or said.delivery()[:_MOST_IDENT], _outcome(platform, terms, store_id, said, topic, body)
    )


def _outcome(
    platform: Platform, terms: Terms, store_id: str, said: Said, topic: str, body: bytes
) -> ShopOrder | Ignored | Request:
    if topic not in platform.topics:
        return Ignored("unknown_topic")
    if topic in platform.bare and not platform.bare[topic].fits(paths.members(body)):
        return Ignored("other_topic")  # nobody has signed the header that names it
    forced = platform.topics[topic]
    if forced.startswith(IGNORE):
        return Ignored(forced.removeprefix(IGNORE).strip())
    if forced.startswith(REQUEST):
        return _request(forced.removeprefix(REQUEST).strip(), said)
    if said.is_true("notification"):
        return Ignored("test_notification")
    if terms.shop and (said.first("shop") or "").lower() != terms.shop.lower():
        return Ignored("other_shop")
    status = said.status()
    if status == "draft" and forced in ("", REFUND):
        return Ignored("draft")
    channel, of = _channel({**terms.channels, **platform.channels, **terms.channels}, said)
    if forced == REFUND:
        return Ignored(of) if channel == "ignore" else _refund_alone(terms, store_id, said, topic, status)
    if channel == "ignore":
        kept_out = _order(terms, store_id, said, topic, forced or status, channel)
        return Ignored(of, kept_out if isinstance(kept_out, ShopOrder) else None)
    order = _order(terms, store_id, said, topic, forced or status, channel)
    if topic in platform.ignore_zero and isinstance(order, ShopOrder) and order.body.event_value == 0:
        return Ignored("no_value")
    return order


def _refund_alone(terms: Terms, store_id: str, said: Said, topic: str, status: str | None) -> ShopOrder | Ignored:
    """A message of one refund: to which order it belongs, and what it gave back; of the rest it says nothing."""
    order_id, name, at = said.first("orderId"), (said.first("refundId") or "").strip(), said.first("statusAt")
    currency = (said.first("currency") or "").strip().upper()
    amount = _amount(said, "refundAmount", currency)
    if order_id is None or not name or len(name) > _MOST_IDENT:
        return Ignored("no_order")
    if not amount:
        return Ignored("no_value")
    if status not in _GIVES_BACK:
        amount = Decimal(0)  # it was taken back: the money never went
    back = GivenBack(name, times.parse(at or "") or 0, amount)
    body = ConversionBody(store_id=store_id, event_type="Purchase", order_id=order_id)
    body.status_at, body.order_status, body.currency = at, status, currency
    return ShopOrder(
        topic,
        body,
        names=tuple(one for one in _names(said, "names", order_id) if one != name),
        ends=True,
        odd_amounts=said.odd_amounts,
        refunds=(back,) if terms.refunds and amount else (),
        refund=back,
    )


def _request(kind: str, said: Said) -> Request:
    customer, email, phone = ((said.first(field) or "")[:_MOST_TEXT] for field in ("externalId", "email", "phone"))
    orders = tuple(order[:_MOST_IDENT] for order in said.each("orders")[:_MOST_ORDERS])
    return Request(kind, customer, email, phone, orders)


def _channel(channels: Mapping[str, str], said: Said) -> tuple[str, str]:
    """What is done with orders of this channel, and its name; the first of its words that a rule knows."""
    for word in said.each("channel"):
        for pattern, rule in channels.items():
            if fnmatchcase(word, pattern):
                return ("send", "") if rule == "send" else (rule, f"channel_{pattern.strip('*')}"[:_MOST_TEXT])
    return ("renewal" if said.is_set("renewal") else "send"), ""


def _order(
    terms: Terms, store_id: str, said: Said, topic: str, status: str | None, channel: str
) -> ShopOrder | Ignored:
    order_id = said.first("orderId") or (said.first("names") if said.is_bare(topic) else None)
    if order_id is None:
        return Ignored("no_order")
    currency = (said.first("currency") or "").strip().upper()
    value = None if said.is_bare(topic) else _value(said, currency)  # whatever its owner maps to an amount
    ends = statuses.has_ended(status) and value is None
    if not ends and value is None:
        return Ignored("no_value")
    left_out: list[str] = []
    body = _body(store_id, said, order_id, left_out)
    body.status_at, body.order_status = said.first("statusAt"), _given_back(said, currency, status, value)
    body.event_value, body.currency = value, currency
    body.products = _products(said.lines(currency), left_out) or None
    renewal = channel == "renewal"
    body.renewal_of = said.first("renewalOf") if renewal else None
    if channel == "offline":
        body.action_source = "physical_store"
    elif renewal:
        body.action_source = "system_generated"
    return ShopOrder(
        topic,
        body,
        names=_names(said, "names", order_id),
        numbers=_numbers(said, order_id),
        unsent="a renewal of a subscription" if renewal and terms.renewals == "ignore" else None,
        ends=ends,
        left_out=tuple(left_out),
        odd_amounts=said.odd_amounts,
        channel=(said.first("channel") or "")[:64],
        refunds=_refunds(said, currency, body.status_at) if terms.refunds else (),
    )


def _value(said: Said, currency: str) -> Decimal | None:
    """What the shop stands to keep (O5): never less than nothing."""
    told = decimal_of(said.first("eventValue", currency) or "")
    if told is None or told < 0:
        return None
    less = [_amount(said, "refunded", currency)]
    if said.is_true("deductedIf") is not False:
        less.append(_amount(said, "deducted", currency))
    return max(told - sum(less), Decimal(0)) if any(less) else told


def _amount(said: Said, field: str, currency: str) -> Decimal:
    """An amount to take away; 0 where none is told."""
    return max(decimal_of(said.first(field, currency) or "") or Decimal(0), Decimal(0))


def _given_back(said: Said, currency: str, status: str | None, value: Decimal | None) -> str | None:
    """The status, where a paid order was refunded and its word does not say so."""
    if value is None or not _amount(said, "refunded", currency) or not statuses.is_paid(status):
        return status
    return "partially_refunded" if value > 0 else "refunded"


def _refunds(said: Said, currency: str, status_at: str | None) -> tuple[GivenBack, ...]:
    """Those that have a name and gave money back; of another currency than the order's nobody says how much it was."""
    found = []
    for one in said.refunds(currency)[: refunds.MOST]:
        amount = decimal_of(one.get("amount", ""))
        if one.get("currency", currency).upper() != currency:
            amount = None
        name = one.get("id", "").strip()
        if name and len(name) <= _MOST_IDENT and (amount is None or amount > 0):
            found.append(GivenBack(name, times.parse(one.get("at") or status_at or "") or 0, amount))
    return tuple(found)


def _names(said: Said, field: str, order_id: str) -> tuple[str, ...]:
    names = dict.fromkeys(name.strip() for name in said.each(field))
    return tuple(name for name in names if name and name != order_id and len(name) <= _MOST_IDENT)


def _numbers(said: Said, order_id: str) -> tuple[str, ...]:
    """Numbers with and without their sign: pages print the one, shops write the other."""
    plain = [number.lstrip("#") for number in _names(said, "numbers", order_id)]
    both = [form for number in plain if number for form in (number, f"#{number}")]
    return tuple(name for name in dict.fromkeys(both) if name != order_id)


def _body(store_id: str, said: Said, order_id: str, left_out: list[str]) -> ConversionBody:
    given = {
        name: _cut(name, text, left_out)
        for name, field in (
            ("timestamp", "timestamp"),
            ("ip_address", "ipAddress"),
            ("user_agent", "userAgent"),
            ("event_source_url", "eventSourceUrl"),
            ("referrer", "referrer"),
            ("fbclid", "fbclid"),
            ("fbp", "fbp"),
            ("fbc", "fbc"),
            ("visitor_id", "visitorId"),
            ("event_id", "eventId"),
        )
        if (text := said.first(field)) is not None
    }
    return ConversionBody(
        store_id=store_id,
        event_type="Purchase",
        order_id=order_id,
        customer_data=_person(said, left_out),
        consent=_consent(said, left_out),
        test=bool(said.is_true("test")) or said.is_true("live") is False,
        **given,  # type: ignore[arg-type]
    )


def _cut(name: str, text: str, left_out: list[str]) -> str | None:
    """A text that fits; of a user agent the beginning says most, of the rest half a value would be another one."""
    most = _LONGEST.get(name, _MOST_IDENT if name in ("visitor_id", "event_id") else _MOST_TEXT)
    if len(text) <= most:
        return text
    left_out.append(name)
    return text[:most] if name == "user_agent" else None


def _consent(said: Said, left_out: list[str]) -> Consent | None:
    word = said.first("consent")
    if word is None:
        return None
    if (decided := lenient.marketing_of(word)) is not None:
        return Consent(marketing=decided)
    left_out.append("consent")
    return None


_PERSON: Final = {
    "email": "email",
    "phone": "phone",
    "first_name": "firstName",
    "last_name": "lastName",
    "city": "city",
    "state": "state",
    "zip_code": "zipCode",
    "country": "country",
    "external_id": "externalId",
}


def _person(said: Said, left_out: list[str]) -> CustomerData | None:
    found: dict[str, str] = {}
    for name, field in _PERSON.items():
        if (text := said.first(field)) is not None:
            if len(text) <= _MOST_TEXT:
                found[name] = text
            else:
                left_out.append(field)
    whole = (said.first("name") or "")[:_MOST_TEXT].strip()
    if whole and "first_name" not in found and "last_name" not in found:
        first, _, last = whole.rpartition(" ")
        found |= {"first_name": first.strip(), "last_name": last} if first else {"first_name": last}
    return CustomerData(**found) if found else None


def _products(lines: Sequence[Mapping[str, str]], left_out: list[str]) -> list[Product]:
    """The lines that were bought: no gift cards (`skip`), nothing of which no piece is left."""
    bought = [line for line in lines if line.get("skip", "").lower() not in ("true", "1")]
    products = [product for line in bought if (product := _product(line)) is not None]
    if len(products) > _MOST_LINES:
        left_out.append("products")
    return products[:_MOST_LINES]


def _product(line: Mapping[str, str]) -> Product | None:
    quantity = decimal_of(line.get("quantity", ""))
    if quantity is not None and quantity <= 0:
        return None
    whole = quantity is not None and quantity == quantity.to_integral_value() and quantity <= 1_000_000_000
    found = Product(
        product_id=_short(line.get("productId"), _MOST_IDENT),
        name=_short(line.get("name"), 4096),
        price=decimal_of(line.get("price", "")),
        quantity=int(quantity) if quantity is not None and whole else None,
        category=_short(line.get("category"), 4096),
    )
    return None if found.product_id is None and found.name is None else found


def _short(text: str | None, most: int) -> str | None:
    return text if text is not None and len(text) <= most else None

"""What shop platforms call the state of an order, read as one of eight words."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from typing import Final


class Status(IntEnum):
    """Numbered so that of two at one moment the later counts (O1)."""

    PENDING = 0
    FAILED = 1
    AUTHORIZED = 2
    PAID = 3
    PARTIALLY_REFUNDED = 4
    CANCELLED = 5
    VOIDED = 6
    REFUNDED = 7

    @property
    def word(self) -> str:
        """As it is stored and answered."""
        return self.name.lower()


ENDS: Final = frozenset({Status.FAILED, Status.CANCELLED, Status.VOIDED, Status.REFUNDED})
PAID: Final = frozenset({Status.PAID, Status.PARTIALLY_REFUNDED})  # of the latter what stays
UPDATED: Final = "updated"  # no state: it says that the amounts were changed

# Shopify, WooCommerce, Stripe, Shopware, BigCommerce, Magento, PrestaShop, without what _NOISE takes out.
_WORDS: Final[dict[str, Status]] = {
    spelling: status
    for status, spellings in {
        Status.PENDING: "pending onhold new open created received unpaid pendingpayment paymentpending awaitingpayment "
        "waitingforpayment paymentreview partiallypaid underreview",
        Status.FAILED: "failed failure expired declined paymentfailed paymenterror",
        Status.AUTHORIZED: "authorized authorised",
        Status.PAID: "paid processing completed complete captured succeeded settled nopaymentrequired paymentaccepted "
        "paymentreceived awaitingfulfillment awaitingshipment fulfilled partiallyfulfilled shipped partiallyshipped "
        "delivered",
        Status.PARTIALLY_REFUNDED: "partiallyrefunded partialrefund partialrefunded",
        Status.CANCELLED: "cancelled canceled trash deleted",
        Status.VOIDED: "voided void",
        Status.REFUNDED: "refunded fullyrefunded",
    }.items()
    for spelling in spellings.split()
}
_LONGEST: Final = 512
_NOISE: Final = re.compile(r"^\s*wc-|[\s_-]+")  # WooCommerce's database writes wc-completed


def read(text: str | None) -> Status | None:
    """The status that a platform's word means, however it is written (L1); None for a word that nobody knows."""
    if text is None or len(text) > _LONGEST:
        return None
    return _read(text)


@lru_cache(maxsize=256)  # a dozen times for each telling of an order, and shops have few words
def _read(text: str) -> Status | None:
    return _WORDS.get(_NOISE.sub("", text.lower()))


def is_update(text: str) -> bool:
    """Whether it says that the order was edited, which is no state of its own."""
    return _NOISE.sub("", text.lower()) in (UPDATED, "edited")


def has_ended(text: str | None) -> bool:
    """Whether an order with this status brings nothing any more."""
    return read(text) in ENDS


def is_paid(text: str | None) -> bool:
    """Whether the shop has its money, or the part that it keeps."""
    return read(text) in PAID

"""Who clicks and who buys in the benchmark: made-up visitors, each a function of a number.

assets/load.lua has the same formulas, so that wrk's orders find the clicks that storing.py has stored.
"""

from __future__ import annotations

from typing import Any, Final

STORE: Final = "store_bench"
HOTTEST: Final = "81.2.69.142"  # one click in a hundred comes from it: 10^5 of 10^7
_HOMES: Final = 3_300_000
_CARRIERS: Final = 2003  # addresses that three in ten clicks share, as behind carrier NAT


def fbclid(n: int) -> str:
    return f"IwZXh0bgNhZW0BMABhZGlkAasLq5VmQ{n:012d}AR7SgPz0kLyGxTq"


def visitor(n: int) -> str:
    """Every fourth click is by the visitor of the one before."""
    return f"v-{n if n % 4 else n - 1:012d}"


def address(n: int) -> str:
    if n % 100 == 0:
        return HOTTEST
    if n % 10 < 3:
        carrier = n * 7919 % _CARRIERS
        return f"82.{carrier >> 8}.{carrier & 255}.7"
    home = n // 3 % _HOMES  # three clicks per home, of any visitor
    if home % 4:  # half of all clicks come by IPv6
        return f"2a02:{home >> 16:x}:{home & 65535:x}::{n % 7 + 1}"
    return f"{40 + (home >> 16)}.{home >> 8 & 255}.{home & 255}.9"


def agent(n: int) -> str:
    return (
        f"Mozilla/5.0 (iPhone; CPU iPhone OS {15 + n % 4}_{n % 7} like Mac OS X) AppleWebKit/605.1.15 "
        f"(KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/4{n % 10}0.0.0.50]"
    )


def click(n: int) -> dict[str, Any]:
    """The body of POST /v1/track/click, about 480 bytes."""
    return {
        "storeId": STORE,
        "fbclid": fbclid(n),
        "landingPage": f"https://shop.example/p/{n % 997}?utm_source=facebook&utm_campaign=c{n % 31}",
        "ipAddress": address(n),
        "userAgent": agent(n),
        "visitorId": visitor(n),
        "fbp": f"fb.1.1700000000000.{n:010d}",
        "fingerprint": f"device-{n * 7919 % 5000021:07d}",
    }


def order(number: int, n: int, kind: str) -> dict[str, Any]:
    """The body of POST /v1/track/conversion, by who made click `n`.

    `kind`: "proved" has the visitor's cookie, "inferred" address, agent and device, "organic" neither, "hottest" the
    address with the most clicks.
    """
    body: dict[str, Any] = {
        "storeId": STORE,
        "eventType": "Purchase",
        "orderId": f"bench-{number}",
        "eventValue": 49.90,
        "currency": "USD",
        "customerData": {
            "email": f"p{number}@example.com",
            "phone": f"+49151{number % 100_000_000:08d}",
            "country": "US",
        },
        "eventSourceUrl": "https://shop.example/thanks",
        "userAgent": agent(n),
    }
    if kind == "organic":
        return body | {"ipAddress": f"203.0.114.{n % 250 + 1}", "visitorId": f"o-{number:012d}"}
    if kind == "hottest":
        return body | {"ipAddress": HOTTEST}
    body |= {"ipAddress": address(n), "fingerprint": f"device-{n * 7919 % 5000021:07d}"}
    return body | {"visitorId": visitor(n)} if kind == "proved" else body

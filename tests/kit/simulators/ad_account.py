"""An ad account as Graph tells of it: its currency and zone, and its insights by ad and day, in pages by cursor.

Every number is a text; a purchase stands in `actions` under all its names; what is zero is left out; the last page has
a cursor and no `next`.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATH = re.compile(rb"/v(\d+)\.0/(act_\d+)(?:/insights)?(?:\?.*)?")
NAMES = ("omni_purchase", "purchase", "offsite_conversion.fb_pixel_purchase", "web_in_store_purchase")
FIELDS = {
    *("account_currency", "campaign_id", "campaign_name", "adset_id", "adset_name", "ad_id", "ad_name", "spend"),
    *("impressions", "clicks", "inline_link_clicks", "actions", "action_values"),
}
_KNOWN = {
    *("level", "time_increment", "time_range", "fields", "action_attribution_windows", "limit", "after"),
    "appsecret_proof",
}


def an_ad_day(day: date, ad: int, spend: str, *, currency: str = "USD", **more: Any) -> dict[str, Any]:
    """A row as Meta gives it; ad 12 belongs to ad set 1 (ids 2001) of campaign 1 (1001)."""
    group = ad // 10
    row: dict[str, Any] = {
        "account_currency": currency,
        "ad_id": str(120_000_000_000 + ad),
        "ad_name": f"Ad {ad}",
        "adset_id": str(2000 + group),
        "adset_name": f"Set {group}",
        "campaign_id": str(1000 + group),
        "campaign_name": f"Campaign {group}",
        "spend": spend,
        "impressions": str(100 * ad),
        "clicks": str(ad),
        "inline_link_clicks": str(ad),
        "date_start": str(day),
        "date_stop": str(day),
    }
    return {**row, **more}


def purchases(clicked: int, viewed: int, each: str = "10.50") -> dict[str, Any]:
    """`actions` and `action_values` of so many purchases, under every name, beside what is no purchase."""
    windows = {"7d_click": clicked, "1d_view": viewed}
    told = {window: n for window, n in windows.items() if n}

    def rows(worth: Decimal) -> list[dict[str, str]]:
        said = {window: str(n * worth) for window, n in told.items()}
        whole = str(sum(told.values()) * worth)
        return [
            {"action_type": "link_click", "value": "9"},
            *({"action_type": n, "value": whole, **said} for n in NAMES),
        ]

    return {"actions": rows(Decimal(1)), "action_values": rows(Decimal(each))}


class AdAccount:
    """`rows` is what it says now; `asked` the questions that came."""

    def __init__(self, token: str = "ads-token", currency: str = "USD", timezone: str = "UTC") -> None:
        self.token, self.currency, self.timezone = token, currency, timezone
        self.may_read = True
        self.rows: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.most = 500  # rows that it gives at once
        self._found: tuple[Any, list[dict[str, Any]]] = (None, [])

    def answer(self, url: str) -> tuple[int, Any]:
        parts = urlsplit(url)
        said = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if not parts.path.endswith("/insights"):
            return 200, {"id": "act_1", "currency": self.currency, "timezone_name": self.timezone}
        self.asked.append(said)
        if (fault := self._fault(said)) is not None:
            return 400, fault
        since, until = (date.fromisoformat(json.loads(said["time_range"])[end]) for end in ("since", "until"))
        rows = self._within(since, until)
        begin = _begin_of(said.get("after"))
        end = begin + min(int(said["limit"]), self.most)
        answer: dict[str, Any] = {"data": rows[begin:end], "paging": {}}
        if rows[begin:end]:
            answer["paging"] = {"cursors": {"before": _cursor(begin), "after": _cursor(end)}}
        if end < len(rows):
            answer["paging"]["next"] = f"https://graph.facebook.com{parts.path}?after={_cursor(end)}"
        return 200, answer

    def _within(self, since: date, until: date) -> list[dict[str, Any]]:
        """The rows of these days; looked through once for all pages of a question."""
        key = (id(self.rows), len(self.rows), since, until)
        if self._found[0] != key:
            self._found = (key, [row for row in self.rows if not _is_other(row, since, until)])
        return self._found[1]

    def _fault(self, said: dict[str, str]) -> str | None:
        if said.keys() - _KNOWN or said.get("level") != "ad" or said.get("time_increment") != "1":
            return "unexpected or missing parameter"
        if set(said.get("fields", "").split(",")) - FIELDS:
            return "Tried accessing nonexisting field"
        if json.loads(said.get("action_attribution_windows", "null")) != ["1d_view", "7d_click"]:
            return "action_attribution_windows"
        return None


def _is_other(row: dict[str, Any], since: date, until: date) -> bool:
    """Whether the row lies outside; what is no date is given, as a hostile answer would."""
    try:
        return not since <= date.fromisoformat(row["date_start"]) <= until
    except (KeyError, TypeError, ValueError):
        return False


def _cursor(n: int) -> str:
    return base64.urlsafe_b64encode(f"at{n}".encode()).decode()


def _begin_of(cursor: str | None) -> int:
    return int(base64.urlsafe_b64decode(cursor).decode().removeprefix("at")) if cursor else 0


def days_back(until: date, n: int) -> list[date]:
    """The last n days, oldest first."""
    return [until - timedelta(k) for k in reversed(range(n))]

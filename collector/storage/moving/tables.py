"""What moves from SQLite to PostgreSQL, column by column, and what is made anew there."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

_OF_CONVERSION: Final = "LEFT JOIN conversion c ON c.id = t.conversion"
_ITS_STORE: Final = "store=coalesce(c.store,0)"
_KEYS: Final = "fbclid_k visitor_k fbp_k ip_k ua_k fp_k ua_class flags"
# Whose rows name a store in words, or none.
_NAMED: Final = ("api_key", "shop_inbox", "shop_request", "shop_pull", "share")
_TRUTHS: Final = frozenset({"sale", "queued"})


class Part(Struct, frozen=True):
    """One table's way: `columns` of the target to what SQLite gives for it, in the order of `key`."""

    table: str
    columns: dict[str, str]
    key: tuple[str, ...]
    source: str
    numbered: bool

    @property
    def slice_sql(self) -> str:
        """The rows behind a key, with that key at their end; all rows without one."""
        wanted = ", ".join((*self.columns.values(), *self.key))
        return f"SELECT {wanted} FROM {self.source} {{where}} ORDER BY {', '.join(self.key)} LIMIT {{rows}}"

    @property
    def behind(self) -> str:
        return f"WHERE ({', '.join(self.key)}) > ({', '.join('?' * len(self.key))})"

    @property
    def has_stores(self) -> bool:
        """Whether its rows belong to stores by number."""
        return "store" in self.columns and self.table not in _NAMED

    @property
    def counted_in_source(self) -> str:
        store = self.columns["store"] if self.has_stores else "0"
        return f"SELECT {store}, count(*) FROM {self.source} GROUP BY 1"

    @property
    def counted_in_target(self) -> str:
        return f"SELECT {'store' if self.has_stores else '0'} AS store, count(*) FROM {self.table} GROUP BY 1"


def _part(
    table: str, columns: str, key: str = "id", join: str = "", *, of: str = "", numbered: bool = False, **more: str
) -> Part:
    """`columns`: name, or name=expression, as `more`; `numbered`: the target counts its ids itself from then on."""
    named = {name: expression or f"t.{name}" for name, _, expression in (c.partition("=") for c in columns.split())}
    keys = tuple(f"t.{name}" for name in key.split())
    return Part(table, named | more, keys, f"{of or table} t {join}".strip(), numbered)


PARTS: Final = (
    _part("store", "id name", numbered=True),
    _part("pixel", "id name", numbered=True),
    _part("api_key", "id hash kind store created revoked"),
    _part("place", "id store name", numbered=True),
    _part("click", f"id store ts last_ts received {_KEYS} body apart=nullif(click_apart(t.flags,t.body),'')", "id",
          "LEFT JOIN place p ON p.store = t.store AND p.name = click_place(t.body)", place="coalesce(p.id, 0)"),
    _part("click_network", "id store=c.store ip user_agent", "id", "JOIN click c ON c.id = t.id"),
    _part("conversion", f"id store ts received event_type dedup_k {_KEYS} click confidence method revision capi body"
          " match tier=match_tier(t.match) currency=event_currency(t.body) units=event_units(t.body)"
          " reversed=event_ended(t.body) label=match_label(t.match,t.event_type)", "id",
          "LEFT JOIN click k ON k.id = t.click LEFT JOIN place p"
          " ON p.store = t.store AND p.name = CASE WHEN k.id IS NOT NULL THEN click_place(k.body) END",
          place="coalesce(p.id, 0)", queued="EXISTS (SELECT 1 FROM outbox o WHERE o.conversion = t.id)"),
    _part(
        "identity_link",
        "store kind key visitor_k last_ts first_ts confirmed_ts source",
        "store kind key visitor_k",
    ),
    _part("conversion_identity", f"{_ITS_STORE} conversion kind key", "conversion kind key", _OF_CONVERSION),
    _part("outbox", f"id {_ITS_STORE} conversion pixel state lane created due deadline attempts doubts doubt_at settled"
          " request test_code reason", "id", _OF_CONVERSION,
          event="CASE WHEN c.id IS NULL THEN '' ELSE event_name_of(c.event_type) END",
          quarter="coalesce(c.ts / 900000, 0)", sale="coalesce(c.flags & 145 = 0, 0)"),
    _part("outbox_payload", f"id {_ITS_STORE} body", "id",
          "LEFT JOIN outbox o ON o.id = t.id LEFT JOIN conversion c ON c.id = o.conversion"),
    _part("request", "id pixel at events outcome http_status code subcode trace_id message took_ms epoch=0",
          numbered=True),
    _part("attempt", "outbox request", "outbox request"),
    _part("pixel_state", "pixel state since until reason token_hash", "pixel"),
    _part("sent_before", f"{_ITS_STORE} conversion outbox value", "outbox", _OF_CONVERSION,
          of="(SELECT outbox, max(request), conversion, value FROM sent_before GROUP BY outbox)"),
    _part("idempotency", "key_k body_hash expires status answer", "key_k"),
    _part("unproven", "store ts conversion", "store ts conversion"),
    _part("reopened", f"{_ITS_STORE} conversion", "conversion", _OF_CONVERSION),
    _part("unweighed", f"{_ITS_STORE} conversion", "conversion", _OF_CONVERSION),
    _part("notice", f"{_ITS_STORE} conversion revision at", "conversion", _OF_CONVERSION),
    _part("event_clock", "store edge=0 ts conversion_ts heard", "store"),
    _part("event_name", "store name by_page", "store name"),
    _part("order_hour", "store kind hour edge=0 proven unproven orders", "store kind hour"),
    _part("counter", "day store name edge=0 n", "day store name"),
    _part("total", "name edge=0 n", "name"),
    _part("refusal_sum", "quarter code edge=0 n", "quarter code"),
    _part("erased", "id store name at", numbered=True),
    _part("model", "store version created body", "store version"),
    _part("order_name", f"{_ITS_STORE} name conversion number", "name conversion", _OF_CONVERSION),
    _part("shop_delivery", "id at store webhook topic reason conversion"),
    _part("shop_note", "store kind called conversion at", "store kind called"),
    _part("shop_order", "store name called ts status value currency channel reason conversion seen first",
          "store name"),
    _part("shop_inbox", "id store platform topic seen body", numbered=True),
    _part("shop_request", "id store kind at asked done found"),
    _part("shop_pull", "store since watermark at fault", "store"),
    _part("insight", "account day ad currency reading spend impressions clicks link_clicks purchases purchase_units",
          "account day ad currency"),
    _part("insight_ad", "account ad ad_name adset adset_name campaign campaign_name", "account ad"),
    _part("insight_account", "account reading currency timezone since until at unread fault fault_at", "account"),
    _part("share", "id store first last event made expires revoked"),
    _part("weekly_sent", "due channel at done", "due channel"),
    _part("refusal", "id at code field called", numbered=True),
    _part("renamed", "id conversion"),
)  # fmt: skip

# Sums and notes that are made anew from the rows, or are of one file or one machine alone.
DERIVED: Final = frozenset(
    "click_day click_quarter click_sum sale_day sale_quarter sale_sum delivery_sum truth_sum wait_sum cause "
    "recount counted changed_click leaving clock heartbeat pepper_check moved sqlite_sequence".split()
)

# Filled from what was copied: {uncounted}: flags of clicks that are not counted; {recovered}: known from an fbc alone.
SIGHTINGS: Final = """
INSERT INTO sighting (store, fbclid_k, visitor_k, id, ts)
SELECT store, fbclid_k, CASE place WHEN 1 THEN visitor_k ELSE id END, id, ts FROM (
    SELECT *, row_number() OVER (PARTITION BY store, fbclid_k, visitor_k ORDER BY ts DESC, id) AS place FROM (
        SELECT store, coalesce(fbclid_k, 0) AS fbclid_k, id, ts,
               CASE WHEN flags & {recovered} <> 0 THEN 1 ELSE coalesce(visitor_k, 0) END AS visitor_k
          FROM click) c) n
 ORDER BY 1, 2, 3"""
CLICK_HOURS: Final = """
INSERT INTO click_hour (store, hour, edge, n)
SELECT store, div(ts, 3600000), 0, count(*) FROM click WHERE flags & {uncounted} = 0 GROUP BY 1, 2 ORDER BY 1, 2"""
AGENT_DAYS: Final = """
INSERT INTO ua_day (store, day, ua_k, edge, n)
SELECT store, div(ts, 86400000), ua_k, 0, count(*) FROM click
 WHERE flags & {uncounted} = 0 AND ua_k IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 3, 2"""
# The clicks' sums; orders and what was queued of them are added up by triggers, as they come.
CLICK_SUMS: Final = """
INSERT INTO click_new
SELECT store, week_of(id), ts / 900000, CASE WHEN flags & 287 = 0 THEN place ELSE 0 END, coalesce(apart, ''), count(*)
  FROM click WHERE store > 0 GROUP BY 1, 2, 3, 4, 5"""

COMPARED: Final = ("id", "click", "confidence", "capi", "revision")  # of each conversion, in both


def values_for(part: Part, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row without its key, as PostgreSQL takes it: no text holds NUL there, and truth is no number."""
    return tuple(_value(name, v) for name, v in zip(part.columns, row, strict=False))


def _value(name: str, value: Any) -> Any:
    if name in _TRUTHS:
        return bool(value)
    return value.replace("\0", "\ufffd") if type(value) is str and "\0" in value else value

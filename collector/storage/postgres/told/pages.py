"""What the pages ask beside the sums: credit, why events were refused, what shops told, ads' costs, shared links."""

from __future__ import annotations

from typing import Final

from collector.core.capi.states import CapiState
from collector.core.event_names import STANDARD
from collector.core.flags import NO_SALE
from collector.core.shops.counted import FILE

_STANDARD: Final = ", ".join(f"'{name}'" for name in sorted(STANDARD))
_ITS_EVENT: Final = """
  FROM shop_order s LEFT JOIN conversion c ON c.id = s.conversion AND c.store = s.store
  LEFT JOIN outbox o ON o.conversion = s.conversion AND o.store = s.store
   AND o.pixel = (SELECT id FROM pixel WHERE name = {})"""


def _causes(named: str) -> str:
    """Of the newest dead letters, by what they died of."""
    return f"""
SELECT coalesce(p.name, ''), found.state, CASE found.state WHEN 11 THEN r.code END,
       CASE found.state WHEN 11 THEN r.subcode END, coalesce(found.reason, ''),
       count(*), min(found.settled), max(found.settled), max(c.id)
  FROM (SELECT * FROM outbox WHERE state IN (11, 12) AND settled >= $2 ORDER BY settled DESC LIMIT 20000) AS found
  JOIN conversion c ON c.id = found.conversion AND c.store = found.store LEFT JOIN pixel p ON p.id = found.pixel
  LEFT JOIN request r ON r.id = found.request
 WHERE c.ts >= $3 AND c.ts < $4 AND c.store = ANY($1::int[]) AND c.flags & {NO_SALE} = 0 AND {named}
 GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC, 8 DESC, 1, 2, 5 LIMIT 50"""


def _shop_orders(word: str) -> str:
    """A shop's own orders by its days ($1, of each the part from $2 to $3): day, teller and state are one number."""
    return f"""
SELECT (d.at << 12) + ((s.seen & {FILE}) << 9) + ((s.reason IS NOT NULL)::int << 8)
       + CASE WHEN s.conversion IS NULL THEN 255 ELSE coalesce(o.state, c.capi, 255) END,
       s.currency, {word}, count(*),
       sum((coalesce(o.state, c.capi) = {CapiState.SENT:d} AND c.confidence IS NOT NULL)::int)::bigint
 {_ITS_EVENT.format("$4")}
  JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS d (at, first, upto) ON s.ts >= d.first AND s.ts < d.upto
 WHERE s.store = $5 GROUP BY 1, 2, 3"""


SQL: Final = {
    # -- credit
    "ends of newest purchases": """
SELECT min(ts), max(ts), count(*) FROM (
    SELECT f.ts FROM unnest($1::int[]) AS s (number) CROSS JOIN LATERAL (
        SELECT c.ts FROM conversion c
         WHERE c.event_type = 'Purchase' AND c.store = s.number AND c.ts >= $2 AND c.ts < $3
         ORDER BY c.ts DESC LIMIT $4) AS f
     ORDER BY f.ts DESC LIMIT $4) AS found""",
    "received before the newest": "SELECT received FROM conversion ORDER BY id DESC OFFSET $1 LIMIT 1",
    # -- trust
    "ends of all conversions": "SELECT (SELECT max(id) FROM conversion), (SELECT min(id) FROM conversion)",
    "conversions beside": """
SELECT (SELECT max(id) FROM conversion WHERE id < $1), (SELECT min(id) FROM conversion WHERE id >= $1)""",
    "received from conversion": "SELECT id, received FROM conversion WHERE id >= $1 ORDER BY id LIMIT 1",
    "conversions of a slice": """
SELECT id, ts, store, event_type, flags, ip_k IS NOT NULL, ua_k IS NOT NULL, body, match
  FROM conversion WHERE id >= $1 AND id < $2 ORDER BY id LIMIT 4096""",
    "event names": "SELECT store, name FROM event_name",
    # -- delivery
    "causes": _causes("c.event_type = $5"),
    "causes of custom events": _causes(f"c.event_type NOT IN ({_STANDARD}) AND $5 <> ''"),
    "body of conversion": "SELECT body FROM conversion WHERE id = $1",
    # -- reconcile
    "shop's orders by day": _shop_orders("''"),
    "shop's orders by reason": _shop_orders("coalesce(o.reason, s.reason, '')"),
    "shop's orders by channel": _shop_orders("coalesce(s.channel, '')"),
    "orders missing": """
SELECT s.called, s.ts, s.status, s.value, s.currency, '', NULL::bigint, NULL::int, 0
  FROM shop_order s WHERE s.store = $1 AND s.ts >= $2 AND s.ts < $3 AND s.conversion IS NULL AND s.reason IS NULL
 ORDER BY s.ts DESC, s.name LIMIT $4""",
    "orders of a shop's day": f"""
SELECT s.called, s.ts, s.status, s.value, s.currency, coalesce(o.reason, s.reason, ''), s.conversion,
       CASE WHEN s.conversion IS NULL THEN NULL ELSE coalesce(o.state, c.capi) END, s.reason IS NOT NULL
 {_ITS_EVENT.format("$1")}
 WHERE s.store = $2 AND s.ts >= $3 AND s.ts < $4
 ORDER BY s.conversion IS NOT NULL AND coalesce(o.state, c.capi) = {CapiState.SENT:d} NULLS FIRST, s.ts, s.name
 LIMIT $5""",
    "count of a shop's day": "SELECT count(*) FROM shop_order WHERE store = $1 AND ts >= $2 AND ts < $3",
    "pull of a shop": "SELECT since, watermark FROM shop_pull WHERE store = $1",
    "first received since": "SELECT 0::bigint WHERE $1::bigint IS NOT NULL",  # purchases are found by their time
    "purchases unknown to a shop": """
SELECT count(*) FROM conversion c
 WHERE c.id >= $1 AND c.store = $2 AND c.event_type = 'Purchase' AND c.ts >= $3 AND c.ts < $4 AND c.received >= $3
   AND c.flags & 128 = 0
   AND NOT EXISTS (SELECT 1 FROM shop_order s WHERE s.store = c.store AND s.conversion = c.id)""",
    "counted beside a shop's orders": """
SELECT name, sum(n)::bigint FROM counter WHERE store = $1 AND day >= $2 AND name IN ($3, $4) GROUP BY name
 ORDER BY name""",
    "noted of a shop": """
SELECT called FROM shop_note WHERE store = (SELECT id FROM store WHERE name = $1) AND kind = $2 AND at >= $3 AND at < $4
 ORDER BY at DESC LIMIT $5""",
    # -- the ad account
    "spent": """
SELECT i.ad, coalesce(a.ad_name, ''), coalesce(a.adset, ''), coalesce(a.adset_name, ''), coalesce(a.campaign, ''),
       coalesce(a.campaign_name, ''), i.currency, i.spend, i.impressions, i.clicks, i.purchases, i.purchase_units
  FROM (SELECT ad, currency, sum(spend)::bigint AS spend, sum(impressions)::bigint AS impressions,
               sum(link_clicks)::bigint AS clicks, sum(purchases)::bigint AS purchases,
               sum(purchase_units)::bigint AS purchase_units
          FROM insight WHERE account = $1 AND day BETWEEN $2 AND $3 GROUP BY ad, currency) i
  LEFT JOIN insight_ad a ON a.account = $4 AND a.ad = i.ad""",
    "ad account": """
SELECT currency, timezone, since, until, at, unread, fault, fault_at FROM insight_account WHERE account = $1""",
    # -- others
    "shared link": """
SELECT revoked, expires FROM share WHERE id = $1 AND store = $2 AND first = $3 AND last = $4 AND event = $5""",
    "first steps": """
SELECT EXISTS (SELECT 1 FROM api_key WHERE revoked IS NULL), EXISTS (SELECT 1 FROM click WHERE store > 0),
       EXISTS (SELECT 1 FROM conversion WHERE event_type = 'Purchase' AND store > 0),
       EXISTS (SELECT 1 FROM outbox WHERE state = 10)""",
    "doubts of days": """
SELECT coalesce(sum(n), 0)::bigint FROM counter WHERE store = 0 AND name = 'ambiguous' AND day >= $1""",
}

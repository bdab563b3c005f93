"""Lists of orders, the queue, requests to Meta, signs of life: what the console and the metrics ask."""

from __future__ import annotations

from typing import Final

from collector.core.flags import NO_SALE, UNCOUNTED
from collector.storage.postgres.told.words import STATES


def _purchases(only: str, *, up: bool) -> str:
    """Of each store ($1) those of a span ($2, $3) that meet it, from one end on, at most $4; then as many of all."""
    way = "" if up else " DESC"
    return f"""
(SELECT f.store, f.id, f.ts FROM unnest($1::int[]) AS s (number) CROSS JOIN LATERAL (
    SELECT c.store, c.id, c.ts FROM conversion c
     WHERE c.event_type = 'Purchase' AND c.store = s.number AND c.ts >= $2 AND c.ts < $3 AND {only}
     ORDER BY c.ts{way}, c.id{way} LIMIT $4) AS f
 ORDER BY f.ts{way}, f.id{way} LIMIT $4) AS found"""


def _orders(*, up: bool) -> str:
    """Behind the order ($5, $6) where the last page ended."""
    way = "" if up else " DESC"
    only = f"c.flags & {NO_SALE} = 0 AND (c.ts, c.id) {'>' if up else '<'} ($5, $6)"
    return f"""
SELECT c.id, coalesce(s.name, ''), c.ts, c.capi, {STATES}, c.confidence, c.body, c.match, k.body,
       (SELECT max(o.doubts) FROM outbox o WHERE o.store = c.store AND o.conversion = c.id),
       (SELECT o.reason FROM outbox o WHERE o.store = c.store AND o.conversion = c.id AND o.reason IS NOT NULL
         ORDER BY o.id LIMIT 1)
  FROM {_purchases(only, up=up)} JOIN conversion c ON c.id = found.id AND c.store = found.store
  LEFT JOIN store s ON s.id = c.store LEFT JOIN click k ON k.id = c.click
 ORDER BY found.ts{way}, found.id{way}"""


# Of the newest purchases ($4) the newest that were attributed ($5).
_SOLD: Final = f"""
(SELECT c.id, c.ts, c.store, c.click FROM {_purchases("true", up=False)}
   JOIN conversion c ON c.id = found.id AND c.store = found.store
  WHERE c.click IS NOT NULL AND c.flags & {NO_SALE} = 0 ORDER BY found.ts DESC, found.id DESC LIMIT $5) AS sold
  JOIN click k ON k.id = sold.click"""

SQL: Final = {
    "stores by name": "SELECT id, name FROM store ORDER BY name",
    "orders, the oldest first": _orders(up=True),
    "orders, the newest first": _orders(up=False),
    "lags": f"SELECT sold.ts - k.ts FROM {_SOLD} ORDER BY sold.ts DESC, sold.id DESC",
    "ways": f"""
SELECT sold.ts - k.ts, k.body, CASE
  WHEN EXISTS (SELECT 1 FROM conversion_identity
                WHERE store = sold.store AND conversion = sold.id AND kind > 0)
       THEN NOT EXISTS (
            SELECT 1 FROM conversion_identity i
              JOIN conversion_identity j ON j.store = i.store AND j.key = i.key AND j.kind = i.kind
              JOIN conversion o ON o.store = j.store AND o.id = j.conversion
             WHERE i.store = sold.store AND i.conversion = sold.id AND i.kind > 0 AND (o.ts, o.id) < (sold.ts, sold.id)
               AND o.event_type = 'Purchase' AND o.flags & {NO_SALE} = 0) END
  FROM {_SOLD} ORDER BY sold.ts DESC, sold.id DESC""",
    "events by name": "SELECT name FROM event_name",
    "refusals": """
SELECT code, sum(n)::bigint FROM refusal_sum WHERE quarter >= $1 AND quarter < $2 GROUP BY 1 ORDER BY 2 DESC, 1""",
    "refusals one by one": """
SELECT at, code, field, called FROM refusal WHERE at >= $1 AND at < $2 ORDER BY id DESC LIMIT $3""",
    # -- delivery
    "queue": """
SELECT p.name, o.state, count(*), min(o.id)
  FROM outbox o JOIN pixel p ON p.id = o.pixel WHERE o.settled IS NULL GROUP BY p.id, o.state ORDER BY p.id, o.state""",
    "created": "SELECT created FROM outbox WHERE id = $1",
    "pixels": """
SELECT p.name, s.state, s.since, s.until, s.reason,
       (SELECT deadline FROM outbox WHERE pixel = p.id AND settled IS NULL AND state < 2 ORDER BY deadline LIMIT 1)
  FROM pixel p LEFT JOIN pixel_state s ON s.pixel = p.id ORDER BY p.id""",
    "pixels by number": "SELECT id, name FROM pixel ORDER BY id",
    "last requests": """
SELECT r.id, p.name, r.at, r.events, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message, r.took_ms
  FROM request r LEFT JOIN pixel p ON p.id = r.pixel WHERE r.id < $1 ORDER BY r.id DESC LIMIT $2""",
    "dead since": "SELECT count(*) FROM outbox WHERE state IN (11, 12) AND settled >= $1",
    "newest request": "SELECT max(id) FROM request",
    # Those of several couriers become visible in any order.
    "requests to tally": """
SELECT r.id, coalesce(p.name, r.pixel::text), r.at, r.outcome, r.took_ms
  FROM request r LEFT JOIN pixel p ON p.id = r.pixel WHERE r.id > $1 AND r.at < seen_ms() ORDER BY r.id LIMIT $2""",
    "success of pixel": """
SELECT at FROM request WHERE pixel = $1 AND id > $2 AND outcome IN ('sent', 'short') ORDER BY id DESC LIMIT 1""",
    "last answer": """
SELECT r.id, $1::text, r.at, r.events, r.outcome, r.http_status, r.code, r.subcode, r.trace_id, r.message, r.took_ms
  FROM request r WHERE r.pixel = $2 AND r.id > $3 AND r.outcome <> 'in_flight' ORDER BY r.id DESC LIMIT 1""",
    # -- processes: couriers, and the keepers by their leases, one line a host; where none is left, the last there was
    "signs of life": """
SELECT process, at, body FROM heartbeat
 UNION ALL SELECT 'keeper@' || host, beat, body FROM (
    SELECT DISTINCT ON (host) host, beat, body
      FROM (SELECT split_part(owner, ':', 1) AS host, beat, convert_to(living::text, 'UTF8') AS body
              FROM edge WHERE open OR until >= now_ms() OR beat = (SELECT nullif(max(beat), 0) FROM edge)) AS held
     ORDER BY host, beat DESC) AS keepers
 ORDER BY 1""",
    "believed clock": """
SELECT body FROM clock ORDER BY (convert_from(body, 'UTF8')::json ->> 'system')::bigint DESC NULLS LAST LIMIT 1""",
    "clock of a machine": "SELECT body FROM clock WHERE host = $1",
    "running totals": "SELECT name, sum(n)::bigint FROM total GROUP BY name ORDER BY name",
    "came": "SELECT coalesce(sum(n), 0)::bigint FROM total WHERE name = 'came.' || $1",
    # -- what is looked at for trouble
    "schema": "SELECT version FROM schema_version",
    "keys in force": "SELECT kind, coalesce(store, '') FROM api_key WHERE revoked IS NULL",
    "stores by number": "SELECT id, name FROM store ORDER BY id",
    "newest clicks": f"""
SELECT coalesce(s.name, ''), max(c.received)
  FROM (SELECT store, received, flags FROM click ORDER BY id DESC LIMIT 10000) AS c LEFT JOIN store s ON s.id = c.store
 WHERE c.flags & {UNCOUNTED} = 0 GROUP BY 1""",
    "last clicks": """
SELECT s.name, h.hour * 3600000 FROM store s CROSS JOIN LATERAL (
    SELECT hour FROM click_hour WHERE store = s.id AND n > 0 ORDER BY hour DESC LIMIT 1) AS h""",
    "clicks of a day": """
SELECT coalesce(sum(n) FILTER (WHERE hour >= $1), 0)::bigint, coalesce(sum(n), 0)::bigint FROM click_hour""",
    "last orders": """
SELECT max(received), count(*) FILTER (WHERE held), count(*)
  FROM (SELECT c.received, EXISTS (SELECT 1 FROM outbox o WHERE o.store = c.store AND o.conversion = c.id
                                      AND o.state = 2 AND o.settled IS NULL) AS held
          FROM conversion c WHERE c.event_type = 'Purchase' AND c.store = $1 ORDER BY c.ts DESC LIMIT $2) AS newest""",
    "last webhooks": """
SELECT coalesce(s.name, ''), d.webhook, max(d.at) FROM shop_delivery d LEFT JOIN store s ON s.id = d.store
 GROUP BY 1, 2""",
    "last addresses": "SELECT ip FROM click_network WHERE ip IS NOT NULL ORDER BY id DESC LIMIT $1",
    # -- shops' ways
    "last delivery": "SELECT at FROM shop_delivery WHERE store = $1 AND webhook = $2 ORDER BY at DESC LIMIT 1",
    "last order by webhook": """
SELECT at FROM shop_delivery WHERE store = $1 AND webhook = $2 AND conversion IS NOT NULL ORDER BY at DESC LIMIT 1""",
    "counted of a shop": """
SELECT name, sum(n)::bigint, max(day) FROM counter
 WHERE store = $1 AND day >= $2 AND name LIKE 'shop.%' GROUP BY name ORDER BY name""",
}

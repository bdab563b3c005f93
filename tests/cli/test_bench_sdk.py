"""Meta's own SDK and ours make the same events; `collector bench` says how long each takes."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest

from collector.bench import payloads
from collector.bench.storing import now_ms

pytest.importorskip("facebook_business")


def listed(tree):
    """The event as Meta writes it: every hashed value in a list, the currency in capitals; the SDK does neither."""
    user, custom = tree["user_data"], tree["custom_data"]
    return tree | {
        "user_data": {key: sorted(value) if isinstance(value, list) else [value] for key, value in user.items()},
        "custom_data": custom | {"currency": custom["currency"].upper()},
    }


def test_the_same_thousand_events():
    at, buyers = now_ms(), [payloads.buyer(n) for n in range(1000)]
    form = parse_qs(payloads.sdk_body(payloads.sdk_events(buyers, at)).decode())
    theirs = [listed(json.loads(text)) for text in json.loads(form["data"][0])]
    ours = [listed(json.loads(payloads.spliced(payloads.event_of(who, payloads.hashed(who), at)))) for who in buyers]
    assert ours == theirs

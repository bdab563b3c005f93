"""Clicks of a group that may have caused an order are found together; nearly all share nothing with any (P4)."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from collector.storage.index.lookup import Lookup
from collector.storage.journal.late import Late
from collector.storage.people.identities import Identities
from tests.kit.journal_kit import HOUR, MINUTE, NOW, Kit, click, order

AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15"
KEYS = ("fbclid", "visitor", "fbp", "ip", "fp")


def seen(rng: random.Random) -> dict[str, Any]:
    """What a browser shows, of few people beside many: each key shared by itself, and mostly none."""
    few = rng.choice((*KEYS, "none", "none"))

    def number(key: str) -> int:
        return rng.randrange(6) if key == few else rng.randrange(1 << 40)

    return {
        "visitorId": f"visitor-{number('visitor'):014d}",
        "fbp": f"fb.1.1700000000000.{number('fbp'):013d}",
        "ipAddress": f"2a02:{number('ip') & 65535:x}:{number('ip') >> 24 & 65535:x}::1",
        "userAgent": AGENT,
        "fingerprint": f"device-{number('fp'):014d}",
        "n": number("fbclid"),
    }


def one_click(rng: random.Random) -> dict[str, Any]:
    shown = seen(rng)
    return click(f"IwARtogether{shown.pop('n'):014d}", NOW - rng.randrange(40) * MINUTE, **shown)


def one_order(rng: random.Random, n: int) -> dict[str, Any]:
    shown = seen(rng)
    person = {"customerData": {"email": f"p{rng.randrange(8)}@example.com"}} if n % 3 else {}
    fbc = f"fb.1.{NOW - HOUR}.IwARtogether{shown.pop('n'):014d}"
    named = {} if n % 2 else {"fbc": fbc}
    return order(f"N{n}", NOW - rng.randrange(60) * MINUTE, **shown, **person, **named)


def passed_over(kit: Kit, monkeypatch: pytest.MonkeyPatch, *, fold: bool = False) -> tuple[Counter[bool], int]:
    """Of clicks in groups: how many were looked at and not; and how many were not though they share something."""
    counts: Counter[bool] = Counter()
    wrong: list[int] = []
    causes = Late._causes

    def watched(self: Late, clicks: Any, results: Any, ordered: Any) -> Any:
        found = causes(self, clicks, results, ordered)
        kept = {result.id for _, result in found}
        for result in results:
            counts[result.id in kept] += 1
            (row,) = self._lookup.click_rows({result.id})
            if result.id not in kept and self._relations.sharing(row):
                wrong.append(result.id)
        return found

    monkeypatch.setattr(Late, "_causes", watched)
    rng = random.Random(21)
    for n in range(30):
        kit.submit([kit.operation(one_order(rng, 4 * n + i)) for i in range(4)])
        kit.submit([kit.operation(one_click(rng)) for _ in range(9)])
        if fold and n == 20:
            kit.fold()
    return counts, len(wrong)


@pytest.mark.parametrize("fold", [False, True])
def test_a_click_that_shares_anything_with_an_order_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold: bool
) -> None:
    with Kit(tmp_path) as kit:
        counts, wrong = passed_over(kit, monkeypatch, fold=fold)
        assert wrong == 0
        assert counts[False] > 50
        assert counts[True] > 50


@pytest.mark.parametrize("key", KEYS)
def test_control_a_key_that_is_not_looked_for_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    met = Lookup.names_met

    def without(self: Lookup, clicks: Any, since: int) -> set[int] | None:
        place = 4 + ("fbclid", "visitor", "fbp", "ip", "ua", "fp").index(key)
        return met(self, [(*row[:place], None, *row[place + 1 :]) for row in clicks], since)

    monkeypatch.setattr(Lookup, "names_met", without)
    with Kit(tmp_path) as kit:
        assert passed_over(kit, monkeypatch)[1] > 0


def test_clicks_without_visitors_are_one_group(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a group that fails, its members are tried one by one: nobody would be told."""
    with Kit(tmp_path) as kit:
        kit.post(order("N1"))
        kit.submit([kit.operation(click(f"IwARnobody{n:06d}", NOW - HOUR)) for n in range(6)])
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def found_by_person(folder: Path) -> bool:
    """Whether an order gets a click, among others, whose visitor only an identity value leads to."""
    jane = {"customerData": {"email": "jane@example.com"}}
    with Kit(folder) as kit:
        kit.post(order("with-visitor", NOW - HOUR, visitorId="v-jane", **jane), order("without", **jane))
        kit.journal._db.execute("UPDATE conversion SET visitor_k = NULL")  # as of a row that retention took
    with Kit(folder) as kit:
        others = [one_click(random.Random(n)) for n in range(5)]
        late = click("IwARofjane0000", NOW - MINUTE, visitorId="v-jane")
        kit.submit([kit.operation(body) for body in (*others, late)])
        return kit.state(2).match.method == "email"


def test_a_click_of_somebody_whom_an_identity_value_names_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found_by_person(tmp_path / "data")
    monkeypatch.setattr(Identities, "visitors_among", lambda *_: set())
    assert not found_by_person(tmp_path / "control")

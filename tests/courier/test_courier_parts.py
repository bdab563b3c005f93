"""D4: each part of a refused batch goes out as its rows stand by then, not as they stood when the batch was claimed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.core.capi.payload import Profile, build_event
from collector.core.events import Enrichment
from collector.core.flags import WITHDRAWN
from collector.courier import deliver
from collector.storage.outbox import outbox
from collector.storage.outbox.dispatch import Outbox
from tests.kit.courier_kit import Bench, CourierThread, an_event, bench, config_for, now_ms, wait_until
from tests.kit.simulators.graph import GraphSimulator

# Halved, and the first is bad: [1-4] [1 2] [1] [2] [3 4] [5-8] are asked, in this order.
EVENTS, BAD, CHANGED, LAST_PARTS = 8, 1, 8, range(5, 9)
Change = Callable[[Bench], Any]


def drop(edge: Bench, *numbers: int) -> None:
    for number in numbers:
        outbox.drop(edge.db, number, now=now_ms(), reason="cancelled")


def withdraw(edge: Bench) -> None:
    now = now_ms()  # an old one's body, which is none here, would be read by the courier's upkeep beside
    row = {
        "id": CHANGED,
        "store": 1,
        "ts": now,
        "received": now,
        "event_type": "Purchase",
        "ua_class": 0,
        "revision": 0,
    }
    row |= {"capi": 0, "flags": WITHDRAWN}
    more = {"body": b"", "match": b""}
    names = ", ".join(row | more)
    edge.db.execute(f"INSERT INTO conversion ({names}) VALUES ({', '.join(':' + n for n in row | more)})", row | more)


def erase(edge: Bench) -> None:
    edge.db.execute("DELETE FROM outbox_payload WHERE id = ?", (CHANGED,))
    edge.db.execute("DELETE FROM outbox WHERE id = ?", (CHANGED,))


def tell_anew(edge: Bench) -> None:
    built = build_event(an_event(CHANGED, value=Decimal("3.00")), Enrichment(), Profile())
    assert outbox.merge(edge.db, CHANGED, {1: built.payload}, built.deadline) == 1


def sent_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Change, *, before_part: int = 1
) -> tuple[dict[str, Any], dict[str, int]]:
    """What Meta has by its id, and how the rows stand, when `change` comes between two requests."""
    ask, asked = deliver.PixelQueue._ask_part, list[int]()
    with GraphSimulator(name_index=False) as graph:
        config = config_for(folder, graph.url)
        with bench(config) as edge, bench(config) as keeper:
            edge.put(EVENTS, poison=lambda n: n == BAD)  # before there is a courier, or it would take several batches

            async def ask_after(*args: Any) -> None:
                asked.append(1)
                if len(asked) == before_part:
                    assert keeper.rows("SELECT 1 FROM request WHERE outcome = 'in_flight'") == []
                    change(keeper)
                await ask(*args)

            monkeypatch.setattr(deliver.PixelQueue, "_ask_part", ask_after)
            with CourierThread(config):
                assert wait_until(lambda: edge.states()["queued"] + edge.states()["retrying"] == 0)
            monkeypatch.undo()
            assert len(asked) >= before_part
            assert all(n == 1 for n in graph.accepted.get("111", {}).values()), "no event goes twice"
            return {event["event_id"]: event for event in graph.events}, dict(edge.states())


def ids(*numbers: int) -> set[str]:
    return {f"e{n}" for n in range(1, EVENTS + 1) if n not in (BAD, *numbers)}


@pytest.mark.parametrize("before_part", [1, 4])
@pytest.mark.parametrize(
    ("change", "becomes"),
    [
        (lambda edge: drop(edge, CHANGED), {"skipped": 1}),
        (withdraw, {"skipped": 1}),
        (erase, {}),
        (lambda edge: outbox.hold(edge.db, CHANGED, reason="waits"), {"held": 1}),
        (lambda edge: edge.db.execute("UPDATE outbox SET deadline = 1 WHERE id = ?", (CHANGED,)), {"expired": 1}),
    ],
    ids=["dropped", "withdrawn", "erased", "held", "expired"],
)
def test_D4_what_may_go_no_more_is_left_out_of_the_part_that_it_was_in(
    change: Change, becomes: dict[str, int], before_part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_meta, states = sent_with(tmp_path, monkeypatch, change, before_part=before_part)
    assert at_meta.keys() == ids(CHANGED)
    assert states == {"sent": EVENTS - 2, "rejected": 1, **becomes}


def test_D4_a_part_carries_what_is_told_by_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_meta, states = sent_with(tmp_path, monkeypatch, tell_anew)
    assert at_meta.keys() == ids()
    assert {name: event["custom_data"]["value"] for name, event in at_meta.items()} == {
        name: 3 if name == f"e{CHANGED}" else 10.5 for name in ids()
    }
    assert states == {"sent": EVENTS - 1, "rejected": 1}


@pytest.mark.parametrize(
    "gone",
    [range(5, 9), range(1, 5), range(1, 2), range(2, 9), range(1, 9)],
    ids=["last", "first", "bad", "rest", "all"],
)
def test_D4_a_part_of_which_nothing_is_left_is_not_asked(
    gone: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_meta, states = sent_with(tmp_path, monkeypatch, lambda edge: drop(edge, *gone))
    assert at_meta.keys() == ids(*gone)
    bad = 0 if BAD in gone else 1
    assert states == {k: n for k, n in {"sent": len(at_meta), "rejected": bad, "skipped": len(gone)}.items() if n}


def test_D4_the_control_parts_that_go_out_from_memory_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sendable, first = Outbox._sendable, dict[int, Any]()

    def remembered(box: Outbox, ids: Any, now: int, trusted: int) -> list[Any]:
        first.update({} if first else {event.id: event for event in sendable(box, ids, now, trusted)})
        return [first[number] for number in ids]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outbox, "_sendable", remembered)
        at_meta, states = sent_with(tmp_path, monkeypatch, lambda edge: drop(edge, CHANGED))
    assert f"e{CHANGED}" in at_meta
    assert states == {"sent": EVENTS - 1, "rejected": 1}


def test_D4_a_firewall_that_stops_one_event_of_a_part_keeps_no_other_from_meta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins to stop it once the batch has been refused: the part is divided, and the event waits alone."""
    ask, asked = deliver.PixelQueue._ask_part, list[int]()
    with GraphSimulator(name_index=False) as graph:
        config = config_for(tmp_path, graph.url)
        with bench(config) as edge:
            edge.put(EVENTS, poison=lambda n: n == BAD)

            async def ask_after(*args: Any) -> None:
                asked.append(1)
                if len(asked) == 1:
                    graph.faults({"name": "wall", "word": '"e7"', "status": 406})
                await ask(*args)

            monkeypatch.setattr(deliver.PixelQueue, "_ask_part", ask_after)
            with CourierThread(config):
                assert wait_until(lambda: edge.states() == {"sent": 6, "rejected": 1, "retrying": 1}, 60)
                assert graph.accepted["111"].keys() == ids(7)
                assert len(asked) == 9, "[1-4] [1 2] [1] [2] [3 4] [5-8] [5 6] [7] [8]"
                monkeypatch.undo()
                graph.faults()
                assert wait_until(lambda: edge.states() == {"sent": 7, "rejected": 1})
                assert set(graph.accepted["111"].values()) == {1}

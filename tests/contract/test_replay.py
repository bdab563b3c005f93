"""Dead letters, on both engines: what goes back into the queue, what cannot and why."""

from __future__ import annotations

from collector.core.capi.states import CapiState
from collector.storage import engine as engines
from collector.storage.rules.replays import Replayed
from collector.storage.rules.sending import Report
from tests.kit.courier_kit import now_ms
from tests.kit.engines import Engine, put, states

ALL = tuple(CapiState)


def settle_each(engine: Engine, *states: CapiState) -> None:
    """One event per state, in order."""
    put(engine, len(states))
    claim = engine.box.claim_fresh(engine.pixel(), 1000, now_ms() + 1_000, 30_000)
    assert claim is not None
    engine.box.close_request(claim, Report(outcome="refused"))
    for event, state in zip(claim.events, states, strict=True):
        if state > CapiState.HELD:
            engine.box.settle([event.id], state, now_ms(), reason="Meta's words")


def replay(engine: Engine, states: tuple[CapiState, ...] = ALL, **more: object) -> list[Replayed]:
    return engines.replay(engine.config, states, now=now_ms(), **more)  # type: ignore[arg-type]


def test_only_what_meta_may_take_goes_back_and_the_rest_is_told_why(engine: Engine) -> None:
    settle_each(
        engine,
        CapiState.REJECTED,
        CapiState.EXPIRED,
        CapiState.SENT,
        CapiState.SKIPPED,
        CapiState.REJECTED,
        CapiState.DRY_RUN,
    )
    engine.execute("DELETE FROM outbox_payload WHERE id = (SELECT id FROM outbox WHERE conversion = 5)")
    engine.execute(f"UPDATE outbox SET deadline = {now_ms() - 1} WHERE conversion = 2")
    answers = {a.conversion: a.refused for a in replay(engine)}
    assert {n for n, why in answers.items() if why is None} == {1, 6}
    assert "older than Meta takes" in str(answers[2])
    assert answers[3] == "Meta has taken it"
    assert answers[4] == "it must not be sent"
    assert "Meta's words" in str(answers[5])
    again = "SELECT conversion, attempts, doubt_at FROM outbox WHERE state = 0 ORDER BY conversion"
    assert engine.rows(again) == [(1, 1, None), (6, 1, None)]


def test_a_dry_run_changes_nothing(engine: Engine) -> None:
    settle_each(engine, CapiState.REJECTED)
    assert [a.refused for a in replay(engine, (CapiState.REJECTED,), dry_run=True)] == [None]
    assert states(engine) == {"rejected": 1}


def test_since_and_store_narrow_it(engine: Engine) -> None:
    settle_each(engine, CapiState.REJECTED)
    assert replay(engine, since=now_ms() + 60_000) == []
    assert replay(engine, store="another") == []


def test_many_are_taken_in_slices(engine: Engine) -> None:
    put(engine, 1_203)
    engine.execute("UPDATE outbox SET state = 11, settled = 1")
    assert sum(a.refused is None for a in replay(engine, (CapiState.REJECTED,))) == 1_203
    assert states(engine) == {"queued": 1_203}

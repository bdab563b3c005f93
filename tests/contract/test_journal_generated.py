"""Sets of clicks and orders drawn at random: both engines, one edge or three of PostgreSQL, give the same answers."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec import structs

from collector.core.capi.states import name_of
from tests.journal.test_journal_generated import some
from tests.kit.journal_kit import Kit, config_for
from tests.kit.journal_kits import PostgresKit, config_over
from tests.kit.postgres import Database


def answers(kit: Kit, results: list[Any]) -> dict[str, tuple[Any, ...]]:
    """What is known of each order in the end, whatever its rows are called."""
    found = {}
    for row_id in {result.state.row.id for result in results if hasattr(result, "state")}:
        state = kit.state(row_id)
        match, click = state.match, state.click
        whose = (click.fbclid, click.visitor_id) if click is not None else None
        answer = (match.attributed, whose, match.confidence, match.method, match.reason, len(match.journey))
        queued = kit.rows(f"SELECT state, reason FROM outbox WHERE conversion = {row_id}")
        sent = [name_of(number) for number, _ in queued]
        found[f"{state.event.event_type} {state.event.order_id}"] = (*answer, state.state, state.event.value, sent)
    return found


def play(kits: list[Kit], bodies: list[dict[str, Any]], dice: Random, most: int) -> dict[str, tuple[Any, ...]]:
    """Tell all, in groups of `most` at most, by the edges in turn."""
    results: list[Any] = []
    left = list(bodies)
    while left:
        kit = kits[dice.randrange(len(kits))]
        group = [kit.operation(body) for body in left[: dice.randint(1, most)]]
        del left[: len(group)]
        results += kit.submit(group)
    for kit in kits:
        kit.match_again()
    return answers(kits[0], results)


EMPTY = """
TRUNCATE click, click_network, sighting, conversion, identity_link, conversion_identity, unproven, reopened, unweighed,
         event_clock, event_name, notice, click_hour, ua_day, visitor_sketch, order_hour, sent_before, outbox,
         outbox_payload"""


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(100, 125), marks=pytest.mark.slow)], ids=len)
@pytest.mark.parametrize("edges", [1, 3])
def test_both_engines_give_the_same_answers(seeds: range, edges: int, database: Database, tmp_path: Path) -> None:
    for seed in seeds:
        dice = Random(seed)
        bodies = some(dice, dice.choice((10, 60, 90)))
        dice.shuffle(bodies)
        config = config_over(database, tmp_path)  # one key of names, so that both count the same visitors
        with Kit(tmp_path, config=structs.replace(config, storage=config_for(tmp_path / str(seed)).storage)) as kit:
            wanted = play([kit], bodies, Random(seed), 4)
        kits: list[Kit] = [PostgresKit(database, tmp_path) for _ in range(edges)]
        try:
            found = play(kits, bodies, Random(seed + 1), 4)
        finally:
            for one in kits:
                one.close()
        database.sql(EMPTY)
        print(seed, *bodies, sep="\n")  # of the set that fails
        assert found == wanted

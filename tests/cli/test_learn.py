"""`collector learn`: the nightly step at once, by the events' own time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collector.cli import main
from tests.kit.journal_kit import DAY, HOUR, NOW, STORE, Kit, click, order

SETTINGS = (
    '[storage]\ndata_dir = "{data}"\n[meta]\nmode = "off"\n[[store]]\nid = "{store}"\n[[store]]\nid = "store_two"\n'
)


@pytest.fixture
def settings(tmp_path: Path) -> str:
    """A store that had a click and a proven order a day for a week, and one that had nothing."""
    with Kit(tmp_path / "data", NOW - 8 * DAY) as kit:
        for n in range(8):
            kit.now = at = NOW - (8 - n) * DAY
            kit.post(click(f"IwAR{n:024}", at, visitorId=f"visitor-{n:08}"))
            kit.post(order(f"o{n}", at + HOUR, visitorId=f"visitor-{n:08}"))
    path = tmp_path / "collector.toml"
    path.write_text(SETTINGS.format(data=tmp_path / "data", store=STORE))
    path.chmod(0o600)
    return str(path)


def learn(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(["learn", *argv])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_learn_makes_the_next_model_of_each_store_that_has_settled_orders(
    settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = learn(capsys, "--config", settings, "--json")
    own, other = json.loads(out)
    assert code == 0
    assert (own["store"], own["learnt"]) == (STORE, True)
    assert own["model"].startswith("fs.")
    assert (other["store"], other["learnt"]) == ("store_two", False)
    assert "no conversion has settled" in other["reason"]
    code, out, _ = learn(capsys, "--config", settings, "--store", STORE, "--json")
    assert [(one["store"], one["learnt"]) for one in json.loads(out)] == [(STORE, False)]  # nothing new has settled


def test_learn_says_what_it_learnt_in_words(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = learn(capsys, "--config", settings)
    assert code == 0
    for said in (STORE, "fs.", "labels", "caps", "store_two: no conversion has settled"):
        assert said in out


def test_learn_for_a_store_that_is_not_configured_names_those_that_are(
    settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = learn(capsys, "--config", settings, "--store", "store_no")
    assert code == 2
    assert f"'store_no' is not in the configuration; it has {STORE}, store_two" in err

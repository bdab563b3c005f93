"""What page, server and shop say of consent to one order, and leave unsaid: an answer counts, silence never."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, permutations, product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.core import consent
from collector.core.capi.states import CapiState
from collector.core.events import ConversionBody, StoredEvent
from collector.core.intake import Caller
from collector.exchange.operations import Withdraw
from collector.storage.journal import transaction
from tests.journal.test_shop_orders import Shop, message
from tests.kit import shops as made
from tests.kit.journal_kit import STORE, order

WORDS = (None, "pending", "granted", "denied")
DEFAULTS = ("granted", "pending", "denied")
PAGE = Caller(secret=False, address="198.51.100.9", user_agent=made.AGENT)
SERVER = Caller(secret=True)
numbers = count(3_000_000, 10)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "_REST", 0)


@pytest.fixture(scope="module", params=DEFAULTS)
def shop(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Shop]:
    one = Shop(tmp_path_factory.mktemp("shop"), default_consent=request.param)
    yield one
    one.kit.close()


def default_of(shop: Shop) -> str:
    return str(shop.kit.config.store[0].default_consent)


def by_body(shop: Shop, number: int, word: str | None, caller: Caller) -> None:
    """A server's or a page's telling, as the edge makes it."""
    said = {"customerData": {"email": "ada@example.com"}, "visitorId": f"v{number}" if caller is SERVER else None}
    said |= {"consent": {"marketing": word}} if word else {}
    told = order(str(number), eventValue="118.90", currency="EUR", **said)
    body = msgspec.convert({k: v for k, v in told.items() if k != "at"}, ConversionBody, strict=False)
    shop.kit.submit([shop.webhooks._preparer.event(body, caller, shop.kit.journal.stores[STORE]).operation])


def by_shop(shop: Shop, number: int, word: str | None) -> None:
    plain = msgspec.json.decode(message(number, "paid").body)
    marks = [{"name": "_consent", "value": word}] if word else []
    shop.tell(made.shopify("orders/paid", **plain | {"note_attributes": marks}))


def tell(shop: Shop, number: int, who: str, word: str | None) -> None:
    shop.kit.now += 1000
    if who == "shop":
        by_shop(shop, number, word)
    else:
        by_body(shop, number, word, SERVER if who == "server" else PAGE)


def stands(shop: Shop, number: int) -> tuple[StoredEvent, CapiState]:
    """The order that server and shop tell, and its state for Meta."""
    shop.kit.match_again()
    found = [
        (event, CapiState(state))
        for body, state in shop.kit.rows("SELECT body, capi FROM conversion ORDER BY id DESC LIMIT 3")
        if (event := msgspec.msgpack.decode(body, type=StoredEvent)).order_id == str(number) and event.rank > 0
    ]
    ((event, state),) = found
    return event, state


STATES = {"granted": CapiState.QUEUED, "pending": CapiState.HELD, "denied": CapiState.SKIPPED}


def due(default: str, *words: str | None) -> str:
    """What is in force once server and shop have said this."""
    return next((word for word in ("denied", "granted", "pending") if word in words), default)


def check(shop: Shop, tellings: list[tuple[str, str | None]]) -> None:
    """In every order of arrival, the last told twice."""
    wanted = due(default_of(shop), *(word for who, word in tellings if who != "page"))
    for arrival in permutations(tellings):
        number = next(numbers)
        for who, word in (*arrival, arrival[-1]):
            tell(shop, number, who, word)
        event, state = stands(shop, number)
        assert (event.marketing, state) == (wanted, STATES[wanted]), arrival
        assert wanted != "denied" or not (event.user_data or event.visitor_id), arrival


@pytest.mark.parametrize("of_shop", WORDS)
@pytest.mark.parametrize("of_server", WORDS)
def test_T1_an_answer_counts_before_every_default_and_silence_undoes_none(
    shop: Shop, of_server: str | None, of_shop: str | None
) -> None:
    check(shop, [("server", of_server), ("shop", of_shop)])


@pytest.mark.slow
@pytest.mark.parametrize(("of_server", "of_shop"), list(product(WORDS, WORDS)))
def test_T5_what_a_page_says_changes_no_consent_that_others_tell(
    shop: Shop, of_server: str | None, of_shop: str | None
) -> None:
    for of_page in WORDS:
        check(shop, [("server", of_server), ("shop", of_shop), ("page", of_page)])


@pytest.mark.parametrize("of_server", WORDS)
def test_T5_who_withdraws_ends_it_unless_his_grant_was_told(shop: Shop, of_server: str | None) -> None:
    number = next(numbers)
    tell(shop, number, "server", of_server)
    visitor = f"v{number}"
    shop.kit.submit([Withdraw(1, visitor, shop.kit.journal.names.name(1, "visitor", visitor))])
    tell(shop, number, "shop", None)
    tell(shop, number, "server", of_server)
    event, _ = stands(shop, number)
    if of_server == "granted":
        assert (event.marketing, event.user_data.keys() >= {"em"}) == ("granted", True)
    elif default_of(shop) != "denied" and of_server != "denied":  # who refused told of no visitor who could withdraw
        tell(shop, number, "server", "granted")
        event, _ = stands(shop, number)
        assert (event.marketing, event.user_data) == ("denied", {})


def test_T1_what_an_older_release_kept_reads_as_said() -> None:
    """Its rows do not tell a default from an answer, so that silence lifts neither a wait nor a refusal."""
    for word in ("pending", "denied"):
        old = StoredEvent(event_type="Purchase", event_id="e", ts=1, received=1, marketing=word)  # type: ignore[arg-type]
        stored = msgspec.msgpack.encode(old)
        assert b"unasked" not in stored
        silent = StoredEvent(event_type="Purchase", event_id="e", ts=1, received=1)
        assert consent.of_both(msgspec.msgpack.decode(stored, type=StoredEvent), silent)["marketing"] == word


@pytest.mark.parametrize("default", DEFAULTS)
@pytest.mark.parametrize("said", [None, "granted"])
def test_T5_a_changed_default_takes_no_grant_back(tmp_path: Path, said: str | None, default: Any) -> None:
    """Whoever gave it, and where a row of an older release does not tell who: it has no `consented`."""
    shop = Shop(tmp_path, default_consent="granted")
    number = next(numbers)
    tell(shop, number, "server", None)  # the same bytes as an older release's "granted" in so many words
    assert not stands(shop, number)[0].consented
    shop.webhooks._preparer._unsaid[1] = consent.decide(None, default=default)
    for who in ("shop", "server", "shop"):
        tell(shop, number, who, None)
    assert (stands(shop, number)[0].marketing, stands(shop, number)[1]) == ("granted", CapiState.QUEUED)
    tell(shop, number, "shop", said or "denied")
    wanted = said or "denied"
    assert (stands(shop, number)[0].marketing, stands(shop, number)[1]) == (wanted, STATES[wanted])
    shop.kit.close()


@pytest.mark.parametrize(("kept", "told", "stands"), [
    ("granted", "pending", "granted"), ("granted", "denied", "granted"), ("pending", "granted", "granted"),
    ("pending", "denied", "denied"), ("denied", "granted", "granted"), ("denied", "pending", "pending"),
])  # fmt: skip
def test_T5_where_nobody_says_anything_the_newest_default_stands_but_takes_no_grant_back(
    kept: Any, told: Any, stands: str
) -> None:
    first, second = (
        StoredEvent(event_type="Purchase", event_id="e", ts=1, received=1, marketing=word, unasked=word != "granted")
        for word in (kept, told)
    )
    after = consent.of_both(first, second)
    assert (after["marketing"], after["unasked"]) == (stands, stands != "granted")


def before(kept: StoredEvent, told: StoredEvent) -> dict[str, Any]:
    """The rule as it was: a default is an answer."""
    said = kept.marketing
    if told.marketing == "denied" or said == "pending":
        said = "denied" if said == "denied" else told.marketing
    return {"marketing": said, "unasked": False, "consented": kept.consented or told.consented, "ldu": kept.ldu}


@pytest.mark.parametrize(
    ("default", "of_server", "of_shop"),
    [("granted", "pending", None), ("denied", "granted", None), ("denied", None, "granted")],
)
def test_T1_control_where_a_default_is_an_answer(
    tmp_path: Path, default: Any, of_server: str | None, of_shop: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "of_both", before)
    shop = Shop(tmp_path, default_consent=default)
    with pytest.raises(AssertionError):
        check(shop, [("server", of_server), ("shop", of_shop)])
    shop.kit.close()

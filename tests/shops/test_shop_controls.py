# ruff: noqa: E501 (a rule is a line; fixtures are asked for by the checks' own arguments)
"""The controls of the shops' rules: one switched off, and at least one of its checks fails.

Those that need a running edge are in edge/test_webhook_controls.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import apsw
import httpx
import msgspec
import pytest
from msgspec import structs

from collector.config import WebhookConfig
from collector.config_loader import shops
from collector.console import metrics
from collector.core import orders
from collector.core.orders import Rank
from collector.core.shops import compiling, exports, mapping, order, paths, signature
from collector.courier.shops import apis, http, pull
from collector.courier.shops.watch import Watch
from collector.edge import webhooks
from collector.errors import CollectorError
from collector.storage import requests as shop_requests
from collector.storage.journal import transaction
from collector.storage.journal.shop_orders import Deliveries, OrderNames
from collector.storage.people import erasure as people_erasure
from collector.storage.people.erased import Erased
from collector.storage.reports import commands, shop_ways
from collector.storage.reports import reconcile as sums
from collector.storage.shops import health as shop_figures
from collector.storage.shops.book import Book
from collector.storage.shops.files import Files
from collector.storage.shops.requests import Requests
from collector.storage.verbs import conversions, order_names, shop_files, shop_health
from collector.storage.verbs.conversions import Conversions
from collector.storage.verbs.shop_health import Health
from tests.core import test_orders
from tests.courier import test_shop_pull, test_shop_watch
from tests.courier.test_shop_pull import make, server  # noqa: F401
from tests.courier.test_shop_watch import watched  # noqa: F401
from tests.journal import test_shop_erasure, test_shop_orders
from tests.journal.test_shop_orders import shop  # noqa: F401
from tests.kit import shops as made
from tests.shops import (
    test_shop_console,
    test_shop_examples,
    test_shop_mapping,
    test_shop_reconcile,
    test_shop_signatures,
)

pytestmark = pytest.mark.slow
Check = Callable[..., Any]


class Off(NamedTuple):
    """Where a rule stands, what is there instead, and whose failure says so."""

    place: Any
    name: str
    instead: Any
    checks: tuple[Check, ...]


def told(check: Check, **given: Any) -> Check:
    """A check with these of its parameters; the rest are fixtures."""
    return partial(check, **given)


def without_shop(outcome: Check) -> Check:
    return lambda platform, terms, *rest: outcome(platform, structs.replace(terms, shop=""), *rest)


def each_of_them(node: Any, hop: Any, keyed: Any) -> Any:
    """A path that takes any element for the one that is meant."""
    return node if isinstance(node, list) else paths_beyond(node, hop, keyed)


paths_beyond = paths._beyond


async def nothing(*_: Any) -> None:
    return None


async def nobody(*_: Any, **__: Any) -> list[Any]:
    return []


def readable_by_all(config: Any, request: Any, now: int) -> Any:
    path = shop_requests.path_of(config, request)
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    return path


class Unending(msgspec.Struct):
    """Stripe's answer, of which nobody reads that there is more."""

    data: list[msgspec.Raw]
    has_more: bool = False

    def __post_init__(self) -> None:
        self.has_more = False


OF_THE_MAPPING: tuple[Check, ...] = (
    test_shop_mapping.test_shopify_an_order_with_all_that_it_says,
    test_shop_mapping.test_woocommerce_an_order_with_all_that_it_says,
    test_shop_mapping.test_stripe_sessions_refunds_and_renewals,
    test_shop_mapping.test_a_platform_of_ones_own_by_configuration_alone,
    test_shop_mapping.test_content_ids_by_a_pattern,
    test_shop_examples.test_L6_the_example_of_the_pull_is_the_webhooks_order,
    told(
        test_shop_mapping.test_woocommerce_states_and_what_stays,
        changes={"refunds": [{"total": "-98.40"}]},
        status="partially_refunded",
        value="150.30",
    ),
    told(
        test_shop_mapping.test_woocommerce_states_and_what_stays,
        changes={"refunds": [{"total": "-98.40"}, {"total": "-150.30"}]},
        status="refunded",
        value="0.00",
    ),
    *(
        told(test_shop_examples.test_each_example_is_the_order_that_it_tells, one=one)
        for one in test_shop_examples.ALL
        if one.file in test_shop_examples.TOLD
    ),
)
PAGE_OF_COMMERCE = told(test_shop_pull.test_L3_woocommerce_also_where_a_page_shares_a_second, step=0, by_change=True)
OFF: dict[str, Off] = {
    "R14 one secret is compared": Off(signature, "is_signed", lambda s, keys, c, b, whole=signature.is_signed: whole(s, list(keys)[:1], c, b), (test_shop_signatures.test_R14_any_of_four_secrets_may_fit_and_all_are_compared,)),
    "S3 v0 counts": Off(signature, "_matched", lambda form, piece, whole=signature._matched: whole(form, piece.replace("v0=", "v1=")), (test_shop_signatures.test_S3_any_v1_may_fit_and_v0_never_counts,)),
    "S3 the first v1 alone": Off(signature, "MOST_SIGNATURES", 1, (test_shop_signatures.test_S3_any_v1_may_fit_and_v0_never_counts,)),
    "S4 the secret as it stands": Off(signature, "_WHSEC", "\0", (test_shop_signatures.test_S4_the_published_vector_of_standard_webhooks_and_svix_own_headers,)),
    "S7 any age": Off(signature, "abs", lambda _: 0, (told(test_shop_signatures.test_S7_a_stale_or_early_timestamp_is_refused, seconds=-301),)),
    "S9": Off(order, "_outcome", without_shop(order._outcome), (test_shop_mapping.test_R3_S9_the_admins_test_button_and_another_shop,)),
    "M1 any element": Off(paths, "_beyond", each_of_them, (told(test_shop_mapping.test_M1_M3_paths_find_what_is_there_and_nothing_of_another_kind, path="a[-1].b", value={"a": [{"b": 1}, {"b": 2}]}, found=["2"]),)),
    "M1 as many levels as one likes": Off(paths, "MOST_LEVELS", 99, (told(test_shop_mapping.test_M1_what_is_no_path_is_refused, bad=".".join("abcdefghi")),)),
    "M1 the last of several places": Off(mapping.Said, "_first", lambda s, base, where, currency="", whole=mapping.Said._first: whole(s, base, list(where)[::-1], currency), OF_THE_MAPPING),
    "M2 as many paths as one likes": Off(compiling, "MOST_PATHS", 10_000, (test_shop_mapping.test_M2_a_hundred_paths_and_no_more,)),
    "M2 no name is near": Off(compiling, "nearest", lambda *_: "", (test_shop_mapping.test_M2_every_fault_is_told_at_once_with_its_key_and_the_nearest_name,)),
    "M3 NUL is a text": Off(paths, "scalar", lambda value, whole=paths.scalar: value if isinstance(value, str) else whole(value), (told(test_shop_mapping.test_M1_M3_paths_find_what_is_there_and_nothing_of_another_kind, path="a", value=b'{"a": "x\\u0000y"}', found=[None]),)),
    "M4 fbp": Off(compiling, "MARKS", compiling.MARKS | {"fbp": ()}, (test_shop_mapping.test_shopify_an_order_with_all_that_it_says,)),
    "M4 visitorId": Off(compiling, "MARKS", compiling.MARKS | {"visitorId": ()}, (test_shop_mapping.test_woocommerce_an_order_with_all_that_it_says,)),
    "M4 consent": Off(compiling, "MARKS", compiling.MARKS | {"consent": ()}, (test_shop_mapping.test_M4_consent_is_read_from_our_own_mark_and_never_from_a_newsletter,)),
    "M4 a newsletter is consent": Off(compiling, "MARKS", compiling.MARKS | {"consent": ("_consent", "gift")}, (test_shop_mapping.test_M4_every_mark_is_found_by_each_of_its_names_and_nothing_else_is_one,)),
    "D1 for ever": Off(Deliveries, "known", lambda s, one, now, whole=Deliveries.known: whole(s, one, 0), (test_shop_orders.test_D1_a_delivery_is_taken_once_and_forgotten_after_eight_days,)),
    "D2 each delivery is another order": Off(Conversions, "_again", lambda s, _, new, now: s._new(new, now), (told(test_shop_orders.test_O1_D2_one_end_state_whatever_the_order_and_the_repeats, tellers=test_shop_orders.ALL[1]),)),
    "O2 a late pending counts": Off(orders, "_firm", lambda states: states, (test_orders.test_O2_a_late_pending_without_a_time_undoes_nothing,)),
    "O4 by the order's time": Off(orders, "_paid_at", lambda *_: None, (test_orders.test_O4_the_time_of_payment,)),
    "O6 every teller's value": Off(orders, "_highest", list, (told(test_shop_orders.test_O6_the_shops_value_counts_and_a_servers_is_a_note, shop_first=True),)),
    "O6 a server contradicts its shop": Off(orders, "_refuse_contradiction", lambda *_: None, (test_orders.test_O6_two_servers_contradict_each_other_and_never_their_shop,)),
    "O6 a shop is a server": Off(orders, "rank_of", lambda _: Rank.SERVER, (test_orders.test_O6_two_servers_contradict_each_other_and_never_their_shop,)),
    "O6 not listed": Off(conversions, "values_differ", lambda *_: False, (told(test_shop_reconcile.test_O6_a_server_that_told_another_value_is_named, value="100.00", notes=[f"value_differs: 1 ({test_shop_reconcile.NUMBER})"]),)),
    "O7 the first person alone": Off(orders, "_united", lambda first, _: first.user_data, (test_orders.test_O7_people_are_united_and_the_first_event_id_stays,)),
    "O8 no other names": Off(OrderNames, "order", lambda *_, **__: None, (test_shop_erasure.test_P5_an_order_that_a_server_told_by_its_number_is_erased_under_the_shops_names_too,)),
    "O8 a number is enough": Off(order_names, "is_same_sale", lambda *_: True, (test_shop_orders.test_O8_two_hooks_with_one_number_and_other_value_are_counted,)),
    "O9 a note is a change": Off(orders, "is_only_noted", lambda *_: False, (test_shop_orders.test_O9_tags_and_notes_change_nothing,)),
    "P1 nobody is noted": Off(Requests, "take", lambda *_: None, (test_shop_watch.test_P1_word_of_a_redacted_customer_is_ignored_from_that_commit_on,)),
    "P1 nobody erases": Off(shop_requests, "run", lambda *_: 0, (test_shop_watch.test_P1_the_courier_erases_and_leaves_a_receipt,)),
    "P2 for everybody to read": Off(shop_requests, "answer", readable_by_all, (test_shop_watch.test_P2_what_is_held_of_a_customer_is_written_for_the_owner_alone_and_goes_with_the_request,)),
    "P3, P4 nobody is told": Off(Watch, "_do", nothing, tuple(told(test_shop_watch.test_P3_P4_nothing_else_is_done_by_itself_and_somebody_is_told, topic=topic, kind=kind) for topic, kind in (("shop/redact", "shop_redact"), ("app/uninstalled", "shop_uninstalled")))),
    "P5 nobody is remembered": Off(Erased, "__bool__", lambda _: False, (test_shop_erasure.test_P5_late_word_of_an_erased_order_is_ignored,)),
    "P6 what nobody has read stays": Off(people_erasure, "unread_of", lambda *_: [], (told(test_shop_erasure.test_P6_an_erasure_takes_what_no_edge_has_read_yet, who={"email": "ada@example.com"}),)),
    "P6 what was read stays": Off(Book, "take_out", lambda *_: None, (test_shop_erasure.test_P6_a_row_is_deleted_when_it_is_taken,)),
    "L1 the first pull begins now": Off(pull, "_FIRST_MS", 0, (test_shop_pull.test_L1_every_order_comes_page_by_page_and_once,)),
    "L3 by number alone": Off(apis, "_REST_MS", 10**15, (test_shop_pull.test_L3_rows_that_move_while_one_reads_are_not_passed_over,)),
    "L3 by time alone": Off(apis.WooCommerce, "_page", lambda s, begin, number, whole=apis.WooCommerce._page: whole(s, begin, 1), (PAGE_OF_COMMERCE,)),
    "L3 never by date": Off(http, "_judge", lambda code, headers, whole=http._judge: whole(403 if code == 400 else code, headers), (told(test_shop_pull.test_L3_woocommerce_also_where_a_page_shares_a_second, step=300, by_change=False),)),
    "L4 the first page alone": Off(apis, "_Events", Unending, (test_shop_pull.test_L4_stripes_events,)),
    "L4 topics of the preset": Off(shops, "_as_told", lambda _, platform: WebhookConfig(name=platform, preset=platform), (test_shop_pull.test_L4_a_topic_that_the_owner_takes_is_pulled_as_well,)),
    "L5 a refused key like any fault": Off(pull, "_HOUR_S", 1.0, (test_shop_pull.test_L5_a_refused_key_is_an_alert_and_tried_hourly,)),
    "L5 nobody is told": Off(pull, "ALERT_AFTER", 99, (test_shop_pull.test_L5_three_failures_in_a_row_are_an_alert,)),
    "L5 whatever it answers is an answer": Off(http, "_judge", lambda *_: None, (test_shop_pull.test_L5_nothing_is_followed_and_no_key_is_in_an_address,)),
    "L5 answers of any size": Off(http, "len", lambda _: 0, (test_shop_pull.test_L5_an_answer_over_32_MiB_is_given_up,)),
    "L6 read as a webhook is": Off(shops, "preset", lambda name, whole=shops.preset: whole(name.removesuffix("_pull")), (test_shop_pull.test_L6_a_pulled_order_is_what_its_webhook_tells,)),
    "L6 as the preset has it": Off(shops, "_as_told", lambda _, platform: WebhookConfig(name=platform, preset=platform), (test_shop_pull.test_L6_what_the_owner_changes_in_a_preset_holds_for_the_pull_too,)),
    "C3 nothing is unknown": Off(commands, "unknown_to_the_shop", nothing, (test_shop_reconcile.test_C3_purchases_that_no_order_of_the_shop_matches_are_named,)),
    "C3 no value differs": Off(shop_files, "_differs", lambda *_: False, (test_shop_reconcile.test_C3_another_value_is_counted,)),
    "C4 by day alone": Off(sums, "_WORDS", dict.fromkeys(sums._WORDS, "''"), tuple(told(test_shop_reconcile.test_C4_sums_by_reason_and_channel_make_up_all_orders_too, by=by) for by in ("reason", "channel"))),
    "C4 a day without its orders": Off(sums, "orders_of_day", nobody, (test_shop_console.test_C4_a_day_leads_to_its_orders_and_each_to_its_story,)),
    "C4 no metrics": Off(metrics, "_shops", nobody, (test_shop_console.test_C4_metrics_of_each_store,)),
    "C5 no other names": Off(Files, "_by_other_name", lambda *_: None, (test_shop_reconcile.test_C5_an_order_is_found_by_the_number_that_people_know_it_by,)),
    "C5 all is missing that has no event": Off(Files, "_kept_out", lambda *_: "", (test_shop_reconcile.test_C5_a_file_beside_what_is_here,)),
    "C5 each row counts": Off(Files, "_has_seen", lambda *_: False, (test_shop_reconcile.test_C5_a_file_beside_what_is_here,)),
    "C5 nothing is filled in": Off(Files, "fill", lambda *_: 0, (test_shop_reconcile.test_C5_ndjson_fills_what_is_missing,)),
    "C6 UTF-8 alone": Off(exports, "decode", lambda _: "utf-8", (told(test_shop_reconcile.test_C6_files_as_spreadsheets_write_them, encode=lambda text: text.encode("utf-16")),)),
    "C6 commas alone": Off(exports, "delimiter_of", lambda *_: ",", (told(test_shop_reconcile.test_C6_files_as_spreadsheets_write_them, encode=lambda text: text.replace(",", ";").encode()),)),
    "C7 signatures": Off(shop_health, "_WRONG", 99, (test_shop_watch.test_C7_wrong_signatures_are_told_when_they_are_many,)),
    "C7 missed": Off(shop_figures, "_MISSED", "SELECT 0", (test_shop_watch.test_C7_orders_that_the_pull_alone_found_are_told,)),
    "C7 silent": Off(Health, "_silent", lambda *_: 0, (test_shop_watch.test_C7_a_shop_that_fell_silent_is_told,)),
    "C7 accuracy": Off(Health, "_share", lambda *_: None, (test_shop_watch.test_C7_poor_accuracy_is_told_and_cleared,)),
    "C7 redacted": Off(webhooks, "_is_redacted", lambda _: False, (told(test_shop_watch.test_C7_orders_without_a_person_are_told, customer={"id": 7}, email=None, expected=True),)),
    "C7 once told, told for ever": Off(Watch, "_standing", property(lambda _: set(), lambda *_: None), (test_shop_watch.test_C7_poor_accuracy_is_told_and_cleared,)),
    "C8 what came is not looked up": Off(shop_ways, "_by_reason", lambda *_: {}, (test_shop_console.test_C8_each_way_is_named_with_what_came_by_it,)),
    "C8 no address": Off(shop_ways, "_UNSET", "", (test_shop_console.test_C8_status_names_the_address_to_paste,)),
}  # fmt: skip


def run_all(checks: Iterable[Check], request: pytest.FixtureRequest) -> None:
    """Each check with the fixtures that it asks for."""
    for check in checks:
        given = check.keywords if isinstance(check, partial) else {}
        names = [name for name in inspect.signature(check).parameters if name not in given]
        check(**{name: request.getfixturevalue(name) for name in names})


@pytest.fixture
def own_hooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Mappings are compiled once; here with the rule off, and never kept."""

    def anew() -> None:
        for known in (shops._pulled, mapping._within):
            known.cache_clear()
        monkeypatch.setattr(test_shop_mapping, "HOOKS", shops.hooks(made.STORE))

    yield anew
    shops._pulled.cache_clear()
    mapping._within.cache_clear()


SHADOWED = ("abs", "len", "_standing")  # of Python, or of each object
FAILURES = (
    AssertionError,
    AttributeError,
    LookupError,
    ValueError,
    TypeError,
    CollectorError,
    apsw.Error,
    httpx.HTTPError,
    pytest.fail.Exception,
)


@pytest.mark.parametrize("rule", OFF)
def test_with_its_rule_off_a_check_fails(
    rule: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, own_hooks: Any
) -> None:
    place, name, instead, checks = OFF[rule]
    monkeypatch.setattr(transaction, "_REST", 0)
    monkeypatch.setattr(place, name, instead, raising=name not in SHADOWED)
    own_hooks()
    with pytest.raises(FAILURES):
        run_all(checks, request)


CONVERTED = [name for name in mapping.CONVERTERS if name not in ("text", "url", "minor", "decimal")]


@pytest.mark.parametrize("name", CONVERTED)
def test_M1_control_without_a_converter_an_order_is_another(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, own_hooks: Any
) -> None:
    monkeypatch.setitem(mapping.CONVERTERS, name, mapping._as_is)
    own_hooks()
    with pytest.raises(FAILURES):
        run_all(OF_THE_MAPPING, request)

# ruff: noqa: E501 (cases are read as one line each)
"""S1–S8: whose webhook it is. Two published vectors, each platform's own way, and everything malformed."""

from __future__ import annotations

import hashlib
import hmac
import html
from base64 import b64decode, b64encode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.config import WebhookConfig
from collector.config_loader import shops
from collector.core.shops import signature
from collector.core.shops.signature import Claim, Refused, Scheme
from tests.kit.shops import SECRETS, STORE, Message, kiosk, paddle, shopify, stripe, woocommerce

NOW = 1_795_248_010
HOOKS = shops.hooks(STORE)
ALL = [shopify(), woocommerce(), stripe(at=NOW), paddle(at=NOW), kiosk(at=NOW)]
ids = [message.name for message in ALL]


def pairs(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


def verdict(message: Message, now: int = NOW, keys: list[bytes] | None = None) -> str:
    """ "ok", or why not."""
    hook = HOOKS[message.name]
    claimed = signature.claim(hook.scheme, pairs(message.headers), now)
    if isinstance(claimed, Refused):
        return claimed.reason
    fits = signature.is_signed(hook.scheme, hook.keys if keys is None else keys, claimed, message.body)
    return "ok" if fits else "signature_invalid"


def header_of(message: Message) -> str:
    return {
        "shopify": "X-Shopify-Hmac-Sha256",
        "woocommerce": "X-WC-Webhook-Signature",
        "stripe": "Stripe-Signature",
        "paddle": "Paddle-Signature",
    }.get(message.name, "X-Kiosk-Proof")


def with_signature(message: Message, text: str) -> Message:
    return message._replace(headers=message.headers | {header_of(message): text})


def test_S1_the_published_vector_of_shopify() -> None:
    body = b'{"id":1234567890,"email":"customer@example.com","total_price":"123.45"}'
    headers = pairs({"X-Shopify-Hmac-Sha256": "QNyObTlKbMx2qDlPF/ZOZcBqg5OgPg+2oky3zldc0Gw="})
    found = signature.verify(HOOKS["shopify"].scheme, ["test-webhook-secret"], headers, body, 0)
    assert isinstance(found, Claim)


def test_S4_the_published_vector_of_standard_webhooks_and_svix_own_headers() -> None:
    (hook,) = [h for h in shops.hooks(OF_STANDARD).values() if h.name == "std"]
    body = b'{"test": 2432232314}'
    for prefix in ("webhook", "svix"):
        headers = pairs(
            {
                f"{prefix}-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
                f"{prefix}-timestamp": "1614265330",
                f"{prefix}-signature": "v1,nonsense v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            }
        )
        claimed = signature.claim(hook.scheme, headers, 1614265330)
        assert isinstance(claimed, Claim)
        assert signature.is_signed(hook.scheme, hook.keys, claimed, body)


OF_STANDARD = STORE.__class__(
    id="s",
    webhook=[
        WebhookConfig(
            name="std",
            preset="standard_webhooks",
            secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            topics={"order.paid": "paid"},
            fields={"orderId": "id", "statusAt": "$.timestamp", "eventValue": "total", "currency": "currency"},
        )
    ],
)


@pytest.mark.parametrize("message", ALL, ids=ids)
def test_S1_to_S6_each_platform_signs_in_its_way(message: Message) -> None:
    assert verdict(message) == "ok"


@pytest.mark.parametrize("message", ALL, ids=ids)
def test_S1_to_S6_one_byte_one_letter_or_another_secret_is_refused(message: Message) -> None:
    assert verdict(message._replace(body=message.body + b" ")) == "signature_invalid"
    assert verdict(message._replace(body=message.body.replace(b"e", b"E", 1))) == "signature_invalid"
    assert verdict(message, keys=[b"another"]) == "signature_invalid"
    text = message.headers[header_of(message)]
    at = text.rindex("=") + 3 if message.name in ("stripe", "paddle", "kiosk") else 3
    for position in (at, len(text) - (2 if text.endswith("=") else 1)):
        for letter in "b7A":
            if text[position] != letter:
                changed = text[:position] + letter + text[position + 1 :]
                assert verdict(with_signature(message, changed)) in ("signature_invalid", "signature_malformed")


@pytest.mark.parametrize("message", ALL, ids=ids)
def test_S1_to_S6_control_without_the_comparison_the_check_above_fails(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: True)
    with pytest.raises(AssertionError):
        test_S1_to_S6_one_byte_one_letter_or_another_secret_is_refused(message)


def test_S2_the_secret_as_typed_and_as_the_plugin_decodes_it() -> None:
    scheme, body = HOOKS["woocommerce"].scheme, b"{}"
    for key in ("a &amp; b", "a & b"):
        text = b64encode(hmac.new(key.encode(), body, hashlib.sha256).digest()).decode()
        assert isinstance(
            signature.verify(scheme, ["a &amp; b"], pairs({"x-wc-webhook-signature": text}), body, 0), Claim
        )


def test_S2_control_without_the_decoded_form_the_plugins_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "unescape", lambda text: text)
    with pytest.raises(AssertionError):
        test_S2_the_secret_as_typed_and_as_the_plugin_decodes_it()


def test_S8_control_where_a_thousand_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "MOST_SIGNATURES", 1_000)
    with pytest.raises(AssertionError):
        test_S8_of_a_thousand_signatures_ten_are_read(monkeypatch)


@pytest.mark.parametrize("name", ["shopify", "stripe"])
def test_S8_control_a_reader_that_takes_any_digest(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(signature, "_digest", lambda *_: [b"x" * 32])
    with pytest.raises(AssertionError):
        test_S8_what_is_malformed_is_refused_as_that(name, {"shopify": "!", "stripe": f"t={NOW},v1=zz"}[name])


def test_S3_any_v1_may_fit_and_v0_never_counts() -> None:
    good = stripe(at=NOW)
    stamp, _, digest = good.headers["Stripe-Signature"].partition(",")
    other = "v1=" + "0" * 64
    assert verdict(with_signature(good, f"{stamp},{other},{digest},v0={'1' * 64}")) == "ok"
    assert verdict(with_signature(good, f"{stamp},{digest.replace('v1', 'v0')}")) == "signature_malformed"
    assert verdict(with_signature(good, f"{stamp},{other},{digest.replace('v1', 'v0')}")) == "signature_invalid"


def test_S5_paddle_signs_stamp_and_body_with_a_colon_between_them_and_any_h1_may_fit() -> None:
    """As https://developer.paddle.com/webhooks/signature-verification has it; several h1 while a secret is changed."""
    good = paddle(at=NOW)
    stamp, _, digest = good.headers["Paddle-Signature"].partition(";")
    assert (stamp, digest[:3]) == (f"ts={NOW}", "h1=")
    assert verdict(with_signature(good, f"{stamp};h1={'0' * 64};{digest}")) == "ok"
    assert verdict(with_signature(good, f"{digest};{stamp}")) == "ok"
    for joined in (b"%d.", b"%d", b"%d;", b":%d"):
        made = hmac.new(SECRETS["paddle"].encode(), joined % NOW + good.body, hashlib.sha256).hexdigest()
        assert verdict(with_signature(good, f"{stamp};h1={made}")) == "signature_invalid"
    for other in (f"ts={NOW + 1};{digest}", f"{stamp};h1={'0' * 64}"):
        assert verdict(with_signature(good, other)) == "signature_invalid"
    for text in (f"{stamp},{digest}", f"t={NOW};{digest}", f"{stamp};{digest.replace('h1', 'v1')}", stamp, digest):
        assert verdict(with_signature(good, text)) == "signature_malformed"
    assert verdict(paddle(at=NOW - 301)) == "signature_expired"


def test_S5_control_signed_as_stripe_does_paddles_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = HOOKS["paddle"].scheme
    wrong = Scheme(**{f: getattr(scheme, f) for f in Scheme.__struct_fields__} | {"signed": "{timestamp}.{body}"})
    monkeypatch.setitem(HOOKS, "paddle", msgspec.structs.replace(HOOKS["paddle"], scheme=wrong))
    with pytest.raises(AssertionError):
        test_S5_paddle_signs_stamp_and_body_with_a_colon_between_them_and_any_h1_may_fit()


@pytest.mark.parametrize("seconds", [-301, 301, -86_400, 10**9])
def test_S7_a_stale_or_early_timestamp_is_refused(seconds: int) -> None:
    for message in (stripe(at=NOW + seconds), kiosk(at=NOW + seconds)):
        assert verdict(message) == "signature_expired"


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_S7_five_minutes_either_way_are_taken(seconds: int) -> None:
    assert verdict(stripe(at=NOW + seconds)) == "ok"


def test_S7_control_with_the_time_rule_off_a_replay_is_taken() -> None:
    hook, old = HOOKS["stripe"], stripe(at=NOW - 86_400)
    lax = Scheme(**{f: getattr(hook.scheme, f) for f in Scheme.__struct_fields__} | {"tolerance_seconds": 10**9})
    claimed = signature.claim(lax, pairs(old.headers), NOW)
    assert isinstance(claimed, Claim)
    assert signature.is_signed(lax, hook.keys, claimed, old.body)


HEX, B64 = "ab" * 32, b64encode(b"x" * 32).decode()
MALFORMED = {
    "shopify": ["", " ", "!", B64[:-1], B64[:-4], B64 * 2, B64.rstrip("="), HEX, B64[:-2] + "Z=", "é", "=" * 44, B64[:20] + "\n" + B64[20:]],
    "stripe": [
        *["", "t=", f"v1={HEX}", f"t=,v1={HEX}", f"t=-1,v1={HEX}", f"t=x,v1={HEX}", f"t={'9' * 400},v1={HEX}", f"t={NOW}"],
        *[f"t={NOW},v1=", f"t={NOW},v1={HEX[:-1]}", f"t={NOW},v1={HEX[:-2]}", f"t={NOW},v1={HEX}00", f"t={NOW},v1=zz{HEX[2:]}"],
        *[f"t={NOW},t={NOW},v1={HEX}", f"t={NOW}.5,v1={HEX}", f"t=\u0661,v1={HEX}".encode().decode("latin-1"), f"t={NOW},v1=aB{HEX[2:]}"],
        *[f"t={NOW};v1={HEX}", f"t= ,v1={HEX}", f"t=0x1,v1={HEX}", f"t=1e3,v1={HEX}", f"t={NOW},v1={HEX[:32]} {HEX[32:]}"],
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in MALFORMED.items() for t in texts])
def test_S8_what_is_malformed_is_refused_as_that(name: str, text: str) -> None:
    message = {"shopify": shopify(), "stripe": stripe(at=NOW)}[name]
    assert verdict(with_signature(message, text)) == "signature_malformed"


@pytest.mark.parametrize("message", ALL, ids=ids)
def test_S8_a_header_that_is_missing_or_comes_twice(message: Message) -> None:
    hook, name = HOOKS[message.name], header_of(message).lower().encode()
    headers = pairs(message.headers)
    assert signature.claim(hook.scheme, [h for h in headers if h[0] != name], NOW) == Refused("signature_missing")
    twice = [*headers, *[h for h in headers if h[0] == name]]
    assert signature.claim(hook.scheme, twice, NOW) == Refused("signature_malformed")


def test_S8_of_a_thousand_signatures_ten_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    good = stripe(at=NOW)
    stamp, _, digest = good.headers["Stripe-Signature"].partition(",")
    many = ",".join(["v1=" + "0" * 64] * 999)
    assert verdict(with_signature(good, f"{stamp},{digest},{many}")) == "ok"
    assert verdict(with_signature(good, f"{stamp},{many},{digest}")) == "signature_invalid"
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda *pair: bool(compared.append(pair)))
    verdict(with_signature(good, f"{stamp},{many}"))
    assert len(compared) == 10


@given(st.dictionaries(st.sampled_from(["stripe-signature", "x-kiosk-proof", "x-kiosk-time", "x-kiosk-id"]), st.binary(max_size=600)), st.binary(max_size=60))  # fmt: skip
@settings(max_examples=300)
def test_S8_whatever_the_headers_hold_the_answer_is_a_reason(headers: dict[str, bytes], body: bytes) -> None:
    for name in ("stripe", "kiosk"):
        given = [(key.encode(), value) for key, value in headers.items()]
        claimed = signature.claim(HOOKS[name].scheme, given, NOW)
        assert isinstance(claimed, Refused) or not signature.is_signed(
            HOOKS[name].scheme, HOOKS[name].keys, claimed, body
        )


def test_R14_any_of_four_secrets_may_fit_and_all_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    store = STORE.__class__(id="s", webhook_secrets={"shopify": ["one", SECRETS["shopify"], "three", "four"]})
    keys, compared = shops.hooks(store)["shopify"].keys, []
    true = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *pair: bool((compared.append(pair), true(*pair))[1]))
    assert verdict(shopify(), keys=keys) == "ok"
    assert len(compared) == 4
    assert b64decode(B64)

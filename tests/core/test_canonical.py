"""One person's spellings get one form for matching; what is no value gets none."""

from __future__ import annotations

import random
from hashlib import sha256

import phonenumbers
import pytest

from collector.core import canonical


@pytest.mark.parametrize(
    "written", ["Jane.Doe@gmail.com", " janedoe@googlemail.com ", "JANEDOE+shop@gmail.com", "j.a.n.e.d.o.e@GMAIL.com"]
)
def test_25_one_google_mailbox_has_one_form(written: str) -> None:
    assert canonical.email(written) == "janedoe@gmail.com"


def test_25_a_plus_tag_elsewhere_joins_only_under_the_weaker_key() -> None:
    assert canonical.email("jane+shop@web.de") == "jane+shop@web.de"
    assert canonical.base_of("jane+shop@web.de") == canonical.base_of("jane@web.de") == "jane@web.de"


def test_25_dots_count_at_other_providers() -> None:
    assert canonical.email("jane.doe@web.de") != canonical.email("janedoe@web.de")


def test_an_international_domain_has_its_ascii_form() -> None:
    assert canonical.email("JANE@MÜNCHEN.de") == "jane@xn--mnchen-3ya.de"


@pytest.mark.parametrize(
    "written",
    ["", "null", "undefined", "jane", "jane@", "@web.de", "a@b@c.de", "jane@localhost", "jane@1.2.3.4", ".j@web.de"],
)
def test_28_what_is_no_mailbox_has_no_form(written: str) -> None:
    assert canonical.email(written) is None


@pytest.mark.parametrize("written", ["test@test.com", "noreply@shop.de", "asdf@asdf.com", "x@y.invalid"])
def test_27_what_is_typed_to_get_past_a_form_has_no_form(written: str) -> None:
    assert canonical.email(written) is None


@pytest.mark.parametrize("plain", ["", "null", "undefined", "test@test.com"])
def test_28_the_digest_of_a_placeholder_is_missing(plain: str) -> None:
    digest = sha256(plain.encode()).hexdigest()
    assert canonical.email(digest) is canonical.phone(digest, "DE") is canonical.external_id(digest) is None


def test_a_value_that_was_hashed_keeps_its_digest() -> None:
    digest = sha256(b"jane@web.de").hexdigest()
    assert canonical.email(digest.upper()) == canonical.phone(digest, None) == f"sha256:{digest}"


def by_library(written: str) -> str | None:
    try:
        number = phonenumbers.parse(written, None)
    except phonenumbers.NumberParseException:
        return None
    e164: str = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return e164 if phonenumbers.is_possible_number(number) else None


@pytest.mark.parametrize("code", sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE))
def test_a_number_with_its_country_code_is_read_as_the_library_reads_it(code: int) -> None:
    dice = random.Random(code)
    for length in range(4, 14):
        for _ in range(5):
            local = "".join(dice.choices("0123456789", k=length))
            if len(set(local.lstrip("0"))) > 1 and local not in "12345678901234567890":
                for written in (f"+{code}{local}", f"+{code} ({local[:2]}) {local[2:4]}-{local[4:]}"):
                    assert canonical.phone(written, None) == by_library(written), written


@pytest.mark.parametrize(
    "written", ["+49 (0)170 1234567", "0170 1234567", "0049 170 1234567", "+49 170-123 45 67", "(0170) 1234567"]
)
def test_26_one_number_has_one_form_with_the_stores_country(written: str) -> None:
    assert canonical.phone(written, "de") == "+491701234567"


def test_26_an_italian_zero_belongs_to_the_number() -> None:
    assert canonical.phone("+39 06 69812345", None) == "+390669812345"


@pytest.mark.parametrize(
    ("written", "country"), [("0170 1234567", None), ("12", "DE"), ("0000000000", "US"), ("abc", "US")]
)
def test_a_number_without_a_country_is_not_guessed(written: str, country: str | None) -> None:
    assert canonical.phone(written, country) is None


@pytest.mark.parametrize(("written", "form"), [(" A17 ", "A17"), (42, "42"), (0, None), ("null", None), ("", None)])
def test_a_customer_id_keeps_its_case_and_placeholders_are_none(written: str | int, form: str | None) -> None:
    assert canonical.external_id(written) == form


def test_no_form_is_metas_form() -> None:
    """The two hash spaces never meet: Meta's normal form of a Google address keeps its dots."""
    assert canonical.email("jane.doe@gmail.com") != "jane.doe@gmail.com"

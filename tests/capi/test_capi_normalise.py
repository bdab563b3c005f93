"""Customer fields: Meta's own vectors, and the forms on which its SDKs disagree."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.core.capi.normalise import hash_customer
from collector.core.capi.phones import e164_digits
from collector.core.capi.regions import country_code
from collector.core.events import CustomerData

YEAR = 2026

# Meta's published vectors (customer-information-parameters): field, value, the store's country, key, SHA-256.
GOLDEN = [
    ("email", "John_Smith@gmail.com", None, "em", "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"),
    ("phone", "(650)555-1212", "US", "ph", "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"),
    ("first_name", "Mary", None, "fn", "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"),
    ("first_name", "정", None, "fn", "8fa8cd9c440be61d0151429310034083132b35975c4bea67fdd74158eb51db14"),
    ("first_name", "Valéry", None, "fn", "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c"),
    ("date_of_birth", "2/16/1997", None, "db", "01acdbf6ec7b4f478a225f1a246e5d6767eeab1a7ffa17f025265b5b94f40f0c"),
    ("country", "us", None, "country", "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621"),
]


@pytest.mark.parametrize(("field", "value", "country", "key", "digest"), GOLDEN)
def test_the_vectors_that_meta_publishes(field: str, value: str, country: str | None, key: str, digest: str) -> None:
    assert hash_customer(CustomerData(**{field: value}), country=country, this_year=YEAR).user_data == {key: [digest]}


# The forms before hashing, where SDKs differ; Meta's page decides; names of several words in both forms.
FORMS = [
    ("email", "a@b.c", None, "em", "a@b.c"),
    ("email", " JOSÉ@exämple.de ", None, "em", "josé@exämple.de"),
    ("email", "first.last+tag@gmail.com", None, "em", "first.last+tag@gmail.com"),
    ("phone", "+1 (616) 954-78 88", None, "ph", "16169547888"),
    ("phone", "0044 20 7946 0958", None, "ph", "442079460958"),
    ("phone", "+44 (0)20 7946 0958", None, "ph", "442079460958"),
    ("phone", "020 7946 0958", "GB", "ph", "442079460958"),
    ("phone", "650.555.1212", "US", "ph", "16505551212"),
    ("phone", "16505551212", "US", "ph", "16505551212"),
    ("phone", "442079460958", "US", "ph", "442079460958"),
    ("phone", "+39 06 1234567", None, "ph", "39061234567"),
    ("first_name", "O'Brien", None, "fn", "obrien"),
    ("first_name", "O’Brien", None, "fn", "obrien"),
    ("last_name", "Müller-Lüdenscheidt", None, "ln", "müllerlüdenscheidt"),
    ("city", "St. John's", None, "ct", "stjohns"),
    ("city", "Zürich", None, "ct", "zürich"),
    ("city", "New York", None, "ct", "newyork"),
    ("city", "東京", None, "ct", "東京"),
    ("state", "California", "US", "st", "ca"),
    ("state", "CA", "US", "st", "ca"),
    ("state", "US-CA", "US", "st", "ca"),
    ("state", "Île-de-France", "FR", "st", "îledefrance"),
    ("state", "Québec", "CA", "st", "qc"),
    ("zip_code", "94035-1234", "US", "zp", "94035"),
    ("zip_code", "940351234", "US", "zp", "94035"),
    ("zip_code", "940351234", "BR", "zp", "940351234"),
    ("zip_code", " M1 1AE ", "GB", "zp", "m11ae"),
    ("zip_code", "K1A-0B1", "CA", "zp", "k1a0b1"),
    ("country", "United States", None, "country", "us"),
    ("country", "usa", None, "country", "us"),
    ("country", "UK", None, "country", "gb"),
    ("country", "Germany", None, "country", "de"),
    ("gender", "Female", None, "ge", "f"),
    ("date_of_birth", "1997-02-16", None, "db", "19970216"),
    ("date_of_birth", "16/02/1997", None, "db", "19970216"),
    ("date_of_birth", "03/04/1990", "US", "db", "19900304"),
    ("date_of_birth", "03/04/1990", "DE", "db", "19900403"),
    ("date_of_birth", "03.04.1990", None, "db", "19900403"),
    ("external_id", "user-42", None, "external_id", "user-42"),
    ("external_id", 4711, None, "external_id", "4711"),
]


@pytest.mark.parametrize(("field", "value", "country", "key", "form"), FORMS)
def test_the_form_that_is_hashed(field: str, value: str, country: str | None, key: str, form: str) -> None:
    found = hash_customer(CustomerData(**{field: value}), country=country, this_year=YEAR)
    assert found.user_data == {key: [sha256(form.encode()).hexdigest()]}
    assert found.dropped == []


@pytest.mark.parametrize(
    ("field", "value", "country"),
    [
        ("email", "jo hn@x.com", None),
        ("email", "nobody", None),
        ("email", "5d41402abc4b2a76b9719d911017c592", None),  # an MD5 is not a SHA-256
        ("first_name", "5d41402abc4b2a76b9719d911017c592", None),
        ("phone", "12345", "US"),
        ("phone", "020 7946 0958", None),  # whose country? never guessed
        ("phone", "2079460958", None),
        ("country", "xx", None),
        ("country", "Atlantis", None),
        ("gender", "unknown", None),
        ("date_of_birth", "03/04/1990", None),  # March or April?
        ("date_of_birth", "1850-01-01", None),
        ("date_of_birth", "1997-13-01", None),
        ("first_name", "!!!", None),
    ],
)
def test_a_value_without_a_form_is_dropped_and_its_reason_does_not_repeat_it(
    field: str, value: str, country: str | None
) -> None:
    found = hash_customer(CustomerData(**{field: value}), country=country, this_year=YEAR)
    assert found.user_data == {}
    assert len(found.dropped) == 1
    assert value not in repr(found.dropped)


def test_one_bad_field_leaves_the_others() -> None:
    customer = CustomerData(email="not an address", first_name="Mary")
    found = hash_customer(customer, country=None, this_year=YEAR)
    assert list(found.user_data) == ["fn"]
    assert found.dropped == [("email", "not an e-mail address")]


def test_a_value_that_is_hashed_already_is_taken_as_such() -> None:
    digest = sha256(b"a@b.c").hexdigest()
    for given_hash in (digest, digest.upper(), f"{digest}.AQQCAQMC"):
        assert hash_customer(CustomerData(email=given_hash), country=None, this_year=YEAR).user_data == {"em": [digest]}


def test_lists_are_hashed_in_order_and_once_each() -> None:
    customer = CustomerData(email=["b@x.com", "a@x.com", "B@x.com", " "])
    digests = [sha256(text).hexdigest() for text in (b"b@x.com", b"a@x.com")]
    assert hash_customer(customer, country=None, this_year=YEAR).user_data == {"em": digests}


def test_an_external_id_in_mixed_case_is_sent_in_both_forms() -> None:
    digests = [sha256(text).hexdigest() for text in (b"User-42", b"user-42")]
    assert hash_customer(CustomerData(external_id=" User-42 "), country=None, this_year=YEAR).user_data == {
        "external_id": digests
    }


def test_the_customers_country_decides_before_the_stores() -> None:
    customer = CustomerData(phone="020 7946 0958", country="United Kingdom")
    expected = sha256(b"442079460958").hexdigest()
    assert hash_customer(customer, country="US", this_year=YEAR).user_data["ph"] == [expected]


def test_the_stores_country_is_not_sent_as_the_customers() -> None:
    assert "country" not in hash_customer(CustomerData(email="a@b.c"), country="US", this_year=YEAR).user_data


@given(st.text(max_size=60), st.sampled_from([None, "us", "gb", "de"]))
@example("01", "de")
def test_no_phone_text_raises_and_a_form_is_digits_only(text: str, country: str | None) -> None:
    digits = e164_digits(text, country)
    assert digits is None or (digits.isascii() and digits.isdigit() and 6 < len(digits) < 18)


@given(st.text(max_size=60))
def test_no_text_raises_and_nothing_but_hashes_comes_out(text: str) -> None:
    fields = ("email", "phone", "first_name", "city", "state", "zip_code", "country", "date_of_birth", "gender")
    found = hash_customer(CustomerData(**dict.fromkeys(fields, text), external_id=text), country="US", this_year=YEAR)
    for hashes in found.user_data.values():
        assert hashes
        assert all(len(h) == 64 and set(h) <= set("0123456789abcdef") for h in hashes)


def test_countries_by_code_name_and_habit() -> None:
    assert [country_code(t) for t in ("DE", "deu", "Deutschland", "South Korea", "England", "zz")] == [
        "de",
        "de",
        "de",
        "kr",
        "gb",
        None,
    ]

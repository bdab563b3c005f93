"""Whose hash is sent: the person's own forms in full, never a guess, never nobody's."""

from __future__ import annotations

import random
from hashlib import md5, sha1, sha256

import phonenumbers
import pytest

from collector.core import canonical
from collector.core.capi import forms, normalise
from collector.core.capi.normalise import HashedCustomer, hash_customer
from collector.core.capi.phones import e164_digits, e164_readings
from collector.core.capi.regions import country_code, fold
from collector.core.events import CustomerData
from tests.kit.cldr import text as cldr_text

YEAR = 2026


def digest(form: str) -> str:
    return sha256(form.encode()).hexdigest()


def hashed(store: str | None = "US", **fields: object) -> HashedCustomer:
    return hash_customer(CustomerData(**fields), country=store, this_year=YEAR)  # type: ignore[arg-type]


def forms_of(key: str, *expected: str, store: str | None = "US", **fields: object) -> None:
    assert hashed(store, **fields).user_data.get(key, []) == [digest(form) for form in expected]


# --- phones

# As Meta's own normal form has it (digits with the country code), for a store or customer of that country.
GERMAN = [
    ("4915123456789", "4915123456789"),
    ("49 151 23456789", "4915123456789"),
    ("49 (0)151 23456789", "4915123456789"),
    ("491716783154", "491716783154"),
    ("49(0)345279580", "49345279580"),
    ("49-160-1234567", "491601234567"),
    ("0151 23456789", "4915123456789"),
    ("(0151) 23456789", "4915123456789"),
    ("151 23456789", "4915123456789"),
    ("+49 (0) 151/234-567 89", "4915123456789"),
    ("0049 151 23456789", "4915123456789"),
    ("+0049 151 23456789", "4915123456789"),
    ("tel:+49-151-23456789", "4915123456789"),
    ("＋４９ １５１ ２３４５６７８９", "4915123456789"),
    ("\u200b+49 151 23456789\ufeff", "4915123456789"),
    ("4915123456789.0", "4915123456789"),
    ("15123456789.00", "4915123456789"),
    ("+49-0151-23456789", "4915123456789"),
    ("49/0151/23456789", "4915123456789"),
    ("Tel. 0151 23456789", "4915123456789"),
    ("0151\u00a023456789", "4915123456789"),
    ("'+4915123456789", "4915123456789"),
    ("++49 151 23456789", "4915123456789"),
    ("1-650-555-1212", "16505551212"),
    ("1 (650) 555-1212", "16505551212"),
    ("01(650)555-1212", "16505551212"),
]


@pytest.mark.parametrize(("written", "digits"), GERMAN)
def test_a_country_code_that_is_written_is_not_put_before_the_number_again(written: str, digits: str) -> None:
    forms_of("ph", digits, store="US", phone=written, country="DE")
    forms_of("ph", digits, store="DE", phone=written)
    assert canonical.phone(written.strip("\u200b\ufeff"), "DE") == f"+{digits}"


@pytest.mark.parametrize("country", ["DE", "FR", "MX", "GB", "NL", "PL", "IT"])
def test_a_number_of_another_country_in_digits_is_taken_as_it_stands(country: str) -> None:
    forms_of("ph", "16505551212", store=country, phone="1-650-555-1212")


@pytest.mark.parametrize("written", ["+001 (616) 954-7888", "001 616 954 7888", "+1 616 954 7888", "000016169547888"])
def test_zeros_before_a_country_code_are_dialled_and_no_part_of_it(written: str) -> None:
    assert e164_digits(written, None) == "16169547888"
    assert e164_digits("01(650)123-4567", "us") == "16501234567"


@pytest.mark.parametrize(
    ("written", "country", "readings"),
    [
        ("49345279580", "de", ["49345279580", "4949345279580"]),  # Halle, or Dornum
        ("468123456", "se", ["468123456", "46468123456"]),
        ("33612345678", "de", ["33612345678", "4933612345678"]),  # a French mobile, or one in Brandenburg
        ("6265551234", "us", ["16265551234"]),  # at home nobody writes a trunk prefix: one reading
        ("15123456789", "de", ["4915123456789"]),  # a mobile number at home
    ],
)
def test_where_two_readings_are_possible_both_are_sent(written: str, country: str, readings: list[str]) -> None:
    assert list(e164_readings(written, country)) == readings
    forms_of("ph", *readings, store=country, phone=written)


@pytest.mark.parametrize(
    ("written", "readings"),
    [
        ("52 1 55 1234 5678", ["5215512345678", "525512345678"]),
        ("+52 1 55 1234 5678", ["5215512345678", "525512345678"]),
        ("044 55 1234 5678", ["525512345678", "5215512345678"]),
        ("045 55 1234 5678", ["525512345678", "5215512345678"]),
        ("01 (55) 1234-5678", ["525512345678", "5215512345678"]),
        ("55 1234 5678", ["525512345678"]),
        ("52 55 1234 5678", ["525512345678"]),
        ("+1 551 234 5678", ["15512345678"]),
    ],
)
def test_a_mexican_number_as_it_was_dialled_until_2019_is_no_number_of_another_country(
    written: str, readings: list[str]
) -> None:
    forms_of("ph", *readings, store="MX", phone=written)
    if len(readings) > 1:
        assert canonical.phone(written, "MX") == "+525512345678" == canonical.phone("55 1234 5678", "MX")


@pytest.mark.parametrize("written", ["+54 11 15 2345 6789", "54 11 15 2345-6789", "011 15 2345 6789", "+5491123456789"])
def test_an_argentine_mobile_has_its_9(written: str) -> None:
    forms_of("ph", "5491123456789", store="AR", phone=written)


@pytest.mark.parametrize(
    ("written", "country"),
    [
        ("020 7946 0958", None),
        ("16505551212", None),
        ("12345", "us"),
        ("0000000000", "us"),
        ("+49 0000000", None),
        ("1111111111", "us"),
        ("1234567890", "us"),
        ("null", "us"),
        ("+", "us"),
    ],
)
def test_a_number_that_cannot_be_known_is_no_number(written: str, country: str | None) -> None:
    assert not e164_readings(written, country)


# Europe, the Americas, Asia and the Pacific, Africa and the Middle East: 65 markets.
MARKETS = (
    "DE FR GB IT ES NL BE AT CH PL CZ SK HU RO BG HR SI GR PT IE DK SE NO FI EE LV LT UA RS TR "
    "US CA MX BR AR CL CO PE EC UY DO CR GT "
    "JP KR CN TW HK SG MY TH VN ID PH IN PK BD AU NZ "
    "ZA NG KE EG MA IL AE SA"
).split()


def _mobiles(region: str, dice: random.Random, many: int) -> list[str]:
    """National numbers of mobiles that the library takes for valid, drawn around its example."""
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    code, national = example.country_code, str(example.national_number)
    found: list[str] = []
    while len(found) < many:
        drawn = national[:2] + "".join(dice.choices("0123456789", k=len(national) - 2))
        number = phonenumbers.parse(f"+{code}{drawn}", None)
        kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
        if phonenumbers.number_type(number) in kinds and phonenumbers.region_code_for_number(number) == region:
            found.append(f"{code}{drawn}")
    return found


@pytest.mark.parametrize("region", MARKETS)
def test_mobiles_of_a_market_in_every_way_of_writing(region: str) -> None:
    for digits in _mobiles(region, random.Random(region), 12):
        number = phonenumbers.parse(f"+{digits}", None)
        national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        international = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
        for written in (digits, f"+{digits}", f"00{digits}", international, national, international[1:]):
            assert list(e164_readings(written, region.lower())) == [digits], written


def test_the_librarys_examples_of_every_region_are_read_as_they_are() -> None:
    wrong, seen = [], 0
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE):
            example = phonenumbers.example_number_for_type(region, kind)
            if example is None:
                continue
            digits = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)[1:]
            seen += 1
            readings = e164_readings(digits, region.lower())
            if not readings or readings[0] != digits:
                wrong.append((region, digits, readings))
    assert seen > 480
    assert wrong == []


def test_the_check_of_readings_sees_a_doubled_country_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with the reading at home alone, as the library gives it, the German mobile is another number."""
    monkeypatch.setattr("collector.core.capi.phones._either", _at_home_only)
    e164_readings.cache_clear()
    assert e164_digits("4915123456789", "de") == "494915123456789"
    e164_readings.cache_clear()


def _at_home_only(home: object, *_: object, **__: object) -> list[str]:
    return [phonenumbers.format_number(home, phonenumbers.PhoneNumberFormat.E164)[1:]]


# --- names


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Ana María", ("ana maría", "anamaría")),
        ("García Márquez", ("garcía márquez", "garcíamárquez")),
        ("  Anna  Maria ", ("anna maria", "annamaria")),
        ("van der Berg", ("van der berg", "vanderberg")),
        ("Nguyễn Thị Minh", ("nguyễn thị minh", "nguyễnthịminh")),
        ("Anna\u00a0Maria", ("anna maria", "annamaria")),
        ("Smith, John", ("smith john", "smithjohn")),
        ("a b", ("a b", "ab")),
        ("محمد علي", ("محمد علي", "محمدعلي")),
        ("O'Brien", ("obrien",)),
        ("Mary-Jane", ("maryjane",)),
        ("Anna - Maria", ("anna maria", "annamaria")),
        ("d&#39;Angelo", ("dangelo",)),
        ("Jos&eacute;", ("josé",)),
        ("Jos%C3%A9", ("josé",)),
        ("Jos%C3%A9+Luis", ("josé luis", "joséluis")),
        ("Ana%20Mar%C3%ADa", ("ana maría", "anamaría")),
        ("100%", ("100",)),
        ("Zo\u0065\u0301", ("zoé",)),  # decomposed
        ("\ufb01ona", ("\ufb01ona",)),  # a ligature keeps its form, as in Meta's SDK
        ("ｱﾝﾅ", ("ｱﾝﾅ",)),  # and so does half-width kana
        ("李 小明", ("李 小明", "李小明")),
        ("Na", ("na",)),
    ],
)
def test_names_of_several_words_are_sent_with_their_spaces_and_without(written: str, expected: tuple[str, ...]) -> None:
    forms_of("fn", *expected, first_name=written)
    forms_of("ln", *expected, last_name=written)


def test_the_name_that_the_pixel_sent_for_two_letters() -> None:
    """stape-io ConversionsAPI-Tag-for-GoogleTagManager#24: what Meta's pixel made of "a b"."""
    pixel = "c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65"
    assert hashed(first_name="a b").user_data["fn"][0] == pixel


@pytest.mark.parametrize(
    ("written", "form"),
    [("San José", "sanjosé"), ("Saint&#45;Denis", "saintdenis"), ("Z%C3%BCrich", "zürich"), ("St. John's", "stjohns")],
)
def test_a_citys_name_has_no_spaces(written: str, form: str) -> None:
    forms_of("ct", form, city=written)


# --- countries

NAMES = {
    "mo": ["Macau", "Macao", "Macau SAR", "澳門"],
    "tl": ["East Timor", "Timor-Leste"],
    "uz": ["O‘zbekiston", "O'zbekiston", "Oʻzbekiston"],
    "al": ["Shqipëria", "Shqipëri", "Albania"],
    "at": ["Österreich", "Oesterreich", "Austria"],
    "nl": ["Nederland", "The Netherlands", "Netherlands", "Holland", "NLD", "Niederlande", "Pays-Bas"],
    "ro": ["România", "Romania", "Rumänien"],
    "cz": ["Česko", "Czech Republic", "Czechia", "Tschechien", "Česká republika"],
    "sk": ["Slovensko", "Slovenská republika", "Slovakia (Slovak Republic)"],
    "hu": ["Magyarország"],
    "hr": ["Hrvatska"],
    "bg": ["България"],
    "ua": ["Україна"],
    "ru": ["Россия", "Российская Федерация", "Russian Federation", "Russia"],
    "gr": ["Ελλάδα"],
    "jp": ["日本"],
    "cn": ["中国", "中國", "China", "People's Republic of China"],
    "kr": ["대한민국", "Republic of Korea", "South Korea", "Korea, Republic of"],
    "kp": ["North Korea", "Korea, Democratic People's Republic Of"],
    "tt": ["Trinidad & Tobago", "Trinidad &amp; Tobago", "Trinidad and Tobago"],
    "lc": ["St. Lucia", "Saint Lucia"],
    "ci": ["Cote d'Ivoire", "Côte d’Ivoire", "Ivory Coast"],
    "va": ["Vatican", "Holy See (Vatican City State)", "Vatican City", "Vatican City State"],
    "fm": ["Micronesia", "Micronesia, Federated States of"],
    "cd": ["Democratic Republic of the Congo", "Congo (Kinshasa)", "Congo, The Democratic Republic Of The"],
    "cg": ["Congo (Brazzaville)", "Republic of the Congo"],
    "us": ["United States (US)", "USA", "U.S.A.", "United States of America", "Vereinigte Staaten"],
    "gb": ["United Kingdom (UK)", "UK", "GB", "England", "Great Britain", "Royaume-Uni", "Großbritannien"],
    "pw": ["Belau"],
    "sx": ["Saint Martin (Dutch part)", "Sint Maarten"],
    "mf": ["Saint Martin (French part)"],
    "vg": ["Virgin Islands (British)", "Virgin Islands, British"],
    "vi": ["Virgin Islands (US)"],
    "um": ["United States (US) Minor Outlying Islands"],
    "bq": ["Bonaire, Saint Eustatius and Saba"],
    "ps": ["Palestinian Territory", "Palestinian Territory, Occupied"],
    "de": ["Deutschland", "Duitsland", "Allemagne", "de", " DE ", "DEU"],
    "th": ["ไทย", "ประเทศไทย"],
    "ae": ["UAE", "U.A.E.", "الإمارات"],
    "il": ["ישראל"],
    "sa": ["السعودية"],
    "xk": ["Kosovo"],
    "tr": ["Türkiye", "Turkey"],
}


@pytest.mark.parametrize(("code", "written"), [(code, name) for code, names in NAMES.items() for name in names])
def test_a_country_is_known_by_the_names_that_people_and_shops_print(code: str, written: str) -> None:
    forms_of("country", code, country=written)


def test_the_names_are_those_of_cldr() -> None:
    from importlib.resources import files

    kept = files("collector.core.capi").joinpath("assets/territories.txt").read_text("utf-8")
    assert kept == cldr_text(), "python -m tests.kit.cldr makes it anew"


def test_every_name_of_a_country_means_that_country() -> None:
    """Its own names and those of thirty-nine languages; a name that two countries share means neither but its own."""
    for line in cldr_text().splitlines()[1:]:
        code, *names = line.split("\t")
        assert {country_code(name) for name in names} <= {code, *(_aliased(name) for name in names)}


def _aliased(folded: str) -> str | None:
    """ISO's own English names and the shops' labels come first: Congo is the one of Brazzaville."""
    from collector.core.capi.regions import _iso

    return _iso().get(folded)


@pytest.mark.parametrize("written", ["xx", "Atlantis", "zz", "Europe", "EU", "12"])
@pytest.mark.parametrize("store", ["US", "DE"])
def test_a_country_that_is_not_understood_is_not_replaced_by_the_stores(written: str, store: str) -> None:
    found = hashed(store, country=written, phone="0612345678", date_of_birth="3/4/1990")
    assert found.user_data == {}
    assert [field for field, _ in found.dropped] == ["phone", "dateOfBirth", "country"]
    forms_of("ph", "31612345678", store=store, country=written, phone="+31 612345678")


@pytest.mark.parametrize(
    ("country", "phone", "digits"),
    [
        ("Nederland", "0612345678", "31612345678"),
        ("România", "0712345678", "40712345678"),
        ("Česko", "601123456", "420601123456"),
        ("United Kingdom (UK)", "07911123456", "447911123456"),
        ("Magyarország", "06 20 123 4567", "36201234567"),
    ],
)
def test_a_national_number_is_the_customers_countrys(country: str, phone: str, digits: str) -> None:
    forms_of("ph", digits, store="DE", country=country, phone=phone)


@pytest.mark.parametrize("absent", [None, "", "  ", "null", "undefined", "N/A", "{{country}}"])
def test_only_where_no_country_was_given_the_stores_stands_in_and_is_not_sent(absent: str | None) -> None:
    found = hashed("DE", country=absent, phone="0151 23456789", date_of_birth="3/4/1990")
    assert found.user_data == {"ph": [digest("4915123456789")], "db": [digest("19900403")]}


def test_a_country_that_came_hashed_is_known_by_its_hash() -> None:
    forms_of("ph", "31612345678", store="DE", country=digest("nl"), phone="0612345678")
    forms_of("ph", store="DE", country=digest("atlantis"), phone="0612345678")


@pytest.mark.parametrize(
    ("written", "store", "country", "form"),
    [
        ("Ontario", "US", None, "on"),
        ("Ontario", None, None, "on"),
        ("Ontario", "CA", None, "on"),
        ("Québec", "US", None, "qc"),
        ("California", "CA", None, "ca"),
        ("Texas", None, None, "tx"),
        ("Ontario", "US", "US", "ontario"),
        ("Florida", "UY", None, "florida"),  # a department of Uruguay
        ("Armed Forces Europe", "US", None, "ae"),
        ("Armed Forces (AE)", "US", "US", "ae"),
        ("Armed Forces Pacific", "US", None, "ap"),
        ("Armed Forces Americas", "US", "US", "aa"),
        ("AE", "US", "US", "ae"),
        ("Washington, D.C.", "US", "US", "dc"),
        ("Newfoundland & Labrador", "CA", "CA", "nl"),
        ("US-CA", "US", None, "ca"),
        ("Île-de-France", "US", "FR", "îledefrance"),
    ],
)
def test_states_have_their_code_also_where_only_the_stores_country_is_known(
    written: str, store: str | None, country: str | None, form: str
) -> None:
    forms_of("st", form, store=store, state=written, country=country)


# --- dates


@pytest.mark.parametrize(
    "written",
    ["1997-02-31", "19970230", "2027-01-01", "2099-01-01", "199702", "1997216",
     "1899-12-31", "1997-00-10", "29.02.1997",
     "1900-02-29", "1997-13-01", "1997/02-16", "0000-00-00", "1997"],
)  # fmt: skip
def test_a_date_that_does_not_exist_is_nobodys_birthday(written: str) -> None:
    assert hashed(date_of_birth=written).user_data == {}


@pytest.mark.parametrize(
    "written",
    ["1997-02-16", "1997-02-16 00:00:00", "1997-02-16T00:00:00Z",
     "1997-02-16 00:00:00.000000", "1997-02-16 00:00:00+00",
     "19970216", "19970216.0", "１９９７-02-16", "1997–02–16", "2/16/1997 12:00:00 AM",
     "1997/2/16", "16.02.1997", "16.02.1997 00:00", "2/16/1997"],
)  # fmt: skip
def test_a_date_is_read_with_its_time_of_day(written: str) -> None:
    forms_of("db", "19970216", date_of_birth=written)


def test_the_years_are_1900_to_the_current_one() -> None:
    forms_of("db", "19000101", date_of_birth="1900-01-01")
    forms_of("db", "20260101", date_of_birth="2026-01-01")
    forms_of("db", "20000229", date_of_birth="2000-02-29")


# --- e-mails and gender


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("mailto:jo@example.com", "jo@example.com"),
        ("MAILTO:Jo@example.com?subject=Hi", "jo@example.com"),
        ("\ufeffjo@example.com\u200b", "jo@example.com"),
        ("jo\u200b@example.com", "jo@example.com"),
        ("Jo <jo@example.com>", "jo@example.com"),
        ('"Smith, Jo" <Jo.Smith@Example.com>', "jo.smith@example.com"),
        ("<jo@example.com>", "jo@example.com"),
        ("'jo@example.com'", "jo@example.com"),
        ("jo@example.com,", "jo@example.com"),
        ("jo%40example.com", "jo@example.com"),
        ("jo&#64;example.com", "jo@example.com"),
        ("jo+tag%40example.com", "jo+tag@example.com"),
        ("o'brien@example.com", "o'brien@example.com"),
        ("jo@xn--mnchen-3ya.de", "jo@xn--mnchen-3ya.de"),
        ("jo@münchen.de", "jo@münchen.de"),
        ("first.last+tag@sub.example-domain.co.uk", "first.last+tag@sub.example-domain.co.uk"),
    ],
)
def test_an_address_is_read_out_of_what_stands_around_it(written: str, form: str) -> None:
    forms_of("em", form, email=written)


@pytest.mark.parametrize(
    "written",
    ["test@example", "a@b..com", "!@#$%^&*()", "a@.com", "a@b.com.", "jo@-example.com", "jo@exam_ple.com", "jo@1.2.3.4",
     "user@@example.com", "a@b@c.com", "user name@example.com", "@example.com", "user@", "undefined", "null", "<>",
     "mailto:", "Jo <>", "jo@example.123"],
)  # fmt: skip
def test_what_meta_takes_for_no_address_is_none(written: str) -> None:
    if written == "a@b.com.":
        forms_of("em", "a@b.com", email=written)  # the end of a sentence
        return
    assert hashed(email=written).user_data == {}


# The words of Meta's param builder (its genderUtil tests), and how shops' forms write them.
@pytest.mark.parametrize(
    ("written", "form"),
    [(word, "f") for word in ("Mrs", "Mrs.", "lady", "Girl", "  Woman ", "Ms.", "mother", "her", "Frau", "FEMALE")]
    + [(word, "m") for word in ("Mr", "Mr.", "Boy", "sir", "gentleman", "father", "his", "Herr", "M", "männlich")],
)  # fmt: skip
def test_words_for_f_and_m(written: str, form: str) -> None:
    forms_of("ge", form, gender=written)


@pytest.mark.parametrize("written", ["unknown", "x", "divers", "0", "not specified", "mf"])
def test_other_words_for_gender_are_left_out(written: str) -> None:
    assert hashed(gender=written).user_data == {}


# --- nobody

NOBODY = ["0", 0, "undefined", "null", "NULL", "None", "N/A", "n.a.", "{{id}}", "${id}", "[object Object]", "{% id %}",
          "%id%", "__ID__", "nan", "-1", "guest", " ", "", "-", "(not set)", "00", "0.0", "0-0", "{}", "[]", "?",
          "(none)", "null,null", "undefined undefined", "%%ID%%", "[[id]]", "#{id}", "not logged in",
          "00000000-0000-0000-0000-000000000000", "0" * 64, "guest_0"]  # fmt: skip


@pytest.mark.parametrize("value", NOBODY)
def test_an_id_that_is_nobodys_is_never_a_key(value: str | int) -> None:
    found = hashed(external_id=value, email="jo@example.com")
    assert list(found.user_data) == ["em"]
    assert [field for field, _ in found.dropped] == (["externalId"] if str(value).strip() else [])


@pytest.mark.parametrize("field", ["first_name", "last_name", "city", "zip_code", "state", "email", "phone"])
@pytest.mark.parametrize(
    "value",
    ["undefined", "null", "None", "n.a.", "N/A", "{{city}}", "[object Object]", "NaN", "undefined undefined",
     "N/A, N/A", "null null", "[[city]]", "Not specified"],
)  # fmt: skip
def test_a_placeholder_is_nobodys_name_and_no_place(field: str, value: str) -> None:
    found = hashed(**{field: value})
    assert found.user_data == {}
    assert len(found.dropped) == 1


@pytest.mark.parametrize("field", ["first_name", "last_name", "city", "state"])
@pytest.mark.parametrize("written", ["jo@example.com", "Jo <jo@example.com>", "jo%40example.com"])
def test_an_address_is_no_name(field: str, written: str) -> None:
    assert hashed(**{field: written}).user_data == {}


@pytest.mark.parametrize("field", ["city", "state", "zip_code"])
@pytest.mark.parametrize("written", ["0", "00000", "00000-0000", "000"])
def test_zeros_are_no_place(field: str, written: str) -> None:
    assert hashed(**{field: written}).user_data == {}


@pytest.mark.parametrize(
    ("written", "country", "form"),
    [
        ("94035.0", "US", "94035"), ("94035.0", None, "94035"), ("１００－０００１", "JP", "1000001"),
        ("〒100-0001", "JP", "1000001"), ("01067", "DE", "01067"), ("10000", "DE", "10000"), ("0150", "NO", "0150"),
    ],
)  # fmt: skip
def test_a_postal_code_is_read_out_of_a_table_and_of_full_width(written: str, country: str | None, form: str) -> None:
    forms_of("zp", form, zip_code=written, country=country)


@pytest.mark.parametrize("value", ["test-1", "customer_5", "0a", "a0", "00x1", "null-1", "1", "10", "guest_7"])
def test_an_id_that_looks_a_little_like_nobodys_is_somebodys(value: str) -> None:
    forms_of("external_id", value, external_id=value)
    assert canonical.external_id(value) == value


@pytest.mark.parametrize("value", NOBODY)
def test_what_is_nobodys_for_meta_is_nobodys_for_matching(value: str | int) -> None:
    assert canonical.external_id(value) is canonical.visitor_id(str(value)) is canonical.phone(str(value), "US") is None


FIELDS = ["email", "phone", "first_name", "last_name", "city", "state", "country", "zip_code", "date_of_birth",
          "gender", "external_id"]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("nothing", ["", " ", "null", "undefined", "None", "NaN", "0", "n/a", "[object Object]"])
def test_the_hash_of_nothing_is_nobodys_in_every_field(field: str, nothing: str) -> None:
    for given in (digest(nothing), digest(nothing).upper(), f"{digest(nothing)}.AQQCAQMC"):
        found = hashed(**{field: given})
        assert found.user_data == {}
        assert len(found.dropped) == 1


@pytest.mark.parametrize("algorithm", [md5, sha1])
def test_another_hash_of_nothing_is_no_id(algorithm: object) -> None:
    assert hashed(external_id=algorithm(b"").hexdigest()).user_data == {}  # type: ignore[operator]
    assert hashed(external_id=algorithm(b"4711").hexdigest()).user_data != {}  # type: ignore[operator]


def test_the_checks_of_nobody_see_what_is_sent_without_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(normalise.nobody, "is_no_id", lambda text: False)
    monkeypatch.setattr(normalise.nobody, "HASHES", frozenset())
    monkeypatch.setattr(forms, "NOTHING", frozenset())
    monkeypatch.setattr(forms, "is_nothing", lambda text: False)
    found = hashed(external_id="0", city="undefined", email=digest(""))
    assert sorted(found.user_data) == ["ct", "em", "external_id"]


def test_folding_keeps_what_tells_countries_apart() -> None:
    assert fold("Trinidad & Tobago") == fold("Trinidad and Tobago")
    assert fold("Niger") != fold("Nigeria")
    assert fold("Guinea-Bissau") != fold("Guinea")

"""Public vectors of what others send to Meta: each agrees with ours, or a line says why not.

PB: Meta's capi-param-builder, pairs of its own tests (facebook/capi-param-builder b0b6f0b, php and nodejs tests).
SEG: Segment's destination (segmentio/action-destinations, fb-capi-user-data.test.ts), SHA-256 and forms.
WOO: Meta's plugin for WooCommerce (facebook-for-woocommerce, tests/Unit/Events/NormalizerTest.php).
PIXEL: what Meta's own pixel sent (stape-io/ConversionsAPI-Tag-for-GoogleTagManager#24).
DOC: Meta's page of customer information parameters.
Values are of a shop in the United States unless the customer says otherwise.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

import pytest

from collector.core.capi.normalise import hash_customer
from collector.core.events import CustomerData

FIELDS = {
    "em": "email", "ph": "phone", "fn": "first_name", "ln": "last_name", "db": "date_of_birth", "ge": "gender",
    "ct": "city", "st": "state", "zp": "zip_code", "country": "country", "external_id": "external_id",
}  # fmt: skip

# Key; pairs of what is written and its form before hashing ("" where the source takes it for nothing).
PB: dict[str, list[tuple[str, str]]] = {
    "em": [
        ("     John_Smith@gmail.com    ", "john_smith@gmail.com"),
        ("    SomeOne@domain.com  ", "someone@domain.com"),
        ("Test.User@Example.COM", "test.user@example.com"),
        ("User123@Example123.COM", "user123@example123.com"),
        ("User+Tag@Example.COM", "user+tag@example.com"),
        ("First.Last@Sub.Domain.COM", "first.last@sub.domain.com"),
        ("User-Name@Example-Domain.COM", "user-name@example-domain.com"),
        ("  Test.User+Tag123@Sub-Domain.Example.COM  ", "test.user+tag123@sub-domain.example.com"),
        ("invalid-email", ""), ("userexample.com", ""), ("user@", ""), ("@example.com", ""), ("", ""), ("   ", ""),
        ("User_Name@Example_Domain.COM", ""), ("user@@example.com", ""), ("user name@example.com", ""),
        ('"test user"@example.com', ""), ("User@Example.中国", ""), ("a@b..com", ""), ("test@example", ""),
        ("!@#$%^&*()", ""),
    ],
    "ph": [
        ("+1 (616) 954-78 88", "16169547888"), ("1(650)123-4567", "16501234567"),
        ("+001 (616) 954-78 88", "16169547888"),
        ("01(650)123-4567", "16501234567"), ("  4792813113", "4792813113"), ("  3227352263", "3227352263"),
        ("(555) 123-4567", "5551234567"), ("555-123-4567", "5551234567"), ("+1 (555) 123-4567", "15551234567"),
        ("+15551234567", "15551234567"), ("0015551234567", "15551234567"), ("0000015551234567", "15551234567"),
        ("05551234567", "5551234567"), ("+1-(555)-123-4567 ext. 123", "15551234567123"),
        ("+44 20 1234 5678", "442012345678"), ("()- +.", ""), ("0000", ""), ("000123", "123"),
        ("1-800-FLOWERS", "1800"), ("+1-555-123-4567-890-123-456-789", "15551234567890123456789"), ("5", "5"),
    ],
    "fn": [
        ("John", "john"), ("    Na'than-Boile    ", "nathanboile"), ("정", "정"), ("Valéry", "valéry"), ("Doe", "doe"),
        ("    Doe-Doe    ", "doedoe"), ("John Smith", "johnsmith"), ("JoHn SmItH", "johnsmith"),
        ("John    Smith", "johnsmith"), ("John\tSmith", "johnsmith"), ("John\nSmith", "johnsmith"),
        ("Mary-Jane", "maryjane"), ("O'Connor", "oconnor"), ("John.Smith", "johnsmith"), ("Smith, John", "smithjohn"),
        ("O'Brien-Smith, Jr.", "obriensmithjr"), ("John (Johnny) Smith", "johnjohnnysmith"),
        ("John [Jack] Smith", "johnjacksmith"), ("John@#$%Smith", "johnsmith"), ("John2Smith3", "john2smith3"),
        ("José María", "josémaría"), ("François Müller", "françoismüller"), ("李小明", "李小明"),
        ("محمد علي", "محمدعلي"), ("", ""), ("   ", ""), ("!@#$%^&*()", ""), ("John_Smith", "johnsmith"),
        ("John/Jane Smith", "johnjanesmith"), ("John:Smith", "johnsmith"), ('"John Smith"', "johnsmith"),
        ("`John Smith`", "johnsmith"),
    ],
    "ct": [
        ("London", "london"), ("Menlo Park", "menlopark"), ("    Menlo-Park  ", "menlopark"), ("CHICAGO", "chicago"),
        ("Salt    Lake    City", "saltlakecity"), ("New\tOrleans", "neworleans"), ("San\nDiego", "sandiego"),
        ("Winston-Salem", "winstonsalem"), ("Coeur d'Alene", "coeurdalene"), ("St. Louis", "stlouis"),
        ("City, State", "citystate"), ("St. Mary's-on-the-Hill", "stmarysonthehill"),
        ("City (Township)", "citytownship"),
        ("City@#$%Name", "cityname"), ("Area51City", "area51city"), ("São Paulo", "sopaulo"), ("München", "mnchen"),
        ("Montréal", "montral"), ("", ""), ("!@#$%^&*()", ""), ("---...___", ""),
        ("Minneapolis/St. Paul", "minneapolisstpaul"),
        ("{City Name}", "cityname"), ("City|Name", "cityname"), ("City~Name", "cityname"),
    ],
    "st": [
        ("    California.   ", "ca"), ("CA", "ca"), ("    C/a/lifo,rnia.  ", "ca"), ("TEXAS", "tx"),
        ("  New York  ", "ny"),
        ("New\nYork", "ny"), ("New-York", "ny"), ("N.Y.", "ny"), ("C@A#$%", "ca"), ("XX", "xx"), ("Ontario", "on"),
        ("Newfoundland and Labrador", "nl"), ("British Columbia", "bc"), ("InvalidState", "in"),
        ("SomeRandomLongStateName", "so"), ("", ""), ("!@#$%^&*()", ""), ("123", ""), ("123CA", "ca"),
        ("Québec", "qu"),
        ("加州", ""), ("CAL", "ca"), ("C.A.L.I.F.O.R.N.I.A.", "ca"), ("(CA)", "ca"), ('"California"', "ca"),
        ("CA/NY", "ca"),
    ],
    "zp": [
        ("  37221", "37221"), ("37221-3312", "37221"), ("12345-6789", "12345"), ("\t12345\t", "12345"),
        ("K1A 0A6", "k1a 0a6"), ("SW1A 1AA", "sw1a 1aa"), ("ABC123", "abc123"), ("ABC-123", "abc"),
        ("100-0001", "100"),
        ("NL-1234AB", "nl"), ("12345@#$", "12345@#$"), ("", ""), ("---", ""), ("A", ""), ("110001", "110001"),
        ("12345-6789-0123", "12345"), ("1234567890", "1234567890"), ("0150", "0150"),
    ],
    "country": [
        ("       United States       ", "us"), ("US", "us"), ("GERMANY", "de"), ("United\tStates", "us"),
        ("United-States", "us"), ("United_States", "us"), ("U.S.A.", "us"), ("(US)", "us"), ('"United States"', "us"),
        ("{United States}", "us"), ("France   ", "fr"), ("Bosnia and Herzegovina", "ba"), ("Ivory Coast", "ci"),
        ("Democratic Republic of the Congo", "cd"), ("Congo", "cg"), ("Palestine", "ps"), ("Turkey", "tr"),
        ("Russian Federation", "ru"), ("North Korea", "kp"), ("Czech Republic", "cz"), ("Burkina Faso", "bf"),
        ("XX", "xx"), ("InvalidCountry", "in"), ("SomeRandomLongCountryName", "so"), ("", ""), ("123", ""),
        ("123US", "us"), ("França", "fr"), ("中国", ""), ("U", "u"), ("USSA", "us"), ("US/CA", "us"),
    ],
    "db": [
        ("2/16/1997 (mm/dd/yyyy)", "19970216"), ("16–2–1997 (dd-mm-yyyy)", "19970216"), ("12/25/1985", "19851225"),
        ("25/12/1985", "19851225"), ("1985/12/25", "19851225"), ("1985-12-25", "19851225"),
        ("25.12.1985", "19851225"),
        ("19851225", "19851225"), ("01/15/1799", ""), ("13/15/1990", ""), ("01/32/1990", ""), ("00/15/1990", ""),
        ("01/15/90", ""), ("1/5/1990", "19900105"), ("", ""), ("January 15, 1990", ""), ("01/15", ""),
        ("29/02/2000", "20000229"), ("29/02/1900", "19000229"), ("01/15/1800", "18000115"),
        ("1985/25/12", "19851225"),
        ("25-12/1985", "19851225"), ("15011990", "15011990"), ("1501990", ""), ("01/15/1990/extra", "19900115"),
    ],
    "ge": [(word, "m") for word in (
        "male Male Boy M m man gentleman guy sir mister mr son father dad daddy papa uncle nephew brother husband "
        "boyfriend groom widower king prince duke count emperor god lord lad fellow chap bloke dude he him his himself"
    ).split()] + [(word, "f") for word in (
        "Girl Female female woman lady miss ms mrs madam ma'am daughter mother mom mama mommy aunt niece sister wife "
        "girlfriend bride widow queen princess duchess countess empress goddess maiden lass gal chick dame belle she "
        "her hers herself"
    ).split()] + [("        Woman         ", "f"), ("", ""), ("unknown", ""), ("123", "")],
    "external_id": [
        (" 12345", "12345"), ("abc-12345", "abc-12345"), ("USER123", "user123"), ("  user123  ", "user123"),
        ("user   123", "user123"), ("\tuser123\t", "user123"), ("user_123", "user_123"),
        ("user@domain.com", "user@domain.com"),
        ("550E8400-E29B-41D4-A716-446655440000", "550e8400-e29b-41d4-a716-446655440000"), ("Üser123", "üser123"),
        ("ユーザー123", "ユーザー123"), ("user👤123", "user👤123"), ("", ""), ("   ", ""),
        ("dXNlcjEyMw==", "dxnlcjeymw=="),
        ("{12345678-1234-5678-9012-123456789012}", "{12345678-1234-5678-9012-123456789012}"),
    ],
}  # fmt: skip
SEG: dict[str, list[tuple[str, str]]] = {
    "em": [(" nick@test.com ", "nick@test.com")],
    "ph": [(" 510 555 0011", "5105550011"), ("+1-510-555-0011 ", "15105550011")],
    "ct": [("San Francisco", "sanfrancisco")],
    "ge": [(" m", "m"), ("male", "m"), ("FEMALE   ", "f")],
    "ln": [("Doe ", "doe")],
    "fn": [(" John", "john")],
    "st": [("CA ", "ca"), (" New York ", "ny"), (" California", "ca"), (" New South Wales", "newsouthwales"),
           ("Ontario", "ontario")],
    "zp": [("12345 9876", "123459876")],
    "country": [("U S ", "us"), ("United States ", "us"), ("Portugal ", "pt"), ("Canada", "ca"),
                ("United States of America ", "unitedstatesofamerica"), ("Great Britain", "greatbritain"),
                ("South Korea", "southkorea")],
    "external_id": [(" ABC12345 ", "abc12345"), (" Xyz123 ", "xyz123")],
}  # fmt: skip
WOO: dict[str, list[tuple[str, str]]] = {
    "em": [
        ("TEST@EXAMPLE.COM", "test@example.com"), ("  test@example.com  ", "test@example.com"),
        ("user@mail.example.com", "user@mail.example.com"), ("USER123@EXAMPLE.COM", "user123@example.com"),
        ("first.last@example.com", "first.last@example.com"), ("user+tag@example.com", "user+tag@example.com"),
        ("user_name@example.com", "user_name@example.com"), ("user-name@ex-ample.com", "user-name@ex-ample.com"),
        ("notanemail", ""), ("test@", ""), ("test@@example.com", ""),
    ],
    "ph": [
        ("555-123-4567", "5551234567"), ("(555) 123-4567", "5551234567"), ("555.123.4567", "555.123.4567"),
        ("+1-555-123-4567", "15551234567"), ("+44 20 7946 0958", "442079460958"), ("+49 30 1234567", "49301234567"),
        ("+33 1 23 45 67 89", "33123456789"), ("0044 20 7946 0958", "00442079460958"),
        ("1-800-555-1234-CALL", "18005551234"), ("CALL-NOW", ""), ("1234567890", "1234567890"),
    ],
    "country": [("US", "us"), ("gb", "gb"), ("Ca", "ca"), (" FR ", "fr"), ("DE", "de"), ("USA", ""), ("U", ""),
        ("U1", "")],
    "zp": [("12345", "12345"), ("12345-6789", "12345"), ("12 345", "12345"), ("K1A 0B1", "k1a0b1"),
        ("SW1A 1AA", "sw1a1aa"),
           ("12345-6789-1234", "12345")],
    "ct": [("New York", "newyork"), ("Los Angeles 90210", "losangeles"), ("Saint-Louis", "saintlouis"),
           ("St. Louis", "stlouis"), ("Paris (France)", "parisfrance"), ("  San   Francisco  ", "sanfrancisco"),
           ("Montréal", "montréal")],
    "st": [("CA", "ca"), ("California", "california"), ("New York", "newyork"), ("D.C.", "dc"),
           ("North-Carolina", "northcarolina"), ("Québec", "qubec")],
    "fn": [("JOHN", "john"), ("Jane", "jane")],
    "ln": [("DOE", "doe"), ("Smith", "smith")],
}  # fmt: skip
PIXEL: dict[str, list[tuple[str, str]]] = {"fn": [("a b", "a b")]}
SOURCES = {"PB": PB, "SEG": SEG, "WOO": WOO, "PIXEL": PIXEL}

# Why ours differs: the key and a pattern of what is written, with the reason.
PREFIX = "DOC: the country code is part of a phone; here the shop's is known"
# Why ours differs: the source and key (or the key), what is written, and the reason.
WHY = [
    ("PB em", r"User@Example.中国", "a mailbox of an international domain is one"),
    ("PB ph", r"  4792813113", "a number of Arkansas (479) as people dial it in the shop's country"),
    ("ph", r" *\(?0?(555|510)\)?[ .-]?\d{3}[ .-]?\d{4}", PREFIX),
    ("ph", r"0044 20 7946 0958", "DOC: without leading zeros"),
    ("ph", r".*(FLOWERS|CALL|ext\. 123)", "letters are dialled as digits, an extension is not part of the number"),
    ("ph", r"5|000123|1234567890|\+1-555-123-4567-890-123-456-789", "no phone number of any country"),
    ("PB ct", r".*[ãüé].*", "DOC: accents stay; PB drops the letter, the SDKs keep it"),
    ("WOO ct", r"Los Angeles 90210", "DOC: punctuation, special characters and spaces go; digits are neither"),
    ("st", r".*[é加].*", "DOC: accents stay; Québec has its code"),
    (
        "PB st",
        r"InvalidState|SomeRandomLongStateName|CAL|CA/NY|123|123CA",
        "a name is not cut, nor found inside another",
    ),
    ("SEG st", r"Ontario", "DOC: two letters; PB has on"),
    ("WOO st", r"California|New York|North-Carolina", "DOC: two letters; PB has the code"),
    ("PB zp", r"K1A 0A6|SW1A 1AA", "DOC: no space (example m11ae)"),
    (
        "zp",
        r"ABC-123|100-0001|NL-1234AB",
        "DOC: no dash; what follows one is half of the code elsewhere than in the US",
    ),
    ("zp", r"12345-6789-\d{4}|12345@#\$|A", "no ZIP code; nothing of it is guessed"),
    ("SEG zp", r"12345 9876", "DOC: five digits in the US"),
    (
        "PB country",
        r"XX|InvalidCountry|SomeRandomLongCountryName|123US|U|USSA|US/CA",
        "no country; not cut to two letters",
    ),
    ("PB country", r"中国", "China, in its own language"),
    ("SEG country", r"United States of America |Great Britain|South Korea", "DOC: two letters"),
    ("WOO country", r"USA", "an ISO 3166 code"),
    ("PB db", r"29/02/1900|01/15/1800", "no date from 1900 on"),
    ("PB db", r"1985/25/12|25-12/1985|15011990|01/15/1990/extra", "no date in any way of writing one"),
    ("PB external_id", r"user   123", "DOC: as the shop has it, on every channel"),
]


def agrees(key: str, written: str, form: str) -> bool:
    customer = CustomerData(**{FIELDS[key]: written})  # type: ignore[arg-type]
    ours = hash_customer(customer, country="US", this_year=2026).user_data.get(key, [])
    return (sha256(form.encode()).hexdigest() in ours) if form else not ours


def reason(source: str, key: str, written: str) -> str | None:
    return next(
        (why for where, text, why in WHY if where in (key, f"{source} {key}") and re.fullmatch(text, written)), None
    )


VECTORS = [
    (source, key, written, form)
    for source, pairs in SOURCES.items()
    for key, listed in pairs.items()
    for written, form in listed
]


@pytest.mark.parametrize(("source", "key", "written", "form"), VECTORS)
def test_each_public_vector_agrees_or_a_line_says_why_not(source: str, key: str, written: str, form: str) -> None:
    assert agrees(key, written, form) is not bool(reason(source, key, written))


def test_every_reason_is_of_some_vector() -> None:
    used = {reason(source, key, written) for source, key, written, _ in VECTORS}
    assert {why for _, _, why in WHY} <= used


# Segment's digests: what is hashed by us, and what came hashed and stays.
DIGESTS = [
    ("gender", "m", "ge", "62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a"),
    ("email", "2d2fb2388f17f86affee71d632978425a3037fa8eed5b3f2baaa458c80d495ed", "em", ""),
    ("phone", "92b5be0b4bcd88dbe1c5f7de1cc3f479fa8a702bd02b9905a5bc14bf66243c05", "ph", ""),
    ("date_of_birth", "4f8a154810062809cdb724b8254c2b9886e6ad3bc8b3fdfad4eb97f5b1916efd", "db", ""),
    ("gender", "62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a", "ge", ""),
    ("last_name", "3b67f1c91f4f245f6e219b364782ac53e912420f2284bf6a700e9cf71fbeafac", "ln", ""),
    ("first_name", "a628aa64f14c8196c8c82c7ffb6482b2db7431e4cb5b28cd313004ce7ba4eb66", "fn", ""),
    ("city", "b37d49779ef2040ccbb357b127d615c75a77ff74645071dbd6ec27ae54cbd912", "ct", ""),
    ("state", "4b650e5c4785025dee7bd65e3c5c527356717d7a1c0bfef5b4ada8ca1e9cbe17", "st", ""),
    ("zip_code", "860d1f692a318f7ba200f47ab16bcae57e651d51bea0f56d7cef36569c198006", "zp", ""),
    ("country", "9b202ecbc6d45c6d8901d989a918878397a3eb9d00e8f48022fc051b19d21a1d", "country", ""),
    ("external_id", "2221aa193aea3b3fdee120c146c302fdb6ea606dbf4dfc5e1d587ec4b1aedf74", "external_id", ""),
]


@pytest.mark.parametrize(("field", "given", "key", "digest"), DIGESTS)
def test_segments_digests(field: str, given: str, key: str, digest: str) -> None:
    customer: Any = CustomerData(**{field: given})
    assert hash_customer(customer, country="US", this_year=2026).user_data == {key: [digest or given]}

"""What a value is called for matching: stricter than Meta's normal forms, and never hashed the same way.

Two spellings of one e-mail or phone get one form; what is no value at all ("null", the SHA-256 of nothing) gets None.
A value that arrives as SHA-256 keeps its digest: "sha256:…". So that it meets the same person's plain value, names of
people are made of `digest`, keyed; no form is stored.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from collector.core import nobody
from collector.core.capi.phones import bare_form, e164_digits, old_mexican

# Placeholders that were hashed upstream, and the mailbox that is typed most to get past a form.
_PLACEHOLDERS_HASHED = nobody.HASHES | {sha256(b"test@test.com").hexdigest()}
# Typed to get past a form, by many people. What else is shared (staff, a till) shows itself by its many visitors.
_FAKE_LOCAL = frozenset({"test", "tester", "testing", "fake", "asdf", "qwerty", "none", "null", "no", "na", "abc", "a"})
_FAKE_DOMAINS = frozenset({"test.com", "fake.com", "none.com", "null.com", "asdf.com", "abc.com", "noemail.com"})
_NO_MAILBOX = frozenset({"noemail", "no-email", "noreply", "no-reply", "donotreply"})
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_LOCAL = re.compile(r"[^\s@\"(),:;<>\[\\\]\x00-\x1f]{1,64}\Z")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
GOOGLE = frozenset({"gmail.com", "googlemail.com"})


def sha256_form(value: str) -> str | None:
    """Form "sha256:<hex>" of a value hashed before it came; None when it is no digest, or a placeholder's."""
    if len(value) != 64 or not _SHA256.match(value):
        return None
    digest = value.lower()
    return None if digest in _PLACEHOLDERS_HASHED else f"sha256:{digest}"


def digest(form: str) -> str:
    """ "sha256:<hex>" of what Meta hashes of a form: an e-mail, an id, the digits of a phone number."""
    return form if form.startswith("sha256:") else f"sha256:{sha256(form.removeprefix('+').encode()).hexdigest()}"


def email_as_given(value: str, strict: str) -> str:
    """Meta's form of an e-mail whose strict form is known: dots and +tag stay."""
    if strict.startswith("sha256:"):
        return strict
    return unicodedata.normalize("NFC", value.strip().removeprefix("mailto:").strip()).lower()


def email(value: str) -> str | None:
    """The strict form: trimmed, lower case, NFC, punycode domain; for Google's mailboxes without dots and +tag."""
    value = value.strip()
    if len(value) == 64 and _SHA256.match(value):
        return sha256_form(value)
    parts = _email_parts(value)
    if parts is None:
        return None
    local, domain = parts
    if domain in GOOGLE:
        local, domain = local.split("+", 1)[0].replace(".", ""), "gmail.com"
    return f"{local}@{domain}" if local else None


def base_of(strict: str) -> str:
    """The key under which weak forms meet: what `email` has made, without its +tag at any provider."""
    local, at, domain = strict.rpartition("@")
    base, tagged, _ = local.partition("+")
    return f"{base}@{domain}" if at and tagged and base else strict


def _email_parts(value: str) -> tuple[str, str] | None:
    value = unicodedata.normalize("NFC", value.removeprefix("mailto:").strip()).lower()
    if len(value) > 320 or value.count("@") != 1:
        return None
    local, domain = value.split("@")
    if not _LOCAL.match(local) or local[0] == "." or local[-1] == "." or ".." in local:
        return None
    ascii_domain = _punycode(domain.rstrip("."))
    if ascii_domain is None or _is_fake(local, ascii_domain):
        return None
    return local, ascii_domain


def _is_fake(local: str, domain: str) -> bool:
    return local in _NO_MAILBOX or (local in _FAKE_LOCAL and domain in _FAKE_DOMAINS) or domain.endswith(".invalid")


@lru_cache(maxsize=4096)
def _punycode(domain: str) -> str | None:
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    labels = domain.split(".")
    if len(domain) > 253 or len(labels) < 2 or not all(_LABEL.match(label) for label in labels):
        return None
    return None if labels[-1].isdigit() else domain


def phone(value: str, country: str | None) -> str | None:
    """E.164 by libphonenumber with the store's (or the customer's) country; None where the number cannot be one."""
    value = value.strip()
    if len(value) == 64 and _SHA256.match(value):
        return sha256_form(value)
    if not value or len(value) > 64 or nobody.is_no_id(value):
        return None
    if (ten := old_mexican(bare_form(value), (country or "").lower())) is not None:
        return f"+52{ten}"
    value = _without_trunk_zero(value)
    return _plain(value) or _e164(value, (country or "").upper())


_TRUNK_ZERO = re.compile(r"\(0\)")
_BETWEEN = str.maketrans("", "", "+ ().-")


def _without_trunk_zero(value: str) -> str:
    """ "+49 (0)170 …": the zero in brackets is for callers inside the country."""
    stripped = value.lstrip()
    return _TRUNK_ZERO.sub("", value) if stripped.startswith(("+", "00")) else value


_INTERNATIONAL = re.compile(r"\+[1-9][0-9 ().-]{6,30}")


def _plain(value: str) -> str | None:
    """What `_e164` makes of a usual number with its country code, in an eighth of the time; None where it must look.

    Usual: of a length that the country's numbers have, with no prefix that is dialled inside the country.
    """
    if not _INTERNATIONAL.fullmatch(value):
        return None
    digits = value.translate(_BETWEEN)
    if len(digits) > 15 or (plan := _plan(digits[:3])) is None:
        return None
    national = digits[plan.code :]
    if national[:1] == "0" or len(national) not in plan.lengths or _is_placeholder(national):
        return None
    return None if plan.prefix is not None and plan.prefix.match(national) else f"+{digits}"


class _Plan(NamedTuple):
    """How a country's numbers look: digits of its code, lengths of what follows, what is dialled before it at home."""

    code: int
    lengths: frozenset[int]
    prefix: re.Pattern[str] | None


@lru_cache(maxsize=1024)
def _plan(start: str) -> _Plan | None:
    """The plan of the country whose code a number starts with, as libphonenumber knows it."""
    import phonenumbers

    code = next((n for n in (1, 2, 3) if int(start[:n]) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE), 0)
    number = int(start[:code] or "0")
    region = phonenumbers.region_code_for_country_code(number)
    known = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(number, region)
    if known is None or known.general_desc is None:
        return None
    prefix = known.national_prefix_for_parsing
    return _Plan(code, frozenset(known.general_desc.possible_length), re.compile(prefix) if prefix else None)


@lru_cache(maxsize=16384)
def _e164(value: str, country: str) -> str | None:
    import phonenumbers  # 40 ms to import: only a process that matches phones pays for it

    if value.startswith("00"):
        value = "+" + value[2:]
    if value[:1] != "+":  # whose number the digits are is decided in one place, for Meta's form and for this one
        if (digits := e164_digits(value, country.lower() or None)) is None:
            return None
        value = f"+{digits}"
        if (form := _plain(value)) is not None:
            return form
    try:
        number = phonenumbers.parse(value, country or None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    form = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return None if _is_placeholder(str(number.national_number)) else form


def _is_placeholder(national: str) -> bool:
    """0000000, 1111111 and 1234567890 are typed to get past a form."""
    return len(set(national)) == 1 or national in "12345678901234567890"


def external_id(value: str | int) -> str | None:
    """The shop's own customer id: trimmed, its case kept; None for "null", 0 and their kin."""
    text = str(value).strip()
    if len(text) == 64 and _SHA256.match(text):
        return sha256_form(text)
    return None if nobody.is_no_id(text) or len(text) > 256 else unicodedata.normalize("NFC", text)


def fingerprint(value: str) -> str | None:
    """A device fingerprint as it came; None for a placeholder. Its version goes into flags, not into the key."""
    text = value.strip()
    return None if nobody.is_no_id(text) or len(text) < 6 else text


def visitor_id(value: str) -> str | None:
    """A first-party visitor id; None for a placeholder, which many browsers would share."""
    text = value.strip()
    return None if nobody.is_no_id(text) else text

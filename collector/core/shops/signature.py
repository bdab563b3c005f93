"""Is a webhook from whom it says? A platform's way of signing is data; all are HMAC-SHA256 over the bytes as they came.

    S1–S6  each platform's header, encoding, signed text and key are a Scheme
    S7     a timestamp may be `tolerance_seconds` old or ahead
    S8     what is malformed is refused with its reason, never an exception; of many signatures ten are read

`claim` judges the headers alone, so that it can be asked before a body is read; `is_signed` the body. All secrets are
tried against all signatures, in constant time.
"""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

MOST_SIGNATURES: Final = 10
_MOST_DIGITS: Final = 12  # of a timestamp in seconds
_MOST_ID: Final = 256
_DIGEST_BYTES: Final = 32
_PARTS: Final = re.compile(r"(\{(?:body|timestamp|id)\})")
_WHSEC: Final = "whsec_"

Reason = Literal["signature_missing", "signature_malformed", "signature_expired", "signature_invalid"]
Headers = Sequence[tuple[bytes, bytes]]


class Scheme(Struct, frozen=True, forbid_unknown_fields=True):
    """How a platform signs. Of several names of a header the first that is there counts.

    `format`: what the header looks like, `{signature}` and perhaps `{timestamp}` in it; with a `separator` the header
    is a list of such pieces, in which each may come again.
    """

    header: str | list[str]
    format: str = "{signature}"
    separator: Literal["", ",", ";", " "] = ""
    encoding: Literal["hex", "base64"] = "hex"
    signed: str = "{body}"
    timestamp_header: str | list[str] = []
    id_header: str | list[str] = []
    tolerance_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 300
    key_encoding: Literal["text", "html", "whsec", "hex", "base64"] = "text"


class Refused(Struct, frozen=True):
    """It is not taken, and why."""

    reason: Reason


class Claim(Struct, frozen=True):
    """What the headers say: digests, one of which must be the body's, and what is signed with it."""

    digests: list[bytes]
    timestamp: bytes = b""
    id: bytes = b""


def faults(scheme: Scheme) -> list[str]:
    """What makes it no scheme."""
    found = []
    if "{signature}" not in scheme.format:
        found.append("format needs {signature}")
    if "{body}" not in scheme.signed:
        found.append("signed needs {body}")
    timed = bool(scheme.timestamp_header) or "{timestamp}" in scheme.format
    if ("{timestamp}" in scheme.signed) != timed:
        found.append("a timestamp that is read must be signed: name it in signed, and in format or timestamp_header")
    if "{id}" in scheme.signed and not scheme.id_header:
        found.append("signed has {id}, so id_header must say where it is")
    return found


def keys_of(scheme: Scheme, secret: str) -> list[bytes]:
    """The keys that a secret stands for; ValueError where it is none in this encoding."""
    if scheme.key_encoding == "html":  # the plugin signs with the decoded form of what was typed (S2)
        import html  # 13 ms

        return list(dict.fromkeys([secret.encode(), html.unescape(secret).encode()]))
    if scheme.key_encoding == "hex":
        return [bytes.fromhex(secret)]
    if scheme.key_encoding == "base64" or (scheme.key_encoding == "whsec" and secret.startswith(_WHSEC)):
        return [binascii.a2b_base64(secret.removeprefix(_WHSEC), strict_mode=True)]
    return [secret.encode()]


def claim(scheme: Scheme, headers: Headers, now: int) -> Claim | Refused:
    """What the headers claim, as far as they alone can tell; `now` in seconds."""
    signed = _one(headers, scheme.header)
    stamp, name = _one(headers, scheme.timestamp_header), _one(headers, scheme.id_header)
    if signed is None or (scheme.timestamp_header and stamp is None) or ("{id}" in scheme.signed and name is None):
        return Refused("signature_missing")
    stamps, digests = _read(scheme, signed)
    if "{timestamp}" in scheme.format:
        stamp = stamps[0] if len(stamps) == 1 else ""
    if not digests or signed == _TWICE or _TWICE in (stamp, name) or len(name or "") > _MOST_ID:
        return Refused("signature_malformed")
    if "{timestamp}" in scheme.signed:
        if not _is_moment(stamp or ""):
            return Refused("signature_malformed")
        if abs(now - int(stamp or "")) > scheme.tolerance_seconds:
            return Refused("signature_expired")
    return Claim(digests, (stamp or "").encode(), (name or "").encode())


def is_signed(scheme: Scheme, keys: Iterable[bytes], claimed: Claim, body: bytes) -> bool:
    """Whether one of the keys made one of the digests of this body. All are compared, whichever fits."""
    known = {"{body}": body, "{timestamp}": claimed.timestamp, "{id}": claimed.id}
    pieces = [known.get(part, part.encode()) for part in _PARTS.split(scheme.signed)]
    fits = False
    for key in keys:
        made = hmac.new(key, digestmod="sha256")
        for piece in pieces:
            made.update(piece)
        for digest in claimed.digests:
            fits |= hmac.compare_digest(made.digest(), digest)
    return fits


def verify(scheme: Scheme, secrets: Iterable[str], headers: Headers, body: bytes, now: int) -> Claim | Refused:
    """The claim, where it holds."""
    claimed = claim(scheme, headers, now)
    if isinstance(claimed, Refused):
        return claimed
    keys = [key for secret in secrets for key in keys_of(scheme, secret)]
    return claimed if is_signed(scheme, keys, claimed, body) else Refused("signature_invalid")


_TWICE: Final = "\0"  # no header holds it


def _one(headers: Headers, names: str | list[str]) -> str | None:
    """The value of the first of these headers that is there; _TWICE where it is so more than once, or not ASCII."""
    for name in [names] if isinstance(names, str) else names:
        found = [value for key, value in headers if key == name.lower().encode()]
        if found:
            return found[0].decode() if len(found) == 1 and found[0].isascii() else _TWICE
    return None


def _read(scheme: Scheme, header: str) -> tuple[list[str], list[bytes]]:
    """Timestamps and digests in a header; pieces of other forms (Stripe's v0) say nothing."""
    split = scheme.separator
    forms = scheme.format.split(split) if split and "{timestamp}" in scheme.format else [scheme.format]
    pieces = header.split(split) if split else [header]
    stamps: list[str] = []
    digests: list[bytes] = []
    read = 0
    for piece in pieces:
        for form in forms:
            kind, value = _matched(form.strip(), piece.strip())
            if kind == "timestamp":
                stamps.append(value)
            elif kind == "signature" and (read := read + 1) <= MOST_SIGNATURES:
                digests += _digest(scheme, value)
    return stamps, digests


def _matched(form: str, piece: str) -> tuple[str, str]:
    """What a piece of the header is by this form, and its value."""
    for kind in ("signature", "timestamp"):
        before, found, after = form.partition(f"{{{kind}}}")
        if found and piece.startswith(before) and piece.endswith(after) and len(piece) >= len(before) + len(after):
            return kind, piece[len(before) : len(piece) - len(after)]
    return "", ""


def _digest(scheme: Scheme, text: str) -> list[bytes]:
    """The digest, if the text is exactly one: no letter of it may be another and mean the same."""
    try:
        if scheme.encoding == "hex":
            found = bytes.fromhex(text)
            exact = text in (found.hex(), found.hex().upper())
        else:
            found = binascii.a2b_base64(text, strict_mode=True)
            exact = b64encode(found).decode() == text
    except ValueError:
        return []
    return [found] if exact and len(found) == _DIGEST_BYTES else []


def _is_moment(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS

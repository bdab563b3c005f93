"""The edge's own certificate: read by whoever may read it, served by processes that may read no file.

The supervisor reads both files, looks whether they belong together, and hands them to its edges as it hands them their
settings (process/handover.py): an edge is kept from files, and a key that its user cannot read is of no use to it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal, NoReturn

from msgspec import Struct

from collector.config import EdgeConfig
from collector.core import certificates
from collector.core.certificates import Validity
from collector.errors import CollectorError, why

if TYPE_CHECKING:
    import ssl  # loaded where TLS is on alone: 10 ms, and memory of every process

Setting = Literal["tls_cert", "tls_key"]
LARGEST: Final = 256 * 1024  # bytes; a chain of four has 8 KB
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"


class Unusable(CollectorError):
    """A file of the two cannot be used; `setting` names which, the text says why and what to do."""

    def __init__(self, setting: Setting, text: str) -> None:
        super().__init__(text)
        self.setting: Setting = setting


class Pair(Struct, frozen=True):
    """A certificate with its chain, and its key; both PEM."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Pair(…)"


def of(edge: EdgeConfig) -> Pair | None:
    """The edge's pair, read and looked at; None where TLS is off. Unusable says what is wrong with which file."""
    if not edge.tls_cert and not edge.tls_key:
        return None
    for setting, other in (("tls_cert", edge.tls_key), ("tls_key", edge.tls_cert)):
        if other and not getattr(edge, setting):
            raise Unusable(setting, "is missing: a certificate and its key go together")  # type: ignore[arg-type]
    pair = Pair(_read("tls_cert", edge.tls_cert), _read("tls_key", edge.tls_key))
    if _CERTIFICATE not in pair.chain:
        raise Unusable("tls_cert", f"'{edge.tls_cert}' holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
    if b"PRIVATE KEY-----" not in pair.key:
        raise Unusable("tls_key", f"'{edge.tls_key}' holds no private key in PEM (-----BEGIN PRIVATE KEY-----)")
    if b"ENCRYPTED" in pair.key:
        text = f"'{edge.tls_key}' is encrypted; write it without: openssl pkey -in FILE -out FILE.plain"
        raise Unusable("tls_key", text)
    try:
        valid_of(pair)
    except ValueError:
        raise Unusable("tls_cert", f"'{edge.tls_cert}' holds a certificate that cannot be read") from None
    try:
        context_of(pair)
    except OSError as error:  # ssl.SSLError
        _explain(edge, getattr(error, "reason", None) or "")
    return pair


def _explain(edge: EdgeConfig, reason: str) -> NoReturn:
    if "MISMATCH" in reason:
        text = f"'{edge.tls_key}' is not the key of the first certificate in '{edge.tls_cert}'"
        raise Unusable("tls_key", f"{text}; the shop's own comes first there, then its chain") from None
    said = reason.lower().replace("_", " ") or "it is no usable pair"
    raise Unusable("tls_cert", f"OpenSSL does not take '{edge.tls_cert}' with '{edge.tls_key}': {said}") from None


def doubts(edge: EdgeConfig) -> list[str]:
    """What is wrong with a pair that can be used, or will be soon: its days."""
    pair = of(edge)
    found = certificates.doubt(valid_of(pair), time.time_ns() // 1_000_000) if pair is not None else None
    return [] if found is None else [f"the certificate '{edge.tls_cert}': {found}"]


def valid_of(pair: Pair) -> Validity:
    """When the shop's own certificate is good; ValueError where it cannot be read."""
    import ssl

    first = pair.chain[pair.chain.index(_CERTIFICATE) :].partition(_END)[0] + _END
    return certificates.validity(ssl.PEM_cert_to_DER_cert(first.decode("latin-1")))


def context_of(pair: Pair) -> ssl.SSLContext:
    """What a server speaks TLS by: 1.2 and newer, HTTP/1.1 alone. ssl.SSLError where the pair is none."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    with _path_to(pair.chain) as chain, _path_to(pair.key) as key:
        context.load_cert_chain(chain, key, password=_no_password)  # else OpenSSL would ask on the terminal
    return context


def _no_password() -> str:
    return ""


@contextlib.contextmanager
def _path_to(content: bytes) -> Iterator[str]:
    """A path at which OpenSSL reads this, in no folder: Python's ssl takes a key from a path alone."""
    import tempfile

    in_memory = getattr(os, "memfd_create", None)
    with os.fdopen(in_memory("tls"), "w+b") if in_memory is not None else tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _read(setting: Setting, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Unusable(setting, f"'{path}' is not a file")
            if setting == "tls_key":
                _make_private(path, file.fileno())
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise Unusable(setting, f"no such file '{path}'") from None
    except OSError as error:
        raise Unusable(setting, f"cannot read '{path}': {why(error, path)}") from None
    if len(content) > LARGEST:
        raise Unusable(setting, f"'{path}' is larger than {LARGEST >> 10} KiB")
    return content


def _make_private(path: str, fd: int) -> None:
    """Close the key to everybody but its owner and a group that may only read it (ssl-cert); refuse where we cannot."""
    status = os.fstat(fd)
    if not status.st_mode & (stat.S_IWGRP | stat.S_IRWXO):
        return
    try:
        os.fchmod(fd, stat.S_IMODE(status.st_mode) & 0o740)
    except OSError:
        mode = stat.S_IMODE(status.st_mode)
        raise Unusable("tls_key", f"'{path}' is open to others (mode {mode:04o}); run: chmod 640 {path}") from None

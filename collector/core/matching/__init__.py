"""Which click did this order come from, and how sure are we: `match`, its nouns and its model.

Two stages. Proofs first (`proofs.py`): a click id, Meta's click id, a cookie, an identity. Only when there is none, and
only where consent and the store allow it, inference (`inference.py`): Fellegi-Sunter weights with the frequency of each
value, and an explicit hypothesis "none of the stored clicks". Everything is a pure function; times are milliseconds.
"""

from collector.core.matching.decide import match, renew
from collector.core.matching.model import DEFAULT_MODEL, Model
from collector.core.matching.shapes import (
    Candidate,
    Evidence,
    Label,
    Match,
    Policy,
    Query,
    Rival,
    Statistics,
    fingerprint_version_bits,
)

__all__ = [
    "DEFAULT_MODEL",
    "Candidate",
    "Evidence",
    "Label",
    "Match",
    "Model",
    "Policy",
    "Query",
    "Rival",
    "Statistics",
    "fingerprint_version_bits",
    "match",
    "renew",
]

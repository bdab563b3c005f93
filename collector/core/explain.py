"""Why an order was or was not attributed, and what would have changed it: plain words from a stored Match."""

from __future__ import annotations

from math import floor, log2

from msgspec import Struct

from collector.core.matching.shapes import Evidence, Match

_REASONS = {
    "no_candidate": "No stored click shares a click id, a cookie, an identity, an address or a fingerprint with it.",
    "below_threshold": "Clicks share something with it, but not enough: most likely none of them is the cause.",
    "ambiguous": "A stored click is the likely cause, but two or more are equally likely.",
    "outside_window": "Its click is known, but lies before the attribution window.",
    "consent": "The visitor's consent does not allow matching.",
}
_SIGNALS = {
    "prior": "One of {value:.0f} clicks in the window, before any evidence",
    "time": "Delay between click and order",
    "ip": "Network address",
    "user_agent": "User agent",
    "fingerprint": "Device fingerprint",
    "cookie_jar": "Age of the order's cookies",
    "unreachable": "Clicks that share no key with the order",
    "journey": "Further clicks of the same visitor",
    "rivals": "Other visitors' clicks that fit as well",
}
_NOT_REMOVABLE = frozenset({"prior", "unreachable", "time"})


class Change(Struct, frozen=True):
    """What the answer would have been without one piece of evidence."""

    without: str
    confidence: int
    attributed: bool


class Explanation(Struct, frozen=True):
    """`summary` in one sentence; `lines`, one per piece of evidence; `changes`, what would have turned the answer."""

    summary: str
    lines: list[str]
    changes: list[Change]
    missing_bits: float = 0.0  # evidence that a refused order lacked, in bits


def explain(match: Match, threshold: int = 50) -> Explanation:
    """Works on what is stored alone; holds no address, user agent or identity."""
    lines = [_line(item) for item in match.evidence]
    lacking = 0.0 if match.attributed else _lacking(match, threshold)
    return Explanation(_summary(match), lines, _changes(match, threshold), lacking)


def _summary(match: Match) -> str:
    if not match.attributed:
        best = f" The best scored {match.best}." if match.best else ""
        return _REASONS.get(match.reason or "", "Not attributed.") + best
    how = "inferred from shared signals" if match.method == "probabilistic" else f"proven by {match.method}"
    cap = f", held down from {match.capped_from}" if match.capped_from else ""
    others = f"; {match.alternatives - 1} other candidate(s)" if match.alternatives > 1 else ""
    return f"Attributed with confidence {match.confidence}{cap}: {how}{others}. Model {match.model}."


def _line(item: Evidence) -> str:
    name = _SIGNALS.get(item.signal, item.signal.replace("_", " "))
    name = name.format(value=item.value or 0) if "{" in name else name
    detail = ""
    if item.signal in ("ip", "user_agent", "fingerprint") and item.value is not None:
        detail = f", seen with {item.value:.0f} other visitor(s)"
    elif item.signal == "time" and item.value is not None:
        detail = f", {_duration(item.value)}"
    return f"{item.bits:+7.2f} bits  {name}: {item.result.replace('_', ' ')}{detail}"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _changes(match: Match, threshold: int) -> list[Change]:
    if match.tier != "inferred":
        return []
    found = []
    for item in match.evidence:
        if item.signal in _NOT_REMOVABLE or abs(item.bits) < 0.01:
            continue
        score = _score(match.log_odds_bits - item.bits, match)
        if (score >= threshold) != match.attributed:
            found.append(Change(item.signal, score, score >= threshold))
    return found


def _score(bits: float, match: Match) -> int:
    """Confidence of other log odds, under the cap that held this answer."""
    probability = 1 / (1 + 2.0**-bits) if bits > -500 else 0.0
    cap = max(match.confidence, match.best) if match.capped_from else 99
    return min(max(1, floor(100 * probability + 1e-9)), cap)


def _lacking(match: Match, threshold: int) -> float:
    """Bits by which the best click fell short of the threshold; 0 where there was none."""
    if match.tier != "inferred":
        return 0.0
    needed = log2(threshold / 100 / (1 - threshold / 100))
    return max(0.0, needed - match.log_odds_bits)

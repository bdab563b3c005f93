"""Why an order was or was not attributed, and what would have changed it: plain words from a stored Match."""

from __future__ import annotations

from math import log2

from msgspec import Struct

from collector.core.calibration import calibrate, least_for
from collector.core.matching.decide import cap_of, score_of
from collector.core.matching.inference import MISSING
from collector.core.matching.model import DEFAULT_MODEL, Model
from collector.core.matching.shapes import Evidence, Match

_REASONS = {
    "no_candidate": "No stored click shares a click id, a cookie, an identity, an address or a fingerprint with it.",
    "below_threshold": "Clicks share something with it, but not enough: most likely none of them is the cause.",
    "ambiguous": "A stored click is the likely cause, but two or more are equally likely.",
    "outside_window": "Its click is known, but lies before the attribution window.",
    "consent": "The visitor's consent does not allow matching.",
}
_REFUSED_PROOF = "A click is proven, but by evidence that counts for less than the store's threshold."
_SHARED = (
    "Nothing but an address that many people share, such as an office's or a relay's, speaks for a click "
    "(or one that they may share: the first night's learning tells)."
)
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
_WEIGHED = frozenset({"ip", "user_agent", "fingerprint", "cookie_jar"})
# Log odds in bits, or None where no click would have been found; several where the stored answer leaves that open.
Outcomes = tuple[float | None, ...]


class Change(Struct, frozen=True):
    """What the answer would have been without one piece of evidence; confidence 0: no click would have been found."""

    without: str
    confidence: int
    attributed: bool


class Explanation(Struct, frozen=True):
    """`summary` in one sentence; `lines`, one per piece of evidence; `changes`, what would have turned the answer."""

    summary: str
    lines: list[str]
    changes: list[Change]
    missing_bits: float = 0.0  # evidence that a refused order lacked, in bits


def explain(match: Match, threshold: int = 50, model: Model | None = DEFAULT_MODEL) -> Explanation:
    """Works on what is stored alone; holds no address, user agent or identity.

    `model`: the one that made the answer, for its map and its caps. What another one says is not known, so without it
    (None) nothing is said about what would have changed the answer.
    """
    lines = [_line(item) for item in match.evidence]
    if model is None or not _told_by(match, threshold, model):
        return Explanation(_summary(match), lines, [])
    lacking = 0.0 if match.attributed else _lacking(match, threshold, model)
    return Explanation(_summary(match), lines, _changes(match, threshold, model), lacking)


def _summary(match: Match) -> str:
    if not match.attributed:
        best = f" The best scored {match.best}." if match.best else ""
        if match.shared:
            return f"{_SHARED}{best}"
        if match.reason == "below_threshold" and match.tier != "inferred":
            return _REFUSED_PROOF + best
        return _REASONS.get(match.reason or "", "Not attributed.") + best
    how = "inferred from shared signals" if match.method == "probabilistic" else _proof(match)
    cap = f", held down from {match.capped_from}" if match.capped_from else ""
    others = f"; {match.alternatives - 1} other candidate(s)" if match.alternatives > 1 else ""
    return f"Attributed with confidence {match.confidence}{cap}: {how}{others}. Model {match.model}."


def _proof(match: Match) -> str:
    """By what, and for an identity who vouches for it."""
    word = match.evidence[0].result if match.tier == "identity" and match.evidence else ""
    if word == "claimed":
        return f"claimed by a page with the same {match.method}; no order told by a server bears it out"
    return f"proven by {match.method}" + (", which a server confirmed" if word == "confirmed" else "")


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


def _told_by(match: Match, threshold: int, model: Model) -> bool:
    """Whether the answer is an inferred one that this model and this threshold give."""
    if match.tier != "inferred" or match.shared or not _WEIGHED.issubset(item.signal for item in match.evidence):
        return False
    score = min(_score(match.log_odds_bits, match.ua_level, match, model), _most(match))
    return score == (match.confidence or match.best) and (score >= threshold) == match.attributed


def _score(bits: float, ua_level: int, match: Match, model: Model) -> int:
    """Confidence of other log odds, in the answer's stratum."""
    score = score_of(calibrate(_probability(bits), model.calibration, model.knots))
    return min(score, cap_of(match.stratum, ua_level, model))


def _most(match: Match, without: str = "") -> int:
    """What holds the answer down before the first night, without a piece of its evidence."""
    if without == "ip":
        return 100
    printed = any(item.signal == "fingerprint" and item.result == "equal" for item in match.evidence)
    return 100 if printed and without != "fingerprint" else match.unlearnt


def _probability(bits: float) -> float:
    return 1 / (1 + 2.0**-bits) if bits > -500 else 0.0


def _changes(match: Match, threshold: int, model: Model) -> list[Change]:
    """Each piece of evidence whose absence would have turned the answer, all else and the store's frequencies equal."""
    found = []
    for signal, outcomes in _without(match).items():
        ua_level = MISSING if signal == "user_agent" else match.ua_level
        most = _most(match, signal)
        scores = [min(_score(bits, ua_level, match, model), most) if bits is not None else 0 for bits in outcomes]
        if all((score >= threshold) != match.attributed for score in scores):
            found.append(Change(signal, scores[0], not match.attributed))
    return found


def _without(match: Match) -> dict[str, Outcomes]:
    """What the log odds could have been without each piece of evidence, as far as the stored answer tells.

    How other clicks would have fared without the order's address or browser is not kept: that is told only where the
    credited click was alone.
    """
    items, total = {item.signal: item for item in match.evidence}, match.log_odds_bits
    found: dict[str, Outcomes] = {}
    if "rivals" in items:
        found["rivals"] = (total - items["rivals"].bits,)
    if "journey" in items and _stays_first(match, items["journey"].bits):
        found["journey"] = (total - items["journey"].bits,)
    if "rivals" not in items and "journey" not in items:
        ip, agent, fingerprint, jar = (items[name] for name in ("ip", "user_agent", "fingerprint", "cookie_jar"))
        found["ip"] = _without_the_address(total - ip.bits, ip, fingerprint)
        found["fingerprint"] = (total - fingerprint.bits if ip.result == "equal" else None,)
        found["cookie_jar"] = (total - jar.bits,)
        if match.ua_level == 0 and fingerprint.result != "equal":  # else a fingerprint alone would have another weight
            found["user_agent"] = (total - agent.bits - fingerprint.bits - jar.bits,)
    return found


def _without_the_address(bits: float, ip: Evidence, fingerprint: Evidence) -> Outcomes:
    """A click is found by its address or its fingerprint; one that is not compared may still be equal."""
    if ip.result != "equal" or fingerprint.result == "equal":
        return (bits,)
    return (None,) if fingerprint.result == "differs" else (None, bits)


def _stays_first(match: Match, bits: float) -> bool:
    """Whether the journey would still be the likeliest if it were less likely by so many bits."""
    own = _probability(match.log_odds_bits) * 2.0**-bits
    return all(rival.probability < own for rival in match.rivals)


def _lacking(match: Match, threshold: int, model: Model) -> float:
    """Bits by which the best click fell short of the threshold; 0 where no evidence would have lifted it there."""
    least = least_for(threshold / 100, model.calibration, model.knots)
    most = min(_most(match), cap_of(match.stratum, match.ua_level, model))
    if least is None or least <= 0 or most < threshold:
        return 0.0
    return max(0.0, log2(least / (1 - least)) - match.log_odds_bits)

"""One conversion's answer: proof, or inference, or the reason why neither; with the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log, log2

from msgspec import structs

from collector.core.calibration import calibrate
from collector.core.matching.eligible import Eligible, sort_out
from collector.core.matching.inference import (
    Inference,
    Journey,
    Weights,
    infer,
    is_a_crowds,
    is_lent,
    pool_of,
    unlearnt_most,
    weigh,
)
from collector.core.matching.lessons import lesson_of_organic, lesson_of_proof
from collector.core.matching.model import BUCKET_NAMES, OTHER_PLATFORM, Model, bucket
from collector.core.matching.proofs import ENRICHING, Proven, older, prove
from collector.core.matching.shapes import (
    DAY_MS,
    RENEWAL,
    Candidate,
    Evidence,
    Match,
    Policy,
    Query,
    Reason,
    Rival,
    Statistics,
)

LN2 = log(2.0)
SHARED_CAP = 49  # a relay's address is everybody's who passes, a crowd's its own for hours
RIVALS_KEPT = 5
PATH_KEPT = 50
ALTERNATIVE = 0.05
# Indexed by level, so that the last word answers for -1.
LEVELS = ("equal", "same_ios_version", "same_android", "same_system", "other_platform", "missing")
EQUALITY = ("differs", "equal", "missing")
_INHERITED = Evidence(RENEWAL, "inherited", 0.0)


def match(query: Query, candidates: Sequence[Candidate], statistics: Statistics, model: Model, policy: Policy) -> Match:
    """The click that this conversion came from, if any, with a confidence that is a probability.

    The answer depends neither on the order of `candidates` nor on row ids. Candidates are of one store and may contain
    anything that shares a key: expired, barred and doubled ones are sorted out here.
    """
    if query.consent == "denied":
        return _unattributed("consent", model, policy)
    eligible = sort_out(query, candidates, policy)
    proven = prove(query, eligible, model, policy)
    before = older(query, eligible, policy)
    inferred = None
    if (proven is None or proven.claimed) and policy.probabilistic and query.consent == "granted":
        inference = infer(query, eligible.fresh, statistics, model, policy)
        inferred = _inferred(query, inference, before, model, policy) if inference is not None else None
    if proven is not None:
        answer = _stronger(_proved(query, proven, before, model, policy), inferred, proven)
        lesson = lesson_of_proof(query, proven, eligible.fresh, statistics, model, policy)
        return structs.replace(answer, label=lesson) if lesson is not None else answer
    if inferred is None:
        nothing = _unattributed(_why_nothing(query, eligible, policy), model, policy)
        return structs.replace(nothing, pool=pool_of(query), journey=_journey(before))
    return inferred


def _stronger(proved: Match, inferred: Match | None, proven: Proven) -> Match:
    """A page's claim gives way to an inference that is surer (P1); the claim stays as a note of the answer."""
    if inferred is None or not proven.claimed or inferred.confidence <= proved.confidence:
        return proved
    same = proven.click is not None and inferred.click == proven.click.id
    note = Evidence(proven.method, "claimed" if same else "claims_another_click", 0.0)
    return structs.replace(inferred, evidence=[*inferred.evidence, note], label=None)


def renew(first: Match, ts: int) -> Match:
    """A subscription's renewal inherits the attribution of the first order, made at `ts`.

    No click is looked for, and nothing learnt.
    """
    since = ts if first.first_ts is None else first.first_ts
    evidence = first.evidence if _INHERITED in first.evidence else [*first.evidence, _INHERITED]
    return structs.replace(first, evidence=evidence, first_ts=since, label=None)


def _unattributed(reason: Reason, model: Model, policy: Policy) -> Match:
    return Match(attributed=False, model=model.version, reason=reason, window_days=policy.window_ms / DAY_MS)


def _why_nothing(query: Query, eligible: Eligible, policy: Policy) -> Reason:
    if eligible.expired:
        return "outside_window"
    if query.fbc_created is not None and query.ts - query.fbc_created > policy.window_ms and not query.fbc_foreign:
        return "outside_window"
    if eligible.denied or (query.consent == "pending" and eligible.fresh):
        return "consent"
    return "no_candidate"


def score_of(probability: float) -> int:
    """A probability as a confidence, before its cap: rounded down, at least 1."""
    return max(1, floor(100 * probability + 1e-9))


def _proved(query: Query, proven: Proven, before: list[Candidate], model: Model, policy: Policy) -> Match:
    mean = model.tiers[proven.method].mean
    score = score_of(mean)
    bits = log2(mean / (1 - mean))
    confidence = min(score, proven.cap, 99)
    attributed, click = confidence >= policy.threshold, proven.click.id if proven.click else None
    return Match(
        attributed=attributed,
        click=click if attributed else None,
        click_ts=proven.ts if attributed else None,
        confidence=confidence if attributed else 0,
        method=proven.method if attributed else None,
        tier=proven.tier,  # type: ignore[arg-type]
        deterministic=attributed and proven.method in ENRICHING and not proven.claimed,
        strong=attributed and confidence >= policy.strong and not proven.claimed,
        reason=None if attributed else "below_threshold",
        best=0 if attributed else confidence,
        best_click=None if attributed else click,
        evidence=_proof_evidence(query, proven, bits),
        log_odds_bits=bits,
        p_any=mean,
        alternatives=1 + len({c.id for _, c in proven.conflicting}),
        path=_path(proven.journey) if attributed else [],
        journey=_journey([*before, *proven.journey] if attributed else before),
        capped_from=score if confidence < score else None,
        model=model.version,
        window_days=policy.window_ms / DAY_MS,
        stratum=bucket(max(0, query.ts - proven.ts)),
    )


def _proof_evidence(query: Query, proven: Proven, bits: float) -> list[Evidence]:
    evidence = [Evidence(proven.method, _kind_of_proof(proven), bits)]
    evidence += [Evidence(name, "agrees", 0.0) for name in proven.agreeing]
    evidence += [Evidence(name, "names_another_click", 0.0) for name, _ in proven.conflicting]
    if proven.sharers > 1:
        evidence.append(Evidence("shared_link", "earliest_hit", 0.0, float(proven.sharers)))
    if proven.ts > query.ts:
        evidence.append(Evidence("clock", "click_stamped_later", 0.0, (proven.ts - query.ts) / 1000))
    return evidence


def _kind_of_proof(proven: Proven) -> str:
    """Of an identity, who vouches for its link with the click's visitor."""
    if proven.click is None:
        return "unseen"
    return ("claimed" if proven.claimed else "confirmed") if proven.tier == "identity" else "equal"


def _journey(clicks: Sequence[Candidate]) -> list[tuple[int, int]]:
    return [(c.id, c.ts) for c in clicks[-PATH_KEPT:]]


def _path(journey: Sequence[Candidate]) -> list[int]:
    return [c.id for c in journey[-PATH_KEPT:]]


def _inferred(query: Query, inference: Inference, before: list[Candidate], model: Model, policy: Policy) -> Match:
    top = inference.journeys[0]
    newest, weights = top.newest, weigh(top.newest, inference.scale)
    score = score_of(calibrate(inference.probability(top), model.calibration, model.knots))
    most = unlearnt_most(weights, inference.scale)
    told = most if weights.fp_equal != 1 else 100
    confidence = min(score, cap_of(weights.bucket, weights.ua_level, model), told)
    shared = is_lent(weights, inference.scale) or is_a_crowds(weights, inference.scale) or told < SHARED_CAP
    if shared:
        confidence = min(confidence, SHARED_CAP)
    attributed = confidence >= policy.threshold
    evidence = _weights(inference, top, weights)
    return Match(
        attributed=attributed,
        click=newest.id if attributed else None,
        click_ts=newest.ts if attributed else None,
        confidence=confidence if attributed else 0,
        method="probabilistic" if attributed else None,
        strong=attributed and confidence >= policy.strong,
        reason=None if attributed else _why_refused(inference, model, policy),
        best=0 if attributed else confidence,
        best_click=None if attributed else newest.id,
        path=_path(top.clicks) if attributed else [],
        journey=_journey([*before, *top.clicks] if attributed else before),
        evidence=evidence,
        log_odds_bits=sum(item.bits for item in evidence),
        p_any=inference.p_any,
        rivals=_rivals(inference),
        alternatives=_alternatives(inference),
        model=model.version,
        window_days=policy.window_ms / DAY_MS,
        stratum=weights.bucket,
        ua_level=weights.ua_level,
        pool=pool_of(query),
        tier="inferred",
        label=lesson_of_organic(query, inference, weights, policy),
        capped_from=score if confidence < score else None,
        shared=shared,
        unlearnt=most,
    )


def cap_of(stratum: int, ua_level: int, model: Model) -> int:
    """What a stratum may state until its labels have earned more."""
    cap = min(model.caps[stratum], 99)
    return min(cap, model.cap_other_platform) if ua_level == OTHER_PLATFORM else cap


def _why_refused(inference: Inference, model: Model, policy: Policy) -> Reason:
    """Ambiguous when some stored click is the likely cause, and only which one is open."""
    any_click = score_of(calibrate(inference.p_any, model.calibration, model.knots))
    return "ambiguous" if any_click >= policy.threshold and len(inference.journeys) > 1 else "below_threshold"


def _alternatives(inference: Inference) -> int:
    least = ALTERNATIVE * (1 + inference.rest + inference.total)
    return sum(1 for j in inference.journeys[: int(1 / ALTERNATIVE)] if j.mass >= least)


def _rivals(inference: Inference) -> list[Rival]:
    others = inference.journeys[1 : 1 + RIVALS_KEPT]
    return [Rival(j.newest.id, round(inference.probability(j), 6)) for j in others]


def _weights(inference: Inference, top: Journey, w: Weights) -> list[Evidence]:
    """The weights in bits; their sum is the log odds of the answer against everything else."""
    scale, others = inference.scale, inference.total - top.mass
    evidence = [
        Evidence("prior", "one_of_all_clicks", scale.prior / LN2, scale.clicks),
        Evidence("time", BUCKET_NAMES[w.bucket], w.time / LN2, (scale.query.ts - top.newest.ts) / 1000),
        Evidence("ip", EQUALITY[w.ip_equal], w.ip / LN2, scale.others_on_ip if w.ip_equal == 1 else None),
        Evidence("user_agent", LEVELS[w.ua_level], w.ua / LN2, scale.others_on_ua if w.ua_level == 0 else None),
        Evidence("fingerprint", EQUALITY[w.fp_equal], w.fp / LN2, scale.others_on_fp if w.fp_equal == 1 else None),
        Evidence("cookie_jar", _jar_word(scale.query, top.newest, w), w.jar / LN2),
        Evidence("unreachable", "clicks_without_a_shared_key", -log2(1 + inference.rest)),
    ]
    if len(top.clicks) > 1:
        more = (log(top.mass) - scale.prior - w.total) / LN2
        evidence.append(Evidence("journey", "clicks_of_one_visitor", more, len(top.clicks)))
    if len(inference.journeys) > 1:
        lost = -log2(1 + others / (1 + inference.rest))
        evidence.append(Evidence("rivals", "other_journeys", lost, len(inference.journeys) - 1))
    return evidence


def _jar_word(query: Query, click: Candidate, w: Weights) -> str:
    if w.jar == 0.0 or query.jar_since is None:
        return "missing"
    return "older_than_the_click" if query.jar_since < click.ts else "made_after_the_click"

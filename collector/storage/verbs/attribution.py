"""Which click does a stored event come from, and what does the click add to it: look up, match, enrich."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import structs

from collector.core import clickid, flags
from collector.core.events import Enrichment, StoredClick, StoredEvent
from collector.core.keyed import KeyedHash
from collector.core.matching import DEFAULT_MODEL, Candidate, Match, Model, Query, Statistics, match, renew
from collector.core.matching.links import People
from collector.exchange import clicks
from collector.exchange.rows import ClickRow
from collector.exchange.stores import Store
from collector.storage.rules.matched import alike, candidate, enrichment_of, first_order
from collector.storage.rules.tables import CLICKS, CONVERSIONS
from collector.storage.verbs.ports import Appending, Finding

_decode_match = msgspec.msgpack.Decoder(Match).decode
_UNASKED = Statistics()  # where no inference is made


class Attribution:
    """Owned by the writer thread; works inside its transaction."""

    def __init__(self, names: KeyedHash, lookup: Finding, appended: Appending, models: Mapping[int, Model]) -> None:
        self._names = names
        self._lookup = lookup
        self._clicks = appended
        self._read: dict[int, ClickRow] = {}  # the candidates of the event that is being matched
        self.models = models  # of stores that have learnt something

    def take_models(self, newest: Mapping[int, Model]) -> None:
        """Put in force what the last night has learnt."""
        if {store: m.version for store, m in newest.items()} != {store: m.version for store, m in self.models.items()}:
            self.models = newest

    def of(
        self, store: Store, query: Query, people: People, event: StoredEvent, now: int
    ) -> tuple[Match, Enrichment, StoredClick | None]:
        """The answer, what the click adds on proof, and the click. `people`: visitors that its identities lead to."""
        model = self.models.get(store.number, DEFAULT_MODEL)
        if event.bot is not None:
            return Match(attributed=False, model=model.version, reason="no_candidate"), Enrichment(), None
        query.identity_visitors, query.claimed = people.visitors, people.claimed
        if query.fbc_k is not None and store.siblings:
            fbc = clickid.parse_fbc(event.fbc or "")
            query.fbc_foreign = fbc is not None and self._known_elsewhere(store, fbc.fbclid, event.ts)
        while True:
            found = self._found(store, query, event, model)
            if found.click is None or self._lookup.confirm(found.click):
                break
        if (event.renewal_of is not None or event.refund_of is not None) and query.consent != "denied":
            found = self._renewed(store, event) or found
        if found.attributed and found.click is None and found.method == "fbc_unseen":
            found = self._recover(store, query, event, found, now)
        return found, *self.enrichment(found)

    def _found(self, store: Store, query: Query, event: StoredEvent, model: Model) -> Match:
        """Proof first: where the event's own identifiers name its click, nobody asks which others look alike."""
        lookup, policy = self._lookup, store.policy
        named = lookup.named(query, policy.click_ms, store=store.number)
        if named.whole and (named.own or query.fbc_k is not None):
            candidates = self._candidates(store, query, event, named.ids)
            found = match(query, candidates, _UNASKED, model, policy)
            if found.tier in ("click", "device"):  # further clicks and their frequencies say nothing about these
                return found
        ids = named.ids
        if policy.probabilistic and query.consent == "granted":
            ids = ids | lookup.alike(query, policy.window_ms, store=store.number)
        candidates = self._candidates(store, query, event, ids)
        weighed = any(alike(query, c) for c in candidates)
        statistics = lookup.statistics(store.number, query, policy.window_ms) if weighed else _UNASKED
        return match(query, candidates, statistics, model, policy)

    def _candidates(self, store: Store, query: Query, event: StoredEvent, ids: set[int]) -> list[Candidate]:
        rows = self._lookup.rows_of(store.number, ids)
        if store.siblings:
            rows = [row for row in rows if not self._is_a_siblings(store, row, event.ts)]
        if query.click_id is not None:
            named = [row for row in rows if row.id == query.click_id and row.flags & flags.RECOVERED]
            rows += [real for row in named for real in self._told_of(store, query, row)]
        self._read = {row.id: row for row in rows}
        if store.config.count == "one":
            query.taken = self._lookup.taken(set(self._read), query, event.event_type, store=store.number)
        return list(map(candidate, rows))

    def _is_a_siblings(self, store: Store, row: ClickRow, ts: int) -> bool:
        """Whether it was recovered from an fbc before the store told us of the click that it belongs to."""
        return bool(row.flags & flags.RECOVERED) and self._known_elsewhere(store, clicks.read(row).fbclid, ts)

    def _told_of(self, store: Store, query: Query, row: ClickRow) -> list[ClickRow]:
        """The hits that we were told of since the caller learnt the click's name: the first is what it names now."""
        same = self._lookup.find(CLICKS, "fbclid", row.fbclid_k or 0, 0, store=store.number)
        hits = self._lookup.rows_of(store.number, set(same))
        real = [hit for hit in hits if hit.fbclid_k == row.fbclid_k and not hit.flags & flags.UNCOUNTED]
        if real:
            query.click_id = min(real, key=lambda hit: (hit.ts, hit.visitor_k or 0)).id
        return real

    def _known_elsewhere(self, store: Store, fbclid: str, ts: int) -> bool:
        """Whether another store on the same domain has a click of this id: then it is that store's click."""
        return any(self._known_in(other, fbclid, ts - store.policy.click_ms) for other in store.siblings)

    def _known_in(self, store: int, fbclid: str, since: int) -> bool:
        """Whether the store was told of such a click; one that it knows from an fbc alone is nobody's yet."""
        name = self._names.name(store, "fbclid", fbclid)
        rows = self._lookup.click_rows(set(self._lookup.find(CLICKS, "fbclid", name, since, store=store)))
        return any((row.store, row.fbclid_k) == (store, name) and not row.flags & flags.RECOVERED for row in rows)

    def _renewed(self, store: Store, event: StoredEvent) -> Match | None:
        """A renewal inherits the first order's attribution, a refund its order's."""
        if event.refund_of is not None:
            return next(
                (renew(_decode_match(r.match), r.ts) for r in self._lookup.conversion_rows({event.refund_of})), None
            )
        first = first_order(self._names, store.number, event)
        found = self._lookup.find(CONVERSIONS, "dedup", first, 0, 4, store=store.number)
        for row in self._lookup.conversion_rows(set(found)):
            if row.store == store.number and row.dedup_k == first:
                return renew(_decode_match(row.match), row.ts)
        return None

    def _recover(self, store: Store, query: Query, event: StoredEvent, found: Match, now: int) -> Match:
        """Keep the click that a later fbc proves, so that it can be named and found again."""
        fbc = clickid.parse_fbc(event.fbc or "")
        if fbc is None:
            return found
        new = clicks.recovered(self._names, store.number, fbc.fbclid, event.fbc or "", fbc.created, now)
        (result,) = self._clicks.append([new])
        path, journey = [*found.path, result.id], [*found.journey, (result.id, fbc.created)]
        return structs.replace(found, click=result.id, path=path, journey=journey)

    def enrichment(self, found: Match) -> tuple[Enrichment, StoredClick | None]:
        """What the credited click adds: everything on proof, nothing on inference."""
        if found.click is None:
            return Enrichment(), None
        row = self._read.get(found.click) or next(iter(self._lookup.click_rows({found.click})), None)
        if row is None:
            return Enrichment(), None
        click = clicks.read(row)
        if not found.deterministic:
            return Enrichment(), click
        if self._lookup.is_new(found.click):
            self._clicks.flush()
        return enrichment_of(row, click, self._lookup.network(found.click)), click

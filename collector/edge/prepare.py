"""A decoded body, checked, hashed and named: all that can be done with it before the journal takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from collector.config import Config
from collector.core import addresses, bots, consent, intake, lenient, refused, wire
from collector.core.events import ClickBody, Consent, ConversionBody
from collector.core.ids import PublicIds
from collector.core.intake import Caller
from collector.core.keyed import KeyedHash
from collector.edge import auth
from collector.errors import ApiError
from collector.exchange import clicks, naming
from collector.exchange.keys import ApiKey
from collector.exchange.prepared import Prepared, PreparedClick, PreparedEvent
from collector.exchange.stores import Store


class Preparer:
    """Under one configuration. `clock` gives milliseconds; `count` adds one to a daily figure of a store."""

    def __init__(
        self,
        config: Config,
        stores: Mapping[str, Store],
        names: KeyedHash,
        public: PublicIds,
        clock: Callable[[], int],
        count: Callable[[int, str], None],
    ) -> None:
        self._config = config
        self._stores = stores
        self._names, self._public = names, public
        self._store_ip = config.privacy.store_ip
        self._clock, self._count = clock, count
        # What is in force where neither the event nor the browser says anything: nearly always.
        self._unsaid = {s.number: self._decision(None, s, False) for s in stores.values()}

    def click(
        self, body: ClickBody, caller: Caller, store: Store, ignored: Sequence[str] = (), now: int | None = None
    ) -> PreparedClick:
        """A click body, checked and named; ApiError for what the caller must mend. `now` in ms, where it is known."""
        agent = body.user_agent or (None if caller.secret else caller.user_agent)
        bot: str | None = bots.of_user_agent(agent) if agent else None
        if store.config.excluded_addresses:
            bot = bot or _excluded_address(body, caller, store)
        decision, site = self._decide(body, caller, store), store.profile.url
        checked = intake.check_click(body, caller, decision, now or self._clock(), bot, site)
        operation = clicks.prepare(self._names, store.number, checked, self._store_ip)
        left_out = (*ignored, *checked.ignored) if ignored or checked.ignored else ()
        if left_out:
            self._count_left_out(store, left_out)
        return PreparedClick(operation, checked.reason, checked.time_corrected, left_out)

    def event(self, body: ConversionBody, caller: Caller, store: Store, ignored: Sequence[str] = ()) -> PreparedEvent:
        """A conversion or funnel event, checked, hashed and named; ApiError for what the caller must mend."""
        agent = body.user_agent or (None if caller.secret else caller.user_agent)
        bot: str | None = bots.of_user_agent(agent) if agent else None
        if bot is not None and caller.secret and intake.is_order(body):
            # L5: a sale is one whoever carried the message; the messenger's agent says nothing about the buyer.
            body.user_agent, bot, ignored = None, None, [*ignored, "userAgent"]
        if store.config.excluded_addresses or store.config.excluded_emails:
            bot = bot or _excluded_address(body, caller, store) or _excluded_email(body, store)
        decision, country, site = self._decide(body, caller, store), store.config.country, store.profile.url
        checked = intake.check_event(body, caller, decision, self._clock(), bot, country, site)
        operation = naming.prepare(
            self._names,
            self._public,
            store,
            checked,
            self._store_ip,
            caller.address,
        )
        left_out = [*ignored, *checked.ignored, *checked.dropped]
        if left_out:
            self._count_left_out(store, left_out)
        return PreparedEvent(operation, left_out)

    def _count_left_out(self, store: Store, names: Sequence[str]) -> None:
        """By field, once an event; names that we do not know are the caller's own, and as many as he likes."""
        for name in {lenient.field_of(name) for name in names} - {None}:
            self._count(store.number, f"left_out.{name}")

    def _decide(self, body: ClickBody | ConversionBody, caller: Caller, store: Store) -> consent.Decision:
        if body.consent is None and not caller.opted_out:
            return self._unsaid[store.number]
        return self._decision(body.consent, store, caller.opted_out)

    def _decision(self, said: Consent | None, store: Store, opted_out: bool) -> consent.Decision:
        privacy = self._config.privacy
        return consent.decide(
            said,
            default=store.config.default_consent or privacy.default_consent,
            ldu=privacy.ldu if store.config.ldu is None else store.config.ldu,
            opted_out=opted_out,
            gpc=privacy.gpc,
        )

    def items(
        self, decoded: Sequence[tuple[wire.Item, Sequence[str]] | ApiError], caller: Caller, key: ApiKey, now: int
    ) -> list[Prepared | ApiError]:
        """Each item of a batch, checked and named, or what is wrong with it. `now` in ms."""
        store: Store | None = None
        items: list[Prepared | ApiError] = []
        for one in decoded:
            if isinstance(one, ApiError):
                items.append(one)
                continue
            body, ignored = one
            try:
                if store is None or body.store_id != store.config.id:  # nearly always the item before had the same
                    store = auth.store_for(self._stores, key, body.store_id)
                if isinstance(body, ClickBody):
                    items.append(self.click(body, caller, store, ignored, now))
                else:
                    items.append(self.event(body, caller, store, ignored))
            except ApiError as error:
                error.order = "" if isinstance(body, ClickBody) else refused.number_of(body.order_id)
                items.append(error)
        return items


def _excluded_address(body: ClickBody | ConversionBody, caller: Caller, store: Store) -> str | None:
    """Staff and monitoring are no customers: `excluded_addresses` of the store."""
    text = body.ip_address if caller.secret else caller.address
    address = addresses.normalise(text) if text else None
    return "excluded" if address is not None and address in store.config.excluded_addresses else None


def _excluded_email(body: ConversionBody, store: Store) -> str | None:
    """As `_excluded_address`, for `excluded_emails`."""
    given = body.customer_data.email if body.customer_data else None
    emails = given if isinstance(given, list) else [given] if given else []
    excluded = {email.strip().lower() for email in store.config.excluded_emails}
    return "excluded" if any(email.strip().lower() in excluded for email in emails) else None

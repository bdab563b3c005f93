/*
 * The shop's page tells the collector what happens: page views with their click ids, events, who the visitor is.
 *
 * This is the readable source; collector.min.js is made from it (tests/browser/test_minified.py says how, and fails when
 * they differ). The server puts its settings in the place of __SETTINGS__:
 *   {b: beacon path, g: pixel path, both relative to this script, o: rule for the browser's opt-out signal,
 *    d: [default consent, pixel mode], s: {store: [default consent, pixel mode]} of stores that differ}
 *
 * Promises: no error reaches the page; nothing is stored, and nothing sent, before consent allows it; every event carries
 * an id, so that sending it twice counts once; no parameter has a name that block lists know.
 */
(function (win, doc, settings) {
  'use strict';

  const script = doc.currentScript || doc.querySelector('script[data-store]');
  const tag = script && script.dataset;
  if (!tag || !tag.store) return;
  const name = tag.name || 'collector';
  const stub = win[name];
  if (stub && stub.live) return; // two tags on one page count once

  const nav = navigator;
  const store = tag.store;
  const [consentByDefault, pixelMode] = settings.s[store] || settings.d;
  const optedOut = nav.globalPrivacyControl || nav.doNotTrack == 1 || win.doNotTrack == 1;
  const endpoint = (path) => new URL(path, script.src).href;

  const MEMORY = '_ct_' + store; // first and last touch; that it is there says that consent was given on this device
  const QUEUE = '_cq_' + store; // events that could not be sent
  const MAX_QUEUED = 50;
  const MAX_AGE = 6048e5; // 7 days: the server takes no older event from a page
  const MAX_TRIES = 8;
  const FROM_AD = /[?&](fbclid|utm_\w+|(campaign|adset|ad)_?id)=/i;
  const STANDARD =
    /^(AddPaymentInfo|AddToCart|AddToWishlist|CompleteRegistration|Contact|CustomizeProduct|Donate|FindLocation|InitiateCheckout|Lead|PageView|Purchase|Schedule|Search|StartTrial|SubmitApplication|Subscribe|ViewContent)$/;

  let waiting = []; // events not sent yet: before consent they live here only
  let flying = []; // events sent, not answered yet
  let late = []; // events for a pixel that is not on the page yet
  let said = {}; // who said what about consent
  let person; // what identify was told, for this page only
  let url; // of the page view counted last
  let view; // that page view
  let reported; // the page view sent last
  let born; // seed of the visitor id, where the browser stores nothing
  let timer;
  let failures = 0;
  let resume = 0; // nothing is posted before, after a failure

  const log = (...words) => {
    if (tag.debug != null) console.info('[' + name + ']', ...words);
  };
  // Whatever goes wrong in here stays in here.
  const safe =
    (work) =>
    (...given) => {
      try {
        return work(...given);
      } catch (error) {
        log(error);
      }
    };
  const on = (target, type, work) => target.addEventListener(type, safe(work));

  // --- what the browser keeps ---------------------------------------------------------------------------------------

  const recall = safe((key) => JSON.parse(localStorage.getItem(key)));
  const keep = safe((key, value) =>
    value ? localStorage.setItem(key, JSON.stringify(value)) : localStorage.removeItem(key)
  );
  const fresh = (event) => event.n < MAX_TRIES && Date.now() - event.at < MAX_AGE;
  // Customer data stays in memory: a queue in the browser is no place for it.
  const park = (events) => {
    const parked = (recall(QUEUE) || []).concat(events.map((event) => ({ ...event, h: undefined })));
    keep(QUEUE, parked.filter(fresh).slice(-MAX_QUEUED));
  };

  // The first and the last page that an ad or a campaign led to, with their times.
  const touch = () => {
    const memory = recall(MEMORY) || {};
    if (view && FROM_AD.test(view.u) && (memory.l || [])[1] != view.u) {
      memory.l = [view.at, view.u];
      memory.f = memory.f || memory.l;
    }
    // What the server makes the visitor id from where no cookie has come yet: two posts at once are one visitor's.
    memory.v = memory.v || (born = born || [random() + random(), Date.now()]);
    keep(MEMORY, memory);
    return memory;
  };

  // --- consent ------------------------------------------------------------------------------------------------------

  const spoken = (word) => (said.page ? said.page == word : Object.values(said).includes(word)) && word;
  // The page's own word counts before a consent tool's; of several tools the strictest counts.
  const consent = () =>
    spoken('denied') ||
    spoken('pending') ||
    spoken('granted') ||
    (optedOut && settings.o == 'honour' ? 'denied' : tag.consent || consentByDefault);
  const say = (who, word) => {
    if (said[who] == word) return;
    said[who] = word;
    log('consent', who, word, '->', consent());
    atOnce();
  };
  const yes = (allowed) => (allowed ? 'granted' : 'denied');

  const adapters = [
    // WP Consent API: a cookie records a refusal; before it, "no" only means "not asked yet".
    () => {
      const allows = win.wp_has_consent;
      const refused = /consent_marketing=deny/.test(doc.cookie);
      if (allows) say('wp', allows('marketing') ? 'granted' : refused ? 'denied' : 'pending');
      on(doc, 'wp_listen_for_consent_change', (event) => {
        if (event.detail.marketing) say('wp', yes(event.detail.marketing == 'allow'));
      });
    },
    // Shopify's customer privacy, which loads when it is asked for.
    () => {
      on(doc, 'visitorConsentCollected', (event) => say('shopify', yes(event.detail.marketingAllowed)));
      const shopify = win.Shopify;
      if (!shopify || !shopify.loadFeatures) return;
      say('shopify', 'pending');
      shopify.loadFeatures(
        [{ name: 'consent-tracking-api', version: '0.1' }],
        safe((error) => {
          const privacy = shopify.customerPrivacy;
          if (error || !privacy) return say('shopify');
          const refused = privacy.currentVisitorConsent().marketing == 'no';
          say('shopify', privacy.marketingAllowed() ? 'granted' : refused ? 'denied' : 'pending');
        })
      );
    },
    // IAB TCF v2: purposes 1 storage, 3 and 4 advertising by profile, 7 its measurement.
    () => {
      if (!win.__tcfapi) return;
      say('tcf', 'pending');
      win.__tcfapi(
        'addEventListener',
        2,
        safe((data, ok) => {
          if (!ok) return;
          if (data.gdprApplies === false) return say('tcf');
          const decided = /tcloaded|useractioncomplete/.test(data.eventStatus);
          say('tcf', decided ? yes([1, 3, 4, 7].every((purpose) => data.purpose.consents[purpose])) : 'pending');
        })
      );
    },
    // Google Consent Mode: a default of "denied" is asked later, an update is the visitor's answer.
    () => {
      const hear = safe((entry) => {
        if (!entry || entry[0] != 'consent' || !entry[2].ad_storage) return;
        const refused = [entry[2].ad_storage, entry[2].ad_user_data].includes('denied');
        if (entry[1] == 'update') say('google', yes(!refused));
        else if (refused && !said.google) say('google', 'pending');
      });
      const layer = win.dataLayer;
      if (!layer) return;
      const push = layer.push;
      layer.forEach(hear);
      layer.push = function (...entries) {
        entries.forEach(hear);
        return push.apply(this, entries);
      };
    },
  ];

  // What was granted is taken back: the server removes its cookies and forgets the visitor.
  const forget = () => {
    waiting = late = [];
    const memory = recall(MEMORY) || (born && { v: born });
    if (!memory) return;
    born = 0;
    keep(MEMORY);
    keep(QUEUE);
    deliver({ s: store, k: tag.key, v: memory.v, x: 1 }, []);
  };

  // --- sending ------------------------------------------------------------------------------------------------------

  const soon = () => {
    timer = timer || setTimeout(safe(flush), Math.max(0, resume - Date.now()));
  };
  const atOnce = () => {
    clearTimeout(timer);
    timer = resume = 0;
    soon();
  };

  const flush = (closing) => {
    clearTimeout(timer);
    timer = 0;
    const state = consent();
    if (state == 'denied') return forget();
    if (state == 'pending') return;
    // A grant after a refusal (or after the browser's opt-out signal) is for the page that is still open, too.
    if (view && view != reported && !waiting.includes(view)) waiting.unshift(view);
    if (!waiting.length) return;
    if (!closing && Date.now() < resume) return soon();
    const events = waiting.splice(0, 20);
    while (events.length > 1 && JSON.stringify(events).length > 5e4) waiting.unshift(events.pop()); // 64 KB a post
    if (events.includes(view)) reported = view;
    const memory = touch();
    events.forEach(safe(mirror));
    const body = {
      s: store,
      k: tag.key,
      n: Date.now(),
      c: spoken('granted') || tag.consent,
      v: memory.v,
      l: memory.l,
      f: memory.f,
      w: +!!nav.webdriver,
      e: events,
    };
    deliver(body, events, closing);
    if (waiting.length) closing ? flush(1) : soon();
  };

  const deliver = (body, events, closing) => {
    const text = JSON.stringify(body);
    const beacon = endpoint(settings.b);
    const without = () => {
      // text/plain needs no preflight. A pixel is the last resort, for small bodies.
      if (nav.sendBeacon && nav.sendBeacon(beacon, text)) return true;
      if (text.length < 4e3) new Image().src = endpoint(settings.g) + '?d=' + encodeURIComponent(text);
    };
    if (closing || !win.fetch) {
      // A beacon that is taken is not yet one that arrives: what has failed before is also kept for the next page.
      if (!without() || nav.onLine === false || events.some((event) => event.n)) park(events);
      return;
    }
    flying.push(...events);
    const settle = (again) => {
      flying = flying.filter((event) => !events.includes(event));
      if (!again) return (failures = 0);
      if (Date.now() >= resume) resume = Date.now() + Math.min(3e5, 2e3 * 2 ** failures++);
      events.forEach((event) => event.n++);
      waiting = events.filter(fresh).concat(waiting).slice(-MAX_QUEUED);
      soon();
    };
    // keepalive outlives the page, but takes 64 KB at most.
    fetch(beacon, { method: 'POST', body: text, keepalive: text.length < 6e4, credentials: 'include' }).then(
      safe((answer) => {
        log(answer.status, answer.headers.get('Collector-Reason') || 'taken', body);
        settle(answer.status == 429 || answer.status > 499);
      }),
      safe((error) => {
        log(error, body);
        without(); // a blocker of one kind of request may let another pass; the ids make a second copy harmless
        settle(1);
      })
    );
  };

  // --- the pixel beside it ------------------------------------------------------------------------------------------

  const mirror = (event) => {
    if (pixelMode != 'pixel+server' || event.m) return;
    event.m = 1;
    if (!win.fbq) return late.push(event);
    const order = event.d.order_id;
    const call = (eventID) => win.fbq(STANDARD.test(event.t) ? 'track' : 'trackCustom', event.t, event.d, { eventID });
    if (event.i) return call(event.i);
    // The server derives the same id from the order, so that Meta keeps one of the two.
    crypto.subtle
      .digest('SHA-256', new TextEncoder().encode(store + '|' + event.t + '|' + order))
      .then((hash) => [...new Uint8Array(hash, 0, 16)].map((byte) => byte.toString(16).padStart(2, 0)).join(''))
      .then(safe(call), log);
  };

  // --- events -------------------------------------------------------------------------------------------------------

  const random = () =>
    [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => (byte % 36).toString(36)).join('') +
    Date.now().toString(36);

  const add = (type, data, options) => {
    const order = data.order_id || data.orderId || data.transaction_id;
    if (order) data.order_id = order;
    const event = {
      t: type,
      i: (options && options.eventID) || (order ? undefined : random()),
      at: Date.now(),
      u: location.href,
      r: doc.referrer,
      d: data,
      h: person,
      n: 0,
    };
    waiting.push(event);
    waiting = waiting.slice(-MAX_QUEUED);
    soon();
    return event;
  };

  // A page counts once however it is come by: loaded, pushed, or come back to.
  const page = (path) => {
    const next = new URL(path || '', location.href).href.split('#')[0];
    if (next == url) return;
    const before = url;
    url = next;
    view = add('PageView', {});
    view.u = next;
    if (before) return (view.r = before);
    // A router may have cleaned the address before this script came.
    const landed = performance.getEntriesByType('navigation')[0];
    if (landed && FROM_AD.test(landed.name) && !FROM_AD.test(next)) view.u = landed.name;
  };

  const commands = {
    track: (type, data, options) => add(type, { ...data }, options),
    consent: (word) => say('page', word),
    page,
    identify: (customer) => {
      person = { ...person, ...customer };
      waiting.forEach((event) => (event.h = person));
      // Told after the page view has gone: the same event again, richer; the server merges the two.
      if (view && !waiting.includes(view)) waiting.push((view = { ...view, h: person }));
      soon();
    },
  };
  const run = safe((command, ...given) => commands[command] && commands[command](...given));

  const start = () => {
    win[name] = run;
    run.live = 1;
    adapters.forEach((adapter) => safe(adapter)());
    waiting = (recall(QUEUE) || []).filter(fresh);
    keep(QUEUE);
    const follow = tag.auto != 'off';
    if (follow) {
      safe(page)();
      const push = history.pushState;
      history.pushState = function (...given) {
        const result = push.apply(this, given);
        setTimeout(safe(page)); // after the redirects that a router makes in the same turn
        return result;
      };
      on(win, 'popstate', () => setTimeout(safe(page)));
    }
    ((stub && stub.q) || []).forEach((given) => run(...given));
    on(win, 'pageshow', (event) => {
      if (!event.persisted || !follow) return;
      url = '';
      page();
    });
    on(win, 'load', () => late.splice(0).forEach((event) => win.fbq && mirror({ ...event, m: 0 })));
    on(win, 'online', atOnce);
    on(doc, 'visibilitychange', () => doc.hidden && flush(1));
    on(win, 'pagehide', () => {
      flush(1);
      if (flying.length) park(flying); // unanswered: once more from the next page, and counted once
    });
    soon();
  };

  safe(() => (doc.prerendering ? on(doc, 'prerenderingchange', start) : start()))();
})(window, document, __SETTINGS__);

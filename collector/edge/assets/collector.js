/*
 * The shop's page tells the collector what happens: page views with their click ids, events, who the visitor is.
 *
 * This is the readable source; collector.min.js is made from it (tests/browser/test_minified.py says how, and fails when
 * they differ). The server puts the address of collector.pixel.js in the place of __PIXEL__, its settings in that of __SETTINGS__:
 *   {b: beacon path, g: pixel path, both relative to this script, u: the script's address where [edge] public_url is set,
 *    o: rule for the browser's opt-out signal, d: [default consent, pixel mode],
 *    s: {store: [default consent, pixel mode]} of stores that differ}
 *
 * Promises: no error reaches the page; nothing is stored, and nothing sent, before consent allows it; every event carries
 * an id, so that sending it twice counts once; one bad event is one bad event; no parameter has a name that block lists
 * know. Limits are in bytes, and below the server's: 64 KB a post, 4096 an address.
 *
 * The minified one begins with allFunctionsCalledOnLoad: V8 then parses nothing twice, which saves a quarter of its time
 * (tests/browser/cost.py). Nearly all of it runs at once, so nothing is compiled in vain.
 */
(function (win, doc, settings) {
  // Optimisers move, copy, combine, inline and delay scripts: the one that runs may not be the one that says the store.
  const running = doc.currentScript || 0;
  const script = (running.dataset || 0).store ? running : doc.querySelector('script[data-store]') || running;
  const tag = script.dataset || 0;
  const store = tag.store || settings.t;
  const name = tag.name || 'collector';
  const address = tag.endpoint || settings.u || script.src || tag.src || running.src;
  const warn = (why) => console.warn(name, why);
  if (!store || !address) return warn('data-store?');
  const stub = win[name] || 0;
  if (stub.live) return; // two tags on one page count once

  const rules = settings.s[store] || settings.d; // default consent, pixel mode
  const endpoint = (path) => new URL(path, new URL(address, doc.baseURI));

  const MEMORY = '_ct_' + store; // first and last touch; that it is there says that consent was given on this device
  const QUEUE = '_cq_' + store; // events that could not be sent
  const MAX_QUEUED = 50;
  const MAX_AGE = 6048e5; // 7 days: the server takes no older event from a page
  const MAX_TRIES = 8;
  const FROM_AD = /([?&#;])(fbclid|utm_\w+|(campaign|adset|ad)_?id)=[^&#]*/gi;

  let waiting = []; // events not sent yet: before consent they live here only
  let heaps = []; // posts that failed or were refused: no more than half of one goes in one post again
  let flying = []; // events sent, not answered yet
  let said = {}; // who said what about consent
  let person; // what identify was told, for this page only
  let url; // of the page view counted last
  let view; // that page view
  let reported; // the page view sent last, or that something was
  let born; // seed of the visitor id, where the browser stores nothing
  let timer;
  let failures = 0;
  let resume = 0; // nothing is posted before, after a failure
  let told; // the console knows that the posts go astray
  let wait = 250; // until the next look for a consent tool

  const log = (...words) => {
    if (tag.debug != null) console.info(name, ...words);
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

  const now = () => +new Date(); // pages replace Date.now by things that tell fractions, or a Date
  // Prototype.js makes texts of arrays, and JSON has no BigInt, of all types the one before 'bo'.
  const encode = (value) =>
    JSON.stringify(value, function (key, made) {
      return Array.isArray(this[key]) ? this[key] : typeof made < 'bo' ? '' + made : made;
    });
  // What a page hands over, as data: a field that JSON cannot hold, or that is too large, is left out alone.
  const plain = (data) => {
    const kept = {};
    Object.keys(data || 0).forEach(
      safe((key) => {
        const text = encode(data[key]);
        if (text.length < 18e3) kept[key] = JSON.parse(text);
      })
    );
    return kept;
  };
  // Of a long address the path and what an ad has put there stay.
  const cut = (url) =>
    url && url.length > 3e3
      ? url.split(/[?#]/)[0].slice(0, 1e3) + '?' + (url.match(FROM_AD) || []).join('').slice(1, 1e3)
      : url;
  const fit = safe((event) => ({ ...event, u: cut(event.u), r: cut(event.r) }));

  const recall = safe((key) => JSON.parse(localStorage[key] || 0));
  const keep = safe((key, value) => {
    if (value) localStorage[key] = encode(value);
    else delete localStorage[key];
  });
  const fresh = (event) => event && event.n < MAX_TRIES && now() - event.at < MAX_AGE;
  const parked = () => [].concat(recall(QUEUE) || []).map(fit);
  // Customer data stays in memory: a queue in the browser is no place for it.
  const park = (events) => {
    const all = parked().concat(events.map((event) => ({ ...event, h: null })));
    keep(QUEUE, all.slice(-MAX_QUEUED));
  };

  // The first and the last page that an ad or a campaign led to, with their times.
  const touch = () => {
    const memory = recall(MEMORY) || {};
    // An older script kept addresses of any length, and times of any kind.
    for (const key in memory)
      memory[key] = safe((pair) => pair.map((part) => (part % 1 ? part - (part % 1) : cut(part))))(memory[key]);
    if (view && view.u.match(FROM_AD) && (memory.l || [])[1] != view.u) {
      memory.l = [view.at, view.u];
      memory.f = memory.f || memory.l;
    }
    // What the server makes the visitor id from where no cookie has come yet: two posts at once are one visitor's.
    memory.v = memory.v || (born = born || [random(), now()]);
    keep(MEMORY, memory);
    return memory;
  };

  // --- consent ------------------------------------------------------------------------------------------------------

  // The page's own word counts before a consent tool's; of several tools the strictest counts.
  const spoken = () => said.page || Object.values(said);
  const consent = () =>
    ['denied', 'pending', 'granted'].find((word) => spoken().includes(word)) ||
    (settings.o == 'honour' && (navigator.globalPrivacyControl || navigator.doNotTrack == 1) ? 'denied' : tag.consent || rules[0]);
  const say = (who, word) => {
    if (said[who] == word) return;
    said[who] = word;
    atOnce();
  };

  // A "no" that may be one not given yet is a refusal of what was told already.
  const may = (granted, refused) => (granted ? 'granted' : refused || reported ? 'denied' : 'pending');
  // What a tool's cookie holds: the visitor's answer, there before any script.
  const kept = (pattern) => {
    const found = jar.match(pattern);
    return found && may(found[1], 1);
  };
  const TYPES = ['ad_storage', 'ad_user_data'];
  const defaults = {};
  const updates = {};
  let regional; // there are defaults for some regions only: Google's tag knows whether this visitor's is among them
  let layer;
  let ics;
  let asked; // Shopify's loadFeatures
  let api; // TCF's
  let jar; // the cookies: reading them costs more than all the rest, so that only an event has them read again
  let wp; // what events told
  let shopify;
  let tcf;

  // Each is asked again while the page loads and for a while after: consent tools come when they like.
  const tools = [
    // WP Consent API: without a consent type its "yes" is nobody's, and where none comes the store's default counts.
    () =>
      kept(/consent_marketing=(allow)?/) ||
      wp ||
      (win.wp_has_consent && (win.wp_consent_type ? may(win.wp_has_consent('marketing')) : wait < 3e3 && 'pending')),
    // Shopify's customer privacy, which loads when it is asked for, or does not.
    () => {
      const { loadFeatures, customerPrivacy } = win.Shopify || 0;
      if (loadFeatures != asked) {
        asked = loadFeatures;
        win.Shopify.loadFeatures([{ name: 'consent-tracking-api', version: '0.1' }], look);
      }
      return shopify || (customerPrivacy ? may(customerPrivacy.marketingAllowed()) : asked && wait < 3e3 && 'pending');
    },
    // IAB TCF v2: purposes 1 storage, 3 and 4 advertising by profile, 7 its measurement.
    () => {
      // A stub gives way to the tool itself.
      if (win.__tcfapi != api) {
        api = win.__tcfapi;
        api(
          'addEventListener',
          2,
          safe((data) => {
            if (data.gdprApplies == 0) tcf = 'none';
            else if (/loaded|complete/.test(data.eventStatus))
              tcf = may([1, 3, 4, 7].every((purpose) => data.purpose.consents[purpose]), 1);
            look();
          })
        );
      }
      return tcf || (api && 'pending');
    },
    // Google Consent Mode: what is pushed, and what Google's tag makes of it, of templates and of regions.
    () => {
      const data = win.dataLayer || [];
      data.forEach((entry) => {
        if (!entry || entry[0] != 'consent') return;
        if (entry[2].region) regional = 1;
        else Object.assign(entry[1] == 'update' ? updates : defaults, entry[2]);
      });
      if (data != layer) {
        layer = data;
        const push = data.push;
        data.push = function () {
          const result = push.apply(this, arguments);
          look();
          return result;
        };
      }
      const found = (win.google_tag_data || 0).ics;
      if (found != ics) (ics = found).addListener(TYPES, look);
      // An update is the visitor's answer. A default of "denied" is asked later; "granted" holds once the page is there.
      const states = TYPES.map(
        (type) => updates[type] || (ics && [0, 'granted', 'denied'][ics.getConsentState(type)]) || defaults[type]
      );
      const early = doc.readyState > 'd'; // not complete
      return states.includes('denied')
        ? may(0, TYPES.some((type) => updates[type] == 'denied'))
        : states.includes('granted') && (updates.ad_storage || !early)
        ? 'granted'
        : regional && early && 'pending';
    },
    // Cookiebot, and OneTrust, whose targeting is C0004 and whose cookie is an answer once the box was closed.
    () => {
      const { consent } = win.Cookiebot || 0;
      return kept(/CookieConsent=.*marketing:(true)?/) || (consent && may(consent.marketing));
    },
    () =>
      kept(/^(?=.*OptanonAlertBox).*C0004[:%3A]+(1)?/) ||
      (win.OnetrustActiveGroups && may(/C0004/.test(win.OnetrustActiveGroups))),
  ];
  const look = safe((event) => {
    if (event) jar = doc.cookie;
    const { marketing, marketingAllowed } = (event || 0).detail || 0;
    if (marketing) wp = may(marketing == 'allow', 1);
    if (marketingAllowed != null) shopify = may(marketingAllowed, 1);
    // One that throws when it is told to call back has a word all the same.
    tools.forEach((tool, who) => say(who, safe(tool)() || safe(tool)()));
    soon();
  });
  const watch = (first) => {
    look(first);
    if ((wait *= 2) < 3e4) setTimeout(watch, wait);
  };

  // What was granted is taken back: the server removes its cookies and forgets the visitor.
  const forget = () => {
    waiting = [];
    const memory = recall(MEMORY) || (born && { v: born });
    if (!memory) return;
    born = reported = 0; // who grants after that is counted anew
    keep(MEMORY);
    keep(QUEUE);
    deliver({ s: store, k: tag.key, v: memory.v, x: 1 }, []);
  };

  // --- sending ------------------------------------------------------------------------------------------------------

  const soon = () => {
    timer = timer || setTimeout(safe(flush), resume - now());
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
    // Consent tools stand at the end of pages, too: the store's default counts when nobody has spoken until there.
    if (state == 'pending' || (!closing && doc.readyState == 'loading')) return;
    // A grant after a refusal (or after the browser's opt-out signal) is for the page that is still open, too.
    if (view && view != reported && !waiting.includes(view)) waiting.unshift(view);
    if (!waiting.length) return;
    if (now() < resume) return closing ? park(waiting.splice(0)) : soon();
    const events = waiting.splice(0, 20);
    const hasMost = (heap) => heap.filter((event) => events.includes(event))[heap.length >> 1];
    while (events[1] && (encode(events).length > 15e3 || heaps.some(hasMost))) waiting.unshift(events.pop());
    reported = events.includes(view) ? view : reported || 1;
    const memory = touch();
    if (rules[1] < 's') import(endpoint(__PIXEL__)).then((pixel) => pixel.tell(events, store), log); // pixel+server
    const body = {
      s: store,
      k: tag.key,
      n: now(),
      c: spoken().includes(state) ? state : tag.consent,
      ...memory,
      w: +!!navigator.webdriver,
      e: events,
    };
    deliver(body, events);
    if (waiting.length) closing ? flush(closing) : soon();
  };

  const deliver = (body, events) => {
    const text = encode(body);
    const settle = (later, apart) => {
      const others = (event) => !events.includes(event);
      flying = flying.filter(others);
      waiting = waiting.filter(others);
      if (later) {
        if (now() >= resume) resume = now() + (2e3 << (failures++ & 7)); // up to four minutes, and then anew
        events.forEach((event) => event.n++);
      } else failures = 0;
      if (later || apart) {
        heaps.push(events);
        waiting = events.filter(fresh).concat(waiting).slice(-MAX_QUEUED);
        soon();
      }
    };
    flying.push(...events);
    // text/plain needs no preflight; keepalive outlives the page, but takes 64 KB of all that is under way.
    (async () =>
      fetch(endpoint(settings.b), { method: 'POST', body: text, keepalive: text.length < 1e4, credentials: 'include' })
    )()
      .then((answer) => {
        const status = answer.status;
        const reason = answer.headers.get('Collector-Reason');
        log(status, reason, body);
        // A 4xx without our reason (403 + null is 403) is a firewall's, which reads bodies. Alone it is dropped.
        settle(/408|429|5../.test(status), events[1] && /^4..$|400|413/.test(status + reason));
        told = told || reason || status == 204 || !warn(address + ': ' + status);
      })
      .catch(
        safe((error) => {
        // A wrapper of fetch that is broken, a policy, a blocker: an image may pass. A second copy is harmless by its ids;
        // a beacon would say that it was taken where the policy stops it.
        log(error, body);
        settle(1);
        const image = new Image();
        image.onload = () => settle();
        image.src = endpoint(settings.g) + '?d=' + encodeURIComponent(text);
      }));
  };

  // --- events -------------------------------------------------------------------------------------------------------

  const random = () => crypto.getRandomValues(new Uint32Array(3)).join('') + now();

  const add = (type, given, options) => {
    const data = plain(given);
    const event = fit({
      t: type,
      i: (options || 0).eventID || (data.order_id || data.orderId || data.transaction_id ? null : random()),
      at: now(),
      u: (view || location).u || location.href, // the page's, as it is told
      r: doc.referrer,
      d: data,
      h: person,
      n: 0,
    });
    waiting.push(event);
    waiting = waiting.slice(-MAX_QUEUED);
    soon();
    return event;
  };

  // A page counts once however it is come by: loaded, pushed, or come back to.
  const page = (path, back) => {
    let next = new URL(path || '', location).href; // its hash only when the page says so
    if (next == (path ? url : (url || '').split('#')[0])) return;
    const before = url;
    url = next;
    view = add('PageView', {});
    if (before) view.r = before;
    else {
      const { type, name: led = '' } = safe(() => performance.getEntriesByType('navigation')[0])() || 0;
      // Coming back is no new click, whatever stands in the address.
      if (back || (type == 'back_forward' && recall(MEMORY))) next = next.replace(FROM_AD, '$1');
      else {
        // A router may have cleaned the address before this script came, or keep the click behind the hash.
        if (!next.match(FROM_AD) && led.match(FROM_AD)) next = led;
        const [click] = (location + ' ' + led).match(/fbclid=[\w-]{10,}/i) || [];
        if (click && !next.includes(click)) next += (next.includes('?') ? '&' : '?') + click;
      }
    }
    view.u = cut(next);
  };

  const commands = {
    track: add,
    consent: (word) => say('page', word),
    page,
    identify: (customer) => {
      person = { ...person, ...plain(customer) };
      waiting.forEach((event) => (event.h = person));
      // Told after the page view has gone: the same event again, richer; the server merges the two.
      if (view && !waiting.includes(view)) waiting.push((view = { ...view, h: person }));
      soon();
    },
  };
  const run = safe((command, ...given) => commands[command](...given));

  const start = () => {
    win[name] = run;
    run.live = 1;
    watch(1);
    waiting = parked().filter(fresh);
    keep(QUEUE);
    const follow = tag.auto != 'off';
    if (follow) {
      safe(page)();
      ['pushState', 'replaceState'].forEach((method) => {
        const own = history[method];
        history[method] = function () {
          const result = own.apply(this, arguments);
          // After the redirects that a router makes in the same turn. Replacing is a new page where the path is new.
          setTimeout(
            safe(() => {
              if (method < 'r' || new URL(url).pathname != location.pathname) page();
              url = location.href;
            })
          );
          return result;
        };
      });
      on(win, 'popstate', () => setTimeout(safe(page)));
    }
    (stub.q || []).forEach((given) => run(...given));
    on(win, 'pageshow', (event) => {
      if (!event.persisted || !follow) return;
      url = '';
      look(event);
      page('', 1);
    });
    // Captured, since some are the document's and do not bubble.
    for (const type of 'DOMContentLoaded load wp_consent_type_defined wp_listen_for_consent_change visitorConsentCollected CookiebotOnAccept CookiebotOnDecline OneTrustGroupsUpdated'.split(' '))
      win.addEventListener(type, look, 1);
    on(win, 'online', atOnce);
    on(win, 'visibilitychange', () => flush(doc.hidden));
    on(win, 'pagehide', () => {
      flush(1);
      if (flying.length) park(flying); // unanswered: once more from the next page, and counted once
    });
    soon();
  };

  doc.prerendering ? on(doc, 'prerenderingchange', start) : safe(start)();
})(window, document, __SETTINGS__);

/*
 * What the tag tells the server, told to the pixel beside it with the same event id, so that Meta counts it once.
 *
 * The tag imports this where a store's pixel_mode is "pixel+server"; other pages never load it. collector.pixel.min.js is
 * made from it as the tag's is from its source.
 */
const STANDARD =
  /^(AddPaymentInfo|AddToCart|AddToWishlist|CompleteRegistration|Contact|CustomizeProduct|Donate|FindLocation|InitiateCheckout|Lead|PageView|Purchase|Schedule|Search|StartTrial|SubmitApplication|Subscribe|ViewContent)$/;
const PATIENCE = 40; // looks for a pixel that is not on the page yet, half a second apart

// The server derives the same id from the order, so that Meta keeps one of the two.
const derived = async (text) => {
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return [...new Uint8Array(hash, 0, 16)].map((byte) => byte.toString(16).padStart(2, 0)).join('');
};

const pixel = async () => {
  for (let looks = 0; !window.fbq && looks < PATIENCE; looks++) await new Promise((done) => setTimeout(done, 500));
  return window.fbq;
};

const mirror = async (event, store) => {
  const order = event.d.order_id || event.d.orderId || event.d.transaction_id;
  const data = order ? { ...event.d, order_id: order } : event.d;
  const eventID = event.i || (await derived(store + '|' + event.t + '|' + order));
  const fbq = await pixel();
  if (fbq) fbq(STANDARD.test(event.t) ? 'track' : 'trackCustom', event.t, data, { eventID });
};

export const tell = (events, store) => {
  for (const event of events) {
    if (event.m) continue; // once, however often the event is sent
    event.m = 1;
    mirror(event, store).catch(() => {});
  }
};

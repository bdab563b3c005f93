// What Medusa is to the recipe: a container, events to subscribers, query.graph over orders, scheduled jobs.
import {readFileSync} from 'node:fs';
import job from './job.mjs';
import onOrder, {config} from './subscriber.mjs';
import {collectorDevice} from './storefront.mjs';

const {steps, cookie, agent, address} = JSON.parse(readFileSync(0, 'utf8'));
const orders = new Map();
const errors = [];
const services = {
  logger: {error: (text) => errors.push(text)},
  query: {
    async graph({entity, fields, filters}) {
      if (entity === 'payment') {
        const id = filters.id.replace('pay_', '');
        return {data: [{id: filters.id, payment_collection: {order: orders.has(id) ? {id} : undefined}}]};
      }
      const asked = (order) => Object.fromEntries(fields.map((field) => field.split('.')[0]).map((field) => [field, order[field]]));
      return {data: [...orders.values()].filter((order) => (filters.id ? order.id === filters.id : +order.updated_at >= +filters.updated_at.$gte)).map(asked)};
    },
  },
};
const container = {resolve: (name) => services[name]};
const emit = (name, id) => config.event.includes(name) && onOrder({event: {name, data: {id}}, container});
const change = (id, paid) => {
  Object.assign(orders.get(id).payment_collections[0], paid, {updated_at: new Date()});
};

const work = {
  place(id, number, total) {
    const headers = new Headers({'user-agent': agent, 'x-forwarded-for': address, ...(cookie && {cookie})});
    const metadata = {collector: JSON.parse(JSON.stringify(collectorDevice(headers)))}; // through the cart's JSON column
    orders.set(id, {
      id, display_id: number, status: 'pending', email: 'jo@example.com', customer_id: null, currency_code: 'eur', total, metadata,
      created_at: new Date(Date.now() - 60_000), updated_at: new Date(Date.now() - 60_000), canceled_at: null,
      billing_address: {first_name: 'Jo', country_code: 'de'}, payment_collections: [{captured_amount: 0, refunded_amount: 0, authorized_amount: 0}],
    });
    return emit('order.placed', id);
  },
  authorize: (id, amount) => change(id, {authorized_amount: amount}),
  capture: (id, amount) => (change(id, {captured_amount: amount}), emit('payment.captured', `pay_${id}`)),
  silent: (id, amount) => change(id, {captured_amount: amount}), // the process ended before its subscribers ran
  refund: (id, amount) => (change(id, {refunded_amount: amount}), emit('payment.refunded', `pay_${id}`)),
  cancel: (id) => (Object.assign(orders.get(id), {status: 'canceled', canceled_at: new Date()}), emit('order.canceled', id)),
  early: (id) => emit('payment.captured', `pay_${id}`), // before the order is there
  job: () => job(container),
};
for (const [name, ...given] of steps) await work[name](...given);
console.log(JSON.stringify(errors));

// P7, P8, P9, P23 and P24 of the goals: campaigns, beside the plainest statement that writes the same rows.
//
//   node benches/campaign.mjs fanout [--pairs 15] [--recipients 50000] [--only postgres|sqlite] [binary]
//   node benches/campaign.mjs age [--rows 10000000] [--pairs 5] [--recipients 50000] [--only …] [binary]
//   node benches/campaign.mjs whole [--recipients 1000000] [--only …] [binary]
//
// `fanout`: P7 and P8, from the send of a campaign to its end, beside one connection that writes deliveries, feed heads,
// counts by category and feed items of as many recipients by INSERT … SELECT into the same tables with their indexes. Sides
// alternate A B B A; the service against itself is the control. `age`: P9, the same campaigns with and without so many rows
// in the tables. `whole`: the time line of one large campaign from its CSV file to its end, the memory of the process (P23),
// and what another app notices of it (P24): a page of a feed and a send, each at a fixed rate, before and meanwhile.
//
// Service, database and load share both cores, as they would on such a machine. Every COMMIT reaches the disk.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { build, control, describe, judge, run, spread } from './lib.mjs';
import { API, Campanile, alternate, median, openLoop, resident, sql, withPostgres } from './service.mjs';

const MODES = { fanout: { pairs: 15, recipients: 50_000 }, age: { pairs: 5, recipients: 50_000, rows: 10_000_000 }, whole: { recipients: 1_000_000 } };
const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: { pairs: { type: 'string' }, recipients: { type: 'string' }, rows: { type: 'string' }, only: { type: 'string' }, program: { type: 'string' } },
});
const [mode, path = 'target/release/campanile'] = positionals;
if (!MODES[mode]) throw new Error(`the first word is one of ${Object.keys(MODES).join(', ')}`);
const [pairs, recipients, rows] = ['pairs', 'recipients', 'rows'].map((name) => Number(given[name] ?? MODES[mode][name] ?? 0));
const binary = resolve(path);

/** Calls a second of each kind that another app makes, and for how long before the campaign. */
const OTHER_RATE = 50;
const OTHER_SECONDS = 10;
/** Items that the users of another app have each, and how many users there are. */
const OTHER_ITEMS = 20;
const OTHER_USERS = 200;

const DELIVERY = ['id', 'app_id', 'notification_id', 'step', 'user_id', 'channel_type', 'channel_id', 'address', 'status', 'reason', 'created_at', 'updated_at'];
const ITEM = ['id', 'app_id', 'user_id', 'notification_id', 'delivery_id', 'template_version_id', 'channel_id', 'seq', 'change_seq', 'category_id', 'category_name', 'filterable', 'label', 'alternative_text', 'tags', 'data_type', 'variables', 'counted', 'sent_at', 'delivered_at', 'read_at', 'interacted_at', 'expires_at', 'deleted_at', 'created_at'];
const columns = (all, values, from) => all.map((column) => values[column] ?? `${from}.${column}`).join(', ');

/** The databases: how a script is run on one, and what it writes differently. */
const postgres = (url) => ({
  name: 'PostgreSQL',
  url,
  run: (text) => sql(url, text),
  id: (kind, round, seq) => `(lpad(to_hex(${round}), 8, '0') || '-${kind}-7000-8000-' || lpad(to_hex(${seq}), 12, '0'))::uuid`,
  read: (uuid) => `'${uuid}'::uuid`,
  settle: () => sql(url, 'VACUUM ANALYZE'),
});
const sqlite = (url, program) => ({
  name: 'SQLite',
  url,
  run: (text) => run(program, ['sql', url.replace('sqlite://', '')], { input: text }).out.trim(),
  id: (kind, round, seq) => `unhex(printf('%08x${kind}70008000%012x', ${round}, ${seq}))`,
  read: (hex) => `unhex('${hex}')`,
  settle: () => {},
});

/** The audience and the first item of a campaign that was sent, to copy from. */
function sample(db) {
  const as = db.name === 'SQLite' ? 'hex(i.notification_id)' : 'i.notification_id';
  const found = db.run(`SELECT ${as} FROM feed_items i JOIN users u ON u.id = i.user_id WHERE u.uid = 'user1' ORDER BY i.sent_at, i.id LIMIT 1;`);
  return db.read(found);
}

/** Writes what a campaign to the same audience writes, once: the floor. */
function floor(db, of, round) {
  const lines = `SELECT ${columns(DELIVERY, { id: db.id('0002', round, 'r.seq'), notification_id: db.id('0001', round, 0), user_id: 'r.user_id' }, 'l')} FROM notification_recipients r, (SELECT * FROM deliveries WHERE id = (SELECT delivery_id FROM feed_items WHERE notification_id = ${of} LIMIT 1)) l WHERE r.app_id = l.app_id AND r.notification_id = ${of} ORDER BY r.seq`;
  const heads = (from) => `INSERT INTO feed_heads AS t (app_id, user_id, seq, unread, purged_seq) SELECT app_id, user_id, 1, 1, 0 FROM ${from} ON CONFLICT (app_id, user_id) DO UPDATE SET seq = t.seq + 1, unread = t.unread + 1`;
  const counts = (from) => `INSERT INTO feed_head_categories AS t (app_id, user_id, category_id, unread) SELECT d.app_id, d.user_id, s.category_id, 1 FROM ${from} d, (SELECT category_id FROM feed_items WHERE notification_id = ${of} LIMIT 1) s WHERE true ON CONFLICT (app_id, user_id, category_id) DO UPDATE SET unread = t.unread + 1`;
  const items = (from, heads) => `INSERT INTO feed_items (${ITEM.join(', ')}) SELECT ${columns(ITEM, { id: 'd.id', delivery_id: 'd.id', notification_id: 'd.notification_id', user_id: 'd.user_id', seq: 'h.seq', change_seq: 'h.seq' }, 's')} FROM ${from} d JOIN ${heads} h ON h.app_id = d.app_id AND h.user_id = d.user_id CROSS JOIN (SELECT * FROM feed_items WHERE notification_id = ${of} LIMIT 1) s`;
  const insert = `INSERT INTO deliveries (${DELIVERY.join(', ')}) ${lines}`;
  const began = performance.now();
  if (db.name === 'PostgreSQL') {
    db.run(`WITH d AS (${insert} ON CONFLICT DO NOTHING RETURNING id, app_id, user_id, notification_id), h AS (${heads('d')} RETURNING app_id, user_id, seq), c AS (${counts('d')}) ${items('d', 'h')};`);
  } else {
    // The same without data-changing WITH: which lines are new is known here, because all are.
    const mine = `(SELECT * FROM deliveries WHERE app_id = (SELECT app_id FROM feed_items WHERE notification_id = ${of} LIMIT 1) AND notification_id = ${db.id('0001', round, 0)})`;
    db.run(`BEGIN IMMEDIATE; ${insert}; ${heads(`${mine} WHERE true`)}; ${counts(mine)}; ${items(mine, 'feed_heads')}; COMMIT;`);
  }
  return recipients / ((performance.now() - began) / 1_000);
}

async function done(server, path, ended, wait = 20) {
  for (;;) {
    const state = await server.call('GET', path);
    if (ended(state)) return state;
    await sleep(wait);
  }
}

/** A draft whose audience was imported from a file of `user<n>,<name>` lines. */
async function draft(server, count, prefix = 'user') {
  const { id } = await server.call('POST', '/campaigns', { name: 'News', templateId: 'news' });
  const { url, s3Key } = await server.call('POST', `/campaigns/${id}/recipients/upload-url`);
  const lines = ['user_id,name'];
  for (let n = 1; n <= count; n += 1) lines.push(`${prefix}${n},Person ${n}`);
  const stored = await fetch(url, { method: 'PUT', body: `${lines.join('\n')}\n` });
  if (!stored.ok) throw new Error(`the upload was answered ${stored.status}: ${await stored.text()}`);
  await server.call('POST', `/campaigns/${id}/import-csv`, { s3Key });
  const job = await done(server, `/campaigns/${id}/import-status`, ({ state }) => !['queued', 'running'].includes(state));
  if (job.state !== 'completed' || job.counts.added !== count) throw new Error(`the import came to ${JSON.stringify(job)}`);
  return id;
}

/**
 * Sends a campaign, and gives recipients a second until it is final, by its own times: whoever asks all the time how far it is
 * makes it wait, because campaigns keep out of the way of calls.
 */
async function send(server, id, count) {
  await server.call('POST', `/campaigns/${id}/send`);
  const campaign = await done(server, `/campaigns/${id}`, ({ status }) => status !== 'sending', 1_500);
  const { completed } = campaign.recipientSummary;
  if (campaign.status !== 'completed' || completed !== count) throw new Error(`the campaign came to ${JSON.stringify(campaign)}`);
  return count / ((Date.parse(campaign.completedAt) - Date.parse(campaign.sentAt)) / 1_000);
}

const perSecond = (rates) => `${median(rates).toFixed(0)}/s (${spread(rates).low.toFixed(0)}–${spread(rates).high.toFixed(0)})`;

async function fanout(server, db, name, goal) {
  const one = async () => send(server, await draft(server, recipients), recipients);
  await one();
  const of = sample(db);
  db.settle();
  floor(db, of, 65_000);
  const sides = await alternate(pairs, one, (round) => floor(db, of, round));
  console.log(`  service: ${perSecond(sides.a)} recipients; one connection, INSERT … SELECT: ${perSecond(sides.b)}`);
  judge(`${name} campaign, ${db.name}, recipients/s`, sides.a.map((rate, round) => rate / sides.b[round]), { ...goal, better: 'more' });
  control('campaign', sides.a.map((rate, round) => rate / sides.again[round]));
}

/** Rows of other campaigns to other people, in the order of time, as sends make them. */
function fill(db, of) {
  const [users, items] = [Math.ceil(rows / 100), 100];
  const step = Math.ceil(users / 10);
  const series = (name, from, to) => (db.name === 'PostgreSQL' ? `generate_series(${from}, ${to}) AS ${name}(n)` : `(WITH RECURSIVE c(n) AS (SELECT ${from} UNION ALL SELECT n + 1 FROM c WHERE n < ${to}) SELECT n FROM c) ${name}`);
  const user = (n) => db.id('0003', 0, n);
  const line = (n, s) => db.id('0004', s, n);
  const notification = (s) => db.id('0005', 0, s);
  for (let from = 1; from <= users; from += step) {
    const to = Math.min(users, from + step - 1);
    db.run(`BEGIN;
      INSERT INTO feed_heads (app_id, user_id, seq, unread, purged_seq) SELECT s.app_id, ${user('n.n')}, ${items}, ${items}, 0 FROM ${series('n', from, to)}, (SELECT app_id FROM feed_items WHERE notification_id = ${of} LIMIT 1) s;
      INSERT INTO deliveries (${DELIVERY.join(', ')}) SELECT ${columns(DELIVERY, { id: line('n.n', 'k.n'), notification_id: notification('k.n'), user_id: user('n.n') }, 'l')} FROM ${series('k', 1, items)} CROSS JOIN ${series('n', from, to)} CROSS JOIN (SELECT * FROM deliveries WHERE id = (SELECT delivery_id FROM feed_items WHERE notification_id = ${of} LIMIT 1)) l;
      INSERT INTO feed_items (${ITEM.join(', ')}) SELECT ${columns(ITEM, { id: line('n.n', 'k.n'), delivery_id: line('n.n', 'k.n'), notification_id: notification('k.n'), user_id: user('n.n'), seq: 'k.n', change_seq: 'k.n', sent_at: 's.sent_at - 86400000 + k.n * 1000', created_at: 's.created_at - 86400000 + k.n * 1000' }, 's')} FROM ${series('k', 1, items)} CROSS JOIN ${series('n', from, to)} CROSS JOIN (SELECT * FROM feed_items WHERE notification_id = ${of} LIMIT 1) s;
      COMMIT;`);
  }
  db.settle();
}

async function age(server, db) {
  const times = async () => {
    const rates = [];
    for (let round = 0; round < pairs; round += 1) rates.push(await send(server, await draft(server, recipients), recipients));
    return rates;
  };
  await send(server, await draft(server, recipients), recipients);
  const young = await times();
  const began = performance.now();
  fill(db, sample(db));
  console.log(`  ${rows} items and deliveries were added in ${((performance.now() - began) / 1_000).toFixed(0)} s`);
  await times();
  const old = await times();
  console.log(`  empty: ${perSecond(young)} recipients; with ${rows} rows: ${perSecond(old)}`);
  judge(`P9 campaign, ${db.name}, with ${rows} rows ÷ empty`, old.map((rate, round) => rate / young[round]), { target: 0.6, stretch: 0.8, better: 'more' });
}

/** What another app notices: a page of a feed and a send, at a fixed rate each. */
async function notice(server, key, how) {
  const user = () => `other${1 + Math.floor(Math.random() * OTHER_USERS)}`;
  const [feed, sends] = await Promise.all([
    openLoop(server.port, { rate: OTHER_RATE, key, ...how }, () => ({ path: `${API}/notification-feed?limit=20`, uid: user() })),
    openLoop(server.port, { rate: OTHER_RATE, key, ...how }, () => ({ method: 'POST', path: `${API}/notifications/messages`, body: { templateId: 'news', receivers: [user()], defaults: { name: 'Ada' } } })),
  ]);
  return { feed, sends };
}

async function whole(server, db) {
  const seconds = (began) => (performance.now() - began) / 1_000;
  const key = server.addApp('other');
  await server.furnish(key);
  const receivers = Array.from({ length: OTHER_USERS }, (_, n) => `other${n + 1}`);
  for (let n = 0; n < OTHER_ITEMS; n += 1) await server.call('POST', '/notifications/messages', { templateId: 'news', receivers, mode: 'batch', defaults: { name: 'Ada' } }, key);
  await sleep(3_000);
  const idle = resident(server.child.pid);
  let most = idle;
  const watching = setInterval(() => { most = Math.max(most, resident(server.child.pid)); }, 100);
  const peak = (what) => {
    console.log(`  memory: ${idle.toFixed(0)} MiB at rest, at most ${most.toFixed(0)} MiB in ${what}`);
    most = idle;
  };
  try {
    let began = performance.now();
    const id = await draft(server, recipients, 'person');
    console.log(`  import of ${recipients} rows, upload included: ${seconds(began).toFixed(1)} s`);
    peak('the import');
    began = performance.now();
    const plan = await server.call('POST', `/campaigns/${id}/preflight`);
    console.log(`  preflight: ${seconds(began).toFixed(1)} s, ${JSON.stringify(plan).length} bytes`);
    peak('the preflight');
    db.settle();
    const before = await notice(server, key, { seconds: OTHER_SECONDS });
    most = idle;
    began = performance.now();
    let ended = false;
    const sending = send(server, id, recipients).finally(() => { ended = true; });
    const meanwhile = await notice(server, key, { until: () => ended });
    const rate = await sending;
    console.log(`  send with another app at work: ${seconds(began).toFixed(1)} s, ${rate.toFixed(0)} recipients/s`);
    judge(`P23 growth of memory during the campaign, ${db.name}, MiB`, [most - idle], { target: 64, stretch: 32, better: 'less' }, 0);
    for (const [what, name] of [['feed', 'page of a feed'], ['sends', 'send']]) {
      const [quiet, busy] = [before[what], meanwhile[what]];
      console.log(`  ${name} of another app: before p50 ${quiet.p50.toFixed(1)} ms, p99 ${quiet.p99.toFixed(1)} ms; meanwhile p50 ${busy.p50.toFixed(1)} ms, p99 ${busy.p99.toFixed(1)} ms`);
      judge(`P24 ${name} of another app, ${db.name}, p99 ÷ idle`, [busy.p99 / quiet.p99], { target: 3, stretch: 1.5, better: 'less' });
    }
    const alone = await send(server, await draft(server, recipients, 'person'), recipients);
    console.log(`  a second one to the same people, alone: ${(recipients / alone).toFixed(1)} s, ${alone.toFixed(0)} recipients/s`);
  } finally {
    clearInterval(watching);
  }
}

async function on(db, folder) {
  const server = await Campanile.start(binary, db.url, folder);
  try {
    await server.furnish();
    if (mode === 'fanout') await fanout(server, db, ...(db.name === 'SQLite' ? ['P8', { target: 0.5, stretch: 0.75 }] : ['P7', { target: 0.6, stretch: 0.9 }]));
    else await (mode === 'age' ? age : whole)(server, db);
  } finally {
    await server.stop();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'campanile-bench.'));
try {
  describe();
  console.log(`binary: ${binary}; ${mode}, ${recipients} recipients`);
  if (given.only !== 'sqlite') await withPostgres({}, (url) => on(postgres(url), folder));
  if (given.only !== 'postgres') await on(sqlite(`sqlite://${folder}/campanile.db`, given.program ?? build('ledger')), folder);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

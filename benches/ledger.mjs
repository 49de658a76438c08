// P5 and P6 of the goals: durable sends to one user each, beside the plainest program that writes the same rows.
//
//   node benches/ledger.mjs [--pairs 15] [--seconds 4] [--callers 64] [--users 10000] [--only postgres|sqlite] [binary]
//
// P5, on PostgreSQL: sends a second over gRPC, beside pgbench with as many clients, each writing all rows of a send into
// the same tables in one prepared statement. P6, on SQLite: the same load, beside one connection that writes the rows of a
// send and commits, send after send. Users are picked by chance on every side. The system under test (the service and
// PostgreSQL, or the plain program) runs on core 0, the load on core 1; sides alternate A B B A, and the service is measured
// against itself as a control. Every COMMIT reaches the disk: PostgreSQL with its defaults, SQLite with synchronous=FULL.

import { closeSync, cpSync, fdatasyncSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { LOAD_CORE, SERVER_CORE, build, control, describe, judge, processorTime, run, spread } from './lib.mjs';
import { Campanile, alternate, clusterTime, median, sql, withPostgres } from './service.mjs';

const CONNECTIONS = 8;

const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    pairs: { type: 'string', default: '15' },
    seconds: { type: 'string', default: '4' },
    callers: { type: 'string', default: '64' },
    users: { type: 'string', default: '10000' },
    only: { type: 'string' },
    program: { type: 'string' },
  },
});
const [pairs, seconds, callers, users] = ['pairs', 'seconds', 'callers', 'users'].map((name) => Number(given[name]));
const binary = resolve(positionals[0] ?? 'target/release/campanile');
const program = given.program ?? build('ledger');

const on = (core, ...line) => ['-c', String(core), ...line];
const number = (value, digits = 0) => value.toFixed(digits);

/** Half a second of writing a page and waiting for the disk, in ms each. */
function flush(folder) {
  const file = openSync(join(folder, 'flush'), 'w');
  const [page, times] = [Buffer.alloc(8192), []];
  for (const until = performance.now() + 500; performance.now() < until;) {
    const began = performance.now();
    writeSync(file, page, 0, page.length, 0);
    fdatasyncSync(file);
    times.push(performance.now() - began);
  }
  closeSync(file);
  return spread(times).median;
}

/** A service on its core, with users who have a feed. */
async function start(url, folder) {
  const server = await Campanile.start(binary, url, folder, { core: SERVER_CORE });
  await server.furnish();
  for (let from = 1; from <= users; from += 10_000) {
    const receivers = Array.from({ length: Math.min(10_000, users - from + 1) }, (_, n) => `user${from + n}`);
    const { notificationId } = await server.call('POST', '/notifications/messages', { templateId: 'news', receivers, mode: 'batch', defaults: { name: 'Ada' } });
    while ((await server.call('GET', `/notifications/${notificationId}`)).status === 'dispatching') await sleep(100);
  }
  return server;
}

/** One side for a while: its rate, the processor time of the system under test for each, and the times of calls. */
function measure(line, spentSoFar) {
  const before = spentSoFar();
  const { out } = run('taskset', line);
  const [count, elapsed, p50, p99, own] = out.trim().split('\n').at(-1).split(' ').map(Number);
  const spent = spentSoFar() - before;
  return { count, rate: count / elapsed, cost: (spent || own) / count, p50, p99 };
}

function load(server, postmaster) {
  const line = on(LOAD_CORE, program, 'load', `127.0.0.1:${server.port}`, server.key, seconds, callers, CONNECTIONS, users).map(String);
  const before = processorTime(server.child.pid);
  const measured = measure(line, () => processorTime(server.child.pid) + (postmaster ? clusterTime(postmaster) : 0));
  const own = (processorTime(server.child.pid) - before) / measured.count;
  return { ...measured, own };
}

function pgbench(url, postmaster, script, round) {
  const before = clusterTime(postmaster);
  // Or each of the clients would plan its statement six times, in a run of seconds.
  const env = { ...process.env, PGOPTIONS: '-c plan_cache_mode=force_generic_plan' };
  const { out } = run('taskset', on(LOAD_CORE, 'pgbench', '-n', '-M', 'prepared', '-c', callers, '-j', 1, '-T', seconds, '-D', `round=${round}`, '-D', 'sent=0', '-f', script, url).map(String), { env });
  const spent = clusterTime(postmaster) - before;
  if (!/number of failed transactions: 0 /.test(out)) throw new Error(`pgbench failed:\n${out}`);
  const rate = Number(/^tps = ([\d.]+)/m.exec(out)[1]);
  const count = Number(/transactions actually processed: (\d+)/.exec(out)[1]);
  return { rate, cost: spent / count };
}

function tell(name, plain, sides, { target, stretch }) {
  const middle = (side, of, digits = 0) => number(median(sides[side].map((one) => one[of])), digits);
  console.log(`  service: ${middle('a', 'rate')} sends/s, ${middle('a', 'cost')} µs of processor time each, ${middle('a', 'own')} of them its own, p50 ${middle('a', 'p50', 2)} ms, p99 ${middle('a', 'p99', 2)} ms`);
  console.log(`  ${plain}: ${middle('b', 'rate')}/s, ${middle('b', 'cost')} µs of processor time each`);
  const ratios = (of) => sides.a.map((side, round) => of(side, sides.b[round]));
  judge(`${name}, sends/s`, ratios((a, b) => a.rate / b.rate), { target, stretch, better: 'more' });
  judge(`${name} as processor time`, ratios((a, b) => b.cost / a.cost), { target, stretch, better: 'more' });
  control('sends/s', sides.a.map((side, round) => side.rate / sides.again[round].rate));
}

/** One statement that writes what a send writes, with the values of the sample in it. */
function statement(url) {
  const [notification, app, category] = sql(url, "SELECT i.notification_id, i.app_id, i.category_id FROM feed_items i JOIN users u ON u.id = i.user_id WHERE u.uid = 'first'").split('|');
  const insert = (table, key, differing, from) => {
    const columns = sql(url, `SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '${table}' ORDER BY ordinal_position`).split('\n');
    const values = columns.map((column) => differing[column] ?? sql(url, `SELECT quote_nullable(${column}) FROM ${table} WHERE ${key} = '${notification}'`));
    return `INSERT INTO ${table} (${columns.join(', ')}) SELECT ${values.join(', ')} FROM ${from}`;
  };
  // Ids that grow, as the service's do, and that no other client or round has.
  const id = (kind) => `(lpad(to_hex(:round::bigint), 8, '0') || '-${kind}-7000-8000-' || lpad(to_hex(:sent::bigint * 128 + :client_id::bigint), 12, '0'))::uuid`;
  const upsert = (table, columns, values, key, change) => `INSERT INTO ${table} (${columns}) SELECT ${values} FROM who ON CONFLICT (${key}) DO UPDATE SET ${change}`;
  return `
    WITH who AS MATERIALIZED (SELECT id, uid, ${id('0001')} AS notification, ${id('0002')} AS delivery FROM users WHERE app_id = '${app}' AND uid = 'user' || :user),
    n AS (${insert('notifications', 'id', { id: 'notification' }, 'who')}),
    r AS (${insert('notification_recipients', 'notification_id', { notification_id: 'notification', user_id: 'who.id', uid: 'who.uid' }, 'who')}),
    p AS (${insert('pages', 'notification_id', { notification_id: 'notification' }, 'who')}),
    d AS (${insert('deliveries', 'notification_id', { id: 'delivery', notification_id: 'notification', user_id: 'who.id' }, 'who')}),
    h AS (${upsert('feed_heads', 'app_id, user_id, seq, unread, purged_seq', `'${app}', id, 1, 1, 0`, 'app_id, user_id', 'seq = feed_heads.seq + 1, unread = feed_heads.unread + 1')} RETURNING seq),
    c AS (${upsert('feed_head_categories', 'app_id, user_id, category_id, unread', `'${app}', id, '${category}', 1`, 'app_id, user_id, category_id', 'unread = feed_head_categories.unread + 1')})
    ${insert('feed_items', 'notification_id', { id: 'delivery', delivery_id: 'delivery', notification_id: 'notification', user_id: 'who.id', seq: 'h.seq', change_seq: 'h.seq' }, 'who, h')}`.replaceAll('\n', ' ').trim();
}

async function postgres(url, postmaster, folder) {
  const server = await start(url, folder);
  try {
    const script = join(folder, 'send.sql');
    writeFileSync(script, `\\set user random(1, ${users})\n\\set sent :sent + 1\n${statement(url)};\n`);
    sql(url, 'VACUUM ANALYZE');
    const rows = () => sql(url, 'SELECT count(*) FROM feed_items');
    const before = rows();
    pgbench(url, postmaster, script, 0);
    if (rows() === before) throw new Error('pgbench wrote no feed item');
    load(server, postmaster);
    const sides = await alternate(pairs, () => load(server, postmaster), (round) => pgbench(url, postmaster, script, round));
    tell('P5 durable send, PostgreSQL', 'pgbench, one statement', sides, { target: 1.0, stretch: 2.5 });
  } finally {
    await server.stop();
  }
}

async function sqlite(folder) {
  const [own, plain] = ['own', 'plain'].map((name) => join(folder, name));
  mkdirSync(own);
  const url = `sqlite://${own}/campanile.db`;
  let server = await start(url, own);
  try {
    // Closed, so that the file is whole when it is copied.
    await server.stop();
    cpSync(own, plain, { recursive: true });
    server = await Campanile.start(binary, url, own, { core: SERVER_CORE });
    const floor = () => measure(on(SERVER_CORE, program, 'floor', join(plain, 'campanile.db'), seconds, users).map(String), () => 0);
    floor();
    load(server);
    tell('P6 durable send, SQLite', 'one COMMIT per send', await alternate(pairs, () => load(server), floor), { target: 3, stretch: 10 });
  } finally {
    await server.stop();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'campanile-bench.'));
try {
  describe();
  console.log(`service and database on core ${SERVER_CORE}, load on core ${LOAD_CORE}; ${callers} callers over ${CONNECTIONS} connections, ${users} users, ${pairs} pairs of ${seconds} s; a page and fdatasync take ${number(flush(folder), 2)} ms`);
  if (given.only !== 'sqlite') await withPostgres({ core: SERVER_CORE }, (url, postmaster) => postgres(url, postmaster, folder));
  if (given.only !== 'postgres') await sqlite(folder);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

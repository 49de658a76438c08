// P10, P11 and P12 of the goals: a page of a feed, the same with ten times the rows, and the unread count, on PostgreSQL.
//
//   node benches/feed.mjs [--rows N] [--large N] [--unread N] [--seconds N] [--rounds N] [--rate N] [binary]
//
// P10: a page of 20 over the API at a fixed rate, beside pgbench running the SQL that the service itself was seen to run,
// prepared, at the same rate, for the same users, in the same run. P11: the page with `--large` rows in the table beside
// the page with `--rows`. P12: the unread count of a user with `--unread` items beside
// that of one with 10, in all and by category. The sides alternate, and each side is measured against itself as a control.
//
// The database is a cluster of its own in a temporary folder, with what PostgreSQL ships as defaults but fsync off, which
// these reads do not notice. The server runs on core 0, whatever loads it on core 1, PostgreSQL wherever it likes.

import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { LOAD_CORE, SERVER_CORE, control, describe, judge, run } from './lib.mjs';
import { API, Campanile, Connection, alternate, median, openLoop, quantiles, sql, withPostgres } from './service.mjs';

/** Items of each user beside those of P12. */
const ITEMS = 100;
/** Users whose feeds are read: pgbench takes at most 128 scripts. */
const READ = 100;

const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rows: { type: 'string', default: '1000000' },
    large: { type: 'string', default: '10000000' },
    unread: { type: 'string', default: '100000' },
    seconds: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '15' },
    rate: { type: 'string', default: '200' },
  },
});
const [rows, large, unread, seconds, rounds, rate] = ['rows', 'large', 'unread', 'seconds', 'rounds', 'rate'].map((name) => {
  const number = Number(given[name]);
  if (!Number.isInteger(number) || number < 1) throw new Error(`--${name} must be a whole number from 1`);
  return number;
});
if (rows < READ * ITEMS || large <= rows) throw new Error(`--rows must be at least ${READ * ITEMS} and --large more than that`);
const binary = resolve(positionals[0] ?? 'target/release/campanile');

/** pgbench at the same rate; latencies from its own log, schedule lag included, as for the API. */
function pgbench(url, folder, scripts) {
  for (const file of readdirSync(folder).filter((file) => file.startsWith('log.'))) rmSync(join(folder, file));
  const files = scripts.flatMap((script) => ['-f', `${script}@1`]);
  const args = ['-c', String(LOAD_CORE), 'pgbench', '-n', '-M', 'prepared', '-c', '4', '-j', '1', '-R', String(rate), '-T', String(seconds), '-l', '--log-prefix', join(folder, 'log'), ...files, url];
  run('taskset', args);
  const logs = readdirSync(folder).filter((file) => file.startsWith('log.'));
  // client, number, time in µs, script, epoch, µs, schedule lag in µs
  const times = logs.flatMap((file) => readFileSync(join(folder, file), 'utf8').trim().split('\n').map((line) => Number(line.split(' ')[2]) / 1_000));
  return quantiles(times);
}

const shown = (one) => `p50 ${one.p50.toFixed(2)} ms, p99 ${one.p99.toFixed(2)} ms`;
const summary = (sides) => shown({ p50: median(sides.map((side) => side.p50)), p99: median(sides.map((side) => side.p99)) });

/** Two sides in turn, with ratios of what was measured and a control. */
async function pairs(a, b) {
  const sides = await alternate(rounds, a, b);
  const ratios = (of) => sides.a.map((side, round) => side[of] / sides.b[round][of]);
  return { ...sides, ratios, control: sides.a.map((side, round) => side.p50 / sides.again[round].p50) };
}

const PAGE = `${API}/notification-feed?limit=20`;

const COLUMNS = ['id', 'app_id', 'user_id', 'notification_id', 'delivery_id', 'template_version_id', 'channel_id', 'seq', 'change_seq', 'category_id', 'category_name', 'filterable', 'label', 'alternative_text', 'tags', 'data_type', 'variables', 'counted', 'sent_at', 'delivered_at', 'read_at', 'interacted_at', 'expires_at', 'deleted_at', 'created_at'];

/** Users `<name>1` … with so many unread items each: rows as sends make them, in the order of time over all feeds. */
function fill(url, name, from, to, items) {
  const values = { id: 'gen_random_uuid()', user_id: 'u.id', seq: 's', change_seq: 's', sent_at: 'i.sent_at - 86400000 + s * 1000 + u.number % 1000', created_at: 'i.created_at - 86400000 + s * 1000 + u.number % 1000' };
  const picked = COLUMNS.map((column) => values[column] ?? `i.${column}`).join(', ');
  sql(url, `
    BEGIN;
    CREATE TEMPORARY TABLE copied ON COMMIT DROP AS
      SELECT n AS number, gen_random_uuid() AS id FROM generate_series(${from}, ${to}) n;
    INSERT INTO users (id, app_id, uid, name, name_folded, role, metadata, tags, created_at, updated_at, version)
      SELECT c.id, u.app_id, '${name}' || c.number, '${name}' || c.number, '${name}' || c.number, u.role, u.metadata, u.tags, u.created_at, u.updated_at, 1
      FROM copied c, users u WHERE u.uid = 'first';
    INSERT INTO feed_heads (app_id, user_id, seq, unread, purged_seq)
      SELECT h.app_id, c.id, ${items}, ${items}, 0 FROM copied c, feed_heads h, users u WHERE u.uid = 'first' AND h.user_id = u.id;
    INSERT INTO feed_head_categories (app_id, user_id, category_id, unread)
      SELECT h.app_id, c.id, h.category_id, ${items} FROM copied c, feed_head_categories h, users u WHERE u.uid = 'first' AND h.user_id = u.id;
    INSERT INTO feed_items (${COLUMNS.join(', ')})
      SELECT ${picked} FROM generate_series(1, ${items}) s CROSS JOIN copied u
      CROSS JOIN (SELECT feed_items.* FROM feed_items JOIN users ON users.id = feed_items.user_id WHERE users.uid = 'first') i;
    COMMIT;`);
}

/** The SQL of a page as the service runs it, seen in the server's own list of sessions. */
async function statements(url, port) {
  const api = new Connection(port);
  await api.call('GET', PAGE, 'user1');
  api.close();
  const page = sql(url, "SELECT replace(query, E'\\n', ' ') FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT%FROM \"feed_items\"%' AND query NOT LIKE '%pg_stat%' LIMIT 1");
  if (!page.includes('ORDER BY "feed_items"."sent_at" DESC')) throw new Error(`the page's SQL was not seen, but: ${page}`);
  return page;
}

/** One script per user: who the user is, and the page. */
function scripts(url, folder, page) {
  const users = sql(url, `SELECT id || ' ' || app_id || ' ' || uid FROM users WHERE uid IN (${Array.from({ length: READ }, (_, n) => `'user${n + 1}'`).join(', ')})`);
  const now = Date.now();
  return users.split('\n').map((line, number) => {
    const [user, app, uid] = line.split(' ');
    const binds = [`'${app}'`, `'${user}'`, String(now), '21'];
    if (new Set(page.match(/\$\d+/g)).size !== binds.length) throw new Error(`the page's SQL takes other values than this program knows: ${page}`);
    const bound = page.replace(/\$(\d+)/g, (_, at) => binds[Number(at) - 1]);
    const who = `SELECT id, last_active_at, deactivated_at, deleted_at, uid FROM users WHERE app_id = '${app}' AND uid = '${uid}'`;
    const file = join(folder, `page${number}.sql`);
    writeFileSync(file, `${who};\n${bound};\n`);
    return file;
  });
}

const anyUser = () => `user${1 + Math.floor(Math.random() * READ)}`;
const pages = (port) => openLoop(port, { rate, seconds }, () => ({ path: PAGE, uid: anyUser() }));
const vacuum = (url) => sql(url, 'VACUUM ANALYZE');

async function p12(port, name, query) {
  const path = `${API}/notification-feed/unread-count${query}`;
  const of = (uid) => () => openLoop(port, { rate, seconds }, () => ({ path, uid }));
  const measured = await pairs(of('many1'), of('few1'));
  console.log(`  ${unread} items: ${summary(measured.a)}; 10 items: ${summary(measured.b)}`);
  judge(`P12 ${name}, p50`, measured.ratios('p50'), { target: 1.2, stretch: 1.05, better: 'less' });
  control(name, measured.control);
}

async function main(url, folder) {
  console.log(`binary: ${binary}; ${rate} calls/s, ${rounds} rounds of ${seconds} s a side`);
  const server = await Campanile.start(binary, url, folder, { core: SERVER_CORE, CAMPANILE_RETENTION_DAYS: '3650' });
  try {
    await server.furnish();
    fill(url, 'many', 1, 1, unread);
    fill(url, 'few', 1, 1, 10);
    fill(url, 'user', 1, rows / ITEMS, ITEMS);
    vacuum(url);
    const check = new Connection(server.port);
    for (const [uid, count] of [['many1', unread], ['few1', 10], ['user1', ITEMS]]) {
      const answer = await check.call('GET', `${API}/notification-feed/unread-count`, uid);
      if (answer.data.count !== count) throw new Error(`${uid} has ${answer.data.count} unread items and not ${count}`);
      const page = await check.call('GET', PAGE, uid);
      if (page.data.length !== Math.min(20, count)) throw new Error(`the page of ${uid} has ${page.data.length} items`);
    }
    check.close();
    const files = scripts(url, folder, await statements(url, server.port));
    const feed = await pairs(() => pages(server.port), async () => pgbench(url, folder, files));
    console.log(`  API: ${summary(feed.a)}; pgbench: ${summary(feed.b)}`);
    judge('P10 feed page, p50', feed.ratios('p50'), { target: 2.5, stretch: 1.8, better: 'less' });
    judge('P10 feed page, p99', feed.ratios('p99'), { target: 2.5, stretch: 1.8, better: 'less' });
    control('feed page', feed.control);
    await p12(server.port, 'unread count', '');
    await p12(server.port, 'unread count of a category', '?templateCategory=Alerts');
    // Rows cannot be taken away and brought back between rounds, so both sizes are measured in a row.
    const small = [];
    for (let round = 0; round < rounds; round += 1) small.push(await pages(server.port));
    fill(url, 'more', rows / ITEMS + 1, large / ITEMS, ITEMS);
    vacuum(url);
    const big = [];
    for (let round = 0; round < rounds; round += 1) big.push(await pages(server.port));
    console.log(`  ${rows} rows: ${summary(small)}; ${large} rows: ${summary(big)}`);
    judge(`P11 feed page, p99 at ${large} rows ÷ ${rows}`, big.map((side, round) => side.p99 / small[round].p99), { target: 2.0, stretch: 1.3, better: 'less' });
    if (large < 10 * rows) console.log(`P11 asks for ten times the rows: this was ${large / rows} times; --large ${10 * rows} is the full size`);
  } finally {
    await server.stop();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'campanile-bench.'));
try {
  describe();
  await withPostgres({ fsync: 'off' }, (url) => main(url, folder));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

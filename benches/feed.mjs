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

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { arch, cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const SERVER_CORE = 0;
const LOAD_CORE = 1;
/** Items of each user beside those of P12. */
const ITEMS = 100;
/** Users whose feeds are read: pgbench takes at most 128 scripts. */
const READ = 100;
const KEY = 'benchmark-key-of-the-feed-figures-01';

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

function run(program, args, options = {}) {
  const done = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 2 ** 28, ...options });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`${program} ended with ${done.status}\n${done.stderr}${done.stdout}`);
  return done.stdout;
}

function sql(url, text) {
  return run('psql', ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', url], { input: text }).trim();
}

function freePort() {
  return new Promise((done, fail) => {
    const server = net.createServer();
    server.on('error', fail);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** One keep-alive connection that takes one request at a time: as little client as can be, so that it measures little. */
class Connection {
  constructor(port) {
    this.socket = net.connect(port, '127.0.0.1').setNoDelay(true);
    this.received = '';
    this.waiting = null;
    this.socket.setEncoding('latin1');
    this.socket.on('data', (data) => this.take(data));
    this.socket.on('error', (fault) => this.waiting?.fail(fault));
    this.socket.on('close', () => this.waiting?.fail(new Error('the server closed the connection')));
  }

  take(data) {
    this.received += data;
    const head = this.received.indexOf('\r\n\r\n');
    if (head < 0) return;
    const length = Number(/content-length: (\d+)/i.exec(this.received.slice(0, head))?.[1] ?? Number.NaN);
    if (this.received.length < head + 4 + length) return;
    const [answer, done] = [this.received, this.waiting.done];
    this.received = '';
    this.waiting = null;
    done({ status: Number(answer.slice(9, 12)), body: answer.slice(head + 4) });
  }

  send(method, path, uid, body) {
    const text = body === undefined ? '' : JSON.stringify(body);
    const acting = uid === undefined ? '' : `onbehalfof: ${uid}\r\n`;
    const about = text === '' ? '' : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n`;
    return new Promise((done, fail) => {
      this.waiting = { done, fail };
      this.socket.write(`${method} ${path} HTTP/1.1\r\nhost: campanile\r\napikey: ${KEY}\r\n${acting}${about}\r\n${text}`);
    });
  }

  async call(method, path, uid, body) {
    const answer = await this.send(method, path, uid, body);
    if (answer.status >= 300) throw new Error(`${method} ${path} answered ${answer.status}: ${answer.body}`);
    return JSON.parse(answer.body);
  }

  close() {
    this.socket.destroy();
  }
}

/** Calls at a fixed rate, whether answers come or not; times in ms from the moment when a call was due. */
async function openLoop(port, next) {
  const idle = Array.from({ length: 16 }, () => new Connection(port));
  const times = [];
  const calls = [];
  const began = performance.now();
  for (let number = 0; number < rate * seconds; number += 1) {
    const due = began + (number * 1_000) / rate;
    while (performance.now() < due) {
      if (due - performance.now() > 1.5) await sleep(1);
      else await new Promise(setImmediate);
    }
    const connection = idle.pop();
    if (!connection) throw new Error(`16 calls are under way: the server does not keep up with ${rate}/s`);
    const { path, uid } = next();
    calls.push(connection.send('GET', path, uid).then((answer) => {
      times.push(performance.now() - due);
      if (answer.status !== 200) throw new Error(`${path} answered ${answer.status}: ${answer.body}`);
      idle.push(connection);
    }));
  }
  await Promise.all(calls);
  idle.forEach((connection) => connection.close());
  return quantiles(times);
}

function quantiles(times) {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { p50: at(0.5), p99: at(0.99) };
}

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

function judge(name, ratios, target, stretch) {
  const sorted = [...ratios].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  const verdict = at(0.5) <= stretch ? 'stretch met' : at(0.5) <= target ? 'target met' : 'MISSED';
  console.log(`${name}: ${at(0.5).toFixed(2)} (middle half ${at(0.25).toFixed(2)}–${at(0.75).toFixed(2)}, ${sorted.length} pairs); target ≤ ${target}, stretch ≤ ${stretch}: ${verdict}`);
}

function control(name, ratios) {
  const sorted = [...ratios].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  console.log(`control, ${name} against itself: ${median.toFixed(3)} (${sorted.length} pairs): ${median >= 0.95 && median <= 1.05 ? 'quiet' : 'TOO NOISY, the figures beside it do not count'}`);
}

const shown = (one) => `p50 ${one.p50.toFixed(2)} ms, p99 ${one.p99.toFixed(2)} ms`;
const middle = (sides, of) => [...sides.map((side) => side[of])].sort((a, b) => a - b)[Math.floor(sides.length / 2)];
const summary = (sides) => shown({ p50: middle(sides, 'p50'), p99: middle(sides, 'p99') });

/** Measures two sides in turn, A B B A …, and the first once more against itself. */
async function pairs(a, b) {
  const sides = { a: [], b: [], again: [] };
  for (let round = 0; round < rounds; round += 1) {
    const order = round % 2 === 0 ? ['a', 'b', 'again'] : ['again', 'b', 'a'];
    for (const side of order) sides[side].push(await (side === 'b' ? b() : a()));
  }
  const ratios = (of) => sides.a.map((side, round) => side[of] / sides.b[round][of]);
  return { ...sides, ratios, control: sides.a.map((side, round) => side.p50 / sides.again[round].p50) };
}

class Campanile {
  static async start(url, folder) {
    const port = await freePort();
    const env = {
      PATH: process.env.PATH,
      CAMPANILE_LISTEN: `127.0.0.1:${port}`,
      CAMPANILE_DATABASE_URL: url,
      CAMPANILE_SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
      CAMPANILE_BOOTSTRAP_APP: 'bench',
      CAMPANILE_BOOTSTRAP_KEY: KEY,
      CAMPANILE_LOG: 'warn',
      CAMPANILE_RATE_LIMIT: '0',
      CAMPANILE_RATE_LIMIT_CORE: '0',
      CAMPANILE_RETENTION_DAYS: '3650',
    };
    const child = spawn('taskset', ['-c', String(SERVER_CORE), binary, 'serve'], { cwd: folder, env, stdio: ['ignore', 'ignore', 'inherit'] });
    const server = new Campanile(port, child);
    const began = Date.now();
    while (!(await server.isReady())) {
      if (child.exitCode !== null) throw new Error(`${binary} ended with ${child.exitCode}`);
      if (Date.now() - began > 30_000) throw new Error(`${binary} is not ready after 30 s`);
      await sleep(50);
    }
    return server;
  }

  constructor(port, child) {
    this.port = port;
    this.child = child;
  }

  async isReady() {
    try {
      return (await fetch(`http://127.0.0.1:${this.port}/readyz`)).ok;
    } catch {
      return false;
    }
  }

  async stop() {
    const ended = new Promise((done) => this.child.on('exit', done));
    this.child.kill('SIGTERM');
    await ended;
  }
}

const API = '/v3/campaigns';
const PAGE = `${API}/notification-feed?limit=20`;

/** A channel, a template and one sent item, from which all others are copied. */
async function furnish(port) {
  const api = new Connection(port);
  await api.call('POST', `${API}/channels`, undefined, { channelId: 'bell', type: 'in_app', name: 'Bell', enabled: true });
  const text = 'A hundred and fifty characters of text as a card of some news may well have, so that a page is about as long as it would be in an app of this kind, {{name}}.';
  const content = { version: '1.0', body: [{ id: 'text', type: 'text', content: text }], style: { background: { light: '#FFFFFF', dark: '#000000' } }, fallbackText: 'News' };
  await api.call('POST', `${API}/templates`, undefined, { templateId: 'news', name: 'News', status: 'approved', templateCategory: 'Alerts', tags: ['news'], channels: [{ channelType: 'in_app', content }], variableSchema: [{ key: 'name' }] });
  await api.call('POST', `${API}/notifications/messages`, undefined, { templateId: 'news', receivers: ['first'], variables: { first: { name: 'Ada' } } });
  api.close();
}

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
const pages = (port) => openLoop(port, () => ({ path: PAGE, uid: anyUser() }));
const vacuum = (url) => sql(url, 'VACUUM ANALYZE');

async function p12(port, name, query) {
  const path = `${API}/notification-feed/unread-count${query}`;
  const of = (uid) => () => openLoop(port, () => ({ path, uid }));
  const measured = await pairs(of('many1'), of('few1'));
  console.log(`  ${unread} items: ${summary(measured.a)}; 10 items: ${summary(measured.b)}`);
  judge(`P12 ${name}, p50`, measured.ratios('p50'), 1.2, 1.05);
  control(name, measured.control);
}

async function main(url, folder) {
  console.log(`machine: ${cpus().length} × ${cpus()[0]?.model ?? arch()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, load ${loadavg()[0].toFixed(1)}`);
  console.log(`${sql(url, 'SELECT version()')}; shared_buffers ${sql(url, 'SHOW shared_buffers')}, fsync ${sql(url, 'SHOW fsync')}`);
  console.log(`binary: ${binary}; ${rate} calls/s, ${rounds} rounds of ${seconds} s a side`);
  const server = await Campanile.start(url, folder);
  try {
    await furnish(server.port);
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
    judge('P10 feed page, p50', feed.ratios('p50'), 2.5, 1.8);
    judge('P10 feed page, p99', feed.ratios('p99'), 2.5, 1.8);
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
    judge(`P11 feed page, p99 at ${large} rows ÷ ${rows}`, big.map((side, round) => side.p99 / small[round].p99), 2.0, 1.3);
    if (large < 10 * rows) console.log(`P11 asks for ten times the rows: this was ${large / rows} times; --large ${10 * rows} is the full size`);
  } finally {
    await server.stop();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'campanile-bench.'));
const [cluster, url] = run('tests/setup/postgres.sh', ['start']).trim().split('\n').at(-1).split(' ');
try {
  await main(url, folder);
} finally {
  run('tests/setup/postgres.sh', ['stop', cluster]);
  rmSync(folder, { recursive: true, force: true });
}

// P10, P11 and P12 of the goals: a page of a feed, the same with ten times the rows, and the unread count.
//
//   node benches/feed.mjs [--rows N] [--large N] [--unread N] [--seconds N] [--rounds N] [--rate N] [--only postgres|sqlite] [binary]
//
// P10: a page of 20 over the API at a fixed rate, beside the plainest program running the SQL that the service itself was
// seen to run, prepared, at the same rate, for the same users, in the same run: pgbench with PostgreSQL, or on SQLite `page.py`,
// which serves the rows from the file to the same client. P11: the page with `--large` rows in the table
// beside the page with `--rows`. P12: the unread count of a user with `--unread` items beside
// that of one with 10, in all and by category. The sides alternate, and each side is measured against itself as a control.
//
// PostgreSQL is a cluster of its own in a temporary folder, with what it ships as defaults but fsync off, which these reads
// do not notice. SQLite is a file there, filled while no service has it. The server runs on core 0, and so does `page.py`;
// whatever loads the server runs on core 1, PostgreSQL wherever it likes. `--program` names a `ledger` that was built before.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';

import { LOAD_CORE, SERVER_CORE, build, control, describe, judge, need, run } from './lib.mjs';
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
    only: { type: 'string' },
    program: { type: 'string' },
  },
});
const [rows, large, unread, seconds, rounds, rate] = ['rows', 'large', 'unread', 'seconds', 'rounds', 'rate'].map((name) => {
  const number = Number(given[name]);
  if (!Number.isInteger(number) || number < 1) throw new Error(`--${name} must be a whole number from 1`);
  return number;
});
if (rows < READ * ITEMS || large <= rows) throw new Error(`--rows must be at least ${READ * ITEMS} and --large more than that`);
if (given.only && !['postgres', 'sqlite'].includes(given.only)) throw new Error('--only is postgres or sqlite');
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
const CATEGORY = '?templateCategory=Alerts';

const COLUMNS = ['id', 'app_id', 'user_id', 'notification_id', 'delivery_id', 'template_version_id', 'channel_id', 'seq', 'change_seq', 'category_id', 'category_name', 'filterable', 'label', 'alternative_text', 'tags', 'data_type', 'variables', 'counted', 'sent_at', 'delivered_at', 'read_at', 'interacted_at', 'expires_at', 'deleted_at', 'created_at'];

/** Users `<name>1` … with so many unread items each: rows as sends make them, in the order of time over all feeds. */
function fill(db, name, from, to, items) {
  const values = { id: db.id('0001', name, 's', 'u.number'), user_id: 'u.id', seq: 's', change_seq: 's', sent_at: 'i.sent_at - 86400000 + s * 1000 + u.number % 1000', created_at: 'i.created_at - 86400000 + s * 1000 + u.number % 1000' };
  const picked = COLUMNS.map((column) => values[column] ?? `i.${column}`).join(', ');
  const { sample, begin } = db.copying("SELECT feed_items.* FROM feed_items JOIN users ON users.id = feed_items.user_id WHERE users.uid = 'first'");
  db.load(`
    ${begin}
    CREATE TEMPORARY TABLE copied ${db.dropped} AS
      SELECT n AS number, ${db.id('0002', name, '0', 'n')} AS id FROM ${db.series('n', from, to)};
    INSERT INTO users (id, app_id, uid, name, name_folded, role, metadata, tags, created_at, updated_at, version)
      SELECT c.id, u.app_id, '${name}' || c.number, '${name}' || c.number, '${name}' || c.number, u.role, u.metadata, u.tags, u.created_at, u.updated_at, 1
      FROM users u CROSS JOIN copied c WHERE u.uid = 'first';
    INSERT INTO feed_heads (app_id, user_id, seq, unread, purged_seq)
      SELECT i.app_id, c.id, ${items}, ${items}, 0 FROM ${sample} i CROSS JOIN copied c;
    INSERT INTO feed_head_categories (app_id, user_id, category_id, unread)
      SELECT i.app_id, c.id, i.category_id, ${items} FROM ${sample} i CROSS JOIN copied c;
    INSERT INTO feed_items (${COLUMNS.join(', ')})
      SELECT ${picked} FROM ${db.series('s', 1, items)} CROSS JOIN copied u CROSS JOIN ${sample} i;
    COMMIT;`);
}

/** The users whose feeds are read. */
const READERS = `uid IN (${Array.from({ length: READ }, (_, n) => `'user${n + 1}'`).join(', ')})`;

const postgres = (url, folder) => ({
  name: 'PostgreSQL',
  url,
  plain: 'pgbench',
  id: () => 'gen_random_uuid()',
  series: (name, from, to) => `generate_series(${from}, ${to}) ${name}`,
  dropped: 'ON COMMIT DROP',
  copying: (item) => ({ sample: `(${item})`, begin: 'BEGIN;' }),
  load: (text) => sql(url, text),
  /** The server may serve meanwhile. */
  filled: async (server, work) => {
    work();
    sql(url, 'VACUUM ANALYZE');
    return server;
  },
  /** The SQL of a page as the service ran it, seen in the database's own list of sessions. */
  seen: () => sql(url, "SELECT replace(query, E'\\n', ' ') FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT%FROM \"feed_items\"%' AND query NOT LIKE '%pg_stat%' LIMIT 1"),
  floor: async (page) => {
    const files = scripts(url, folder, page);
    return { measure: () => pgbench(url, folder, files), stop: () => {} };
  },
});

/** Kinds of ids, by the name of their users. */
const KINDS = ['many', 'few', 'user', 'more'];
/** What fills SQLite has most of its indexes in memory. */
const FILL_CACHE_KIB = 2 * 2 ** 20;

const sqlite = (file, program) => ({
  name: 'SQLite',
  url: `sqlite://${file}`,
  plain: 'page.py',
  /** Ids that grow with the time, as the service's do. */
  id: (kind, name, time, number) => `unhex(printf('%08x${kind}7${KINDS.indexOf(name).toString().padStart(3, '0')}8000%012x', ${time}, ${number}))`,
  series: (name, from, to) => `(WITH RECURSIVE c(n) AS (SELECT ${from} UNION ALL SELECT n + 1 FROM c WHERE n < ${to}) SELECT n AS ${name} FROM c) ${name}`,
  dropped: '',
  // It would look for the item again for every row.
  copying: (item) => ({ sample: 'sample', begin: `BEGIN; CREATE TEMPORARY TABLE sample AS ${item};` }),
  // Opening it next makes it a file with a log again.
  load: (text) => run(program, ['sql', file], { input: `PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -${FILL_CACHE_KIB};${text}` }),
  /** Filling takes far longer than the service waits for the file, so it is started anew. */
  filled: async (server, work) => {
    await server.stop();
    work();
    // Or the system would still be writing while pages are measured.
    run('sync', [file]);
    const started = await start(`sqlite://${file}`, server.folder);
    await pages(started.port);
    return started;
  },
  seen: (pid) => inMemory(pid, /SELECT "feed_items"\."id", [\x20-\x7e]+ ORDER BY "feed_items"\."sent_at" DESC, [\x20-\x7e]+ LIMIT \?(?=\0)/g),
  floor: async (page) => {
    if (page.match(/\?/g).length !== 4) throw new Error(`the page's SQL takes other values than this program knows: ${page}`);
    const users = run(program, ['sql', file], { input: `SELECT hex(app_id) || ' ' || hex(id) || ' ' || uid FROM users WHERE ${READERS};` }).out.trim();
    const asked = { file, who: `SELECT ${WHO} FROM users WHERE app_id = ? AND uid = ?`, page, limit: 21, users: users.split('\n').map((line) => line.split(' ')) };
    const child = spawn('taskset', ['-c', String(SERVER_CORE), 'python3', resolve('benches/page.py')], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.write(`${JSON.stringify(asked)}\n`);
    const [port] = await once(child.stdout, 'data');
    return { measure: () => pages(Number(port)), stop: () => child.stdin.end() };
  },
});

/** The one text of this form in the memory of a process: SQLite keeps the text of every prepared statement. */
function inMemory(pid, form) {
  const found = new Set();
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    for (const [, from, to] of readFileSync(`/proc/${pid}/maps`, 'utf8').matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw.*$/gm)) {
      const [start, end] = [from, to].map((at) => Number.parseInt(at, 16));
      const bytes = Buffer.alloc(end - start);
      const length = readSync(memory, bytes, 0, bytes.length, start);
      for (const [text] of bytes.latin1Slice(0, length).matchAll(form)) found.add(text);
    }
  } finally {
    closeSync(memory);
  }
  return [...found].join('; ');
}

/** The SQL of a page as the service runs it. */
async function statement(db, server) {
  const api = new Connection(server.port);
  await api.call('GET', PAGE, 'user1');
  api.close();
  const page = db.seen(server.child.pid);
  if (page.split('ORDER BY "feed_items"."sent_at" DESC').length !== 2) throw new Error(`the page's SQL was not seen, but: ${page}`);
  return page;
}

const WHO = 'id, last_active_at, deactivated_at, deleted_at, uid';

/** One script per user: who the user is, and the page. */
function scripts(url, folder, page) {
  const users = sql(url, `SELECT id || ' ' || app_id || ' ' || uid FROM users WHERE ${READERS}`);
  const now = Date.now();
  return users.split('\n').map((line, number) => {
    const [user, app, uid] = line.split(' ');
    const binds = [`'${app}'`, `'${user}'`, String(now), '21'];
    if (new Set(page.match(/\$\d+/g)).size !== binds.length) throw new Error(`the page's SQL takes other values than this program knows: ${page}`);
    const bound = page.replace(/\$(\d+)/g, (_, at) => binds[Number(at) - 1]);
    const who = `SELECT ${WHO} FROM users WHERE app_id = '${app}' AND uid = '${uid}'`;
    const file = join(folder, `page${number}.sql`);
    writeFileSync(file, `${who};\n${bound};\n`);
    return file;
  });
}

const anyUser = () => `user${1 + Math.floor(Math.random() * READ)}`;
const pages = (port) => openLoop(port, { rate, seconds }, () => ({ path: PAGE, uid: anyUser() }));
const start = (url, folder) => Campanile.start(binary, url, folder, { core: SERVER_CORE, CAMPANILE_RETENTION_DAYS: '3650' });

async function p12(db, port, name, query) {
  const path = `${API}/notification-feed/unread-count${query}`;
  const of = (uid) => () => openLoop(port, { rate, seconds }, () => ({ path, uid }));
  const measured = await pairs(of('many1'), of('few1'));
  console.log(`  ${unread} items: ${summary(measured.a)}; 10 items: ${summary(measured.b)}`);
  judge(`P12 ${name}, ${db.name}, p50`, measured.ratios('p50'), { target: 1.2, stretch: 1.05, better: 'less' });
  control(name, measured.control);
}

async function main(db, folder) {
  console.log(`${db.name}, binary: ${binary}; ${rate} calls/s, ${rounds} rounds of ${seconds} s a side`);
  let server = await start(db.url, folder);
  /** Fills the database; a server that cannot be started again needs no stop. */
  const filled = async (work) => {
    const began = performance.now();
    const before = server;
    server = null;
    server = await db.filled(before, work);
    console.log(`  filled in ${((performance.now() - began) / 1_000).toFixed(0)} s`);
  };
  try {
    await server.furnish();
    await filled(() => {
      fill(db, 'many', 1, 1, unread);
      fill(db, 'few', 1, 1, 10);
      fill(db, 'user', 1, rows / ITEMS, ITEMS);
    });
    const check = new Connection(server.port);
    for (const [uid, count] of [['many1', unread], ['few1', 10], ['user1', ITEMS]]) {
      for (const query of ['', CATEGORY]) {
        const answer = await check.call('GET', `${API}/notification-feed/unread-count${query}`, uid);
        if (answer.data.count !== count) throw new Error(`${uid} has ${answer.data.count} unread items and not ${count}`);
      }
      const page = await check.call('GET', PAGE, uid);
      if (page.data.length !== Math.min(20, count)) throw new Error(`the page of ${uid} has ${page.data.length} items`);
    }
    check.close();
    const floor = await db.floor(await statement(db, server));
    const feed = await pairs(() => pages(server.port), floor.measure);
    floor.stop();
    console.log(`  API: ${summary(feed.a)}; ${db.plain}: ${summary(feed.b)}`);
    judge(`P10 feed page, ${db.name}, p50`, feed.ratios('p50'), { target: 2.5, stretch: 1.8, better: 'less' });
    judge(`P10 feed page, ${db.name}, p99`, feed.ratios('p99'), { target: 2.5, stretch: 1.8, better: 'less' });
    control('feed page', feed.control);
    await p12(db, server.port, 'unread count', '');
    await p12(db, server.port, 'unread count of a category', CATEGORY);
    // Rows cannot be taken away and brought back between rounds, so both sizes are measured in a row.
    const small = [];
    for (let round = 0; round < rounds; round += 1) small.push(await pages(server.port));
    await filled(() => fill(db, 'more', rows / ITEMS + 1, large / ITEMS, ITEMS));
    const big = [];
    for (let round = 0; round < rounds; round += 1) big.push(await pages(server.port));
    console.log(`  ${rows} rows: ${summary(small)}; ${large} rows: ${summary(big)}`);
    judge(`P11 feed page, ${db.name}, p99 at ${large} rows ÷ ${rows}`, big.map((side, round) => side.p99 / small[round].p99), { target: 2.0, stretch: 1.3, better: 'less' });
    if (large < 10 * rows) console.log(`P11 asks for ten times the rows: this was ${large / rows} times; --large ${10 * rows} is the full size`);
  } finally {
    await server?.stop();
  }
}

/** A file of its own, and the version of SQLite that reads it for the floor. */
async function onSqlite(folder) {
  need('python3', 'python3');
  console.log(`floor on SQLite: ${run('python3', ['-c', 'import sqlite3, sys; print("Python", sys.version.split()[0], "with SQLite", sqlite3.sqlite_version)']).out.trim()}`);
  const file = join(folder, 'campanile.db');
  await main(sqlite(file, given.program ?? build('ledger')), folder);
  console.log(`  the file has ${(statSync(file).size / 2 ** 20).toFixed(0)} MiB`);
}

const folder = mkdtempSync(join(tmpdir(), 'campanile-bench.'));
try {
  describe();
  if (given.only !== 'sqlite') await withPostgres({ fsync: 'off' }, (url) => main(postgres(url, folder), folder));
  if (given.only !== 'postgres') await onSqlite(folder);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

// P20 and P21 of the goals: how fast a CSV file becomes an audience, and what memory that takes, on PostgreSQL and SQLite.
//
//   node benches/import.mjs [--rows N] [--rounds N] [--single N] [--large BYTES] [--small BYTES] [binary]
//
// P20: the rows of one import, from when a worker begins to when it ends, ÷ the same rows staged by COPY (on SQLite by the
// shell's .import) and moved from there into the same tables in one transaction, users and recipients with every index; and
// ÷ one upsert for each row, planned once on PostgreSQL, in one transaction, so without commits. Every side makes users that
// nobody knew before, so every side grows the same tables. The sides alternate, and the import is measured against itself as
// a control.
//
// P21: the most memory that the server ever held, with a large file beside a small one, each in a server of its own: sent to
// an upload URL, and streamed by `campanile campaign send --no-send`.
//
// Both databases write to the disk for good: fsync is on. The server runs on core 0, whatever loads it on core 1, PostgreSQL
// wherever it likes.

import { spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { LOAD_CORE, SERVER_CORE, control, describe, freePort, judge, need, run, spread } from './lib.mjs';

const KEY = 'benchmark-key-of-the-import-figures-1';
const SECRET = Buffer.alloc(32, 7).toString('base64');
const GIVE_UP_MS = 300_000;

const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rows: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '15' },
    single: { type: 'string', default: '1000' },
    small: { type: 'string', default: String(10 * 2 ** 20) },
    large: { type: 'string', default: String(2 ** 30) },
  },
});
const [rows, rounds, single, small, large] = ['rows', 'rounds', 'single', 'small', 'large'].map((name) => Number(given[name]));
const binary = resolve(positionals[0] ?? 'target/release/campanile');

class Campanile {
  static async start(url, folder) {
    const port = await freePort();
    const env = {
      PATH: process.env.PATH,
      CAMPANILE_LISTEN: `127.0.0.1:${port}`,
      CAMPANILE_DATABASE_URL: url,
      CAMPANILE_SECRET_KEY: SECRET,
      CAMPANILE_UPLOADS_FOLDER: join(folder, 'uploads'),
      CAMPANILE_UPLOAD_BYTES_MAX: String(2 ** 31),
      CAMPANILE_BOOTSTRAP_APP: 'bench',
      CAMPANILE_BOOTSTRAP_KEY: KEY,
      CAMPANILE_LOG: 'warn',
      CAMPANILE_RATE_LIMIT: '0',
      CAMPANILE_RATE_LIMIT_CORE: '0',
    };
    const child = spawn('taskset', ['-c', String(SERVER_CORE), binary, 'serve'], { cwd: folder, env, stdio: ['ignore', 'ignore', 'inherit'] });
    const server = new Campanile(`http://127.0.0.1:${port}`, child);
    const began = Date.now();
    while (!(await server.isReady())) {
      if (child.exitCode !== null) throw new Error(`${binary} ended with ${child.exitCode}`);
      if (Date.now() - began > 30_000) throw new Error(`${binary} is not ready after 30 s`);
      await sleep(20);
    }
    return server;
  }

  constructor(url, child) {
    this.url = url;
    this.child = child;
  }

  async isReady() {
    try {
      return (await fetch(`${this.url}/readyz`)).ok;
    } catch {
      return false;
    }
  }

  /** Each call by a connection of its own: while a floor runs nobody here looks whether the server has closed a kept one. */
  async call(method, path, body) {
    const headers = { apikey: KEY, 'content-type': 'application/json' };
    const { status, text } = await new Promise((done, fail) => {
      const sent = http.request(`${this.url}/v3/campaigns${path}`, { method, headers, agent: false }, (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (piece) => { text += piece; });
        answer.on('end', () => done({ status: answer.statusCode, text }));
      });
      sent.on('error', fail);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
    if (status >= 300) throw new Error(`${method} ${path} answered ${status}: ${text}`);
    return JSON.parse(text).data;
  }

  async furnish() {
    await this.call('POST', '/channels', { channelId: 'bell', type: 'in_app', name: 'Bell', enabled: true });
    await this.call('POST', '/templates', { templateId: 'news', name: 'News', status: 'approved', channels: [{ channelType: 'in_app' }], variableSchema: [{ key: 'code' }] });
  }

  draft() {
    return this.call('POST', '/campaigns', { name: 'Sale', templateId: 'news' });
  }

  /** Imports a file and gives its job. */
  async import(file) {
    const campaign = await this.draft();
    const path = `/campaigns/${campaign.id}`;
    const { url, s3Key } = await this.call('POST', `${path}/recipients/upload-url`);
    run('taskset', ['-c', String(LOAD_CORE), 'curl', '-s', '-f', '-T', file, url]);
    await this.call('POST', `${path}/import-csv`, { s3Key });
    const began = Date.now();
    for (;;) {
      await sleep(20);
      const job = await this.call('GET', `${path}/import-status`);
      if (job.state === 'completed') return job;
      if (job.state === 'failed' || Date.now() - began > GIVE_UP_MS) throw new Error(`the import is ${JSON.stringify(job)}`);
    }
  }

  /** The most memory that it ever held, in MiB. */
  memory() {
    // `taskset` becomes the server: they are one process.
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)[1]) / 1_024;
  }

  async stop() {
    const ended = new Promise((done) => this.child.on('exit', done));
    this.child.kill('SIGTERM');
    await ended;
  }
}

let made = 0;

/** A file with so many users that nobody knows. */
function file(folder, count) {
  made += 1;
  const name = `p${made}`;
  const path = join(folder, `${name}.csv`);
  const lines = Array.from({ length: count }, (_, n) => `${name}-${n},CODE-${n}`);
  writeFileSync(path, `user_id,code\n${lines.join('\n')}\n`);
  return path;
}

/** The notification of the campaign that was made last. */
const NEWEST = 'SELECT notification_id AS id FROM campaigns ORDER BY id DESC LIMIT 1';

const postgres = {
  name: 'PostgreSQL',
  sql(url, text) {
    return run('psql', ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-At', url], { input: text }).out.trim();
  },
  /** Columns of users and of recipients that an imported row has, by the first one of them. */
  move(from, notification) {
    return `
      WITH made AS (
        INSERT INTO users (id, app_id, uid, name, name_folded, role, metadata, tags, created_at, updated_at, version)
        SELECT gen_random_uuid(), f.app_id, s.uid, s.uid, s.uid, f.role, f.metadata, f.tags, f.created_at, f.updated_at, 1
        FROM ${from} s CROSS JOIN (SELECT * FROM users WHERE app_id = '${this.app}' AND uid = 'p1-0') f
        ON CONFLICT DO NOTHING RETURNING id, uid, app_id)
      INSERT INTO notification_recipients (app_id, notification_id, seq, uid, user_id, variables, outcome)
      SELECT m.app_id, '${notification}', s.seq, m.uid, m.id, CAST('{"code":"' || s.code || '"}' AS json_of_recipients), f.outcome
      FROM ${from} s JOIN made m ON m.uid = s.uid CROSS JOIN (SELECT ${this.outcome} AS outcome) f`
      .replace('json_of_recipients', this.json);
  },
  prepare(url) {
    this.app = this.sql(url, "SELECT app_id FROM users WHERE uid = 'p1-0'");
    this.outcome = this.sql(url, "SELECT outcome FROM notification_recipients WHERE uid = 'p1-0'");
    this.json = this.sql(url, "SELECT data_type FROM information_schema.columns WHERE table_name = 'notification_recipients' AND column_name = 'variables'");
    // All that a person may do to let them be the same work: the plans of neither side are those of empty tables.
    this.sql(url, 'ANALYZE');
  },
  /** The script of the floor. */
  staged(url, path, notification) {
    return `BEGIN;
      CREATE TEMP TABLE staged (seq bigserial, uid text, code text) ON COMMIT DROP;
      \\copy staged (uid, code) FROM '${path}' WITH (FORMAT csv, HEADER)
      ANALYZE staged;
      ${this.move('staged', notification)};
      COMMIT;`;
  },
  one(uid, code, seq) {
    return `EXECUTE one('${uid}', '${code}', ${seq});`;
  },
  /** One statement for each row, planned once, in one transaction: nothing is waited for but the statements. */
  each(lines, notification) {
    const one = this.move('(SELECT $1 AS uid, $2 AS code, $3 AS seq)', notification);
    return `PREPARE one(text, text, bigint) AS ${one};\nBEGIN;\n${lines.join('\n')}\nCOMMIT;`;
  },
  time(url, script) {
    const began = performance.now();
    run('taskset', ['-c', String(LOAD_CORE), 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', url], { input: script });
    return performance.now() - began;
  },
};

const sqlite = {
  name: 'SQLite',
  sql(url, text) {
    return run('sqlite3', ['-bail', url.replace('sqlite://', '')], { input: `.timeout 30000\n${text}\n` }).out.trim();
  },
  prepare(url) {
    this.app = this.sql(url, "SELECT lower(hex(app_id)) FROM users WHERE uid = 'p1-0';");
    this.outcome = this.sql(url, "SELECT outcome FROM notification_recipients WHERE uid = 'p1-0';");
    this.sql(url, 'ANALYZE;');
  },
  head: '.timeout 30000\nPRAGMA synchronous=FULL;\nPRAGMA temp_store=MEMORY;\n',
  move(from, notification) {
    // Two statements, because SQLite returns no rows of one to another.
    return `
      INSERT INTO users (id, app_id, uid, name, name_folded, role, metadata, tags, created_at, updated_at, version)
      SELECT randomblob(16), f.app_id, s.uid, s.uid, s.uid, f.role, f.metadata, f.tags, f.created_at, f.updated_at, 1
      FROM ${from} s CROSS JOIN (SELECT * FROM users WHERE app_id = x'${this.app}' AND uid = 'p1-0') f WHERE true ON CONFLICT DO NOTHING;
      INSERT INTO notification_recipients (app_id, notification_id, seq, uid, user_id, variables, outcome)
      SELECT u.app_id, x'${notification}', s.seq, u.uid, u.id, '{"code":"' || s.code || '"}', ${this.outcome}
      FROM ${from} s JOIN users u ON u.app_id = x'${this.app}' AND u.uid = s.uid;`;
  },
  staged(url, path, notification) {
    return `${this.head}CREATE TEMP TABLE staged (uid text, code text);
      .mode csv
      .import --skip 1 ${path} staged
      BEGIN IMMEDIATE;
      ${this.move('(SELECT rowid AS seq, uid, code FROM staged)', notification)}
      COMMIT;`.replaceAll('\n      ', '\n');
  },
  one(uid, code, seq, notification) {
    return this.move(`(SELECT '${uid}' AS uid, '${code}' AS code, ${seq} AS seq)`, notification);
  },
  each(lines) {
    return `${this.head}BEGIN IMMEDIATE;\n${lines.join('\n')}\nCOMMIT;`;
  },
  time(url, script) {
    const began = performance.now();
    run('taskset', ['-c', String(LOAD_CORE), 'sqlite3', '-bail', url.replace('sqlite://', '')], { input: script });
    return performance.now() - began;
  },
};

const newest = {
  PostgreSQL: (url) => postgres.sql(url, `${NEWEST};`),
  SQLite: (url) => sqlite.sql(url, `SELECT lower(hex(id)) FROM (${NEWEST});`),
};

/** Looks whether a floor did all of its work. */
function check(db, url, notification, count) {
  const literal = db === sqlite ? `x'${notification}'` : `'${notification}'`;
  const found = Number(db.sql(url, `SELECT count(*) FROM notification_recipients WHERE notification_id = ${literal} AND user_id IS NOT NULL;`));
  if (found !== count) throw new Error(`the floor on ${db.name} made ${found} of ${count} recipients`);
}

async function speed(db, url, folder) {
  made = 0;
  const server = await Campanile.start(url, folder);
  try {
    await server.furnish();
    await server.import(file(folder, rows));
    db.prepare(url);
    // Rows a second of each side.
    const product = async () => {
      const job = await server.import(file(folder, rows));
      if (job.counts.added !== rows) throw new Error(`only ${job.counts.added} were added`);
      return (rows * 1_000) / (Date.parse(job.endedAt) - Date.parse(job.startedAt));
    };
    const staged = async () => {
      await server.draft();
      const notification = newest[db.name](url);
      const took = db.time(url, db.staged(url, file(folder, rows), notification));
      check(db, url, notification, rows);
      return (rows * 1_000) / took;
    };
    const each = async () => {
      await server.draft();
      const notification = newest[db.name](url);
      made += 1;
      const lines = Array.from({ length: single }, (_, n) => db.one(`p${made}-${n}`, `CODE-${n}`, n + 1, notification));
      const took = db.time(url, db.each(lines, notification));
      check(db, url, notification, single);
      return (single * 1_000) / took;
    };
    const sides = { product: [], staged: [], each: [], again: [] };
    const work = { product, staged, each, again: product };
    for (let round = 0; round < rounds; round += 1) {
      const order = ['product', 'staged', 'each', 'again'];
      for (const side of round % 2 === 0 ? order : order.reverse()) sides[side].push(await work[side]());
    }
    const shown = (side) => `${Math.round(spread(sides[side]).median)}/s`;
    console.log(`${db.name}: import ${shown('product')}, staged ${shown('staged')}, row by row ${shown('each')}; ${rows} rows, ${single} of them row by row`);
    const ratios = (side) => sides.product.map((rate, round) => rate / sides[side][round]);
    judge(`P20 import ÷ staged copy, ${db.name}`, ratios('staged'), { target: 0.6, stretch: 0.85, better: 'more' });
    judge(`P20 import ÷ one upsert for each row, ${db.name}`, ratios('each'), { target: 6, stretch: 10, better: 'more' });
    control(`import on ${db.name}`, ratios('again'));
  } finally {
    await server.stop();
  }
}

/** A file of so many bytes, in rows of about 4 KiB. */
function sized(folder, bytes) {
  const path = join(folder, `sized-${bytes}.csv`);
  const out = openSync(path, 'w');
  const filling = 'x'.repeat(4_000);
  let written = writeSync(out, 'user_id,code,note\n');
  for (let n = 0; written < bytes; n += 1) written += writeSync(out, `s${bytes}-${n},CODE-${n},${filling}\n`);
  closeSync(out);
  return path;
}

const DOORS = {
  'an upload URL': async (server, path) => {
    await server.import(path);
  },
  'a gRPC stream': (server, path) => {
    const env = { PATH: process.env.PATH, CAMPANILE_API_URL: server.url, CAMPANILE_API_KEY: KEY };
    const words = ['-c', String(LOAD_CORE), binary, 'campaign', 'send', '--file', path, '--template', 'news', '--no-send'];
    const done = spawnSync('taskset', words, { cwd: dirname(path), env, encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`the command ended with ${done.status}: ${done.stdout}${done.stderr}`);
  },
};

/** The most memory of a server that imported a file of so many bytes, and how long it took. */
async function memory(url, folder, bytes, send) {
  const path = sized(folder, bytes);
  const server = await Campanile.start(url, folder);
  try {
    await server.furnish();
    const idle = server.memory();
    const began = performance.now();
    await send(server, path);
    return { idle, most: server.memory(), seconds: (performance.now() - began) / 1_000 };
  } finally {
    await server.stop();
    rmSync(path);
    rmSync(join(folder, 'uploads'), { recursive: true, force: true });
  }
}

async function growth(db, fresh, folder) {
  const mib = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`;
  const shown = (one) => `${one.idle.toFixed(1)} MiB idle, ${one.most.toFixed(1)} MiB at most, ${one.seconds.toFixed(0)} s`;
  const streams = spawnSync(binary, ['campaign', 'send', '--help']).status === 0;
  if (!streams) console.log(`${binary} is too old to stream files: that door is left out`);
  for (const [number, [door, send]] of Object.entries(DOORS).slice(0, streams ? 2 : 1).entries()) {
    const little = await memory(fresh(`small${number}`), folder, small, send);
    const much = await memory(fresh(`large${number}`), folder, large, send);
    console.log(`${db.name}, ${door}: ${mib(small)}: ${shown(little)}; ${mib(large)}: ${shown(much)}`);
    const more = much.most - little.most;
    const verdict = more <= 8 ? 'stretch met' : more <= 32 ? 'target met' : 'MISSED';
    console.log(`P21 most memory, ${mib(large)} − ${mib(small)}, ${db.name}, ${door}: ${more.toFixed(1)} MiB; target ≤ 32, stretch ≤ 8: ${verdict}`);
  }
}

need('sqlite3', 'sqlite3');
describe();
const folder = mkdtempSync(join(tmpdir(), 'campanile-bench.'));
process.env.CAMPANILE_TEST_POSTGRES_FSYNC = 'on';
const [cluster, url] = run('tests/setup/postgres.sh', ['start']).out.trim().split('\n').at(-1).split(' ');
try {
  console.log(`${postgres.sql(url, 'SELECT version()')}; shared_buffers ${postgres.sql(url, 'SHOW shared_buffers')}, fsync ${postgres.sql(url, 'SHOW fsync')}`);
  console.log(`binary: ${binary}; ${rounds} rounds`);
  const file = (name) => {
    mkdirSync(join(folder, name), { recursive: true });
    return `sqlite://${join(folder, name)}/campanile.db`;
  };
  const database = (name) => {
    postgres.sql(url, `CREATE DATABASE ${name}`);
    return url.replace(/[^/]*$/, name);
  };
  await speed(postgres, database('speed'), folder);
  await speed(sqlite, file('speed'), folder);
  await growth(postgres, database, folder);
  await growth(sqlite, file, folder);
} finally {
  run('tests/setup/postgres.sh', ['stop', cluster]);
  rmSync(folder, { recursive: true, force: true });
}

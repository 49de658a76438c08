// P20 and P21 of the goals: how fast a CSV file becomes an audience, and what memory that takes, on PostgreSQL and SQLite.
//
//   node benches/import.mjs [--rows N] [--rounds N] [--single N] [--large BYTES] [--small BYTES] [--whole N]
//     [--only postgres|sqlite] [binary]
//
// P20: the rows of one import, from when a worker begins to when it ends, ÷ the same rows staged by COPY (on SQLite by the
// shell's .import) and moved from there into the same tables in one transaction, users and recipients with every index; and
// ÷ one upsert for each row, planned once on PostgreSQL, one after the other over one connection in one transaction, so
// without commits. Every side makes users that nobody knew before, so every side grows the same tables. The sides alternate,
// and the import is measured against itself as a control.
//
// P21: the most memory that the server ever held, with a large file beside a small one, each in a server of its own: sent to
// an upload URL, and streamed by `campanile campaign send --no-send`.
//
// With --whole one file of so many rows is imported into an empty database, beside the same rows staged. --rounds 0 leaves
// P20 out, --large 0 P21.
//
// Both databases write to the disk for good: fsync is on. The server runs on core 0, whatever loads it on core 1, PostgreSQL
// wherever it likes.

import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { LOAD_CORE, SERVER_CORE, control, describe, judge, need, processorTime, run, spread } from './lib.mjs';
import { Campanile, clusterTime, withPostgres } from './service.mjs';

const GIVE_UP_MS = 300_000;

const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rows: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '15' },
    single: { type: 'string', default: '1000' },
    small: { type: 'string', default: String(10 * 2 ** 20) },
    large: { type: 'string', default: String(2 ** 30) },
    whole: { type: 'string', default: '0' },
    only: { type: 'string' },
  },
});
const [rows, rounds, single, small, large, whole] = ['rows', 'rounds', 'single', 'small', 'large', 'whole'].map((name) => Number(given[name]));
const binary = resolve(positionals[0] ?? 'target/release/campanile');

/** A server of the figures, and what it takes to import into it. */
class Importer extends Campanile {
  static start(url, folder) {
    const uploads = { CAMPANILE_UPLOADS_FOLDER: join(folder, 'uploads'), CAMPANILE_UPLOAD_BYTES_MAX: String(2 ** 31) };
    return super.start(binary, url, folder, { core: SERVER_CORE, ...uploads });
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

/** Runs the program of a floor, and gives the time that it took and its processor time, in ms. */
function timed(line, script) {
  const began = performance.now();
  const { err } = run('bash', ['-c', 'TIMEFORMAT="%U %S"; time "$@"', 'bash', 'taskset', '-c', String(LOAD_CORE), ...line], { input: script });
  const took = performance.now() - began;
  const [user, system] = err.trim().split('\n').at(-1).split(' ').map(Number);
  return { took, busy: (user + system) * 1_000 };
}

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
    const alike = "quote_literal(role), quote_literal(metadata), quote_literal(tags), created_at, updated_at";
    this.alike = this.sql(url, `SELECT concat_ws(', ', ${alike}) FROM users WHERE uid = 'p1-0'`);
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
  /**
   * One statement for each row, planned once, in one transaction: nothing is waited for but the statements, one after the
   * other. It takes the constants as they are and looks nothing up, which a plain importer would not do more cheaply.
   */
  each(lines, notification) {
    return `PREPARE one(text, text, bigint) AS
      WITH made AS (
        INSERT INTO users (id, app_id, uid, name, name_folded, role, metadata, tags, created_at, updated_at, version)
        VALUES (gen_random_uuid(), '${this.app}', $1, $1, $1, ${this.alike}, 1) ON CONFLICT DO NOTHING RETURNING id)
      INSERT INTO notification_recipients (app_id, notification_id, seq, uid, user_id, variables, outcome)
      SELECT '${this.app}', '${notification}', $3, $1, id, '{"code":"' || $2 || '"}', ${this.outcome} FROM made;
      BEGIN;
      ${lines.join('\n')}
      COMMIT;`;
  },
  time(url, script) {
    return timed(['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', url], script);
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
    const alike = "quote(role) || ', ' || quote(metadata) || ', ' || quote(tags) || ', ' || created_at || ', ' || updated_at";
    this.alike = this.sql(url, `SELECT ${alike} FROM users WHERE uid = 'p1-0';`);
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
  /** The shell reads each statement anew, which is part of a row here. */
  one(uid, code, seq, notification) {
    return `INSERT INTO users (id, app_id, uid, name, name_folded, role, metadata, tags, created_at, updated_at, version)
      VALUES (randomblob(16), x'${this.app}', '${uid}', '${uid}', '${uid}', ${this.alike}, 1) ON CONFLICT DO NOTHING;
      INSERT INTO notification_recipients (app_id, notification_id, seq, uid, user_id, variables, outcome)
      SELECT x'${this.app}', x'${notification}', ${seq}, '${uid}', id, '{"code":"${code}"}', ${this.outcome}
      FROM users WHERE app_id = x'${this.app}' AND uid = '${uid}';`;
  },
  each(lines) {
    return `${this.head}BEGIN IMMEDIATE;\n${lines.join('\n')}\nCOMMIT;`;
  },
  time(url, script) {
    return timed(['sqlite3', '-bail', url.replace('sqlite://', '')], script);
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

async function speed(db, url, folder, cluster) {
  made = 0;
  const server = await Importer.start(url, folder);
  try {
    await server.furnish();
    await server.import(file(folder, rows));
    db.prepare(url);
    // Rows a second of each side, and its processor time for each row in µs: of the service or the floor's program, and of
    // the cluster.
    const side = async (count, work, mine = false) => {
      const before = cluster() + (mine ? processorTime(server.child.pid) : 0);
      const { took, busy } = await work();
      const after = cluster() + (mine ? processorTime(server.child.pid) : 0);
      return { rate: (count * 1_000) / took, busy: (after - before + busy * 1_000) / count };
    };
    const imported = async () => {
      const path = file(folder, rows);
      return side(rows, async () => {
        const job = await server.import(path);
        if (job.counts.added !== rows) throw new Error(`only ${job.counts.added} were added`);
        return { took: Date.parse(job.endedAt) - Date.parse(job.startedAt), busy: 0 };
      }, true);
    };
    const floor = async (count, script) => {
      await server.draft();
      const notification = newest[db.name](url);
      const text = script(notification);
      const one = await side(count, async () => db.time(url, text));
      check(db, url, notification, count);
      return one;
    };
    const staged = () => floor(rows, (notification) => db.staged(url, file(folder, rows), notification));
    const each = () => floor(single, (notification) => {
      made += 1;
      const lines = Array.from({ length: single }, (_, n) => db.one(`p${made}-${n}`, `CODE-${n}`, n + 1, notification));
      return db.each(lines, notification);
    });
    const sides = { product: [], staged: [], each: [], again: [] };
    const work = { product: imported, staged, each, again: imported };
    for (let round = 0; round < rounds; round += 1) {
      const order = ['product', 'staged', 'each', 'again'];
      for (const name of round % 2 === 0 ? order : order.reverse()) sides[name].push(await work[name]());
    }
    const shown = (name) => {
      const median = (of) => spread(sides[name].map((one) => one[of])).median;
      return `${Math.round(median('rate'))}/s (${median('busy').toFixed(1)} µs of processor time)`;
    };
    console.log(`${db.name}: import ${shown('product')}, staged ${shown('staged')}, row by row ${shown('each')}; ${rows} rows, ${single} of them row by row`);
    const ratios = (name, of = 'rate') => sides.product.map((one, round) => (of === 'rate' ? one.rate / sides[name][round].rate : sides[name][round].busy / one.busy));
    for (const [of, words] of [['rate', ''], ['busy', ' as processor time']]) {
      judge(`P20 import ÷ staged copy, ${db.name}${words}`, ratios('staged', of), { target: 0.6, stretch: 0.85, better: 'more' });
      judge(`P20 import ÷ one upsert for each row, ${db.name}${words}`, ratios('each', of), { target: 6, stretch: 10, better: 'more' });
      control(`import on ${db.name}${words}`, ratios('again', of));
    }
  } finally {
    await server.stop();
  }
}

/** One file of many rows into an empty database, and the same rows staged. */
async function complete(db, url, folder) {
  made = 0;
  const server = await Importer.start(url, folder);
  try {
    await server.furnish();
    await server.import(file(folder, 1));
    db.prepare(url);
    const idle = server.memory();
    const path = file(folder, whole);
    const began = performance.now();
    const job = await server.import(path);
    const took = performance.now() - began;
    if (job.counts.added !== whole) throw new Error(`only ${job.counts.added} were added`);
    const inside = Date.parse(job.endedAt) - Date.parse(job.startedAt);
    await server.draft();
    const notification = newest[db.name](url);
    const staged = db.time(url, db.staged(url, file(folder, whole), notification)).took;
    check(db, url, notification, whole);
    const seconds = (time) => `${(time / 1_000).toFixed(1)} s`;
    const memory = `${idle.toFixed(1)} MiB before, ${server.memory().toFixed(1)} MiB at most`;
    console.log(`${db.name}, ${whole} rows: ${seconds(took)} with its upload, ${seconds(inside)} of the worker, ${memory}; staged ${seconds(staged)}`);
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
    const env = { PATH: process.env.PATH, CAMPANILE_API_URL: server.url, CAMPANILE_API_KEY: server.key };
    const words = ['-c', String(LOAD_CORE), binary, 'campaign', 'send', '--file', path, '--template', 'news', '--no-send'];
    const done = spawnSync('taskset', words, { cwd: dirname(path), env, encoding: 'utf8' });
    if (done.status !== 0) throw new Error(`the command ended with ${done.status}: ${done.stdout}${done.stderr}`);
  },
};

/** The most memory of a server that imported a file of so many bytes, and how long it took. */
async function memory(url, folder, bytes, send) {
  const path = sized(folder, bytes);
  const server = await Importer.start(url, folder);
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
try {
  await withPostgres({ fsync: 'on' }, async (url, postmaster) => {
    console.log(`binary: ${binary}; ${rounds} rounds`);
    const file = (name) => {
      mkdirSync(join(folder, name), { recursive: true });
      return `sqlite://${join(folder, name)}/campanile.db`;
    };
    const database = (name) => {
      postgres.sql(url, `CREATE DATABASE ${name}`);
      return url.replace(/[^/]*$/, name);
    };
    for (const [word, db, fresh] of [['postgres', postgres, database], ['sqlite', sqlite, file]]) {
      if (given.only && given.only !== word) continue;
      const cluster = db === postgres ? () => clusterTime(postmaster) : () => 0;
      if (rounds > 0) await speed(db, fresh('speed'), folder, cluster);
      if (whole > 0) await complete(db, fresh('whole'), folder);
      if (large > 0) await growth(db, fresh, folder);
    }
  });
} finally {
  rmSync(folder, { recursive: true, force: true });
}

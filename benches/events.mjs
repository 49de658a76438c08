// P22 of the goals: what users do with their items, stored and counted, beside the update of one hot counter row.
//
//   node benches/events.mjs [--pairs 10] [--seconds 1] [--users 10000] [--campaigns 50] [--callers 32] [--only postgres|sqlite] [binary]
//
// An event is the first delivery, reading or engagement of one item. Campaigns to the same users come first, each item once
// in every feed; then callers tell of events as clients do: `bulk` tells that a whole page was delivered in one call, `read`
// and `engage` tell of one item in each. Nobody tells of the same event twice, so every answer is one more. The floor is
// pgbench that adds one to a counter in one row and commits, with as many clients as are fastest; on SQLite the same with
// one connection. After the last answer the metrics of all campaigns are asked for: they have to be exact at once, and how
// long that takes is the lag.
//
// Service and database run on core 0, the load on core 1; sides alternate A B B A. Every COMMIT reaches the disk.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { LOAD_CORE, SERVER_CORE, build, control, describe, judge, run, spread } from './lib.mjs';
import { API, CARD, Campanile, Connection, alternate, median, sql, withPostgres } from './service.mjs';

const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    pairs: { type: 'string', default: '10' },
    seconds: { type: 'string', default: '1' },
    users: { type: 'string', default: '10000' },
    campaigns: { type: 'string', default: '50' },
    callers: { type: 'string', default: '32' },
    only: { type: 'string' },
    program: { type: 'string' },
  },
});
const [pairs, seconds, users, campaigns, callers] = ['pairs', 'seconds', 'users', 'campaigns', 'callers'].map((name) => Number(given[name]));
const binary = resolve(positionals[0] ?? 'target/release/campanile');
const AUDIENCE_CALL_MAX = 10_000;
/** Items of each user that are told of one by one. */
const SINGLY = 10;

/** Campaigns whose metrics count what happens to their items: sequences whose next step is a day away. */
async function campaignsTo(server) {
  await server.call('POST', '/channels', { channelId: 'phone', type: 'push', name: 'Phone', enabled: true });
  const channels = [
    { channelType: 'in_app', sequenceOrder: 1, stopCondition: 'read', waitMinutes: 1_440, content: CARD },
    { channelType: 'push', sequenceOrder: 2, content: { title: 'News', body: 'There is news' } },
  ];
  await server.call('POST', '/templates', { templateId: 'counted', name: 'Counted', status: 'approved', config: { sequenceEnabled: true }, channels, variableSchema: [{ key: 'name', defaultValue: 'you' }] });
  const ids = [];
  for (let number = 0; number < campaigns; number += 1) {
    const { id } = await server.call('POST', '/campaigns', { name: `Campaign ${number}`, templateId: 'counted' });
    for (let from = 1; from <= users; from += AUDIENCE_CALL_MAX) {
      const userIds = Array.from({ length: Math.min(AUDIENCE_CALL_MAX, users - from + 1) }, (_, n) => `user${from + n}`);
      await server.call('POST', `/campaigns/${id}/recipients`, { userIds });
    }
    await server.call('POST', `/campaigns/${id}/send`);
    while ((await server.call('GET', `/campaigns/${id}/sequence-metrics`))[0].accepted < users) await sleep(50);
    ids.push(id);
  }
  return ids;
}

const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);

/** What the metrics of all campaigns say, in all. */
async function counted(server, ids) {
  const steps = [];
  for (const id of ids) steps.push((await server.call('GET', `/campaigns/${id}/sequence-metrics`))[0]);
  const of = (name) => sum(steps.map((step) => step[name] ?? 0));
  return { delivered: of('delivered'), viewed: of('viewed'), clicked: of('clicked') };
}

/** Callers that each tell of the events of one user after the other, for a while. Every user comes once in a run. */
function reporter(server) {
  let next = 1;
  const told = { delivered: 0, viewed: 0, clicked: 0 };
  const page = async (connection, uid) => JSON.parse((await connection.send('GET', `${API}/notification-feed?limit=100`, uid)).body).data.map(({ id }) => id);
  const kinds = {
    bulk: async (connection, uid, ids) => {
      const { data } = await connection.call('POST', `${API}/notification-feed/delivered`, uid, { ids });
      if (data.count !== ids.length) throw new Error(`of ${ids.length} items ${data.count} were delivered now`);
      told.delivered += data.count;
      return data.count;
    },
    read: async (connection, uid, ids) => {
      for (const id of ids.slice(0, SINGLY)) await connection.call('POST', `${API}/notification-feed/${id}/read`, uid);
      const count = Math.min(ids.length, SINGLY);
      told.viewed += count;
      told.delivered += count;
      return count;
    },
    engage: async (connection, uid, ids) => {
      for (const id of ids.slice(0, SINGLY)) await connection.call('POST', `${API}/notification-feed/${id}/engagement`, uid, { topic: 'clicked' });
      const count = Math.min(ids.length, SINGLY);
      told.clicked += count;
      return count;
    },
  };
  /** Pages are fetched before the clock starts, as a client has them before it tells of them. */
  const measure = async (kind, calls) => {
    const first = next;
    next += calls;
    if (next > users + 1) throw new Error(`${users} users are too few for so many rounds: more users, or fewer pairs`);
    const connections = Array.from({ length: callers }, () => new Connection(server.port));
    const each = (work) => {
      let at = first;
      return Promise.all(connections.map(async (connection) => {
        while (at < first + calls) {
          const user = at;
          at += 1;
          await work(connection, user);
        }
      }));
    };
    const pages = new Map();
    await each(async (connection, user) => pages.set(user, await page(connection, `user${user}`)));
    let events = 0;
    const began = performance.now();
    await each(async (connection, user) => {
      const more = await kinds[kind](connection, `user${user}`, pages.get(user));
      events += more;
    });
    const rate = events / ((performance.now() - began) / 1_000);
    connections.forEach((connection) => connection.close());
    return rate;
  };
  return { told, measure };
}

const perSecond = (rates) => `${median(rates).toFixed(0)}/s (${spread(rates).low.toFixed(0)}–${spread(rates).high.toFixed(0)})`;

async function events(server, name, floor) {
  const ids = await campaignsTo(server);
  const reporting = reporter(server);
  const rounds = { bulk: pairs, read: pairs, engage: pairs };
  // Every kind has as many users as its rounds need, the control included.
  const calls = Math.floor(users / (2 * sum(Object.values(rounds)) + 3));
  for (const [kind, count] of Object.entries(rounds)) {
    await reporting.measure(kind, calls);
    const sides = await alternate(count, () => reporting.measure(kind, calls), floor);
    console.log(`  ${kind}: ${perSecond(sides.a)} events; one hot row: ${perSecond(sides.b)} updates`);
    judge(`P22 ${kind}, ${name}, events/s`, sides.a.map((rate, round) => rate / sides.b[round]), { target: 20, stretch: 100, better: 'more' });
    control(kind, sides.a.map((rate, round) => rate / sides.again[round]));
  }
  const began = performance.now();
  const found = await counted(server, ids);
  const lag = performance.now() - began;
  const exact = JSON.stringify(found) === JSON.stringify(reporting.told);
  console.log(`  told ${JSON.stringify(reporting.told)}, counted ${JSON.stringify(found)}: ${exact ? 'exact' : 'NOT EXACT'}; metrics of ${campaigns} campaigns in ${lag.toFixed(0)} ms`);
  if (!exact) process.exitCode = 1;
}

function hotRow(url, script, clients) {
  const { out } = run('taskset', ['-c', String(LOAD_CORE), 'pgbench', '-n', '-M', 'prepared', '-c', String(clients), '-j', '1', '-T', String(seconds), '-f', script, url]);
  return Number(/^tps = ([\d.]+)/m.exec(out)[1]);
}

async function postgres(url, folder) {
  const server = await Campanile.start(binary, url, folder, { core: SERVER_CORE });
  try {
    await server.furnish();
    sql(url, 'CREATE SCHEMA plain; CREATE TABLE plain.counter (id int PRIMARY KEY, n bigint NOT NULL); INSERT INTO plain.counter VALUES (1, 0)');
    const script = join(folder, 'hot.sql');
    writeFileSync(script, 'UPDATE plain.counter SET n = n + 1 WHERE id = 1;\n');
    const [clients] = [1, 2, 8, 32].map((count) => [count, hotRow(url, script, count)]).sort((a, b) => b[1] - a[1])[0];
    console.log(`  the floor is fastest with ${clients} clients`);
    await events(server, 'PostgreSQL', () => hotRow(url, script, clients));
  } finally {
    await server.stop();
  }
}

async function sqlite(folder) {
  const program = given.program ?? build('ledger');
  const server = await Campanile.start(binary, `sqlite://${folder}/campanile.db`, folder, { core: SERVER_CORE });
  try {
    await server.furnish();
    const file = join(folder, 'hot.db');
    writeFileSync(file, '');
    run(program, ['sql', file], { input: 'CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL); INSERT INTO counter VALUES (1, 0);' });
    const lines = 'BEGIN IMMEDIATE; UPDATE counter SET n = n + 1 WHERE id = 1; COMMIT;\n';
    await events(server, 'SQLite', () => {
      const count = 1_000;
      const began = performance.now();
      run('taskset', ['-c', String(SERVER_CORE), program, 'sql', file], { input: lines.repeat(count) });
      return count / ((performance.now() - began) / 1_000);
    });
  } finally {
    await server.stop();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'campanile-bench.'));
try {
  describe();
  console.log(`binary: ${binary}; ${users} users with an item of each of ${campaigns} campaigns, ${callers} callers; service and database on core ${SERVER_CORE}, load on core ${LOAD_CORE}`);
  if (given.only !== 'sqlite') await withPostgres({ core: SERVER_CORE }, (url) => postgres(url, folder));
  if (given.only !== 'postgres') await sqlite(folder);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

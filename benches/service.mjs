// The service as a benchmark starts, furnishes, calls and watches it.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

import { freePort, run, spread } from './lib.mjs';

export const API = '/v3/campaigns';
const KEY = 'benchmark-key-of-the-bootstrap-app-01';
const APP = 'bench';
const GIVE_UP_MS = 30_000;
/** Calls of an open loop that may be under way at once. */
const UNDER_WAY_MAX = 64;
/** A card of a hundred and fifty characters, as some news may well have. */
export const CARD = {
  version: '1.0',
  body: [{ id: 'text', type: 'text', content: 'A hundred and fifty characters of text as a card of some news may well have, so that a page is about as long as it would be in an app of this kind, {{name}}.' }],
  style: { background: { light: '#FFFFFF', dark: '#000000' } },
  fallbackText: 'News',
};

/** One keep-alive connection that takes one request at a time: as little client as can be, so that it measures little. */
export class Connection {
  constructor(port, key = KEY) {
    this.key = key;
    this.socket = net.connect(port, '127.0.0.1').setNoDelay(true);
    this.received = '';
    this.waiting = null;
    this.socket.setEncoding('latin1');
    this.socket.on('data', (data) => this.take(data));
    this.socket.on('error', (fault) => this.waiting?.fail(fault));
    this.closed = false;
    this.socket.on('close', () => {
      this.closed = true;
      this.waiting?.fail(new Error('the server closed the connection'));
    });
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
      this.socket.write(`${method} ${path} HTTP/1.1\r\nhost: campanile\r\napikey: ${this.key}\r\n${acting}${about}\r\n${text}`);
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

export function quantiles(times) {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { p50: at(0.5), p99: at(0.99) };
}

/** Calls at a fixed rate, whether answers come or not; times in ms from the moment when a call was due. */
export async function openLoop(port, { rate, seconds, key, until }, next) {
  const idle = Array.from({ length: UNDER_WAY_MAX }, () => new Connection(port, key));
  const [times, calls] = [[], []];
  const began = performance.now();
  for (let number = 0; until ? !until() : number < rate * seconds; number += 1) {
    const due = began + (number * 1_000) / rate;
    while (performance.now() < due) {
      if (due - performance.now() > 1.5) await sleep(1);
      else await new Promise(setImmediate);
    }
    let connection = idle.pop();
    // The server closes what was idle for long.
    if (connection?.closed) connection = new Connection(port, key);
    if (!connection) throw new Error(`${UNDER_WAY_MAX} calls are under way: the server does not keep up with ${rate}/s`);
    const { method = 'GET', path, uid, body } = next();
    calls.push(connection.send(method, path, uid, body).then((answer) => {
      times.push(performance.now() - due);
      if (answer.status >= 300) throw new Error(`${path} answered ${answer.status}: ${answer.body}`);
      idle.push(connection);
    }));
  }
  await Promise.all(calls);
  idle.forEach((connection) => connection.close());
  return quantiles(times);
}

/** Resident memory of a process in MiB. */
export function resident(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;
}

/** A process that serves. */
export class Campanile {
  /** Starts it on a database; on one core when that is named. */
  static async start(binary, url, folder, { core, ...settings } = {}) {
    const port = await freePort();
    const env = {
      PATH: process.env.PATH,
      CAMPANILE_LISTEN: `127.0.0.1:${port}`,
      CAMPANILE_DATABASE_URL: url,
      CAMPANILE_SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
      CAMPANILE_BOOTSTRAP_APP: APP,
      CAMPANILE_BOOTSTRAP_KEY: KEY,
      CAMPANILE_LOG: 'warn',
      CAMPANILE_RATE_LIMIT: '0',
      CAMPANILE_RATE_LIMIT_CORE: '0',
      ...settings,
    };
    const options = { cwd: folder, env, stdio: ['ignore', 'ignore', 'inherit'] };
    const child = core === undefined ? spawn(binary, ['serve'], options) : spawn('taskset', ['-c', String(core), binary, 'serve'], options);
    const server = new this(binary, port, child, env, folder);
    const began = Date.now();
    while (!(await server.isReady())) {
      if (child.exitCode !== null) throw new Error(`${binary} ended with ${child.exitCode}`);
      if (Date.now() - began > GIVE_UP_MS) throw new Error(`${binary} is not ready after ${GIVE_UP_MS} ms`);
      await sleep(50);
    }
    return server;
  }

  constructor(binary, port, child, env, folder) {
    Object.assign(this, { binary, port, child, env, folder, key: KEY, url: `http://127.0.0.1:${port}` });
  }

  async isReady() {
    try {
      return (await fetch(`${this.url}/readyz`)).ok;
    } catch {
      return false;
    }
  }

  /** Each call by a connection of its own: while a floor runs nobody here looks whether the server has closed a kept one. */
  async call(method, path, body, key = KEY) {
    const headers = { apikey: key, 'content-type': 'application/json' };
    const { status, text } = await new Promise((done, fail) => {
      const sent = http.request(`${this.url}${API}${path}`, { method, headers, agent: false }, (answer) => {
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

  /** Makes another app, and gives a key of it. */
  addApp(id) {
    const options = { cwd: this.folder, env: this.env };
    run(this.binary, ['app', 'create', '--id', id, '--name', id], options);
    return run(this.binary, ['key', 'create', '--app', id, '--name', 'bench'], options).out.trim().split('\n').at(-1).trim();
  }

  /** A channel, a template, and one send to copy from. */
  async furnish(key = KEY) {
    await this.call('POST', '/channels', { channelId: 'bell', type: 'in_app', name: 'Bell', enabled: true }, key);
    await this.call('POST', '/templates', { templateId: 'news', name: 'News', status: 'approved', templateCategory: 'Alerts', tags: ['news'], channels: [{ channelType: 'in_app', content: CARD }], variableSchema: [{ key: 'name' }] }, key);
    await this.call('POST', '/notifications/messages', { templateId: 'news', receivers: ['first'], variables: { first: { name: 'Ada' } } }, key);
  }

  async stop() {
    const ended = new Promise((done) => this.child.on('exit', done));
    this.child.kill('SIGTERM');
    await ended;
  }
}

export const sql = (url, text) => run('psql', ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', url], { input: text }).out.trim();

/** A PostgreSQL cluster of its own for as long as `work` takes, given its URL and the process id of its postmaster. */
export async function withPostgres({ fsync = 'on', core }, work) {
  const line = ['tests/setup/postgres.sh', 'start'];
  const options = { env: { ...process.env, CAMPANILE_TEST_POSTGRES_FSYNC: fsync } };
  const { out } = core === undefined ? run(line[0], line.slice(1), options) : run('taskset', ['-c', String(core), ...line], options);
  const [cluster, url] = out.trim().split('\n').at(-1).split(' ');
  try {
    const names = ['fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers', 'wal_sync_method', 'max_wal_size'];
    const settings = names.map((name) => `${name} ${sql(url, `SHOW ${name}`)}`);
    console.log(`${sql(url, 'SELECT version()').split(' on ')[0]}; ${settings.join(', ')}`);
    return await work(url, Number(readFileSync(`${cluster}/data/postmaster.pid`, 'utf8').split('\n')[0]));
  } finally {
    run('tests/setup/postgres.sh', ['stop', cluster]);
  }
}

const ticks = (pid) => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').map(Number);

/** Processor time of PostgreSQL so far, in µs: of the postmaster, of its children, and of those that have ended. */
export function clusterTime(postmaster) {
  const children = readFileSync(`/proc/${postmaster}/task/${postmaster}/children`, 'utf8').trim().split(' ').filter(Boolean);
  const own = ticks(postmaster).slice(11, 15).reduce((sum, time) => sum + time, 0);
  return children.reduce((sum, pid) => {
    try {
      return sum + ticks(pid)[11] + ticks(pid)[12];
    } catch {
      return sum;
    }
  }, own) * 10_000;
}

/** Measures two sides in turn, A B B A …, and the first once more against itself. */
export async function alternate(pairs, a, b) {
  const sides = { a: [], b: [], again: [] };
  for (let round = 0; round < pairs; round += 1) {
    const order = round % 2 === 0 ? ['a', 'b', 'again'] : ['again', 'b', 'a'];
    for (const side of order) sides[side].push(await (side === 'b' ? b(round + 1) : a(round + 1)));
  }
  return sides;
}

export const median = (values) => spread(values).median;

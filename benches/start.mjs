// P26 and P23 of the goals: time from process start to ready, and memory at rest, on SQLite and empty.
//
//   node benches/start.mjs [binary]
//
// Absolute figures of this machine, each beside its target. There is nothing to compare with in the same run, so what is
// reported is the median with its spread over many starts, each in a folder of its own.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

import { describe, freePort, spread } from './lib.mjs';

const STARTS = 15;
const REST_MS = 3_000;
const GIVE_UP_MS = 30_000;
const binary = resolve(process.argv[2] ?? 'target/release/campanile');

function isReady(port) {
  return new Promise((done) => {
    const request = http.get({ host: '127.0.0.1', port, path: '/readyz', agent: false }, (answer) => {
      answer.resume();
      answer.on('end', () => done(answer.statusCode === 200));
    });
    request.on('error', () => done(false));
  });
}

/** Resident memory of a process in KiB. */
function resident(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
}

async function start(rest) {
  const folder = mkdtempSync(join(tmpdir(), 'campanile-bench.'));
  const port = await freePort();
  const began = performance.now();
  const child = spawn(binary, ['serve'], {
    cwd: folder,
    stdio: 'ignore',
    env: { PATH: process.env.PATH, CAMPANILE_LISTEN: `127.0.0.1:${port}` },
  });
  const ended = new Promise((done) => child.on('exit', done));
  try {
    while (!(await isReady(port))) {
      if (child.exitCode !== null) throw new Error(`${binary} ended with ${child.exitCode}`);
      if (performance.now() - began > GIVE_UP_MS) throw new Error(`${binary} is not ready after ${GIVE_UP_MS} ms`);
      await sleep(1);
    }
    const time = performance.now() - began;
    await sleep(rest);
    return { time, memory: resident(child.pid) };
  } finally {
    child.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  }
}

function report(name, values, unit, { target, stretch }) {
  const { median, least, most, count } = spread(values);
  const verdict = median <= stretch ? 'stretch met' : median <= target ? 'target met' : 'MISSED';
  const show = (value) => value.toFixed(1);
  console.log(`${name}: median ${show(median)} ${unit} (${show(least)}–${show(most)}, ${count} runs); target ≤ ${target} ${unit}, stretch ≤ ${stretch}: ${verdict}`);
}

describe();
console.log(`binary: ${binary}; SQLite, synchronous=FULL, every setting at its default`);
const starts = [];
for (let number = 0; number < STARTS; number += 1) starts.push(await start(0));
report('P26 start to ready', starts.map((one) => one.time), 'ms', { target: 300, stretch: 100 });
const rested = await start(REST_MS);
report('P23 idle memory', [rested.memory / 1024], 'MB', { target: 30, stretch: 15 });

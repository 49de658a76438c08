// P26 and P23 of the goals: time from process start to ready, and memory at rest, on SQLite and empty.
//
//   node benches/start.mjs [binary]
//
// Absolute figures of this machine, each beside its target. There is nothing to compare with in the same run, so what is
// reported is the median with its spread over many starts, each in a folder of its own.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { arch, cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

const STARTS = 15;
const REST_MS = 3_000;
const GIVE_UP_MS = 30_000;
const binary = resolve(process.argv[2] ?? 'target/release/campanile');

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

function report(name, values, unit, target) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(1);
  const verdict = Number(at(0.5)) <= target ? 'met' : 'MISSED';
  console.log(`${name}: median ${at(0.5)} ${unit} (${at(0)}–${at(1)}, ${sorted.length} runs); target ≤ ${target} ${unit}: ${verdict}`);
}

console.log(`machine: ${cpus().length} × ${cpus()[0]?.model ?? arch()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, load ${loadavg()[0].toFixed(1)}`);
console.log(`binary: ${binary}; SQLite, synchronous=FULL, every setting at its default`);
const starts = [];
for (let number = 0; number < STARTS; number += 1) starts.push(await start(0));
report('P26 start to ready', starts.map((one) => one.time), 'ms', 300);
const rested = await start(REST_MS);
report('P23 idle memory', [rested.memory / 1024], 'MB', 30);

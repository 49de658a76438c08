// What the benchmarks share: the machine in words, servers on a core of their own, and figures with their spread.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import net from 'node:net';
import { arch, cpus, loadavg, release, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

/** The core of the system under test, and the one of whatever loads it. */
export const SERVER_CORE = 0;
export const LOAD_CORE = 1;
const GIVE_UP_MS = 30_000;
/** A side measured against itself has to lie between these, or the machine is too noisy for the figures. */
const CONTROL = [0.95, 1.05];

/** Runs a program to its end and gives its output; throws when it fails. */
export function run(program, args, options = {}) {
  const done = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 2 ** 28, ...options });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${done.status}\n${done.stderr ?? ''}${done.stdout ?? ''}`);
  return { out: done.stdout ?? '', err: done.stderr ?? '' };
}

/** Installs the package of a program where it is missing and this process may. */
export function need(program, name) {
  if (spawnSync('sh', ['-c', `command -v ${program}`]).status === 0) return;
  if (process.getuid?.() !== 0) throw new Error(`${program} is missing: install the package ${name}`);
  console.log(`installing ${name}`);
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', name]);
}

/** Builds a benchmark as the release is built and gives the path of its program. */
export function build(name) {
  const args = ['build', '--locked', '--release', '--bench', name, '--message-format=json-render-diagnostics'];
  const { out } = run('cargo', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const messages = out.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  const built = messages.find((message) => message.reason === 'compiler-artifact' && message.target.name === name && message.executable);
  if (!built) throw new Error(`cargo built no benchmark ${name}`);
  return built.executable;
}

/** The release profile as Cargo.toml has it, in one line. */
function profile() {
  const text = readFileSync('Cargo.toml', 'utf8');
  const block = /\[profile\.release\]\n((?:[^[\n].*\n?)*)/.exec(text)?.[1] ?? '';
  return block.split('\n').filter((line) => line && !line.startsWith('#')).join(', ');
}

/** One line each on the machine and on what built the programs. */
export function describe() {
  const { out } = run('rustc', ['--version']);
  const load = loadavg()[0];
  console.log(`machine: ${cpus().length} × ${cpus()[0]?.model ?? arch()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, load ${load.toFixed(1)}`);
  console.log(`built by ${out.trim()}; release profile: ${profile()}`);
  if (load > 0.5) console.log(`NOISY: the load of this machine is ${load.toFixed(1)} before anything was started`);
}

export function freePort() {
  return new Promise((done, fail) => {
    const server = net.createServer();
    server.on('error', fail);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

function connects(port) {
  return new Promise((done) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      done(true);
    });
    socket.on('error', () => done(false));
  });
}

/** Starts a server on the core of servers and waits until it takes connections. `args` is given its address. */
export async function serve(program, args) {
  const port = await freePort();
  const line = ['-c', String(SERVER_CORE), program, ...args(`127.0.0.1:${port}`)];
  const child = spawn('taskset', line, { stdio: ['ignore', 'ignore', 'ignore'] });
  const began = Date.now();
  while (!(await connects(port))) {
    if (child.exitCode !== null) throw new Error(`${line.join(' ')} ended with ${child.exitCode}`);
    if (Date.now() - began > GIVE_UP_MS) throw new Error(`${line.join(' ')} takes no connection`);
    await sleep(10);
  }
  return { port, pid: child.pid, stop: () => child.kill('SIGKILL') };
}

/** Processor time of a process since its start, all threads, in µs. */
export function processorTime(pid) {
  if (!existsSync(`/proc/${pid}/schedstat`)) {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10_000;
  }
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.reduce((sum, thread) => sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]), 0) / 1_000;
}

/** Median, and the range that the middle half lies in. */
export function spread(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return { median: at(0.5), low: at(0.25), high: at(0.75), least: sorted[0], most: sorted.at(-1), count: sorted.length };
}

/** A ratio with its spread and what is asked of it; `better` is 'more' or 'less'. */
export function judge(name, values, { target, stretch, better }, digits = 2) {
  const { median, low, high, count } = spread(values);
  const meets = (limit) => (better === 'more' ? median >= limit : median <= limit);
  const sign = better === 'more' ? '≥' : '≤';
  const verdict = meets(stretch) ? 'stretch met' : meets(target) ? 'target met' : 'MISSED';
  const show = (value) => value.toFixed(digits);
  console.log(`${name}: ${show(median)} (middle half ${show(low)}–${show(high)}, ${count} pairs); target ${sign} ${target}, stretch ${sign} ${stretch}: ${verdict}`);
}

/** A side against itself: whether the machine was quiet enough. */
export function control(name, values) {
  const { median, low, high, count } = spread(values);
  const quiet = median >= CONTROL[0] && median <= CONTROL[1];
  console.log(`control, ${name} against itself: ${median.toFixed(3)} (middle half ${low.toFixed(3)}–${high.toFixed(3)}, ${count} pairs): ${quiet ? 'quiet' : 'TOO NOISY, the figures above do not count'}`);
}

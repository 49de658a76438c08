// Proves that commands of the README do as printed what it says. "From a CSV file to feeds": a file is imported over REST and
// over gRPC, sent and watched, and the rows and recipients that were left out are explained. "Kill it in the middle": a server
// that is killed in the middle of a batch and started again has served every receiver once, and counts, receivers, feeds and
// the stream agree.
//
//   node tests/setup/walk.mjs <binary>

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';

const TOTAL = 10_000;
const binary = resolve(process.argv[2]);
const readme = resolve(dirname(fileURLToPath(import.meta.url)), '../../README.md');
const folder = mkdtempSync(join(tmpdir(), 'campanile-walk.'));

function freePort() {
  return new Promise((done) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}

/** The commands of a section, as they are printed. */
function commands(heading) {
  const [, section] = readFileSync(readme, 'utf8').split(`\n## ${heading}\n`);
  return section.split('\n## ')[0].split('```sh\n').slice(1).map((block) => block.split('```')[0]);
}

/** Looks into every feed while the server still runs: a part of the shell's script, because the server is the shell's. */
const look = `
node --input-type=module -e '
const { API, CAMPANILE_BOOTSTRAP_KEY: apikey } = process.env;
const wrong = [];
let next = 1;
async function reader() {
  while (next <= ${TOTAL}) {
    const onbehalfof = "user-" + next++;
    const headers = { apikey, onbehalfof };
    const feed = await (await fetch(API + "/notification-feed?limit=2", { headers })).json();
    const ids = feed.data.map((item) => item.notificationId);
    if (ids.length !== 1 || ids[0] !== process.env.BATCH) wrong.push([onbehalfof, ids]);
  }
}
await Promise.all(Array.from({ length: 8 }, reader));
console.log("feeds " + JSON.stringify(wrong));
'
`;

/** Runs commands in a shell of their own, and gives what they printed. */
async function shell(blocks) {
  const script = blocks.join('\n').replaceAll('127.0.0.1:8090', `127.0.0.1:${await freePort()}`);
  // Whatever happens, no server is left behind.
  const { stdout, stderr, status } = spawnSync('bash', ['-c', `trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT\n${script}`], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 240_000,
    env: { ...process.env, CAMPANILE_LOG: 'warn' },
  });
  const told = `${stdout}\n${stderr}`;
  assert.equal(status, 0, told);
  return { lines: stdout.split('\n').filter((line) => line !== ''), told };
}

/** The server ends by itself once it is told to, with success. */
function waiting(blocks, more = '') {
  const end = 'kill $!\n';
  assert.ok(blocks.at(-1).endsWith(end));
  return [...blocks.slice(0, -1), `${blocks.at(-1).slice(0, -end.length)}${more}${end}wait $!\necho "ended with $?"\n`];
}

async function csv() {
  const blocks = commands('From a CSV file to feeds');
  assert.equal(blocks.length, 7);
  const { lines, told } = await shell(waiting(blocks));
  const answers = lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  const job = answers.find((answer) => answer.data?.state === 'completed').data;
  assert.deepEqual(job.counts, { rows: 4, added: 3, duplicate: 0, unknown: 0, failed: 1 }, told);
  const [problem] = answers.find((answer) => Array.isArray(answer.data) && answer.data[0]?.line).data;
  assert.deepEqual([problem.line, problem.column, problem.received], [4, 'user_id', 'not a uid'], told);
  const [progress] = lines.filter((line) => line.startsWith('data: ')).map((line) => JSON.parse(line.slice(6)));
  assert.equal(progress.status, 'partially_failed', told);
  assert.deepEqual([progress.recipients.completed, progress.recipients.failed], [2, 1], told);
  const preflight = answers.find((answer) => answer.data?.planToken).data;
  assert.deepEqual([preflight.total, preflight.reachable, preflight.problems[0].uid], [3, 2, 'eve'], told);
  const unread = answers.filter((answer) => answer.data?.count !== undefined).map((answer) => answer.data.count);
  assert.deepEqual(unread, [1, 2], told);
  const eve = answers.find((answer) => answer.data?.uid === 'eve').data;
  const stopped = eve.checks.filter((check) => check.result === 'failed');
  assert.deepEqual(stopped.map((check) => check.name), ['variables_valid'], told);
  // The same over gRPC.
  for (const line of [
    'imported 4 rows: 3 added, 0 duplicate, 0 unknown, 1 failed',
    'preflight: 3 recipients, 2 of them reachable',
    'ended with 3',
  ]) assert.ok(lines.includes(line), `${line}\n${told}`);
  assert.ok(lines.some((line) => line.startsWith('  line 4, user_id: ') && line.endsWith('received "not a uid"')), told);
  assert.ok(lines.some((line) => line.endsWith(' is partially_failed: 2 reached, 1 failed, 0 cancelled')), told);
  assert.ok(lines.some((line) => line.startsWith('  eve: ') && line.includes('code')), told);
  assert.equal(lines.at(-1), 'ended with 0', told);
  console.log('a file was imported, sent and explained over REST and over gRPC');
}

async function kill() {
  const blocks = commands('Kill it in the middle');
  assert.equal(blocks.length, 4);
  const { lines, told } = await shell(waiting(blocks, `export API BATCH\n${look}`));

  const progress = lines.filter((line) => line.startsWith('data: ')).map((line) => JSON.parse(line.slice(6)));
  assert.equal(progress.length, 2, told);
  const [before, after] = progress;
  assert.equal(before.status, 'dispatching', told);
  assert.ok(before.sentCount > 0 && before.sentCount < TOTAL, `it was killed in the middle: ${before.sentCount}`);
  assert.deepEqual([after.sentCount, after.status], [TOTAL, 'completed'], told);
  assert.ok(lines.includes('the same batch'), told);
  assert.ok(lines.includes(`"totalTargets":${TOTAL},"sentCount":${TOTAL},"failedCount":0,"skippedCount":0`), told);
  for (const [state, count] of [['sent', TOTAL], ['pending', 0], ['failed', 0], ['skipped', 0]]) {
    assert.ok(lines.includes(`${state} "total":${count}`), told);
  }
  assert.ok(lines.some((line) => line.trim() === '21 {"data":{"count":1}}'), told);
  assert.ok(lines.includes('feeds []'), told);
  assert.equal(lines.at(-1), 'ended with 0', told);
  console.log(`killed after ${before.sentCount} of ${TOTAL}; counts, receivers, feeds and stream agree`);
}

try {
  mkdirSync(join(folder, 'target/debug'), { recursive: true });
  symlinkSync(binary, join(folder, 'target/debug/campanile'));
  await csv();
  await kill();
  console.log('walk: 2 passed, 0 failed');
} finally {
  rmSync(folder, { recursive: true, force: true });
}

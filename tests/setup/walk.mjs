// Proves that the commands of the README's section "Kill it in the middle" do as printed what it says: a server that is
// killed in the middle of a batch and started again has served every receiver once, and counts, receivers, feeds and the
// stream agree.
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

try {
  mkdirSync(join(folder, 'target/debug'), { recursive: true });
  symlinkSync(binary, join(folder, 'target/debug/campanile'));
  const blocks = commands('Kill it in the middle');
  assert.equal(blocks.length, 4);
  const end = 'kill $!\n';
  assert.ok(blocks[3].endsWith(end));
  blocks[3] = `${blocks[3].slice(0, -end.length)}export API BATCH\n${look}${end}wait $!\necho "ended with $?"\n`;
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
  const lines = stdout.split('\n').filter((line) => line !== '');

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
  console.log('walk: 1 passed, 0 failed');
} finally {
  rmSync(folder, { recursive: true, force: true });
}

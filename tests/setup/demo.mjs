// Proves that `make run` keeps its word: the first start sends a notification through the public API, every command that it
// prints works as printed, SIGTERM ends it with exit code 0, and a second start finds the data of the first.
//
//   node tests/setup/demo.mjs <binary>

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';

const binary = resolve(process.argv[2]);
const demo = resolve(dirname(fileURLToPath(import.meta.url)), '../../clients/demo.mjs');
const folder = mkdtempSync(join(tmpdir(), 'campanile-demo.'));

function freePort() {
  return new Promise((done) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}

/** Starts the demo and waits for what it prints last. */
async function start() {
  const listen = `127.0.0.1:${await freePort()}`;
  const child = spawn('node', [demo, binary], {
    cwd: folder,
    env: { ...process.env, CAMPANILE_LISTEN: listen, CAMPANILE_LOG: 'warn' },
  });
  let printed = '';
  const ended = new Promise((done) => child.on('exit', (code) => done(code)));
  await new Promise((done, fail) => {
    const late = setTimeout(() => fail(new Error(`nothing was sent within 30 seconds:\n${printed}`)), 30_000);
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (text) => {
        printed += text;
        if (printed.includes('The data stays in data/')) {
          clearTimeout(late);
          done();
        }
      });
    }
    ended.then((code) => fail(new Error(`it ended with ${code}:\n${printed}`)));
  });
  return {
    printed,
    stop: async () => {
      child.kill('SIGTERM');
      assert.equal(await ended, 0, 'SIGTERM ends it with exit code 0');
    },
  };
}

/** The commands in the printed text, with their continued lines. */
function commands(printed) {
  const joined = printed.replaceAll('\\\n', ' ');
  return joined.split('\n').map((line) => line.trim()).filter((line) => line.startsWith('curl '));
}

function run(command) {
  const { stdout, stderr, status } = spawnSync('bash', ['-c', command], { encoding: 'utf8' });
  assert.equal(status, 0, `${command}: ${stderr}`);
  return JSON.parse(stdout);
}

try {
  const first = await start();
  assert.match(first.printed, /is in the feed of ada, who has 1 unread/);
  const key = /its key ([0-9a-f]{64})/.exec(first.printed)[1];
  const [feed, send, mistake] = commands(first.printed);
  assert.equal(run(feed).data[0].content.body[0].content, 'Welcome, Ada!');
  const sent = run(send);
  assert.deepEqual(sent.data.receivers.map((receiver) => receiver.receiver), ['ada', 'grace']);
  assert.deepEqual(run(send), sent, 'the same Idempotency-Key never sends twice');
  assert.deepEqual(Object.keys(run(mistake).error.details).sort(), ['receivers', 'tga']);
  await first.stop();

  const second = await start();
  assert.match(second.printed, /who has 3 unread/, 'one of each start and one of the printed command');
  assert.ok(second.printed.includes(key), 'the key stays the same');
  await second.stop();
  console.log('make run keeps its word');
  console.log('demo: 1 passed, 0 failed');
} finally {
  rmSync(folder, { recursive: true, force: true });
}

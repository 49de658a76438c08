// Starts Campanile with a demo app and sends a first notification, as any client of the public API would.
//
// The first start creates what it needs; a later one finds it and sends one more notification. It keeps running until it
// is stopped, and stops the server with it.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';

const binary = process.argv[2] ?? 'target/debug/campanile';
const listen = process.env.CAMPANILE_LISTEN ?? '127.0.0.1:8080';
const base = `http://${listen}`;
const app = process.env.CAMPANILE_BOOTSTRAP_APP ?? 'demo';
const key = process.env.CAMPANILE_BOOTSTRAP_KEY ?? savedKey('data/demo.key');

/** The demo app's key: made on the first start, kept with the data, readable by its owner only. */
function savedKey(file) {
  if (!existsSync(file)) {
    mkdirSync('data', { recursive: true });
    writeFileSync(file, randomBytes(32).toString('hex') + '\n', { mode: 0o600 });
  }
  return readFileSync(file, 'utf8').trim();
}

const server = spawn(binary, ['serve'], {
  stdio: 'inherit',
  env: { ...process.env, CAMPANILE_LISTEN: listen, CAMPANILE_BOOTSTRAP_APP: app, CAMPANILE_BOOTSTRAP_KEY: key },
});
server.on('error', (fault) => fail(`${binary} cannot be started: ${fault.message}`));
server.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGTERM' || signal === 'SIGINT' ? 0 : 1)));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => server.kill('SIGTERM'));

function fail(message) {
  console.error(`demo: ${message}`);
  server.kill('SIGTERM');
  process.exitCode = 1;
}

async function ready() {
  for (let attempt = 0; attempt < 150; attempt++) {
    try {
      if ((await fetch(`${base}/readyz`)).ok) return;
    } catch {
      // Not listening yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${base} did not become ready within 15 seconds`);
}

async function call(method, path, body, headers = {}) {
  const response = await fetch(`${base}${path}`, {
    method,
    headers: { apikey: key, ...(body ? { 'content-type': 'application/json' } : {}), ...headers },
    body: body ? JSON.stringify(body) : undefined,
  });
  return { status: response.status, ...(await response.json()) };
}

/** Creates something unless it is there already. */
async function ensure(path, body) {
  const answer = await call('POST', path, body);
  if (answer.status !== 201 && answer.status !== 409) {
    throw new Error(`POST ${path} answered ${answer.status}: ${JSON.stringify(answer.error)}`);
  }
}

const template = {
  templateId: 'welcome',
  name: 'Welcome',
  templateCategory: 'Onboarding',
  status: 'approved',
  variableSchema: [{ key: 'name', type: 'string', required: true }],
  channels: [
    {
      channelType: 'in_app',
      content: {
        version: '1.0',
        fallbackText: 'Welcome, {{name}}!',
        style: { background: { light: '#FFFFFF', dark: '#101418' } },
        body: [
          { id: 'title', type: 'text', variant: 'heading2', content: 'Welcome, {{name}}!' },
          { id: 'text', type: 'text', content: 'This came through the public API.' },
        ],
      },
    },
  ],
};

async function demo() {
  await ready();
  await ensure('/v3/campaigns/channels', { name: 'Feed', channelId: 'feed-in-app', type: 'in_app', enabled: true });
  await ensure('/v3/campaigns/templates', template);
  await ensure('/v3/users', { uid: 'ada', name: 'Ada Lovelace' });
  const send = { templateId: 'welcome', receivers: ['ada'], variables: { ada: { name: 'Ada' } } };
  const sent = await call('POST', '/v3/campaigns/notifications/messages', send);
  if (sent.status !== 200) throw new Error(`the first notification was refused: ${JSON.stringify(sent.error)}`);
  const unread = await call('GET', '/v3/campaigns/notification-feed/unread-count', undefined, { onbehalfof: 'ada' });

  console.log(`
Campanile serves on ${base} (REST, gRPC, gRPC-Web), documentation at ${base}/docs
The app is "${app}", its key ${key}

Notification ${sent.data.notificationId} is in the feed of ada, who has ${unread.data.count} unread. Try:

  # what ada sees
  curl -s -H 'apikey: ${key}' -H 'onbehalfof: ada' ${base}/v3/campaigns/notification-feed

  # send another one; the same Idempotency-Key never sends twice
  curl -s -H 'apikey: ${key}' -H 'content-type: application/json' -H 'idempotency-key: order-1' \\
    -d '{"templateId":"welcome","receivers":["ada","grace"],"variables":{"ada":{"name":"Ada"},"grace":{"name":"Grace"}}}' \\
    ${base}/v3/campaigns/notifications/messages

  # what a mistake looks like
  curl -s -H 'apikey: ${key}' -H 'content-type: application/json' \\
    -d '{"templateId":"welcome","receivers":[],"tga":"spring"}' ${base}/v3/campaigns/notifications/messages

Stop it with Ctrl-C. The data stays in data/.
`);
}

demo().catch((fault) => fail(fault.message));

// P1 and P2 of the goals: what the layers and both doors cost, without a database.
//
//   node benches/edge.mjs [--pairs 15] [--calls 20000] [--program <edge, built before>]
//
// P1 is requests/s of the product's gRPC door ÷ those of a bare tonic server of the same messages. P2 is processor time
// of a REST call ÷ that of a gRPC call, both over HTTP/2, so that they differ by the door alone; HTTP/1.1 stands beside
// it. The servers are on one core, h2load on another; sides alternate A B B A, and each figure has its control.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { LOAD_CORE, SERVER_CORE, build, control, describe, judge, need, processorTime, run, serve, spread } from './lib.mjs';

const KEY = 'full-access-key-of-the-benchmark-0001';
const CREATE = '/campanile.test.v1.TestService/EchoItem';
const { values: options } = parseArgs({ options: { pairs: { type: 'string', default: '15' }, calls: { type: 'string', default: '20000' }, program: { type: 'string' } } });
const PAIRS = Number(options.pairs);
const CALLS = Number(options.calls);

need('h2load', 'nghttp2-client');
const program = options.program ?? build('edge');
const folder = mkdtempSync(join(tmpdir(), 'campanile-bench.'));
const servers = [];

/** One call over HTTP/2 with everything that came back. */
function call(port, headers, body) {
  return new Promise((done, fail) => {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    session.on('error', fail);
    const stream = session.request({ ':method': body ? 'POST' : 'GET', apikey: KEY, ...headers });
    const answer = { headers: {}, trailers: {}, bytes: 0 };
    stream.on('response', (own) => { answer.headers = own; });
    stream.on('trailers', (own) => { answer.trailers = own; });
    stream.on('data', (chunk) => { answer.bytes += chunk.length; });
    stream.on('error', fail);
    stream.on('end', () => { session.close(); done(answer); });
    stream.end(body);
  });
}

async function provePost(port, body, status) {
  const grpc = await call(port, { ':path': CREATE, 'content-type': 'application/grpc', te: 'trailers' }, body);
  if (grpc.trailers['grpc-status'] !== '0' || grpc.bytes < body.length) throw new Error(`gRPC is answered ${JSON.stringify(grpc)}`);
  if (status === undefined) return grpc.bytes;
  const headers = { ':path': '/v3/test/items', 'content-type': 'application/json' };
  const rest = await call(port, headers, run(program, ['body', 'rest']).out);
  if (rest.headers[':status'] !== status) throw new Error(`REST is answered ${JSON.stringify(rest)}`);
  return grpc.bytes;
}

function failures(port) {
  return new Promise((done, fail) => {
    http.get({ host: '127.0.0.1', port, path: '/metrics', agent: false }, (answer) => {
      let text = '';
      answer.on('data', (chunk) => { text += chunk; });
      answer.on('end', () => done(text.split('\n').filter((line) => line.startsWith('campanile_errors_total{'))));
    }).on('error', fail);
  });
}

/** Loads a server with one kind of call and gives its rate and the processor time of one. */
function load({ server, path, args }) {
  const before = processorTime(server.pid);
  const { out } = run('taskset', ['-c', String(LOAD_CORE), 'h2load', '-t', '1', '-n', String(CALLS), '-H', `apikey: ${KEY}`, ...args, `http://127.0.0.1:${server.port}${path}`]);
  const time = processorTime(server.pid) - before;
  const rate = Number(/finished in .*?, ([\d.]+) req\/s/.exec(out)?.[1]);
  const good = Number(/status codes: (\d+) 2xx/.exec(out)?.[1]);
  if (good !== CALLS || !rate) throw new Error(`h2load was not answered ${CALLS} times:\n${out}`);
  return { rate, time: time / CALLS };
}

/** Pairs of two sides, A B B A, as ratios of A to B by what `of` gives of a run. */
function pairs(a, b, of) {
  const ratios = [];
  for (let number = 0; number < PAIRS; number += 1) {
    const order = number % 2 === 0 ? [a, b] : [b, a];
    const runs = order.map((side) => of(load(side), side));
    ratios.push(number % 2 === 0 ? runs[0] / runs[1] : runs[1] / runs[0]);
  }
  return ratios;
}

async function measure() {
  const grpcBody = run(program, ['body', 'grpc'], { encoding: 'buffer' }).out;
  const [grpcFile, restFile] = [join(folder, 'grpc'), join(folder, 'rest')];
  writeFileSync(grpcFile, grpcBody);
  writeFileSync(restFile, run(program, ['body', 'rest']).out);
  const start = async (...args) => {
    const server = await serve(program, (address) => [args[0], address, ...args.slice(1)]);
    servers.push(server);
    return server;
  };
  const [product, floor, talkative] = [await start('serve'), await start('floor'), await start('serve', 'warn,campanile=info')];
  const bytes = [await provePost(product.port, grpcBody, 201), await provePost(floor.port, grpcBody)];
  if (bytes[0] !== bytes[1]) throw new Error(`the answers differ: ${bytes} bytes`);

  const streams = ['-c', '8', '-m', '10'];
  const grpc = [...streams, '-d', grpcFile, '-H', 'content-type: application/grpc', '-H', 'te: trailers'];
  const json = ['-d', restFile, '-H', 'content-type: application/json'];
  const sides = {
    floor: { server: floor, path: CREATE, args: grpc },
    grpc: { server: product, path: CREATE, args: grpc },
    logged: { server: talkative, path: CREATE, args: grpc },
    rest: { server: product, path: '/v3/test/items', args: [...streams, ...json] },
    rest1: { server: product, path: '/v3/test/items', args: ['--h1', '-c', '80', ...json] },
    list: { server: product, path: '/v3/test/items?limit=20', args: streams },
  };

  describe();
  console.log(`${run('h2load', ['--version']).out.trim()}; server on core ${SERVER_CORE}, h2load on core ${LOAD_CORE}; ${PAIRS} pairs of ${CALLS} calls, 8 connections × 10 streams (HTTP/1.1: 80 connections)`);
  console.log(`request ${grpcBody.length} bytes, answer ${bytes[0]} bytes over gRPC; rate limits off, log at warn, no database, an API key from the cache`);
  for (const side of Object.values(sides)) load(side);

  const [rate, cost] = [(one) => one.rate, (one) => one.time];
  judge('P1 gRPC, requests/s ÷ bare tonic', pairs(sides.grpc, sides.floor, rate), { target: 0.6, stretch: 0.8, better: 'more' });
  judge('P1 as processor time, bare tonic ÷ gRPC', pairs(sides.floor, sides.grpc, cost), { target: 0.6, stretch: 0.8, better: 'more' });
  control('gRPC, requests/s', pairs(sides.grpc, sides.grpc, rate));
  judge('P1 with a log line for each call, processor time', pairs(sides.floor, sides.logged, cost), { target: 0.6, stretch: 0.8, better: 'more' });
  judge('P2 REST over HTTP/2 ÷ gRPC, processor time', pairs(sides.rest, sides.grpc, cost), { target: 1.5, stretch: 1.3, better: 'less' });
  judge('P2 REST over HTTP/1.1 ÷ gRPC, processor time', pairs(sides.rest1, sides.grpc, cost), { target: 1.5, stretch: 1.3, better: 'less' });
  control('REST over HTTP/2, processor time', pairs(sides.rest, sides.rest, cost));
  for (const [name, side] of Object.entries(sides)) {
    const runs = Array.from({ length: 5 }, () => load(side));
    const show = (of, digits) => spread(runs.map(of)).median.toFixed(digits);
    console.log(`  ${name.padEnd(8)} ${show(rate, 0).padStart(7)} calls/s ${show(cost, 2).padStart(7)} µs of the server's processor each`);
  }
  const failed = [...(await failures(product.port)), ...(await failures(talkative.port))];
  if (failed.length > 0) throw new Error(`calls failed:\n${failed.join('\n')}`);
}

try {
  await measure();
} finally {
  for (const server of servers) server.stop();
  rmSync(folder, { recursive: true, force: true });
}

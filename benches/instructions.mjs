// Instructions of one call, by callgrind, without sockets and in one thread: a figure that does not depend on what else
// the machine does, to hold changes against.
//
//   node benches/instructions.mjs [--program <edge, built before>] [door …]
//
// A door is counted with N and with 2N calls; the difference is N calls without the start. The making of the request is
// counted the same way and taken off.

import { parseArgs } from 'node:util';

import { build, need, run } from './lib.mjs';

const CALLS = 1_000;
const DOORS = ['floor-create', 'grpc-create', 'rest-create', 'floor-list', 'grpc-list', 'rest-list'];

const { values: options, positionals: asked } = parseArgs({ options: { program: { type: 'string' } }, allowPositionals: true });

need('valgrind', 'valgrind');
const program = options.program ?? build('edge');

function total(door, calls) {
  const { err } = run('valgrind', ['--tool=callgrind', '--callgrind-out-file=/dev/null', program, 'count', door, String(calls)]);
  return Number(/Collected : (\d+)/.exec(err)[1]);
}

function each(door) {
  return (total(door, 2 * CALLS) - total(door, CALLS)) / CALLS;
}

console.log(`${run('valgrind', ['--version']).out.trim()}, ${CALLS} calls`);
const counts = {};
for (const door of asked.length > 0 ? asked : DOORS) {
  counts[door] = each(door) - each(`nothing-${door}`);
  console.log(`${door.padEnd(14)} ${Math.round(counts[door]).toLocaleString('en').padStart(9)} instructions`);
}
for (const [name, above, below] of [['gRPC ÷ bare tonic', 'grpc-create', 'floor-create'], ['REST ÷ gRPC', 'rest-create', 'grpc-create'], ['REST ÷ gRPC, list', 'rest-list', 'grpc-list']]) {
  if (counts[above] && counts[below]) console.log(`${name.padEnd(18)} ${(counts[above] / counts[below]).toFixed(2)}`);
}

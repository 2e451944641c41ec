import { expect, it } from 'vitest';
import { UserError } from '../src/errors.ts';
import { countedOps, cpuNodesNotice, sessionOptionsOf } from '../src/session-options.ts';

const node = (op: string, provider = 'CUDAExecutionProvider') => ({ name: op, op, provider });
const onCpu = (op: string) => node(op, 'CPUExecutionProvider');

it('counts operators, the most frequent first', () => {
  expect(countedOps([node('Add'), node('Shape'), node('Shape'), node('Abs')])).toBe('Shape 2, Abs 1, Add 1');
});

it('tells nodes that stay on the CPU, and nothing where none does', () => {
  expect(cpuNodesNotice([node('MatMul'), onCpu('Shape'), onCpu('Range')], 'cuda:1')).toBe(
    '2 of 3 nodes of a graph run on the CPU, not on cuda:1: Range 1, Shape 1',
  );
  expect(cpuNodesNotice([node('MatMul'), onCpu('Shape')], 'cuda', true)).toMatch(/Shape 1\n {2}Shape \S*$/);
  expect(cpuNodesNotice([node('MatMul')], 'cuda')).toBeUndefined();
});

it('tells it once for each kind of graph', () => {
  const notices: string[] = [];
  const { onPlacement } = sessionOptionsOf({ device: 'cpu' }, { onNotice: (message) => notices.push(message) });
  for (const nodes of [[onCpu('Shape')], [onCpu('Shape')], [onCpu('Range')]]) onPlacement?.(nodes);
  expect(notices).toHaveLength(2);
});

it('refuses a device that cannot be used, at once', () => {
  expect(() => sessionOptionsOf({ device: 'cuda:9' })).toThrow(UserError);
});

it('captures decoding steps alone: no session is told to capture what it runs', () => {
  const { cuda, captureSteps } = sessionOptionsOf({ device: 'cpu', cudaGraphs: true, gpuArena: 'kNextPowerOfTwo' });
  expect({ cuda, captureSteps }).toEqual({ cuda: { arenaExtendStrategy: 'kNextPowerOfTwo' }, captureSteps: true });
});

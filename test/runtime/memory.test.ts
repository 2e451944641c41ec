import { expect, test } from 'vitest';
import { Session, Value } from '../../src/runtime/index.ts';
import { addModel } from './models.ts';

const megabytes = () => process.memoryUsage().rss / 2 ** 20;

test('10,000 rounds of making, running and disposing leave memory as it was', async () => {
  using session = await Session.create(addModel(), { intraOpThreads: 1 });
  const rows = 500;
  const round = async (i: number) => {
    using a = Value.empty('float32', [rows, 2]);
    using b = Value.from('float32', [2], [1, 2]);
    using binding = session.bind().input('a', a).input('b', b).outputOn('c');
    if (i % 10 === 0) await binding.run();
    else binding.runSync();
    using c = binding.outputs().c;
    if (c.data[1] !== 2) throw new Error('wrong result');
  };
  for (let i = 0; i < 1000; i++) await round(i);
  const before = megabytes();
  for (let i = 0; i < 10_000; i++) await round(i);
  // Leaking one of the three tensors would cost 4 kB a round: 40 MB.
  expect(megabytes() - before).toBeLessThan(20);
});

test('sessions give their memory back', async () => {
  const round = async () => {
    using session = await Session.create(addModel(), { intraOpThreads: 1 });
    expect(session.inputs.length).toBe(2);
  };
  for (let i = 0; i < 50; i++) await round();
  const before = megabytes();
  for (let i = 0; i < 300; i++) await round();
  expect(megabytes() - before).toBeLessThan(20);
});

test('a large tensor goes back to the system when it is disposed of', () => {
  const before = megabytes();
  const value = Value.empty('float32', [64, 2 ** 20]);
  expect(megabytes() - before).toBeGreaterThan(200);
  value.dispose();
  expect(megabytes() - before).toBeLessThan(20);
});

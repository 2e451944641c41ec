import { expect, test, vi } from 'vitest';
import { UserError } from '../../src/errors.ts';
import { environment } from '../../src/runtime/environment.ts';
import { Session, Value } from '../../src/runtime/index.ts';
import { addModel, model } from './models.ts';

/** cache.out = ScatterND(cache, rows, updates): writes rows of a cache. */
const scatter = () =>
  model({
    inputs: { cache: ['float32', ['n', 2]], rows: ['int64', ['k', 1]], updates: ['float32', ['k', 2]] },
    outputs: { 'cache.out': ['float32', ['n', 2]] },
    nodes: [{ op: 'ScatterND', inputs: ['cache', 'rows', 'updates'], outputs: ['cache.out'] }],
  });

test('bound tensors are read and written where they are', async () => {
  using session = await Session.create(addModel());
  using a = Value.from('float32', [1, 2], [1, 2]);
  using b = Value.from('float32', [2], [10, 20]);
  using c = Value.empty('float32', [1, 2]);
  using binding = session.bind().input('a', a).input('b', b).output('c', c);
  const view = c.data;
  await binding.run();
  expect([...view]).toEqual([11, 22]);
  a.data[0] = 5;
  binding.runSync();
  expect([...view]).toEqual([15, 22]);
});

test('an input bound as output is updated in place', async () => {
  using session = await Session.create(scatter());
  using cache = Value.empty('float32', [3, 2]);
  using rows = Value.from('int64', [1, 1], [0]);
  using updates = Value.from('float32', [1, 2], [1, 2]);
  using binding = session.bind().input('cache', cache).input('rows', rows).input('updates', updates);
  binding.output('cache.out', cache);
  await binding.run();
  (rows.data as BigInt64Array)[0] = 2n;
  (updates.data as Float32Array).set([3, 4]);
  binding.runSync();
  expect([...cache.data]).toEqual([1, 2, 0, 0, 3, 4]);
});

test('outputs that ONNX Runtime allocates are given away, and later runs leave them alone', async () => {
  using session = await Session.create(addModel());
  using a = Value.from('float32', [1, 2], [1, 2]);
  using b = Value.from('float32', [2], [10, 20]);
  using binding = session.bind().input('a', a).input('b', b).outputOn('c');
  await binding.run();
  using first = binding.outputs().c;
  expect(() => binding.outputs()).toThrow('needs a run that has not been collected yet');
  a.data[0] = 100;
  using wider = Value.from('float32', [2, 2], [0, 0, 1, 1]);
  await binding.run();
  using second = binding.outputs().c;
  await binding.input('a', wider).run();
  using third = binding.outputs().c;
  expect([...first.data]).toEqual([11, 22]);
  expect([...second.data]).toEqual([110, 22]);
  expect(third.dims).toEqual([2, 2]);
  expect([...third.data]).toEqual([10, 20, 11, 21]);
  binding.dispose();
  session.dispose();
  expect([...third.data]).toEqual([10, 20, 11, 21]);
});

test('given tensors and allocated ones mix, in any order', async () => {
  using session = await Session.create(
    model({
      inputs: { x: ['float32', ['n']] },
      outputs: { p: ['float32', ['n']], q: ['float32', ['n']], r: ['float32', ['n']] },
      nodes: [
        { op: 'Neg', inputs: ['x'], outputs: ['p'] },
        { op: 'Abs', inputs: ['x'], outputs: ['q'] },
        { op: 'Sqrt', inputs: ['x'], outputs: ['r'] },
      ],
    }),
  );
  using x = Value.from('float32', [1], [4]);
  using q = Value.empty('float32', [1]);
  using binding = session.bind().input('x', x).outputOn('r').output('q', q).outputOn('p');
  await binding.run();
  const outputs = binding.outputs();
  expect(Object.keys(outputs)).toEqual(['r', 'p']);
  expect([outputs.r.data[0], outputs.p.data[0], q.data[0]]).toEqual([2, -4, 4]);
  using r = Value.empty('float32', [1]);
  outputs.p.dispose();
  outputs.r.dispose();
  binding.output('r', r); // from allocated to given
  await binding.run();
  expect(r.data[0]).toBe(2);
  const { p } = binding.outputs();
  p.dispose();
});

test('what cannot be run is named before it runs', async () => {
  using session = await Session.create(addModel(), { logSeverity: 'fatal' });
  using a = Value.from('float32', [1, 2], [1, 2]);
  using b = Value.from('float32', [2], [10, 20]);
  using binding = session.bind();
  expect(() => binding.runSync()).toThrow(
    new UserError("cannot run the model: input 'a' float32[n, 2], 'b' float32[2] is not bound"),
  );
  binding.input('a', a).input('b', b);
  await expect(binding.run()).rejects.toThrow('cannot run the model: no output is bound');
  using int = Value.empty('int64', [1, 2]);
  expect(() => binding.output('c', int)).toThrow("output 'c' of the model is float32[n, 2], but got int64[1, 2]");
  using tall = Value.empty('float32', [9, 2]);
  await expect(binding.output('c', tall).run()).rejects.toThrow(/running the model: .*shape/);
  using c = Value.empty('float32', [1, 2]);
  binding.output('c', c);
  b.dispose();
  expect(() => binding.runSync()).toThrow('Value float32[2] was used after it was disposed of');
  await expect(binding.run()).rejects.toThrow('Value float32[2] was used after it was disposed of');
});

test('nothing that a run in flight uses can be pulled from under it', async () => {
  const session = await Session.create(addModel());
  const a = Value.empty('float32', [1, 2]);
  const b = Value.empty('float32', [2]);
  const c = Value.empty('float32', [1, 2]);
  const binding = session.bind().input('a', a).input('b', b).output('c', c);
  const run = binding.run();
  for (const value of [a, b, c]) {
    expect(() => value.dispose()).toThrow(/cannot dispose of Value float32\[.*\]: a run in flight still uses it/);
    expect(value.disposed).toBe(false);
  }
  using other = Value.empty('float32', [1, 2]);
  expect(() => a.copyFrom(other)).toThrow('cannot write to Value float32[1, 2]: a run in flight still uses it');
  expect(() => binding.dispose()).toThrow('cannot dispose of Binding: a run in flight still uses it');
  expect(() => binding.input('a', a)).toThrow('cannot change Binding: a run in flight');
  expect(() => binding.runSync()).toThrow('cannot run Binding: a run in flight');
  await expect(binding.run()).rejects.toThrow('cannot run Binding: a run in flight');
  expect(() => session.dispose()).toThrow('cannot dispose of Session');
  await run;
  for (const disposable of [binding, a, b, c, session]) disposable.dispose();
  expect(binding.disposed).toBe(true);
  expect(() => binding.runSync()).toThrow('Binding was used after it was disposed of');
});

test('a failed run gives its tensors back', async () => {
  using session = await Session.create(addModel(), { logSeverity: 'fatal' });
  using a = Value.empty('float32', [1, 2]);
  using b = Value.empty('float32', [2]);
  using c = Value.empty('float32', [5, 2]);
  using binding = session.bind().input('a', a).input('b', b).output('c', c);
  await expect(binding.run()).rejects.toThrow('running the model');
});

test('a binding to be captured runs as others do where nothing can be captured', async () => {
  using session = await Session.create(addModel());
  using a = Value.from('float32', [1, 2], [1, 2]);
  using b = Value.from('float32', [2], [10, 20]);
  using c = Value.empty('float32', [1, 2]);
  using binding = session.bind().input('a', a).input('b', b).output('c', c).captureAsGraph();
  await binding.run();
  a.data[0] = 5;
  binding.runSync();
  expect([...c.data]).toEqual([15, 22]);
  environment().api.SessionReleaseCapturedGraph(session.handle.pointer, 1); // a session without graphs has none to free
});

test('what lies on the host crosses to a device once a run, when the run begins', async () => {
  using session = await Session.create(addModel(), { device: { kind: 'mock' } });
  using a = Value.from('float32', [1, 2], [1, 2]);
  using b = Value.from('float32', [2], [10, 20]).movedTo({ kind: 'mock' });
  using c = Value.empty('float32', [1, 2]);
  const bound = vi.spyOn(environment().api, 'BindInput');
  const names = () => bound.mock.calls.map(([, name]) => name);
  using binding = session.bind().input('a', a).input('b', b).output('c', c);
  expect(names()).toEqual(['b']);
  a.data[0] = 5; // after it was bound, before the run
  await binding.run();
  expect(names()).toEqual(['b', 'a']);
  expect([...c.data]).toEqual([15, 22]);
  bound.mockRestore();
});

import { expect, test } from 'vitest';
import { Session, Value } from '../../src/runtime/index.ts';
import { addModel } from './models.ts';

test('runs a model off the main thread', async () => {
  using session = await Session.create(addModel());
  expect(session.inputs).toEqual([
    { name: 'a', dtype: 'float32', dims: ['n', 2] },
    { name: 'b', dtype: 'float32', dims: [2] },
  ]);
  expect(session.outputs).toEqual([{ name: 'c', dtype: 'float32', dims: ['n', 2] }]);
  using a = Value.from('float32', [2, 2], [1, 2, 3, 4]);
  using b = Value.from('float32', [2], [10, 20]);
  const { c } = await session.run({ a, b });
  expect(c.dims).toEqual([2, 2]);
  expect([...c.data]).toEqual([11, 22, 13, 24]);
  c.dispose();
});

import { expect, test } from 'vitest';
import { OrtError, Session } from '../../src/runtime/index.ts';
import { addModel } from './models.ts';

test('says which provider runs each node', async () => {
  using session = await Session.create(addModel(), { recordPlacement: true });
  expect(session.placement).toEqual([{ name: expect.any(String), op: 'Add', provider: 'CPUExecutionProvider' }]);
});

test('is not kept unless asked for', async () => {
  using session = await Session.create(addModel());
  expect(() => session.placement).toThrow(OrtError);
});

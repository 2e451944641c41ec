import { describe, expect, test } from 'vitest';
import { GRADIENT_RULES } from '../../src/export/gradient-rules.ts';
import type { Op } from '../../src/export/operators.ts';
import { GRADIENT_CASES } from './gradient-cases.ts';
import { checkGradient } from './gradient-check.ts';

test('every operator with a gradient rule has a case', () => {
  const withRule = Object.entries(GRADIENT_RULES).filter(([, rule]) => typeof rule === 'function');
  expect(Object.keys(GRADIENT_CASES).sort()).toEqual(withRule.map(([op]) => op).sort());
});

for (const [op, cases] of Object.entries(GRADIENT_CASES)) {
  describe(op, () => {
    for (const given of cases) {
      for (const sizes of ['static', 'symbolic'] as const) {
        test(`${given.name}, ${sizes}`, async () => await checkGradient(op as Op, given, sizes));
      }
    }
  });
}

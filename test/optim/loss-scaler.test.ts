import { describe, expect, it } from 'vitest';
import { LossScaler } from '../../src/optim/index.ts';

/** The scale after each of a row of steps, as torch.amp.GradScaler with its defaults would have it. */
describe('the loss scale', () => {
  it('starts at 2^16, is halved by an overflow and doubled by 2,000 steps without', () => {
    const scaler = new LossScaler();
    expect(scaler.scale).toBe(65536);
    for (const scale of [32768, 16384]) {
      expect(scaler.update(false)).toBe(true);
      expect(scaler.scale).toBe(scale);
    }
    for (let step = 1; step < 2000; step++) scaler.update(true);
    expect(scaler.state).toEqual({ scale: 16384, goodSteps: 1999 });
    scaler.update(true);
    expect(scaler.state).toEqual({ scale: 32768, goodSteps: 0 });
  });

  it('counts anew after an overflow', () => {
    const scaler = new LossScaler();
    for (let step = 0; step < 1999; step++) scaler.update(true);
    scaler.update(false);
    for (let step = 0; step < 1999; step++) scaler.update(true);
    expect(scaler.scale).toBe(32768);
    scaler.update(true);
    expect(scaler.scale).toBe(65536);
  });

  it('says when lowering it does not help any more', () => {
    const scaler = new LossScaler();
    scaler.state = { scale: 2, goodSteps: 7 };
    expect(scaler.update(false)).toBe(true);
    expect(scaler.scale).toBe(1);
    expect(scaler.update(false)).toBe(false);
    expect(scaler.scale).toBe(1);
  });
});

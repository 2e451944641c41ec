import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { argumentsOf, refused, type Workplace, workplace } from './refused.ts';

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
});
afterAll(() => folder[Symbol.dispose]());

const TEMPERATURE = 'must be 0 (the likeliest token) or at least 0.001';
const PAID = '(a thought is paid relative to the others at its position)';

const THINKING: [flag: string, value: string, problem: string][] = [
  ['group-size', '1', `must be a whole number, at least 2 ${PAID}`],
  ['group-size', '2.5', `must be a whole number, at least 2 ${PAID}`],
  ['temperature', '-0.1', 'must be a number, at least 0'],
  ['temperature', '1e-30', TEMPERATURE],
  ['temperature', '1e999', 'must be a number, at least 0'],
  ['top-p', '0', 'must be a number, above 0, at most 1'],
  ['min-p', '1.5', 'must be a number, at least 0, at most 1'],
  ['top-k', '-1', 'must be a whole number, at least 0'],
  ['positions', '0', 'must be a whole number, at least 1'],
  ['horizon', '0', 'must be a whole number, at least 1'],
  ['max-thought-tokens', '0', 'must be a whole number, at least 1'],
  ['horizon-reduction', 'max', 'must be one of sum, mean'],
  ['position-stride', '0', 'must be a whole number, at least 1'],
  ['limit', '0', 'must be a whole number, at least 1'],
  ['seed', '-1', 'must be a whole number, at least 0'],
  ['seed', '9007199254740993', 'must be a whole number, at least 0'],
  ['threads', '0', 'must be a whole number, at least 1'],
  ['slots', '0', 'must be a whole number, at least 1'],
  ['documents-per-batch', '0', 'must be a whole number, at least 1'],
  ['device', 'tpu', 'must be cpu, cuda or cuda:N'],
  ['position-strategy', 'all', 'must be one of uniform, column, every, entropy, surprise'],
];

const TRAINING: [flag: string, value: string, problem: string][] = [
  ['steps', '0', 'must be a whole number, at least 1'],
  ['documents-per-step', '0', 'must be a whole number, at least 1'],
  ['learning-rate', '-1e-6', 'must be a number, at least 0'],
  ['ema-decay', '1', 'must be a number, at least 0, below 1 (for a baseline that stays as it is, --baseline frozen)'],
  ['beta1', '1', 'must be a number, at least 0, below 1'],
  ['epsilon', '0', 'must be a number, above 0'],
  ['clip-low', '1.1', 'must be a number, at least 0, at most 1'],
  ['weight-decay-on', 'norms', 'must be one of matrices, matrices-and-embeddings, all'],
  ['max-grad-norm', '-1', 'must be a number, at least 0'],
  ['eval-every', '0', 'must be a whole number, at least 1'],
  ['checkpoint-every', '-1', 'must be a whole number, at least 0'],
  ['temperature', '0', 'must be above 0 for training: without chance the thoughts of a group are all the same'],
  ['warmup-steps', '201', 'must be at most --steps (200)'],
  ['objective', 'ppo', 'must be one of rlp, rpt, grpo, cpt, sft'],
  ['baseline', 'both', 'must be one of ema, frozen, none'],
  ['unclosed', 'ignore', 'must be one of close, drop, penalize'],
  ['unclosed-penalty', '-1', 'must be a number, at least 0'],
  ['compare-within', 'batch', 'must be one of position, document, step'],
  ['advantage-scale', 'std', 'must be one of none, group, step'],
  ['reward-sign', 'negative', 'must be one of any, positive, agree, clip'],
  ['zero-variance', 'resample', 'must be one of keep, drop'],
  ['length-normalization', 'sum', 'must be one of thought, token, limit'],
  ['kl-coefficient', '-0.1', 'must be a number, at least 0'],
  ['next-token-coefficient', '-0.1', 'must be a number, at least 0'],
  ['importance-sampling', 'yes', 'must be one of none, mismatch, behavior'],
  ['importance-cap', '0', 'must be a number, above 0'],
  ['epochs-per-step', '0', 'must be a whole number, at least 1'],
  ['minibatches', '2', 'must be at most --documents-per-step (1)'],
];

describe('flags that cannot be', () => {
  it.each(THINKING)('rollout and train refuse --%s %s', async (flag, value, problem) => {
    for (const command of ['rollout', 'train rlp']) {
      const message = await refused(folder, argumentsOf(command, folder, { [flag]: value }));
      expect(message).toBe(`--${flag} ${value}: ${problem}`);
    }
  });

  it.each(TRAINING)('train refuses --%s %s', async (flag, value, problem) => {
    const message = await refused(folder, argumentsOf('train rlp', folder, { [flag]: value }));
    expect(message).toBe(`--${flag} ${value}: ${problem}`);
  });

  it('blocks longer than a step', async () => {
    const args = argumentsOf('train cpt', folder, { 'block-length': '32', 'batch-tokens': '16' });
    expect(await refused(folder, args)).toBe('--block-length 32: must be at most --batch-tokens (16)');
  });
});

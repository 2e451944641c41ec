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
  ['max-context-tokens', '0', 'must be a whole number, at least 1'],
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

const POLICY = 'is for --thought-loss policy-gradient only, and this is best-of-group';
const WITHOUT_USE: [call: string, flag: string, value: string, flags: Record<string, string>, problem: string][] = [
  ...['rollout', 'train rlp'].flatMap((call): typeof WITHOUT_USE => [
    [
      ...([call, 'positions', '3', { 'position-strategy': 'every' }] as const),
      'is for --position-strategy uniform, entropy or surprise only, and this is every',
    ],
    [call, 'position-stride', '3', {}, 'is for --position-strategy every only, and this is uniform'],
    [call, 'entropy-top-k', '8', {}, 'is for --position-strategy entropy only, and this is uniform'],
    [call, 'positions-column', 'at', {}, 'is for --position-strategy column only, and this is uniform'],
    [call, 'baseline-prompt', 'true', {}, 'has no use with --prompt none'],
    [call, 'tf32', 'true', {}, 'has no use with --device cpu'],
    [call, 'gpu-memory-limit', '8', {}, 'has no use with --device cpu'],
  ]),
  ['train rlp', 'importance-cap', '3', {}, 'is for --importance-sampling mismatch or behavior only, and this is none'],
  ['train rlp', 'unclosed-penalty', '3', {}, 'is for --unclosed penalize only, and this is close'],
  ['train rlp', 'ema-decay', '0.9', { baseline: 'frozen' }, 'is for --baseline ema only, and this is frozen'],
  ...(
    [
      ['compare-within', 'step'],
      ['advantage-scale', 'group'],
      ['reward-sign', 'agree'],
      ['zero-variance', 'drop'],
      ['length-normalization', 'token'],
      ['clip-low', '0.1'],
      ['clip-high', '0.1'],
      ['kl-coefficient', '0.1'],
      ['next-token-coefficient', '0.1'],
      ['importance-sampling', 'mismatch'],
    ] as const
  ).map(([flag, value]): (typeof WITHOUT_USE)[number] => [
    ...(['train rlp', flag, value, { 'thought-loss': 'best-of-group' }, POLICY] as const),
  ]),
  ...['positive', 'clip'].map((sign): (typeof WITHOUT_USE)[number] => [
    ...(['train rlp', 'reward-sign', sign, { baseline: 'none' }] as const),
    'leaves no gradient with --baseline none: log-probs, which are then the rewards, are never above 0',
  ]),
  ['train rlp', 'final-learning-rate', '1e-7', {}, 'is for --schedule linear or cosine only, and this is constant'],
  ['train rlp', 'lora-alpha', '16', {}, 'has no use without --lora-rank'],
  ['train rlp', 'lora-target-modules', 'all-linear', {}, 'has no use without --lora-rank'],
  ['train rlp', 'eval-every', '10', {}, 'has no use without --eval-data'],
  [
    ...(['train rlp', 'max-thought-tokens', '4', { objective: 'grpo', 'without-thought': 'true' }] as const),
    'has no use with --without-thought',
  ],
  ['train cpt', 'documents-per-step', '4', {}, 'is for --packing none only, and this is wrapped'],
  ['train cpt', 'batch-tokens', '4096', { packing: 'none' }, 'is for --packing wrapped only, and this is none'],
];

describe('flags that have no use beside others', () => {
  it.each(WITHOUT_USE)('%s --%s %s %j', async (call, flag, value, flags, problem) => {
    const message = await refused(folder, argumentsOf(call, folder, { ...flags, [flag]: value }));
    expect(message).toBe(`--${flag} ${value}: ${problem}`);
  });
});

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

  it('a context for objectives that have none', async () => {
    const args = argumentsOf('train cpt', folder, { 'max-context-tokens': '32' });
    expect(await refused(folder, args)).toBe(
      '--max-context-tokens 32: is for --objective rlp or rpt only, and this is cpt',
    );
  });

  it('blocks longer than a step', async () => {
    const args = argumentsOf('train cpt', folder, { 'block-length': '32', 'batch-tokens': '16' });
    expect(await refused(folder, args)).toBe('--block-length 32: must be at most --batch-tokens (16)');
  });
});

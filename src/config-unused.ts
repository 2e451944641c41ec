import { kebab } from './kebab.ts';

/** Settings by key, checked one by one, and what each is when nobody asks for it. */
export interface Asked {
  options: Readonly<Record<string, unknown>>;
  defaults: Readonly<Record<string, unknown>>;
}

/** Settings that do something only under certain values of another one. */
export interface Condition {
  keys: readonly string[];
  /** The setting that decides. */
  by: string;
  /** With which of its values the keys have a use: these, any but its default, or its default alone. */
  values: readonly string[] | 'given' | 'default';
}

const under = (by: string, values: readonly string[], keys: readonly string[]): Condition => ({ by, values, keys });
const given = (by: string, keys: readonly string[]): Condition => ({ by, values: 'given', keys });

/** Where rollouts are sampled. */
export const SAMPLING_CONDITIONS: readonly Condition[] = [
  under('positionStrategy', ['uniform', 'entropy', 'surprise'], ['positions']),
  under('positionStrategy', ['every'], ['positionStride']),
  under('positionStrategy', ['column'], ['positionsColumn']),
  given('prompt', ['baselinePrompt']),
  given('device', ['gpuMemoryLimit', 'gpuArena', 'tf32', 'cudaGraphs']),
];

/** Of rollout alone: RPT's filter goes by entropy whatever the strategy. */
export const ROLLOUT_CONDITIONS: readonly Condition[] = [
  ...SAMPLING_CONDITIONS,
  under('positionStrategy', ['entropy'], ['entropyTopK']),
];

/** Of training, beside those of sampling. */
export const TRAINING_CONDITIONS: readonly Condition[] = [
  under('baseline', ['ema'], ['emaDecay']),
  under('baseline', ['ema', 'frozen'], ['baselinePrompt']),
  under('unclosed', ['penalize'], ['unclosedPenalty']),
  under('importanceSampling', ['mismatch', 'behavior'], ['importanceCap']),
  under(
    'thoughtLoss',
    ['policy-gradient'],
    [
      ...[
        'compareWithin',
        'advantageScale',
        'rewardSign',
        'zeroVariance',
        'lengthNormalization',
        'clipLow',
        'clipHigh',
      ],
      ...['klCoefficient', 'nextTokenCoefficient', 'importanceSampling', 'importanceCap'],
    ],
  ),
  given('klCoefficient', ['klReference']),
  under('schedule', ['linear', 'cosine'], ['finalLearningRate']),
  given('loraRank', ['loraAlpha', 'loraTargetModules']),
  given('evalData', ['evalEvery', 'evalLimit', 'evalSamples']),
];

/** Of one objective alone, where the setting that decides is its own. */
export const OBJECTIVE_CONDITIONS: Readonly<Partial<Record<string, readonly Condition[]>>> = {
  rlp: [under('positionStrategy', ['entropy'], ['entropyTopK'])],
  cpt: [under('packing', ['wrapped'], ['batchTokens']), under('packing', ['none'], ['documentsPerStep'])],
  grpo: [{ by: 'withoutThought', values: 'default', keys: ['maxThoughtTokens', 'unclosed', 'unclosedPenalty'] }],
};

/** Values that ask for the same, lists included. */
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/**
 * What the conditions leave without a use, and why; one problem a setting. Only values other than the default count: these
 * say that the setting was asked for, wherever it came from.
 */
export function* unusedUnder(
  conditions: readonly Condition[],
  { options, defaults }: Asked,
): Generator<[key: string, problem: string]> {
  const told = new Set<string>();
  for (const { keys, by, values } of conditions) {
    const decides = options[by] ?? defaults[by];
    const byDefault = same(decides, defaults[by]);
    if (typeof values === 'string' ? byDefault === (values === 'default') : values.includes(String(decides))) continue;
    for (const key of keys) {
      if (told.has(key) || !(key in options) || same(options[key] ?? defaults[key], defaults[key])) continue;
      told.add(key);
      yield [key, reason(by, values, decides)];
    }
  }
}

function reason(by: string, values: Condition['values'], found: unknown): string {
  const flag = `--${kebab(by)}`;
  if (found === undefined) return `has no use without ${flag}`;
  if (typeof values === 'string') return `has no use with ${flag}${found === true ? '' : ` ${found}`}`;
  const names = new Intl.ListFormat('en-GB', { type: 'disjunction' }).format(values);
  return `is for ${flag} ${names} only, and this is ${found}`;
}

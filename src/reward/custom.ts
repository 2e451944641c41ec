import { basename } from 'node:path';
import { internal, messageOf, UserError } from '../errors.ts';
import type { RolloutRecord } from '../records.ts';

/** A thought before it is paid: its row of a rollout file without reward and advantage. */
export type UnpaidRecord = Omit<RolloutRecord, 'reward' | 'advantage'>;

/**
 * What a reward function is told about a thought: its row of the rollout file, the text around it, and what it would be paid
 * otherwise. Changing any of it changes nothing.
 */
export interface RewardInput extends UnpaidRecord {
  /** The document's text, as far as the model's positions hold it. */
  document: string;
  /** All text before the thought; a prompt is not part of it. */
  prefix: string;
  /**
   * What the objective itself pays, before penalties: under RLP the information gain in nats, S_pred without a baseline; under RPT
   * and GRPO 1 or 0.
   */
  builtInReward: number;
  /** The reference answer as the data has it; under GRPO. */
  reference?: string;
}

/**
 * A reward of the user's own: one finite number a thought, in their order, in whatever unit.
 *
 * It is called once for the thoughts of a training step, of an evaluation (whose `step` is 0), or of a batch of a rollout; with
 * --resample-from once for each round of a step.
 * Thoughts at one position of a document follow each other. For a run that can be resumed to the byte it must give the same
 * numbers when it is asked again.
 */
export type RewardFunction = (thoughts: readonly RewardInput[]) => ArrayLike<number> | Promise<ArrayLike<number>>;

/** A reward function and how it is called. */
export interface CustomReward {
  /** Of its metrics, rewards/NAME/mean and rewards/NAME/std. */
  name: string;
  reward: RewardFunction;
  /** Path of the module it came from, for messages. */
  module?: string;
}

/** Rewards that were made elsewhere, paid in place of the information gain. */
export interface GivenRewards extends Pick<CustomReward, 'name' | 'module'> {
  /** By group and thought. */
  rewards: readonly ArrayLike<number>[];
}

/** How errors name it. */
const labelOf = ({ name, module }: Pick<CustomReward, 'name' | 'module'>) =>
  module === undefined ? `reward ${name}` : `reward module ${module}`;

/**
 * Asks a reward function about groups of thoughts.
 * @throws UserError that names it if it throws, or does not return as many values as there are thoughts
 */
export async function askReward(
  custom: CustomReward,
  groups: readonly (readonly RewardInput[])[],
): Promise<GivenRewards> {
  const thoughts = groups.flat();
  const [first, last] = [thoughts[0], thoughts.at(-1)];
  if (first === undefined || last === undefined) throw internal('a reward of no thoughts');
  const asked = `about ${thoughts.length} thoughts, from ${nameOf(first)} to ${nameOf(last)}`;
  let values: unknown;
  try {
    values = await custom.reward(thoughts);
  } catch (thrown) {
    // What the input itself refuses is the user's to mend as it stands.
    if (thrown instanceof UserError) throw new UserError(`${labelOf(custom)}: ${thrown.message}`, { cause: thrown });
    const kind = thrown instanceof Error ? `${thrown.name}: ` : '';
    throw new UserError(
      `${labelOf(custom)}: asked ${asked}, it threw ${kind}${messageOf(thrown)}${placeIn(custom, thrown)}`,
      {
        cause: thrown,
      },
    );
  }
  if (!isArrayLike(values) || values.length !== thoughts.length) {
    const found = isArrayLike(values) ? `${values.length} values` : describe(values);
    throw new UserError(
      `${labelOf(custom)}: asked ${asked}, it returned ${found}; expected an array of ${thoughts.length} numbers, one a thought`,
    );
  }
  let start = 0;
  const rewards = groups.map(({ length }) => {
    start += length;
    return Array.prototype.slice.call(values, start - length, start) as number[];
  });
  return { ...custom, rewards };
}

/** The rewards of a group as float64. UserError that names the row unless they are finite numbers. */
export function checkedRewards(
  given: GivenRewards,
  group: number,
  thoughts: number,
  nameRow: (group: number, rollout: number) => string,
): Float64Array {
  const values: ArrayLike<unknown> | undefined = given.rewards[group];
  if (values?.length !== thoughts) {
    throw new UserError(
      `${labelOf(given)}: group ${group} has ${thoughts} thoughts and ${values?.length ?? 'no'} rewards`,
    );
  }
  return Float64Array.from(values, (value, g) => {
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw new UserError(`${labelOf(given)}: ${nameRow(group, g)}: it is ${describe(value)}, expected a finite number`);
  });
}

/** How errors name the row of a thought. */
export const nameOf = ({ documentId, position, rollout }: UnpaidRecord): string =>
  `document ${documentId}, position ${position}, rollout ${rollout}`;

const isArrayLike = (value: unknown): value is ArrayLike<unknown> =>
  Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));

function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

/** Line of the user's own code, where the stack tells. */
function placeIn({ module }: CustomReward, thrown: unknown): string {
  if (module === undefined || !(thrown instanceof Error)) return '';
  const frame = thrown.stack?.split('\n').find((line) => line.includes(basename(module)) && /:\d+:\d+\)?$/.test(line));
  const place = frame && /:(\d+):\d+\)?$/.exec(frame)?.[1];
  return place === undefined ? '' : ` (line ${place})`;
}

import { z } from 'zod';
import {
  type Condition,
  OBJECTIVE_CONDITIONS,
  ROLLOUT_CONDITIONS,
  SAMPLING_CONDITIONS,
  TRAINING_CONDITIONS,
  unusedUnder,
} from './config-unused.ts';
import { MICRO_BATCH_TOKENS } from './micro-batches.ts';

/**
 * The one source of the command line's flags, the YAML keys, their defaults, bounds and help texts.
 *
 * A setting is named three ways by one rule: `groupSize` in TypeScript, `--group-size` on the command line, `group-size`
 * in YAML. Defaults are the paper's (arXiv 2510.01265, v2) where it states one; docs/method.md lists our own choices.
 */

/** What the command line shows of a setting beyond what its schema says. */
export interface OptionMeta {
  description: string;
  /** Heading under which `--help` lists the flag. */
  group: string;
  /** Why a bound holds; added to the message when the value is refused. */
  hint?: string;
  /** Shown as the default in `--help` where the default is not a constant. */
  defaultText?: string;
  /** Not a flag but an argument by position. */
  positional?: boolean;
  /** A path of the file system, relative to the working folder. */
  path?: boolean;
  /** Belongs to one call of the command, not to the run: never stored in a run's config.yaml. */
  callOnly?: boolean;
}

export const optionRegistry = z.registry<OptionMeta>();

function option<S extends z.ZodType>(schema: S, group: string, description: string, meta: Partial<OptionMeta> = {}): S {
  // A clone per option: the registry keys by identity, and primitives such as `text` below are shared.
  const own = schema.clone();
  optionRegistry.add(own, { group, description, ...meta });
  return own;
}

const FILES = 'Files';
const OBJECTIVE = 'Objective';
const THOUGHTS = 'Thoughts';
const OPTIMIZER = 'Optimizer';
const RUN = 'Run';
const MACHINE = 'Machine';
const OUTPUT = 'Output';

/** Headings in the order in which `--help` shows them. */
export const OPTION_GROUPS: readonly string[] = [FILES, OBJECTIVE, THOUGHTS, OPTIMIZER, RUN, MACHINE, OUTPUT];

/** Of each setting, what it is when nobody asks for it; undefined where it has no default. */
const defaultsOf = (schema: z.ZodObject): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(schema.shape).map(([key, one]) => [key, (one as z.ZodType).safeParse(undefined).data]),
  );

const text = z.string().min(1);
const flag = z.boolean().default(false);
const count = z.int().min(1);
const fraction = z.number().min(0).max(1);

const json = option(flag, OUTPUT, 'Print the result as JSON on standard output', { callOnly: true });

/** Settings of `export`. */
export const exportSchema = z.object({
  checkpoint: option(text, FILES, 'Hugging Face checkpoint: a folder with config.json and *.safetensors', {
    positional: true,
    path: true,
  }),
  out: option(text, FILES, 'Folder to create for the graphs, the weights and the tokenizer', { path: true }),
  overwrite: option(flag, FILES, 'Replace OUT if an earlier export wrote it'),
  json,
});
/** Settings of `export` after checks, as `exportCheckpoint` takes them. */
export type ExportConfig = Omit<z.output<typeof exportSchema>, 'json'>;

const modelAndData = {
  model: option(text, FILES, 'Folder written by `rlp-ort export`, or a Hugging Face checkpoint', { path: true }),
  data: option(
    z.array(text).min(1),
    FILES,
    'Files of text: .txt, .jsonl, .json, .csv, .parquet, .arrow; patterns such as "data/*.jsonl"; - for standard input',
    {
      path: true,
    },
  ),
  textColumn: option(text.default('text'), FILES, 'Column of the text in files that have columns'),
  idColumn: option(text.default('id'), FILES, 'Column that names a document, if there is one', {
    hint: 'random numbers are drawn by it',
  }),
  positionsColumn: option(
    text.default('positions'),
    FILES,
    'Column of the offsets in characters for --position-strategy column',
  ),
  txtDocuments: option(
    z.enum(['file', 'line', 'paragraph']).default('file'),
    FILES,
    'What a document of a .txt is: the file, a line, or a paragraph (lines up to a blank one)',
  ),
  onBadRows: option(
    z.enum(['error', 'skip']).default('error'),
    FILES,
    'Rows that cannot be read (broken JSON, no text, not UTF-8): stop at the first, or leave them out and count them',
  ),
};

function isRegExp(pattern: string): boolean {
  try {
    new RegExp(pattern);
    return true;
  } catch {
    return false;
  }
}

/** Divided by less than this, logits may leave the range of float32. */
const MIN_TEMPERATURE = 0.001;

/** Of one token alone the entropy is 0 everywhere. */
const entropyTopK = z
  .int()
  .min(0)
  .refine((value) => value !== 1, { error: 'must be 0 (all tokens) or at least 2' });

/** Of the paper: a context of 2,048 tokens, and thoughts of as many. */
const RLP_CONTEXT_TOKENS = 2048;

const PROMPT_HELP =
  'Text put before every document: none, instruction (to think, then to continue; our wording), or the text itself';

const thoughtOptions = {
  groupSize: option(z.int().min(2).default(16), THOUGHTS, 'Thoughts per position (G)', {
    hint: 'a thought is paid relative to the others at its position',
  }),
  positions: option(count.default(1), THOUGHTS, 'Positions per document (K) where the model thinks'),
  positionStrategy: option(
    z.enum(['uniform', 'column', 'every', 'entropy', 'surprise']).default('uniform'),
    THOUGHTS,
    'uniform: K at random; column: those that the data lists (column `positions`); every: each --position-stride-th; ' +
      'entropy, surprise: the K where the baseline is least certain, or most wrong',
  ),
  positionStride: option(
    count.default(1),
    THOUGHTS,
    'Tokens from one position to the next under --position-strategy every',
  ),
  entropyTopK: option(
    entropyTopK.default(0),
    THOUGHTS,
    'Where positions go by entropy: it is that of this many likeliest next tokens, among themselves; 0 for all',
  ),
  maxContextTokens: option(
    count.default(RLP_CONTEXT_TOKENS),
    THOUGHTS,
    "Text before a thought, at most: documents are cut behind so many tokens, or fewer where the model's positions hold fewer",
  ),
  maxThoughtTokens: option(count.default(2048), THOUGHTS, 'A thought is cut off and closed at this many tokens'),
  horizon: option(count.default(1), THOUGHTS, 'Tokens after the position whose log-probs pay the thought'),
  horizonReduction: option(
    z.enum(['sum', 'mean']).default('sum'),
    THOUGHTS,
    'How the log-probs of the horizon make one score: their sum, or their mean',
  ),
  reward: option(
    text.optional(),
    THOUGHTS,
    'Module (.js, .mjs, .ts) whose default export pays the thoughts; docs/library.md',
    { path: true, defaultText: "the objective's own" },
  ),
  temperature: option(
    z
      .number()
      .min(0)
      .refine((value) => value === 0 || value >= MIN_TEMPERATURE, {
        error: `must be 0 (the likeliest token) or at least ${MIN_TEMPERATURE}`,
      })
      .default(0.7),
    THOUGHTS,
    'Sampling temperature; 0 takes the likeliest token',
  ),
  topK: option(z.int().min(0).default(0), THOUGHTS, 'Sample among this many of the likeliest tokens; 0 for all'),
  topP: option(
    z.number().gt(0).max(1).default(1),
    THOUGHTS,
    'Sample among the likeliest tokens that have this much of the probability; 1 for all',
  ),
  minP: option(
    fraction.default(0),
    THOUGHTS,
    'Sample among tokens at least this fraction as likely as the likeliest; 0 for all',
  ),
  prompt: option(text.default('none'), THOUGHTS, PROMPT_HELP),
  baselinePrompt: option(flag, THOUGHTS, 'The no-think score is taken with the prompt, too'),
  thinkOpen: option(text.default('<think>'), THOUGHTS, 'Text that opens a thought'),
  thinkClose: option(text.default('</think>'), THOUGHTS, 'Text that closes a thought'),
  seed: option(z.int().min(0).default(0), RUN, 'Same seed, same thoughts, whatever the batching and the threads'),
  limit: option(count.optional(), FILES, 'Use only this many documents of the data', { defaultText: 'all' }),
};

/** Why bfloat16 is refused on the CPU. */
export const NO_BFLOAT16 = 'needs --device cuda: ONNX Runtime has no matrix products in bfloat16 on the CPU';

const machineOptions = {
  device: option(
    z
      .string()
      .regex(/^(cpu|mock|cuda(:\d+)?)$/, { error: 'must be cpu, cuda or cuda:N' })
      .default('cpu'),
    MACHINE,
    'Where to compute: cpu, cuda or cuda:N; see `rlp-ort doctor`',
  ),
  threads: option(count.optional(), MACHINE, 'CPU threads', { defaultText: 'one per core' }),
  dtype: option(
    z.enum(['float32', 'float16', 'bfloat16']).default('float32'),
    MACHINE,
    'Type of matrix products; weights, gradients, sums and everything else are float32',
  ),
  gpuMemoryLimit: option(
    z.number().gt(0).optional(),
    MACHINE,
    'GiB that each graph may take of a GPU for its results; weights, caches and gradients are not in it',
    { defaultText: 'all there is' },
  ),
  gpuArena: option(
    z.enum(['kSameAsRequested', 'kNextPowerOfTwo']).default('kSameAsRequested'),
    MACHINE,
    'How the memory of a graph on a GPU grows: by what is asked for, or to the next power of two',
  ),
  tf32: option(flag, MACHINE, 'On a GPU: products of float32 matrices in TF32'),
  cudaGraphs: option(flag, MACHINE, 'On a GPU: capture decoding steps as CUDA graphs (not yet run on one)'),
  slots: option(count.optional(), MACHINE, 'Thoughts of a document that are sampled at the same time', {
    defaultText: 'all of them',
  }),
  documentsPerBatch: option(count.default(4), MACHINE, 'Documents that go through the model at the same time'),
};

const trainingMachineOptions = {
  microBatchTokens: option(
    count.default(MICRO_BATCH_TOKENS),
    MACHINE,
    'Tokens, with padding, that go through the training graph at once; gradients add up over micro-batches. Passes without ' +
      'gradients take 8192, or this where it is less',
  ),
  recompute: option(
    flag,
    MACHINE,
    'Compute each layer again in the backward pass instead of keeping its activations: less memory, more time',
  ),
};

const rolloutFiles = {
  out: option(text, FILES, 'Arrow file to create, one row a thought', { path: true }),
  baselineModel: option(text.optional(), FILES, 'Model of the no-think score, with the same tokenizer', {
    path: true,
    defaultText: '--model',
  }),
};
const resumeRollout = option(
  flag,
  RUN,
  'Continue an interrupted OUT with the same settings, from its last whole batch',
  { callOnly: true },
);

const rolloutSettings = z.object({
  ...modelAndData,
  ...rolloutFiles,
  ...thoughtOptions,
  step: option(z.int().min(0).default(0), RUN, 'Step of the random streams: another step, other thoughts'),
  resume: resumeRollout,
  ...machineOptions,
  json,
});
/** Settings of `rollout`, with its checks across settings. */
export const rolloutSchema = rolloutSettings.superRefine((options, context) => {
  for (const [key, message] of unusedUnder(ROLLOUT_CONDITIONS, { options, defaults: defaultsOf(rolloutSettings) })) {
    context.addIssue({ code: 'custom', path: [key], message });
  }
});
/** Settings of `rollout` after checks, as `runRollout` takes them. */
export type RolloutConfig = Omit<z.output<typeof rolloutSchema>, 'json'>;

/** Flags of `rollout`, with those of re-scoring. */
export const rolloutOptionsSchema = rolloutSettings.extend({
  rescore: option(
    text.optional(),
    FILES,
    'Sample nothing: score the thoughts of this rollout file with --model, --baseline-model or --reward',
    { path: true },
  ),
});

const rescoreOptions = z.object({
  rescore: text,
  ...rolloutFiles,
  model: text.optional(),
  data: modelAndData.data.optional(),
  reward: text.optional(),
  resume: resumeRollout,
  device: machineOptions.device,
  threads: machineOptions.threads,
  json,
});
/** Settings of `rollout --rescore`: all others are those that the file was made with. */
export const rescoreSchema = rescoreOptions.loose().superRefine((options, context) => {
  const refuse = (key: string, message: string) =>
    context.addIssue({ code: 'custom', path: [key], input: options[key], message });
  for (const [key, value] of Object.entries(options)) {
    if (!(key in rescoreOptions.shape) && value !== undefined) {
      refuse(key, 'has no use with --rescore: thoughts are not sampled, and all else is as the file was made');
    }
  }
  const scores = options.model !== undefined || options.baselineModel !== undefined;
  if (!scores && options.reward === undefined) {
    refuse('rescore', 'needs --model or --baseline-model to score with, or a --reward to pay with');
  }
  if (!scores && options.data !== undefined) refuse('data', 'is read for --model or --baseline-model only');
});
/** Settings of `rollout --rescore` after checks, as `runRescore` takes them. */
export type RescoreConfig = Omit<z.output<typeof rescoreOptions>, 'json'>;

/** The paper's. */
export const RLP_EMA_DECAY = 0.999;

const advantageScales = z.enum(['none', 'group', 'step']);

const objectiveOptions = {
  objective: option(
    z.enum(['rlp', 'rpt', 'grpo', 'cpt', 'sft']).default('rlp'),
    OBJECTIVE,
    'rlp: pay thoughts by information gain; rpt: by whether the text that they predict comes next; grpo: by whether the answer ' +
      'to a prompt is right; cpt: next-token loss on the same text; sft: on responses, or on given thoughts',
  ),
  baseline: option(
    z.enum(['ema', 'frozen', 'none']).default('ema'),
    OBJECTIVE,
    'Model that scores the text without a thought (rlp)',
  ),
  emaDecay: option(
    z.number().min(0).lt(1).optional(),
    OBJECTIVE,
    'Decay of the moving average of the weights, per update: the baseline (rlp), or kept for use in their place (cpt, sft)',
    {
      hint: 'for a baseline that stays as it is, --baseline frozen',
      defaultText: `${RLP_EMA_DECAY} for rlp; none is kept for cpt and sft`,
    },
  ),
  thoughtLoss: option(
    z.enum(['policy-gradient', 'best-of-group']).default('policy-gradient'),
    OBJECTIVE,
    'policy-gradient: the clipped surrogate; best-of-group: next-token loss on the best thought of each group (rlp)',
  ),
  unclosed: option(
    z.enum(['close', 'drop', 'penalize']).default('close'),
    OBJECTIVE,
    'Thoughts that do not close by themselves: close: paid like the others; drop: left out; penalize: paid less',
  ),
  unclosedPenalty: option(z.number().min(0).default(1), OBJECTIVE, 'Taken off the reward by --unclosed penalize, nats'),
  compareWithin: option(
    z.enum(['position', 'document', 'step']).default('position'),
    OBJECTIVE,
    'A thought is compared with those at its position, in its document, or of the whole step',
  ),
  advantageScale: option(
    advantageScales.optional(),
    OBJECTIVE,
    'Divide advantages by the standard deviation of the group, by their root mean square of the step, or not',
    { defaultText: 'none for rlp, group for rpt and grpo' },
  ),
  rewardSign: option(
    z.enum(['any', 'positive', 'agree', 'clip']).default('any'),
    OBJECTIVE,
    'positive: gradient for rewards above 0 only; agree: where reward and advantage agree; clip: compare max(reward, 0)',
  ),
  zeroVariance: option(
    z.enum(['keep', 'drop']).default('keep'),
    OBJECTIVE,
    'Groups without a gradient (equal rewards) count in the mean, or not',
  ),
  lengthNormalization: option(
    z.enum(['thought', 'token', 'limit']).default('thought'),
    OBJECTIVE,
    'Each thought weighs the same, or each token does, or a token weighs 1/limit of a thought (rpt, grpo: with its answer)',
  ),
  klCoefficient: option(
    z.number().min(0).default(0),
    OBJECTIVE,
    'Weight of the KL divergence of the policy from --kl-reference',
  ),
  klReference: option(
    text.optional(),
    OBJECTIVE,
    'What the KL is taken to: ema (the moving average of --baseline ema), start (the weights of the start), or the folder of a ' +
      'model with the same tokenizer; a model, or start beside an EMA, costs a copy of the weights',
    { defaultText: 'ema for rlp with --baseline ema, start otherwise' },
  ),
  nextTokenCoefficient: option(
    z.number().min(0).default(0),
    OBJECTIVE,
    'Weight of the next-token loss on the text before the thoughts',
  ),
  importanceSampling: option(
    z.enum(['none', 'mismatch', 'behavior']).default('none'),
    OBJECTIVE,
    'Weigh tokens by what training gives them over what the sampler gave them, at temperature 1 (mismatch) or as drawn (behavior)',
  ),
  importanceCap: option(z.number().gt(0).default(2), OBJECTIVE, 'Largest weight of --importance-sampling'),
  epochsPerStep: option(count.default(1), OBJECTIVE, "Times that a step's documents are trained on"),
  minibatches: option(
    count.default(1),
    OBJECTIVE,
    'Optimizer updates an epoch of a step, each on a part of its documents',
  ),
  clipLow: option(fraction.default(0.2), OBJECTIVE, 'Policy ratio is clipped below 1 - this (not cpt, sft)'),
  clipHigh: option(z.number().min(0).default(0.2), OBJECTIVE, 'Policy ratio is clipped above 1 + this (not cpt, sft)'),
  maxCompletionTokens: option(
    count.default(256),
    OBJECTIVE,
    'An answer, behind its thought, is cut off at this many tokens (rpt, grpo)',
  ),
  stop: option(
    z.array(z.string().min(1)).optional(),
    OBJECTIVE,
    'Texts at which an answer ends, as at an end-of-text token (rpt, grpo)',
    { defaultText: 'none' },
  ),
  withoutThought: option(
    flag,
    OBJECTIVE,
    'Sample the answer right behind the prompt: no delimiter is forced, the model thinks if and as it wants (grpo)',
  ),
  answerPattern: option(
    text.refine(isRegExp, { error: 'must be a regular expression, as JavaScript has them' }).optional(),
    OBJECTIVE,
    'Finds the answer where nothing is boxed: first group of the last match (grpo)',
    { defaultText: 'the first line behind the thought' },
  ),
  equality: option(
    z.enum(['spelling', 'mathematics']).default('spelling'),
    OBJECTIVE,
    'An answer is right if it is spelled as the reference or the same decimal number, or also if it is the same mathematics: 1/2 ' +
      'for 0.5, x^2+2x+1 for (x+1)^2 (grpo)',
  ),
  evalSamples: option(
    z.int().min(0).default(0),
    OBJECTIVE,
    'Sampled answers per held-out prompt, beside the greedy one (rpt, grpo)',
  ),
  prediction: option(
    z.enum(['boxed', 'text']).default('boxed'),
    OBJECTIVE,
    'What counts as the stated text: the content of the last \\boxed{} behind the thought, or all that follows it (rpt)',
  ),
  entropyThreshold: option(
    z.number().min(0).default(0.5),
    OBJECTIVE,
    "Positions are those at which the proxy's entropy of the next token is at least this, nats (rpt)",
  ),
  proxyModel: option(text.optional(), OBJECTIVE, 'Model whose entropy says which positions are hard (rpt)', {
    ...{ path: true, defaultText: '--model, as it is at the start' },
  }),
  resampleFrom: option(
    z.int().min(0).optional(),
    OBJECTIVE,
    'From this step on, documents whose completions are all paid the same are replaced by others; 0 for never (rpt, grpo)',
    { defaultText: '500 for rpt, 0 for grpo' },
  ),
  documentsPerStep: option(count.optional(), OBJECTIVE, 'Documents, prompts of grpo, or examples of sft, per step', {
    defaultText: '512, 256 for rpt, 128 for grpo, 8 for sft',
  }),
  packing: option(
    z.enum(['wrapped', 'none']).default('wrapped'),
    OBJECTIVE,
    'wrapped: documents follow each other in blocks and see those before them; none: each by itself, cut to a block (cpt)',
  ),
  blockLength: option(
    z.int().min(2).optional(),
    OBJECTIVE,
    'Tokens of a block of text (cpt); longer examples are cut to it (sft)',
    {
      hint: 'a block needs a token to predict and one before it',
      defaultText: "8192 for cpt, but no more than --batch-tokens and the model's positions; 2048 for sft",
    },
  ),
  batchTokens: option(z.int().min(2).default(6_291_456), OBJECTIVE, 'Tokens per step (cpt, --packing wrapped)'),
  lossOn: option(
    z.enum(['response', 'all']).default('response'),
    OBJECTIVE,
    'Tokens with a loss: those of responses (of given thoughts: with the closing delimiter), or all (sft)',
  ),
  lossOnTarget: option(flag, OBJECTIVE, 'Also a loss on the text behind a given thought (sft)'),
  promptColumn: option(text.default('prompt'), FILES, 'Column of the prompts (grpo, sft)'),
  responseColumn: option(text.default('response'), FILES, 'Column of the responses; by default also completion (sft)'),
  messagesColumn: option(text.default('messages'), FILES, 'Column of the conversations (sft)'),
  thoughtColumn: option(text.default('thought'), FILES, 'Column of given thoughts (sft)'),
  prefixColumn: option(
    text.default('prefix'),
    FILES,
    'Column of the text before a given thought; by default also context (sft)',
  ),
  targetColumn: option(text.default('target'), FILES, 'Column of the text behind a given thought (sft)'),
  positionColumn: option(
    text.default('position'),
    FILES,
    "Column of the number of the text's characters before a given thought, in place of a prefix (sft)",
  ),
  answerColumn: option(text.default('answer'), FILES, 'Column of the reference answers: text or numbers (grpo)'),
  chatTemplate: option(
    text.optional(),
    OBJECTIVE,
    "model, or a file with a Jinja template: also for `prompt` and `response` that are texts, as a user's and an assistant's " +
      'message (sft, grpo)',
    { defaultText: "the model's for messages, none for texts" },
  ),
};

const optimizerOptions = {
  steps: option(count.optional(), OPTIMIZER, 'Steps in all, counting those before a resume', {
    defaultText: '200, 1000 for rpt',
  }),
  epochs: option(
    z.number().gt(0).optional(),
    OPTIMIZER,
    'Steps in all, in times through the data; --steps goes before it',
    { defaultText: '3 for sft, 1 for grpo, without --steps' },
  ),
  learningRate: option(z.number().min(0).optional(), OPTIMIZER, 'Peak learning rate', {
    defaultText: '1e-6, 2e-5 for sft',
  }),
  finalLearningRate: option(
    z.number().min(0).optional(),
    OPTIMIZER,
    'Learning rate that --schedule linear or cosine falls to: the step after the last would have it',
    { defaultText: '0, for cpt a tenth of the peak' },
  ),
  warmupSteps: option(z.int().min(0).default(0), OPTIMIZER, 'Steps over which the learning rate rises from 0'),
  schedule: option(
    z.enum(['constant', 'linear', 'cosine']).optional(),
    OPTIMIZER,
    'Course of the learning rate after the warm-up: kept, or lowered up to the last step',
    { defaultText: 'constant for rlp and rpt, cosine for cpt and grpo, linear for sft' },
  ),
  beta1: option(z.number().min(0).lt(1).default(0.9), OPTIMIZER, 'Decay of the first moment (AdamW)'),
  beta2: option(z.number().min(0).lt(1).optional(), OPTIMIZER, 'Decay of the second moment (AdamW)', {
    defaultText: '0.95, 0.999 for rpt, grpo and sft',
  }),
  epsilon: option(z.number().gt(0).default(1e-8), OPTIMIZER, 'Added to the root of the second moment (AdamW)'),
  weightDecay: option(z.number().min(0).optional(), OPTIMIZER, 'Decoupled weight decay (AdamW)', {
    defaultText: '0, 0.1 for cpt, 0.01 for rpt',
  }),
  weightDecayOn: option(
    z.enum(['matrices', 'matrices-and-embeddings', 'all']).default('matrices'),
    OPTIMIZER,
    'Weights that are decayed: all is as torch.optim.AdamW, matrices leaves out norms, biases and embeddings',
  ),
  maxGradNorm: option(z.number().min(0).default(1), OPTIMIZER, 'Gradients are scaled down to this norm; 0: never'),
  loraRank: option(
    count.optional(),
    OPTIMIZER,
    'Train adapters of this rank (LoRA) beside weights that stay as they are',
    {
      defaultText: 'train all weights',
    },
  ),
  loraAlpha: option(z.number().gt(0).default(8), OPTIMIZER, 'Adapters are scaled by this over their rank (LoRA)'),
  loraTargetModules: option(
    z.array(text).min(1).default(['q_proj', 'v_proj']),
    OPTIMIZER,
    'Linear layers that have adapters (LoRA), by name; all-linear: all of them',
  ),
};

const runOptions = {
  dataWeights: option(
    z
      .array(z.union([z.string(), z.number()]))
      .refine(
        (weights) => weights.length > 0 && weights.every((weight) => Number(weight) > 0 && Number(weight) < Infinity),
        {
          error: 'must be numbers above 0',
        },
      )
      .transform((weights) => weights.map(Number))
      .optional(),
    FILES,
    'How often documents are drawn from each --data, relative to the others; each starts over when it is used up',
    { defaultText: 'each document once an epoch' },
  ),
  shuffleBuffer: option(count.default(10_000), FILES, 'Documents that are in memory, to be drawn in random order'),
  run: option(text, FILES, 'Run folder to create: configuration, metrics, rollouts, checkpoints', { path: true }),
  evalData: option(z.array(text).min(1).optional(), FILES, 'Held-out text, same formats as --data', { path: true }),
  evalLimit: option(count.optional(), FILES, 'Use only this many rows of --eval-data, which is held in memory', {
    defaultText: '--limit',
  }),
  evalEvery: option(count.default(50), RUN, 'Steps between evaluations on --eval-data; also before and after'),
  checkpointEvery: option(z.int().min(0).default(50), RUN, 'Steps between checkpoints; 0: only after the last step'),
  keepCheckpoints: option(count.optional(), RUN, 'Checkpoints to keep: the newest ones; older ones are removed', {
    defaultText: 'all',
  }),
  checkpointDtype: option(
    z.enum(['source', 'float32', 'bfloat16', 'float16']).default('source'),
    RUN,
    "Type of a checkpoint's weights, source: as in --model; a resume goes on from float32 whatever this says",
  ),
  resume: option(flag, RUN, 'Continue the run in --run from its newest whole checkpoint', { callOnly: true }),
  config: option(text.optional(), FILES, 'YAML file of settings; flags go before it', { path: true, callOnly: true }),
  dryRun: option(flag, OUTPUT, 'Print the resolved settings and stop', { callOnly: true }),
};

/** Settings of `train` before the checks across settings; the source of its flags. */
export const trainOptionsSchema = z.object({
  ...modelAndData,
  ...runOptions,
  ...objectiveOptions,
  ...thoughtOptions,
  groupSize: option(z.int().min(2).optional(), THOUGHTS, 'Thoughts per position, or answers per prompt (G)', {
    ...{ hint: 'a thought is paid relative to the others at its position', defaultText: '16, 8 for rpt and grpo' },
  }),
  temperature: option(thoughtOptions.temperature.unwrap().optional(), THOUGHTS, 'Sampling temperature', {
    defaultText: '0.7, 0.8 for rpt, 1 for grpo',
  }),
  maxContextTokens: option(
    count.optional(),
    THOUGHTS,
    "Text before a thought, at most: documents are cut behind so many tokens, or fewer where the model's positions hold fewer (rlp, rpt)",
    { defaultText: '2048, 4096 for rpt' },
  ),
  entropyTopK: option(
    entropyTopK.optional(),
    THOUGHTS,
    'Where positions go by entropy: it is that of this many likeliest next tokens, among themselves; 0 for all (rlp, rpt)',
    { defaultText: '16 for rpt, 0 for rlp' },
  ),
  prompt: option(text.optional(), THOUGHTS, PROMPT_HELP, {
    defaultText: 'none; instruction for rpt with --prediction boxed',
  }),
  ...optimizerOptions,
  ...machineOptions,
  ...trainingMachineOptions,
  json,
});

/** What CPT's blocks are cut to where nobody says; the model's positions may cut them further. */
export const CPT_BLOCK_LENGTH = 8192;

const RLP_SAMPLING = {
  groupSize: 16,
  temperature: 0.7,
  advantageScale: 'none',
  entropyTopK: 0,
  resampleFrom: 0,
} as const;

/**
 * Defaults that differ between objectives: the paper's where it has one (CPT: beta2 0.95, weight decay 0.1, the rate from 1e-6
 * to 1e-7), those of RPT's (arXiv 2506.08007), TRL's SFTConfig for sft. No decay for RLP, where no next-token loss would push
 * back against it. GRPO: RLP's post-training (one epoch, cosine from 1e-6, 1,024 completions a step), the rest as TRL's
 * GRPOConfig.
 */
const OBJECTIVE_DEFAULTS: Record<
  'rlp' | 'rpt' | 'grpo' | 'cpt' | 'sft',
  {
    groupSize: number;
    temperature: number;
    entropyTopK: number;
    resampleFrom: number;
    advantageScale: z.output<typeof advantageScales>;
    documentsPerStep: number;
    learningRate: number;
    /** Of the peak, at the last step. */
    finalFraction: number;
    schedule: 'constant' | 'linear' | 'cosine';
    beta2: number;
    weightDecay: number;
    emaDecay?: number;
    blockLength: number;
    maxContextTokens?: number;
    /** Instead of DEFAULT_STEPS. */
    epochs?: number;
    steps?: number;
  }
> = {
  rlp: {
    ...RLP_SAMPLING,
    ...{ maxContextTokens: RLP_CONTEXT_TOKENS, blockLength: 2048 },
    ...{ documentsPerStep: 512, learningRate: 1e-6, finalFraction: 0, schedule: 'constant' },
    ...{ beta2: 0.95, weightDecay: 0, emaDecay: RLP_EMA_DECAY },
  },
  rpt: {
    ...{ maxContextTokens: 4096, blockLength: 2048 },
    ...{ groupSize: 8, temperature: 0.8, advantageScale: 'group', entropyTopK: 16, resampleFrom: 500 },
    ...{ documentsPerStep: 256, learningRate: 1e-6, finalFraction: 0, schedule: 'constant' },
    ...{ beta2: 0.999, weightDecay: 0.01, steps: 1000 },
  },
  grpo: {
    blockLength: 2048,
    ...{ groupSize: 8, temperature: 1, advantageScale: 'group', entropyTopK: 0, resampleFrom: 0 },
    ...{ documentsPerStep: 128, learningRate: 1e-6, finalFraction: 0, schedule: 'cosine' },
    ...{ beta2: 0.999, weightDecay: 0, epochs: 1 },
  },
  cpt: {
    blockLength: CPT_BLOCK_LENGTH,
    ...RLP_SAMPLING, // without a use
    ...{ documentsPerStep: 512, learningRate: 1e-6, finalFraction: 0.1, schedule: 'cosine' },
    ...{ beta2: 0.95, weightDecay: 0.1 },
  },
  sft: {
    blockLength: 2048,
    ...RLP_SAMPLING,
    ...{ documentsPerStep: 8, learningRate: 2e-5, finalFraction: 0, schedule: 'linear' },
    ...{ beta2: 0.999, weightDecay: 0, epochs: 3 },
  },
};
const DEFAULT_STEPS = 200;

const defaultBlock = ({ objective, packing, batchTokens }: z.output<typeof trainOptionsSchema>): number =>
  objective === 'cpt' && packing === 'wrapped'
    ? Math.min(CPT_BLOCK_LENGTH, batchTokens)
    : OBJECTIVE_DEFAULTS[objective].blockLength;

/** A base model hardly ever writes a box that it was not asked for, and RPT pays nothing else. */
const defaultPrompt = ({ objective, prediction }: z.output<typeof trainOptionsSchema>): string =>
  objective === 'rpt' && prediction === 'boxed' ? 'instruction' : 'none';

const defaultReference = ({ objective, baseline }: z.output<typeof trainOptionsSchema>): string =>
  objective === 'rlp' && baseline === 'ema' ? 'ema' : 'start';

type Objective = z.output<typeof objectiveOptions.objective>;
type TrainOption = keyof typeof trainOptionsSchema.shape;

const THINKING: readonly Objective[] = ['rlp', 'rpt', 'grpo'];
const ANSWERING: readonly Objective[] = ['rpt', 'grpo'];

/** The objectives that use a setting, for settings that not all of them use. */
const USED_BY: Partial<Record<TrainOption, readonly Objective[]>> = {
  ...usedBy(THINKING, ['groupSize', 'maxThoughtTokens', 'temperature', 'topK', 'topP', 'minP']),
  ...usedBy(THINKING, ['unclosed', 'unclosedPenalty', 'compareWithin', 'advantageScale', 'zeroVariance']),
  ...usedBy(THINKING, ['lengthNormalization', 'klCoefficient', 'klReference', 'importanceSampling', 'importanceCap']),
  ...usedBy(THINKING, ['clipLow', 'clipHigh', 'reward']),
  ...usedBy(['rlp', 'rpt'], ['positions', 'positionStrategy', 'positionStride', 'maxContextTokens', 'entropyTopK']),
  ...usedBy(['rlp'], ['horizon', 'horizonReduction', 'baselinePrompt', 'baseline', 'thoughtLoss']),
  ...usedBy(['rlp'], ['rewardSign', 'nextTokenCoefficient']),
  ...usedBy(ANSWERING, ['maxCompletionTokens', 'stop', 'evalSamples', 'resampleFrom']),
  ...usedBy(['rpt'], ['prediction', 'entropyThreshold', 'proxyModel']),
  ...usedBy(['grpo'], ['answerColumn', 'withoutThought', 'answerPattern', 'equality']),
  ...usedBy(['rlp', 'rpt', 'grpo', 'sft'], ['prompt', 'thinkOpen', 'thinkClose']),
  ...usedBy(['cpt'], ['packing', 'batchTokens']),
  ...usedBy(['rlp', 'cpt', 'sft'], ['emaDecay']),
  ...usedBy(['cpt', 'sft'], ['blockLength']),
  ...usedBy(['sft'], ['lossOn', 'lossOnTarget', 'responseColumn', 'messagesColumn', 'thoughtColumn', 'prefixColumn']),
  ...usedBy(['sft'], ['targetColumn', 'positionColumn']),
  ...usedBy(['sft', 'grpo'], ['promptColumn']),
  ...usedBy(['rlp', 'rpt', 'cpt', 'sft'], ['textColumn']),
  ...usedBy(['rlp', 'rpt', 'cpt'], ['txtDocuments']),
  ...usedBy(['rlp', 'rpt', 'cpt', 'grpo'], ['idColumn']),
  ...usedBy(['rlp', 'rpt'], ['positionsColumn']),
  ...usedBy(['sft', 'grpo'], ['chatTemplate']),
};

function usedBy(objectives: readonly Objective[], keys: readonly TrainOption[]) {
  return Object.fromEntries(keys.map((key) => [key, objectives]));
}

/** What an objective would ignore: its value says that it was asked for, wherever it came from. */
function* unusedSettings(options: z.output<typeof trainOptionsSchema>): Generator<[key: TrainOption, problem: string]> {
  const { objective } = options;
  const { finalFraction, ...own } = OBJECTIVE_DEFAULTS[objective];
  const finalLearningRate = (options.learningRate ?? own.learningRate) * finalFraction;
  const prompt = defaultPrompt(options);
  const defaults: Record<string, unknown> = { ...defaultsOf(trainOptionsSchema), ...own, finalLearningRate, prompt };
  const byObjective: Condition[] = (Object.entries(USED_BY) as [TrainOption, readonly Objective[]][]).map(
    ([key, users]) => ({
      ...{ by: 'objective', values: users, keys: [key] },
    }),
  );
  const conditions = [
    ...byObjective,
    ...SAMPLING_CONDITIONS,
    ...TRAINING_CONDITIONS,
    ...(OBJECTIVE_CONDITIONS[objective] ?? []),
  ];
  yield* unusedUnder(conditions, { options, defaults }) as Generator<[TrainOption, string]>;
}

/** What re-scoring needs to know of the run that made a rollout file, as its metadata have it. */
export const recordedRunSchema = z.object({
  ...modelAndData,
  ...thoughtOptions,
  maxContextTokens: count.optional(), // files of before this was a setting
  ...trainOptionsSchema.pick({
    ...{ dataWeights: true, shuffleBuffer: true, unclosed: true, unclosedPenalty: true },
    ...{ compareWithin: true, rewardSign: true },
    // Of completions.
    ...{ withoutThought: true, maxCompletionTokens: true, stop: true, prediction: true },
    ...{ promptColumn: true, answerColumn: true, chatTemplate: true, answerPattern: true },
    equality: true,
  }).shape,
  advantageScale: advantageScales.default('none'),
  documentsPerBatch: machineOptions.documentsPerBatch,
  objective: text.default('rlp'),
  dataHash: text.optional(),
  textHash: text.optional(),
  tokenizerHash: text.optional(),
  /** Of a file whose thoughts have been scored again: by what its rewards are. */
  rescored: z.object({ reward: text.optional() }).optional(),
});
export type RecordedRun = z.output<typeof recordedRunSchema>;

/** Settings of `train` with its checks across settings; `trainSchema.parse({ model, data, run })` fills in the defaults. */
export const trainSchema = trainOptionsSchema
  .superRefine((options, context) => {
    const refuse = (key: keyof typeof options, message: string) =>
      context.addIssue({ code: 'custom', path: [key], input: options[key], message });
    for (const [key, problem] of unusedSettings(options)) refuse(key, problem);
    const thinks = THINKING.includes(options.objective);
    if (options.objective === 'rpt' && options.positionStrategy === 'surprise') {
      refuse('positionStrategy', 'is not for rpt: it looks at the token that is to be predicted');
    }
    if (thinks && options.temperature === 0) {
      refuse('temperature', 'must be above 0 for training: without chance the thoughts of a group are all the same');
    }
    if (thinks && options.topK === 1) {
      refuse('topK', 'must not be 1 for training: without chance the thoughts of a group are all the same');
    }
    if (options.klReference === 'ema' && !(options.objective === 'rlp' && options.baseline === 'ema')) {
      refuse('klReference', 'needs --objective rlp with --baseline ema, which keeps a moving average');
    }
    if (options.baseline === 'none' && options.reward === undefined && /^(positive|clip)$/.test(options.rewardSign)) {
      refuse(
        'rewardSign',
        'leaves no gradient with --baseline none: log-probs, which are then the rewards, are never above 0',
      );
    }
    if (options.dataWeights !== undefined && options.dataWeights.length !== options.data.length) {
      refuse('dataWeights', `must be one for each --data (${options.data.length}); quote a pattern to keep it one`);
    }
    const defaults = OBJECTIVE_DEFAULTS[options.objective];
    const documents = options.documentsPerStep ?? defaults.documentsPerStep;
    if (thinks && options.minibatches > Math.max(1, documents)) {
      refuse('minibatches', `must be at most --documents-per-step (${documents})`);
    }
    if (options.dtype === 'bfloat16' && !options.device.startsWith('cuda')) refuse('dtype', NO_BFLOAT16);
    const resampleFrom = options.resampleFrom ?? defaults.resampleFrom;
    if (resampleFrom > 0 && (options.advantageScale === 'step' || options.compareWithin === 'step')) {
      const which = options.compareWithin === 'step' ? 'compareWithin' : 'advantageScale';
      refuse(which, 'compares all documents of a step, of which those without spread are replaced: --resample-from 0');
    }
    const epochs = options.epochs ?? defaults.epochs;
    const steps = options.steps ?? (epochs === undefined ? (defaults.steps ?? DEFAULT_STEPS) : Infinity);
    if (options.warmupSteps > steps) refuse('warmupSteps', `must be at most --steps (${steps})`);
    const peak = options.learningRate ?? defaults.learningRate;
    if (options.finalLearningRate !== undefined && options.finalLearningRate > peak) {
      refuse('finalLearningRate', `must be at most --learning-rate (${peak})`);
    }
    const longerThanStep = options.blockLength !== undefined && options.blockLength > options.batchTokens;
    if (options.objective === 'cpt' && options.packing === 'wrapped' && longerThanStep) {
      refuse('blockLength', `must be at most --batch-tokens (${options.batchTokens})`);
    }
  })
  .transform((options) => {
    const defaults = OBJECTIVE_DEFAULTS[options.objective];
    const learningRate = options.learningRate ?? defaults.learningRate;
    const epochs = options.steps === undefined ? (options.epochs ?? defaults.epochs) : undefined;
    return {
      ...options,
      groupSize: options.groupSize ?? defaults.groupSize,
      temperature: options.temperature ?? defaults.temperature,
      prompt: options.prompt ?? defaultPrompt(options),
      maxContextTokens: options.maxContextTokens ?? defaults.maxContextTokens,
      blockLength: options.blockLength ?? defaultBlock(options),
      entropyTopK: options.entropyTopK ?? defaults.entropyTopK,
      resampleFrom: options.resampleFrom ?? defaults.resampleFrom,
      advantageScale: options.advantageScale ?? defaults.advantageScale,
      learningRate,
      documentsPerStep: options.documentsPerStep ?? defaults.documentsPerStep,
      schedule: options.schedule ?? defaults.schedule,
      finalLearningRate: options.finalLearningRate ?? learningRate * defaults.finalFraction,
      beta2: options.beta2 ?? defaults.beta2,
      weightDecay: options.weightDecay ?? defaults.weightDecay,
      emaDecay: options.emaDecay ?? defaults.emaDecay,
      klReference: options.klCoefficient > 0 ? (options.klReference ?? defaultReference(options)) : undefined,
      epochs,
      /** Undefined: as many as `epochs` make. */
      steps: options.steps ?? (epochs === undefined ? (defaults.steps ?? DEFAULT_STEPS) : undefined),
      loraTargetModules: options.loraTargetModules.flatMap((names) => names.split(',')),
    };
  });
/** Settings of `train` after checks, as `train` takes them. */
export type TrainConfig = Omit<z.output<typeof trainSchema>, 'json' | 'dryRun' | 'config'>;

/** Names of src/eval/tasks.ts. */
const evalTasks = z.enum([
  'gsm8k',
  'math-500',
  'minerva',
  'amc',
  'aime',
  'mmlu',
  'mmlu-pro',
  'gpqa',
  'arc-easy',
  'arc-challenge',
  'custom',
]);
const CHOICE_TASKS: readonly z.output<typeof evalTasks>[] = ['mmlu', 'gpqa', 'arc-easy', 'arc-challenge'];

/** Settings of `eval` before the checks across settings; the source of its flags. */
export const evalOptionsSchema = z.object({
  model: modelAndData.model,
  task: option(evalTasks, FILES, 'Benchmark; custom: rows of `prompt` and `answer`'),
  data: option(
    z.array(text).min(1),
    FILES,
    "The benchmark's questions, as its authors publish them: .jsonl, .json, .csv, .parquet, .arrow",
    { path: true },
  ),
  out: option(text, FILES, 'Folder to create for results and samples', { path: true }),
  overwrite: option(flag, FILES, 'Replace OUT if an earlier evaluation wrote it'),
  resume: option(flag, RUN, 'Go on with an interrupted evaluation into OUT, with the same settings', {
    callOnly: true,
  }),
  onBadRows: modelAndData.onBadRows,
  limit: option(count.optional(), FILES, 'Use only this many questions', { defaultText: 'all' }),
  shots: option(
    z.int().min(0).default(0),
    OBJECTIVE,
    'Examples to show before each question: the first of --shots-data',
  ),
  shotsData: option(z.array(text).min(1).optional(), FILES, 'Questions to show as examples, with the same columns', {
    path: true,
  }),
  think: option(flag, THOUGHTS, 'Open a thought before each answer; otherwise the model thinks if and as it wants'),
  samples: option(count.default(1), THOUGHTS, 'Answers per question: their mean is pass@1'),
  maxThoughtTokens: thoughtOptions.maxThoughtTokens,
  maxCompletionTokens: option(count.optional(), THOUGHTS, 'An answer is cut off at this many tokens', {
    defaultText: '256; 1,024 for mathematics, 2,048 for mmlu-pro',
  }),
  temperature: option(
    thoughtOptions.temperature.unwrap().default(0),
    THOUGHTS,
    'Sampling temperature; 0 takes the likeliest token',
  ),
  ...{ topK: thoughtOptions.topK, topP: thoughtOptions.topP, minP: thoughtOptions.minP },
  ...{ thinkOpen: thoughtOptions.thinkOpen, thinkClose: thoughtOptions.thinkClose },
  chatTemplate: option(
    text.optional(),
    OBJECTIVE,
    "model, or a file with a Jinja template: questions are put as a user's message",
    { defaultText: 'none' },
  ),
  seed: thoughtOptions.seed,
  ...machineOptions,
  documentsPerBatch: option(count.default(16), MACHINE, 'Questions that go through the model at the same time'),
  json,
});

/** Settings of `eval` with its checks across settings. */
export const evalSchema = evalOptionsSchema.superRefine((options, context) => {
  const refuse = (key: keyof typeof options, message: string) =>
    context.addIssue({ code: 'custom', path: [key], input: options[key], message });
  const compares = CHOICE_TASKS.includes(options.task);
  if (options.shots > 0 && options.shotsData === undefined) {
    refuse('shots', 'needs --shots-data: the examples are not taken from the questions');
  }
  if (options.shotsData !== undefined && options.shots === 0)
    refuse('shotsData', 'is read for --shots only; how many?');
  if (options.samples > 1 && compares && !options.think) {
    refuse('samples', `must be 1: ${options.task} compares likelihoods, and without --think nothing is sampled`);
  } else if (options.samples > 1 && options.temperature === 0) {
    refuse('samples', 'needs --temperature above 0: the likeliest tokens are the same every time');
  }
  if (compares && options.maxCompletionTokens !== undefined) {
    refuse('maxCompletionTokens', `has no use with ${options.task}, which compares given answers`);
  }
  if (options.dtype === 'bfloat16' && !options.device.startsWith('cuda')) refuse('dtype', NO_BFLOAT16);
});
/** Settings of `eval` after checks, as `runEval` takes them. */
export type EvalConfig = Omit<z.output<typeof evalSchema>, 'json'>;

export const inspectSchema = z.object({
  path: option(text, FILES, 'Arrow file of rollouts, or run folder', { positional: true, path: true }),
  count: option(z.int().min(0).default(3), OUTPUT, 'Thoughts to show of each kind: best, worst, random'),
  seed: option(z.int().min(0).default(0), OUTPUT, 'Chooses the random thoughts'),
  json,
});
export type InspectConfig = z.output<typeof inspectSchema>;

export const doctorSchema = z.object({
  model: option(text.optional(), FILES, 'Folder of a model whose graphs to load', { path: true }),
  device: machineOptions.device,
  json,
});
export type DoctorConfig = z.output<typeof doctorSchema>;

/** The device a checked `device` setting names: `cpu`, `cuda` (device 0) or `cuda:N`; in tests also `mock`. */
export function parseDevice(device: string): { kind: 'cpu' } | { kind: 'mock' } | { kind: 'cuda'; id: number } {
  if (device === 'mock') return { kind: 'mock' };
  return device === 'cpu' ? { kind: 'cpu' } : { kind: 'cuda', id: Number(device.split(':')[1] ?? 0) };
}

import type { CheckpointScorer } from './checkpoint-scorer.ts';
import type { Tokenizer } from './data/index.ts';
import { UserError } from './errors.ts';
import type { TreeDocument } from './tree-batch.ts';

/** A context and what may follow it, as tokens. */
export interface ChoiceRow {
  context: readonly number[];
  choices: readonly (readonly number[])[];
}

/**
 * The choices behind a space, tokenized together with the prompt and cut off where the prompt ends; white space at the prompt's end
 * belongs to them. So lm-evaluation-harness does it.
 */
export function behindPrompt(tokenizer: Tokenizer, prompt: string, choices: readonly string[]): ChoiceRow {
  const context = Array.from(tokenizer.encode(prompt.trimEnd()));
  const whole = choices.map((choice) => Array.from(tokenizer.encode(`${prompt} ${choice}`)));
  return { context, choices: whole.map((tokens) => tokens.slice(context.length)) };
}

/**
 * log p(choice | context) in nats, [rows][choices]: the context once, each choice a branch behind it.
 * @throws UserError for a row that is longer than the model's positions
 */
export async function choiceLogProbs(
  rows: readonly ChoiceRow[],
  scorer: Pick<CheckpointScorer, 'rowLogProbs'>,
  maxPositions: number,
): Promise<number[][]> {
  const documents = rows.map(({ context, choices }): TreeDocument => {
    const last = context.length - 1;
    const longest = Math.max(...choices.map(({ length }) => length));
    if (context.length + longest > maxPositions) {
      throw new UserError(
        `a question with its choices has ${context.length + longest} tokens, the model has ${maxPositions} positions`,
      );
    }
    return {
      trunk: context,
      losses: choices.map(([first]) => ({ token: last, target: first })),
      branches: choices.map((tokens) => ({
        trunkLength: context.length,
        tokens: tokens.slice(0, -1),
        losses: tokens.slice(1).map((target, token) => ({ token, target })),
      })),
    };
  });
  const logProbs = await scorer.rowLogProbs(documents);
  let at = 0;
  return rows.map(({ choices }) => {
    const sums = choices.map(() => logProbs[at++]);
    choices.forEach((tokens, c) => {
      for (let t = 1; t < tokens.length; t++) sums[c] += logProbs[at++];
    });
    return sums;
  });
}

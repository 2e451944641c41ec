import { familyOf } from './data.ts';
import { type EvaluationOptions, readDocuments, scoreText, think } from './evaluate.ts';
import type { Family } from './families.ts';

/** What thinking is worth before the characters of one kind. */
export interface KindGain {
  kind: string;
  /** Characters of this kind that were thought about. */
  count: number;
  /** -log p(character), given that no thought is opened, nats. */
  surprise: number;
  /** log p(character | thought) - log p(character), given that no thought is opened, nats. */
  gain: number;
}

/** Thinks before every character but the first of some documents, and tells apart what the characters say. */
export async function gainByKind(
  model: string,
  options: EvaluationOptions,
  families: readonly Family[],
): Promise<KindGain[]> {
  const rows = await think(model, options, 'every');
  const scores = await scoreText(model, await readDocuments(model, options.data), options.threads);
  const byId = new Map(
    scores.map((score) => {
      const family = families.find(({ name }) => name === familyOf(score.document.id));
      return [score.document.id, { ...score, kinds: family?.kinds?.(score.document.text) ?? [] }];
    }),
  );
  const sums = new Map<string, { thoughts: number; positions: Set<string>; surprise: number; gain: number }>();
  for (const { documentId, position, reasonedLogProbs } of rows) {
    const document = byId.get(documentId);
    if (document === undefined) throw new Error(`a thought about ${documentId}, which is not in ${options.data}`);
    const kind = document.kinds[position]; // a token is a byte
    const surprise = Math.log1p(-document.opening[position - 1]) - document.logProbs[position - 1];
    const own = sums.get(kind) ?? { thoughts: 0, positions: new Set(), surprise: 0, gain: 0 };
    own.thoughts++;
    own.positions.add(`${documentId} ${position}`);
    own.surprise += surprise;
    own.gain += reasonedLogProbs[0] + surprise;
    sums.set(kind, own);
  }
  return [...sums].map(([kind, { thoughts, positions, surprise, gain }]) => ({
    ...{ kind, count: positions.size, surprise: surprise / thoughts, gain: gain / thoughts },
  }));
}

import { parseArgs } from 'node:util';
import { CheckpointScorer } from '../src/checkpoint-scorer.ts';
import { loadTokenizer } from '../src/data/index.ts';
import { openModel } from '../src/model-directory.ts';
import { cptDocument } from '../src/optim/index.ts';

/**
 * Log-probs (nats) of the tokens of a text but the first under a checkpoint, by the evaluation graph, as JSON: what
 * test/golden/check_transformers.py --ours compares with transformers.
 *
 *     npx tsx scripts/log-probs.ts DIR (--text TEXT | --ids 5,17,3,40)
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { text: { type: 'string' }, ids: { type: 'string' } },
});
const [directory] = positionals;
if (directory === undefined || (values.text === undefined) === (values.ids === undefined)) {
  throw new Error('usage: log-probs.ts DIR (--text TEXT | --ids 5,17,3,40)');
}
const ids =
  values.text === undefined
    ? String(values.ids).split(',').map(Number)
    : [...(await loadTokenizer(directory)).encode(values.text)];
using scorer = await CheckpointScorer.create(await openModel(directory), {});
const logProbs = await scorer.rowLogProbs([cptDocument(ids, ids.length - 1)]);
console.log(JSON.stringify({ ids, log_probs: [...logProbs] }));

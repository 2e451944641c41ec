import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cptDocument } from '../../src/optim/index.ts';
import { Value } from '../../src/runtime/index.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { TreeModel } from '../../src/tree-model.ts';
import { randomWeights } from '../../test/fixtures/tiny-model.ts';
import { trainingArtifacts } from '../../test/fixtures/training.ts';
import { printProfile } from './profile.ts';
import { MODEL_29M } from './shapes.ts';

/** Where the time of forward and backward goes, by kernel: `npx tsx scripts/bench/profile-train.ts [documents] [tokens]`. */
const [documents, length] = [Number(process.argv[2] ?? 1), Number(process.argv[3] ?? 1024)];
const [WARM_UP, RUNS] = [2, 6];

const text = (seed: number) => Array.from({ length }, (_, i) => (i * 131 + seed * 17) % MODEL_29M.vocabSize);
const targets = documents * (length - 1);
const batch = buildTreeBatch(Array.from({ length: documents }, (_, i) => cptDocument(text(i), targets)));

const folder = mkdtempSync(join(tmpdir(), 'rlp-ort-profile-'));
const model = await TreeModel.create(trainingArtifacts(MODEL_29M, { forCpu: true }).trainingModel, {
  profilePrefix: join(folder, 'train'),
});
const inputs = new Map<string, Value>();
const inPlace = new Map<string, Value>();
for (const [name, { shape, data }] of randomWeights(MODEL_29M)) {
  const gradient = Value.zeros(shape);
  inputs.set(name, Value.from('float32', shape, data)).set(`${name}.grad`, gradient);
  inPlace.set(`${name}.grad.out`, gradient);
}
for (let i = 0; i < WARM_UP + RUNS; i++) await model.run(batch, inputs, undefined, inPlace);
model.dispose();
printProfile(join(folder, 'train'), WARM_UP);
rmSync(folder, { recursive: true });

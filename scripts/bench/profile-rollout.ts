import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openModel } from '../../src/model-directory.ts';
import { RolloutEngine } from '../../src/rollout/index.ts';
import { printProfile } from './profile.ts';
import { writeRandomCheckpoint } from './random-checkpoint.ts';
import { MODEL_29M } from './shapes.ts';

/**
 * Where the time of a decoding step goes, by kernel: `npx tsx scripts/bench/profile-rollout.ts [documents] [group] [prefix]`.
 */
const [documents, group, prefix] = [
  Number(process.argv[2] ?? 4),
  Number(process.argv[3] ?? 8),
  Number(process.argv[4] ?? 128),
];
const NEW_TOKENS = 32;

const folder = await mkdtemp(join(tmpdir(), 'rlp-ort-profile-'));
try {
  await writeRandomCheckpoint(folder, MODEL_29M);
  const { rolloutGraphs } = await openModel(folder, { truncation: false, forCpu: true });
  const engine = await RolloutEngine.create(rolloutGraphs, {
    externalDataFolder: folder,
    profilePrefix: join(folder, 'profile'),
  });
  const batch = Array.from({ length: documents }, (_, d) => ({
    id: String(d),
    tokens: Array.from({ length: prefix + 1 }, (_, t) => (d * 131 + t * 17) % MODEL_29M.vocabSize),
    positions: [prefix],
  }));
  const options = { open: 1, close: 2, endOfText: [], maxThoughtTokens: NEW_TOKENS, groupSize: group, horizon: 1 };
  const rest = { rowsPerDocument: group, temperature: 1, seed: 0, step: 0, documentsPerBatch: documents };
  for await (const _ of engine.generate(batch, { ...options, ...rest }));
  engine.dispose();
  printProfile(join(folder, 'profile'), 4);
} finally {
  await rm(folder, { recursive: true, force: true });
}

import { readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCli } from '../cli/run-cli.ts';
import { argumentsOf, COMMANDS, refused, SHARDED, type Workplace, workplace } from './refused.ts';

let folder: Workplace;
beforeEach(async () => {
  folder = await workplace();
});
afterEach(() => folder[Symbol.dispose]());

interface Header {
  [name: string]: { dtype: string; shape: number[]; data_offsets: [number, number] };
}

/** Rewrites model.safetensors with another header, and other data if asked for. */
function editHeader(edit: (header: Header) => void, data: (data: Buffer) => Buffer = (bytes) => bytes): void {
  const file = folder.in('model', 'model.safetensors');
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header: Header = JSON.parse(bytes.subarray(8, 8 + length).toString());
  delete header.__metadata__;
  edit(header);
  const text = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(file, Buffer.concat([prefix, text, data(bytes.subarray(8 + length))]));
}

function editConfig(change: Record<string, unknown>): void {
  const file = folder.in('model', 'config.json');
  const config: Record<string, unknown> = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...config, ...change }));
}

const NORM = 'model.norm.weight';
const FIT = 'The weights and config.json have to be of the same model.';

const DAMAGES: [what: string, damage: () => void | Promise<void>, message: string | RegExp][] = [
  [
    'no folder',
    () => rmSync(folder.in('model'), { recursive: true }),
    /checkpoint .*model: no such folder; expected a local Hugging Face checkpoint folder/,
  ],
  [
    'a file instead of a folder',
    () => {
      rmSync(folder.in('model'), { recursive: true });
      writeFileSync(folder.in('model'), '');
    },
    /checkpoint .*model: not a folder/,
  ],
  ['no config.json', () => rmSync(folder.in('model', 'config.json')), /model: has no config\.json; expected a Hugging/],
  [
    'no weights',
    () => rmSync(folder.in('model', 'model.safetensors')),
    /model: has no weights; expected model\.safetensors or model\.safetensors\.index\.json with its shards/,
  ],
  [
    'weights of PyTorch alone',
    () => renameSync(folder.in('model', 'model.safetensors'), folder.in('model', 'pytorch_model.bin')),
    /holds pytorch_model\.bin, but no model\.safetensors; convert it in Python/,
  ],
  [
    'another architecture',
    () => editConfig({ model_type: 'llama', architectures: ['LlamaForCausalLM'] }),
    /config\.json: model_type "llama" is not supported; supported: qwen3 \(Qwen3ForCausalLM\)/,
  ],
  [
    'broken config.json',
    () => writeFileSync(folder.in('model', 'config.json'), '{"model_type": '),
    /config\.json: not valid JSON: /,
  ],
  [
    'truncated safetensors',
    () => truncateSync(folder.in('model', 'model.safetensors'), 80_000),
    /tensor .*: ends at byte \d+, but the file has 80000 bytes; it is truncated, download or copy it again/,
  ],
  [
    'safetensors truncated in the header',
    () => truncateSync(folder.in('model', 'model.safetensors'), 100),
    /truncated: the header needs \d+ bytes, but the file has 100; download or copy it again/,
  ],
  [
    'empty safetensors',
    () => truncateSync(folder.in('model', 'model.safetensors'), 0),
    /it has 0 bytes, expected at least/,
  ],
  [
    'overlapping tensors',
    () =>
      editHeader((header) => {
        const [first, second] = Object.keys(header)
          .filter((name) => name.includes('layernorm'))
          .sort((a, b) => header[a].data_offsets[0] - header[b].data_offsets[0]);
        header[second].data_offsets = header[first].data_offsets;
      }),
    /tensor .*: (overlaps|leaves a gap behind) .*: it starts at byte \d+, expected \d+; the file is damaged/,
  ],
  [
    'a missing tensor',
    () => {
      let bytes = 0;
      editHeader(
        (header) => {
          const [last] = Object.keys(header).sort((a, b) => header[b].data_offsets[1] - header[a].data_offsets[1]);
          bytes = header[last].data_offsets[1] - header[last].data_offsets[0];
          delete header[last];
        },
        (data) => data.subarray(0, data.length - bytes),
      );
    },
    /model: 1 problem\n {2}tensor .*: expected \[.*\], but it is missing\nThe weights and config\.json/,
  ],
  [
    'an extra tensor',
    () =>
      editHeader(
        (header) => {
          const end = Math.max(...Object.values(header).map((entry) => entry.data_offsets[1]));
          header['model.extra.weight'] = { dtype: 'F32', shape: [1], data_offsets: [end, end + 4] };
        },
        (data) => Buffer.concat([data, Buffer.alloc(4)]),
      ),
    'tensor model.extra.weight: found [1], but the model of config.json has no such tensor',
  ],
  [
    'a tensor of another shape',
    () => editHeader((header) => Object.assign(header[NORM], { shape: [4, 10] })),
    `tensor ${NORM}: expected shape [40], found [4, 10]\n${FIT}`,
  ],
  [
    'a config of another size',
    () => editConfig({ intermediate_size: 64 }),
    'tensor model.layers.0.mlp.gate_proj.weight: expected shape [64, 40], found [56, 40]',
  ],
  [
    'a NaN',
    async () => {
      folder[Symbol.dispose]();
      folder = await workplace((weights) =>
        weights.get('model.layers.0.mlp.up_proj.weight')?.data.fill(Number.NaN, 7, 9),
      );
    },
    /tensor model\.layers\.0\.mlp\.up_proj\.weight: NaN or infinity at flat index 7 \(.*model\.safetensors\)/,
  ],
  [
    'an infinity',
    async () => {
      folder[Symbol.dispose]();
      folder = await workplace((weights) => weights.get(NORM)?.data.fill(-Infinity, 39));
    },
    /tensor model\.norm\.weight: NaN or infinity at flat index 39 .*\nSuch a model computes nothing: use an earlier/s,
  ],
];

describe.each(COMMANDS)('%s refuses a model with', (command) => {
  it.each(DAMAGES)('%s', async (_what, damage, message) => {
    await damage();
    expect(await refused(folder, argumentsOf(command, folder))).toMatch(message);
  });
});

describe.each(['export', 'rollout'])('%s refuses shards', (command) => {
  beforeEach(async () => {
    rmSync(folder.in('model'), { recursive: true });
    await cp(SHARDED, folder.in('model'), { recursive: true });
  });

  it('of which one is missing', async () => {
    rmSync(folder.in('model', 'model-00002-of-00003.safetensors'));
    expect(await refused(folder, argumentsOf(command, folder))).toMatch(
      /1 problem\n {2}missing file model-00002-of-00003\.safetensors\nThe shards are incomplete: download/,
    );
  });

  it('without their index', async () => {
    rmSync(folder.in('model', 'model.safetensors.index.json'));
    expect(await refused(folder, argumentsOf(command, folder))).toMatch(
      /holds model-0000\d-of-00003\.safetensors, but not model\.safetensors\.index\.json; download it too/,
    );
  });
});

describe.each(['rollout', 'train rlp', 'train cpt'])('%s refuses a tokenizer', (command) => {
  const editTokenizer = (edit: (tokenizer: { added_tokens: { id: number; content: string }[] }) => void) => {
    const file = folder.in('model', 'tokenizer.json');
    const tokenizer = JSON.parse(readFileSync(file, 'utf8'));
    edit(tokenizer);
    writeFileSync(file, JSON.stringify(tokenizer));
  };

  it('that is larger than the embedding', async () => {
    editTokenizer(({ added_tokens }) =>
      added_tokens.push({ ...added_tokens[0], id: 264, content: '<|one-too-many|>' }),
    );
    expect(await refused(folder, argumentsOf(command, folder))).toMatch(
      /tokenizer\.json: the tokenizer has ids up to 264 \("<\|one-too-many\|>"\), but the model's embedding has only 264 rows/,
    );
  });

  it('that is not there', async () => {
    rmSync(folder.in('model', 'tokenizer.json'));
    expect(await refused(folder, argumentsOf(command, folder))).toMatch(
      /tokenizer\.json: no such file\. Expected the tokenizer of the model there/,
    );
  });

  it('that is none', async () => {
    writeFileSync(folder.in('model', 'tokenizer.json'), '{"version": "1.0"}');
    expect(await refused(folder, argumentsOf(command, folder))).toMatch(
      /tokenizer\.json: not a tokenizer that can be used here/,
    );
  });
});

it.each(['rollout', 'train rlp'])(
  '%s refuses delimiters of thoughts that the vocabulary cannot spell',
  async (command) => {
    const file = folder.in('model', 'tokenizer.json');
    const tokenizer = JSON.parse(readFileSync(file, 'utf8'));
    delete tokenizer.model.vocab['('];
    writeFileSync(file, JSON.stringify(tokenizer));
    const args = argumentsOf(command, folder, { 'think-open': '(think)' });
    expect(await refused(folder, args)).toMatch(
      /--think-open "\(think\)": the vocabulary of .*tokenizer\.json cannot spell it\. .* such as <think> <\/think>/,
    );
  },
);

it('rollout of finite weights that overflow fails and names the row', async () => {
  folder[Symbol.dispose]();
  folder = await workplace((weights) => weights.get(NORM)?.data.fill(3e38));
  const { code, out, err } = await runCli(argumentsOf('rollout', folder));
  expect({ code, out }).toEqual({ code: 1, out: '' });
  expect(err).toMatch(
    /\nrlp-ort: the model's logits are not finite at token 0 of document \S*text\.txt:1, position \d+, rollout 0: the weights are damaged or training has diverged; go back to an earlier checkpoint\n$/,
  );
});

import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCli } from '../cli/run-cli.ts';
import { argumentsOf, COMMANDS, refused, TEXT, type Workplace, workplace } from './refused.ts';

let folder: Workplace;
beforeEach(async () => {
  folder = await workplace();
});
afterEach(() => folder[Symbol.dispose]());

const OUT = { export: 'out', rollout: 'out.arrow', 'train rlp': 'run', 'train cpt': 'run' };
const outOf = (command: string) => folder.in('new', OUT[command as keyof typeof OUT]);

function make(path: string, file: string): void {
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, file), 'years of work');
}

/** Model and data that cannot be used: whoever looks at them before the output path says something else. */
function breakInput(): void {
  rmSync(folder.in('model'), { recursive: true });
  rmSync(folder.in('text.txt'));
}

describe.each(COMMANDS)('%s refuses, before it looks at the model, an output path', (command) => {
  it('that holds something else', async () => {
    make(outOf(command), 'thesis.txt');
    breakInput();
    const message = await refused(folder, argumentsOf(command, folder));
    const expected =
      command === 'rollout'
        ? `${outOf(command)}: exists already; choose another path, or resume to append to it`
        : `output ${outOf(command)}: holds files that rlp-ort did not write (no rlp-ort.json); choose a path that is free`;
    expect(message).toBe(expected);
  });

  it('that is a file', async () => {
    mkdirSync(dirname(outOf(command)));
    writeFileSync(outOf(command), '');
    breakInput();
    expect(await refused(folder, argumentsOf(command, folder))).toMatch(/exists/);
  });

  it('below a file', async () => {
    writeFileSync(folder.in('new'), '');
    breakInput();
    expect(await refused(folder, argumentsOf(command, folder))).toMatch(
      /cannot look at .*new.*: a part of the path is a file, not a folder \(ENOTDIR\)/,
    );
  });

  // Root may write anywhere.
  it.skipIf(process.getuid?.() === 0 || process.platform === 'win32')('in a folder that is read-only', async () => {
    mkdirSync(folder.in('new'), { mode: 0o500 });
    breakInput();
    expect(await refused(folder, argumentsOf(command, folder))).toBe(
      `cannot write into ${folder.in('new')}: permission denied (EACCES)`,
    );
  });
});

describe('export', () => {
  it('replaces an export with --overwrite and nothing else, not a run that was trained for days', async () => {
    const out = folder.in('new', 'out');
    expect((await runCli(argumentsOf('export', folder))).code).toBe(0);
    expect(await refused(folder, argumentsOf('export', folder))).toBe(
      `output ${out}: exists already; pass --overwrite to replace it, or choose a path that is free`,
    );
    expect((await runCli([...argumentsOf('export', folder), '--overwrite'])).code).toBe(0);
    writeFileSync(join(out, 'rlp-ort.json'), '{"tool": "rlp-ort", "kind": "run"}');
    expect(await refused(folder, [...argumentsOf('export', folder), '--overwrite'])).toBe(
      `output ${out}: holds another kind of output (run); choose a path that is free`,
    );
  });

  it('does not replace what it reads', async () => {
    expect((await runCli(argumentsOf('export', folder))).code).toBe(0);
    const out = folder.in('new', 'out');
    expect(await refused(folder, ['export', out, '--out', `${out}/.`, '--overwrite'])).toBe(
      `output ${out}/.: is the checkpoint itself, which is never changed; choose another folder`,
    );
    await cp(folder.in('model'), join(out, 'inner'), { recursive: true });
    symlinkSync(out, folder.in('link'));
    expect(await refused(folder, ['export', folder.in('link', 'inner'), '--out', out, '--overwrite'])).toBe(
      `output ${out}: the checkpoint ${folder.in('link', 'inner')} lies in it and would be lost; choose another folder`,
    );
  });
});

describe('rollout', () => {
  it('continues with --resume what is its own', async () => {
    const args = argumentsOf('rollout', folder);
    const out = folder.in('new', 'out.arrow');
    expect((await runCli(args)).code).toBe(0);
    expect(await refused(folder, args)).toBe(`${out}: exists already; choose another path, or resume to append to it`);
    expect(await refused(folder, [...args, '--resume', '--seed', '9'])).toBe(
      `${out}: cannot continue a file of another run: config.seed is 0 in the file and 9 now; resume with the same settings`,
    );
    writeFileSync(folder.in('text.txt'), 'Another text of the same name.');
    expect(await refused(folder, [...args, '--resume'])).toMatch(
      /cannot continue a file of another run: config\.dataHash is "\w{64}" in the file and "\w{64}" now/,
    );
    writeFileSync(folder.in('text.txt'), TEXT);
    const before = readFileSync(out);
    const { code, out: text } = await runCli([...args, '--resume']);
    expect({ code, text }).toMatchObject({ code: 0, text: expect.stringMatching(/^rows +0$/m) });
    expect(text).not.toContain('NaN');
    expect(readFileSync(out).equals(before)).toBe(true);
  });

  it('refuses a name of a folder', async () => {
    const out = `${folder.in('new')}/`;
    expect(await refused(folder, argumentsOf('rollout', folder, { out }))).toBe(
      `${out}: is the name of a folder; add a file name, such as thoughts.arrow`,
    );
  });

  it('does not take a folder or a foreign file for its own', async () => {
    const out = folder.in('new', 'out.arrow');
    make(out, 'thesis.txt');
    expect(await refused(folder, [...argumentsOf('rollout', folder), '--resume'])).toMatch(
      /out\.arrow: it is a folder/,
    );
    rmSync(out, { recursive: true });
    writeFileSync(out, 'years of work, in no Arrow file');
    expect(await refused(folder, [...argumentsOf('rollout', folder), '--resume'])).toMatch(
      /out\.arrow: not an Arrow IPC file/,
    );
  });
});

describe('train', () => {
  it('refuses a folder that holds a run, or an export', async () => {
    expect((await runCli(argumentsOf('train cpt', folder, { steps: '1' }))).code).toBe(0);
    const run = folder.in('new', 'run');
    breakInput();
    expect(await refused(folder, argumentsOf('train cpt', folder))).toBe(
      `run ${run}: holds a run already; pass --resume to continue it, or choose another --run`,
    );
    expect(
      await refused(folder, argumentsOf('train cpt', folder, { run: join(run, 'checkpoints', 'step-000001') })),
    ).toBe(
      `output ${join(run, 'checkpoints', 'step-000001')}: holds another kind of output (training-checkpoint); choose a path that is free`,
    );
  });

  it('refuses to resume what is no run', async () => {
    expect(await refused(folder, ['train', '--run', folder.in('nowhere'), '--resume'])).toBe(
      `run ${folder.in('nowhere')}: not a run folder (no config.yaml); leave out --resume to start a run there`,
    );
  });
});

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Io } from '../../src/cli/io.ts';
import { main } from '../../src/cli/main.ts';

export interface CliResult {
  code: number;
  out: string;
  err: string;
}

/** Io that keeps what is written. */
export function recordingIo(overrides: Partial<Io> = {}): Io & { written: () => { out: string; err: string } } {
  let out = '';
  let err = '';
  return {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    outIsTerminal: false,
    errIsTerminal: false,
    verbose: false,
    signal: new AbortController().signal,
    written: () => ({ out, err }),
    ...overrides,
  };
}

/** Runs the program inside this process. */
export async function runCli(args: readonly string[], overrides: Partial<Io> = {}): Promise<CliResult> {
  const io = recordingIo(overrides);
  const code = await main(args, io);
  return { code, ...io.written() };
}

export async function withTemporaryFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'rlp-ort-test-'));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

import { type FileHandle, open, readFile, rm } from 'node:fs/promises';
import { difference } from './difference.ts';
import { UserError } from './errors.ts';
import type { Answered } from './eval/index.ts';
import { errnoOf, fileError } from './file-error.ts';
import { Lock } from './lock.ts';

/** Where the answers of an evaluation are kept until it is done. */
export const answersPath = (out: string): string => `${out.replace(/[/\\]+$/, '')}.partial.jsonl`;

/** @throws UserError if an evaluation was begun there and is not to be resumed */
export async function checkAnswers(path: string, resume: boolean): Promise<void> {
  if (resume || (await read(path)) === undefined) return;
  throw new UserError(`${path}: an unfinished evaluation is there; --resume to go on with it, or remove the file`);
}

async function read(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw fileError('cannot read', path, thrown);
  }
}

/**
 * What the model said, kept question by question: a file whose first line says of which evaluation, then a JSON line a
 * question, in their order. Each `append` is on disk before it returns.
 */
export class KeptAnswers implements AsyncDisposable {
  readonly path: string;
  /** To the first questions, in their order. */
  readonly answers: Answered[];
  readonly #file: FileHandle;
  readonly #lock: Lock;

  private constructor(path: string, lock: Lock, file: FileHandle, answers: Answered[]) {
    this.path = path;
    this.#lock = lock;
    this.#file = file;
    this.answers = answers;
  }

  /**
   * Begins the file, or goes on with what is there.
   * @param evaluation JSON: what must be the same to go on
   * @throws UserError if something is there and not to be resumed, or of another evaluation, or no such file
   */
  static async open(path: string, evaluation: object, { resume }: { resume: boolean }): Promise<KeptAnswers> {
    const lock = await Lock.acquire(`${path}.lock`, path);
    try {
      await checkAnswers(path, resume);
      const header = `${JSON.stringify({ evaluation })}\n`;
      const { answers, bytes } = parse(path, await read(path), header);
      try {
        const file = await open(path, 'a');
        await file.truncate(bytes);
        if (bytes === 0) await file.appendFile(header);
        return new KeptAnswers(path, lock, file, answers);
      } catch (thrown) {
        throw fileError('cannot write', path, thrown);
      }
    } catch (thrown) {
      await lock.release();
      throw thrown;
    }
  }

  async append(answers: readonly Answered[]): Promise<void> {
    try {
      await this.#file.appendFile(answers.map((own) => `${JSON.stringify(own)}\n`).join(''));
      await this.#file.datasync();
    } catch (thrown) {
      throw fileError('cannot write', this.path, thrown);
    }
    this.answers.push(...answers);
  }

  /** Once the evaluation is written. */
  async remove(): Promise<void> {
    await rm(this.path, { force: true });
  }

  /** Without an answer nothing is worth keeping. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
    if (this.answers.length === 0) await this.remove();
    await this.#lock.release();
  }
}

/** The answers of whole lines, and their bytes: a kill may cut the last line. Nothing and 0 bytes to begin anew. */
function parse(path: string, content: Buffer | undefined, header: string): { answers: Answered[]; bytes: number } {
  const whole = content?.subarray(0, content.lastIndexOf('\n') + 1);
  if (whole === undefined || whole.length === 0) return { answers: [], bytes: 0 };
  const [first, ...lines] = whole.toString('utf8').slice(0, -1).split('\n');
  const { evaluation } = parseLine(path, first, 1) as { evaluation?: unknown };
  if (typeof evaluation !== 'object') throw noAnswers(path, 1);
  const found = difference(JSON.parse(header).evaluation, evaluation);
  if (found !== undefined) {
    throw new UserError(`${path}: cannot go on with another evaluation: ${found}; resume with the same settings`);
  }
  const answers = lines.map((line, i) => {
    const own = parseLine(path, line, i + 2);
    if ('responses' in own) return own as Answered;
    throw noAnswers(path, i + 2);
  });
  return { answers, bytes: whole.length };
}

function parseLine(path: string, line: string, number: number): object {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Said below.
  }
  throw noAnswers(path, number);
}

const noAnswers = (path: string, line: number): UserError =>
  new UserError(`${path}:${line}: not a file of answers that an evaluation left; remove it and start over`);

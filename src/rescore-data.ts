import type { RecordedRun } from './config.ts';
import { STDIN, type TextData, type TokenizedDocument } from './data/index.ts';
import { internal, UserError } from './errors.ts';
import type { OpenModel } from './model-directory.ts';
import type { RolloutRecord } from './records.ts';
import type { RolloutDocument } from './rollout/index.ts';
import { ThoughtData } from './thought-data.ts';

/** A rollout file, and how it was made. */
export interface RecordedFile {
  path: string;
  run: RecordedRun;
}

/** The documents that the thoughts of a rollout file were written about, read again. */
export class RescoreData {
  readonly thoughts: ThoughtData;
  readonly #file: RecordedFile;
  readonly #source: TextData;
  #wanted = new Set<string>();
  #documents: AsyncGenerator<TokenizedDocument>;

  private constructor(file: RecordedFile, thoughts: ThoughtData, source: TextData) {
    this.#file = file;
    this.thoughts = thoughts;
    this.#source = source;
    this.#documents = this.#read();
  }

  /**
   * @param model whose tokenizer reads the data
   * @param moved the data, where it is not where it was
   * @throws UserError unless data and tokenizer are those that the file was made with
   */
  static async open(file: RecordedFile, model: OpenModel, moved?: readonly string[]): Promise<RescoreData> {
    const { path, run } = file;
    if (run.dataHash === undefined || run.tokenizerHash === undefined) {
      throw new UserError(
        `${path}: does not say what data and tokenizer it was made with; only --reward can score it again`,
      );
    }
    const files = moved ?? run.data;
    if (moved === undefined && files.includes(STDIN)) {
      throw new UserError(
        `${path}: its data came from standard input, which cannot be read again; name it as a file with --data`,
      );
    }
    const thoughts = await ThoughtData.open(model, run).catch((thrown: unknown) => {
      if (!(thrown instanceof UserError)) throw thrown;
      throw new UserError(`${path}: was made with settings that do not fit ${model.directory}: ${thrown.message}`);
    });
    const source = await thoughts.documents(files);
    if (source.tokenizerHash !== run.tokenizerHash) {
      throw new UserError(
        `${thoughts.tokenizer.path}: is not the tokenizer that ${path} was made with, whose tokens would mean something else`,
      );
    }
    if (source.hash !== run.dataHash) {
      const why =
        moved === undefined ? 'it has changed since' : 'it is other text, or in other files without ids of its own';
      throw new UserError(`data ${files.join(', ')}: is not what ${path} was made from: ${why}; give that with --data`);
    }
    return new RescoreData(file, thoughts, source);
  }

  /**
   * The documents of some thoughts, each with the prompt before it and the positions of its thoughts. The data is gone through
   * once as long as they are asked for in its order; memory holds those that are asked for.
   */
  async documentsOf(rows: readonly RolloutRecord[]): Promise<Map<string, RolloutDocument>> {
    const positions = new Map<string, Set<number>>();
    for (const { documentId, position } of rows) {
      positions.set(documentId, (positions.get(documentId) ?? new Set()).add(position));
    }
    this.#wanted = new Set(positions.keys());
    const found = new Map<string, RolloutDocument>();
    for (let ends = 0; this.#wanted.size > 0; ) {
      const { done, value } = await this.#documents.next();
      if (done) {
        if (ends++ === 1) throw this.#missing();
        this.#documents = this.#read();
        continue;
      }
      if (!this.#wanted.delete(value.id)) continue;
      found.set(value.id, this.thoughts.placedAt(value, [...(positions.get(value.id) ?? [])]));
    }
    for (const row of rows) this.#check(row, found.get(row.documentId));
    return found;
  }

  #read(): AsyncGenerator<TokenizedDocument> {
    return this.#source.documents((id) => this.#wanted.has(id)).documents;
  }

  #missing(): UserError {
    const [id] = this.#wanted;
    return new UserError(
      `${this.#file.path}: document ${id} is not in the data, or too short for the model's positions`,
    );
  }

  /** Data and tokenizer are the same, so this fails where the model has fewer positions, or the file is not what it says. */
  #check({ documentId, position, targetTokens }: RolloutRecord, document: RolloutDocument | undefined): void {
    if (document === undefined) throw internal(`document ${documentId} was not found`);
    const { tokens, promptTokens = 0 } = document;
    const start = promptTokens + position;
    const there = Array.from(targetTokens, (_, i) => tokens[start + i]);
    if (there.every((token, i) => token === targetTokens[i])) return;
    const place = `${this.#file.path}: document ${documentId}, position ${position}`;
    if (start + targetTokens.length > tokens.length) {
      throw new UserError(`${place}: the model's positions hold only ${tokens.length - promptTokens} tokens of it`);
    }
    throw new UserError(
      `${place}: has the targets ${targetTokens.join(', ')}, in the data there is ${there.join(', ')}; the file has been changed`,
    );
  }
}

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

/** Finds the documents that are wanted in the data. */
interface DocumentNames {
  /** @param ids as the rollout file has them */
  want(ids: Iterable<string>): void;
  /** The rollout file's name of a document of the data; undefined if it is not wanted. */
  recorded(id: string): string | undefined;
}

class SameNames implements DocumentNames {
  #wanted = new Set<string>();

  want(ids: Iterable<string>): void {
    this.#wanted = new Set(ids);
  }
  recorded(id: string): string | undefined {
    return this.#wanted.has(id) ? id : undefined;
  }
}

/**
 * Documents without ids of their own are called `FILE:ROW`. Where the files have moved, FILE is known by its last part; where
 * there is only one, it may have another name.
 */
class MovedNames implements DocumentNames {
  readonly #files: ReadonlySet<string>;
  #own = new Set<string>();
  #byPlace = new Map<string, string[]>();

  /** @param files those with documents that have no id */
  constructor(files: readonly string[]) {
    this.#files = new Set(files);
    const names = files.map(lastPart);
    const twice = names.find((name, i) => names.indexOf(name) < i);
    if (twice === undefined) return;
    throw new UserError(
      `data ${files.join(', ')}: two files are called ${twice}, so it cannot be told which one a document without an id is from; ` +
        'put the data back where it was',
    );
  }

  want(ids: Iterable<string>): void {
    this.#own = new Set(ids);
    this.#byPlace = new Map();
    for (const id of this.#own) {
      const place = this.#placeOf(id);
      if (place !== undefined) this.#byPlace.set(place, [...(this.#byPlace.get(place) ?? []), id]);
    }
  }

  recorded(id: string): string | undefined {
    const file = /^(.*):\d+$/s.exec(id)?.[1];
    if (file === undefined || !this.#files.has(file)) return this.#own.has(id) ? id : undefined;
    const found = this.#byPlace.get(this.#placeOf(id) ?? '') ?? [];
    if (found.length < 2) return found[0];
    throw new UserError(`data: ${id} may be ${found.join(' or ')}; put the data back where it was`);
  }

  /** `NAME:ROW`, or `:ROW` of a single file; undefined for an id that can only be a document's own. */
  #placeOf(id: string): string | undefined {
    const [, file, row] = /^(.*):(\d+)$/s.exec(id) ?? [];
    return file && `${this.#files.size === 1 ? '' : lastPart(file)}:${row}`;
  }
}

const lastPart = (path: string) => path.split(/[/\\]/).at(-1);

/** The documents that the thoughts of a rollout file were written about, read again. */
export class RescoreData {
  readonly thoughts: ThoughtData;
  readonly #file: RecordedFile;
  readonly #source: TextData;
  readonly #names: DocumentNames;
  #documents: AsyncGenerator<TokenizedDocument>;

  private constructor(file: RecordedFile, thoughts: ThoughtData, source: TextData, names: DocumentNames) {
    this.#file = file;
    this.thoughts = thoughts;
    this.#source = source;
    this.#names = names;
    this.#documents = this.#read();
  }

  /**
   * @param model whose tokenizer reads the data
   * @param moved the data, where it is not where it was
   * @throws UserError unless data and tokenizer are those that the file was made with
   */
  static async open(file: RecordedFile, model: OpenModel, moved?: readonly string[]): Promise<RescoreData> {
    const { path, run } = file;
    if (run.dataHash === undefined || run.textHash === undefined || run.tokenizerHash === undefined) {
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
    const [found, expected] = moved ? [source.textHash, run.textHash] : [source.hash, run.dataHash];
    if (found !== expected) {
      throw new UserError(
        `data ${files.join(', ')}: is not what ${path} was made from, text by text; name that with --data (and its files in the same order)`,
      );
    }
    return new RescoreData(file, thoughts, source, moved ? new MovedNames(source.unnamed) : new SameNames());
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
    this.#names.want(positions.keys());
    const found = new Map<string, RolloutDocument>();
    for (let ends = 0; found.size < positions.size; ) {
      const { done, value } = await this.#documents.next();
      if (done) {
        if (ends++ === 1) throw this.#missing([...positions.keys()].find((id) => !found.has(id)));
        this.#documents = this.#read();
        continue;
      }
      const id = this.#names.recorded(value.id);
      if (id === undefined || found.has(id)) continue;
      found.set(id, this.thoughts.placedAt({ ...value, id }, [...(positions.get(id) ?? [])]));
    }
    for (const row of rows) this.#check(row, found.get(row.documentId));
    return found;
  }

  #read(): AsyncGenerator<TokenizedDocument> {
    return this.#source.documents((id) => this.#names.recorded(id) !== undefined).documents;
  }

  #missing(id: string | undefined): UserError {
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

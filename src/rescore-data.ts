import { completionThoughts, promptOptions } from './completion-task.ts';
import type { RecordedRun } from './config.ts';
import { PromptData, STDIN, type TextData, type TokenizedDocument } from './data/index.ts';
import { internal, UserError } from './errors.ts';
import type { OpenModel } from './model-directory.ts';
import type { RolloutRecord } from './records.ts';
import { completes } from './rescore-rows.ts';
import type { RolloutDocument } from './rollout/index.ts';
import { contextOf } from './thinking.ts';
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

/** A document, or a prompt with its reference answer. */
type SourceDocument = TokenizedDocument & { answer?: string };

/** The data of a run, whatever its objective. */
interface Source extends Pick<TextData, 'hash' | 'textHash' | 'tokenizerHash' | 'unnamed'> {
  read(wanted: (id: string) => boolean): AsyncGenerator<SourceDocument>;
}

async function openSource(
  run: RecordedRun,
  thoughts: ThoughtData,
  model: OpenModel,
  files: readonly string[],
): Promise<Source> {
  const of = ({ hash, textHash, tokenizerHash, unnamed }: Omit<Source, 'read'>, read: Source['read']) => ({
    ...{ hash, textHash, tokenizerHash, unnamed, read },
  });
  if (run.objective === 'grpo') {
    const data = await PromptData.open(files, await promptOptions(thoughts, model, run), run);
    return of(data, (wanted) => data.prompts(wanted));
  }
  const data = await thoughts.documents(files);
  return of(data, (wanted) => data.documents(wanted).documents);
}

/** The documents that the thoughts of a rollout file were written about, read again. */
export class RescoreData {
  readonly thoughts: ThoughtData;
  readonly #file: RecordedFile;
  readonly #source: Source;
  readonly #names: DocumentNames;
  readonly #references = new WeakMap<RolloutDocument, string>();
  #documents: AsyncGenerator<SourceDocument>;

  private constructor(file: RecordedFile, thoughts: ThoughtData, source: Source, names: DocumentNames) {
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
    const settings = completes(run) ? completionThoughts(run) : run;
    const thoughts = await ThoughtData.open(model, settings).catch((thrown: unknown) => {
      if (!(thrown instanceof UserError)) throw thrown;
      throw new UserError(`${path}: was made with settings that do not fit ${model.directory}: ${thrown.message}`);
    });
    const source = await openSource(run, thoughts, model, files);
    if (source.tokenizerHash !== run.tokenizerHash) {
      throw new UserError(
        `${thoughts.tokenizer.path}: is not the tokenizer that ${path} was made with, whose tokens would mean something else`,
      );
    }
    const [found, expected] = moved ? [source.textHash, run.textHash] : [source.hash, run.dataHash];
    if (found !== expected) {
      throw new UserError(
        `data ${files.join(', ')}: is not what ${path} was made from, text by text; name that with --data (and its files in the same order)` +
          (run.objective === 'grpo' ? '. A chat template is part of the text: it must be the same one' : ''),
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
      const document = this.thoughts.placedAt({ ...value, id }, [...(positions.get(id) ?? [])]);
      if (value.answer !== undefined) this.#references.set(document, value.answer);
      found.set(id, document);
    }
    for (const row of rows) this.#check(row, found.get(row.documentId));
    return found;
  }

  /** The reference answer of a prompt. */
  referenceOf(document: RolloutDocument): string | undefined {
    return this.#references.get(document);
  }

  #read(): AsyncGenerator<SourceDocument> {
    return this.#source.read((id) => this.#names.recorded(id) !== undefined);
  }

  #missing(id: string | undefined): UserError {
    const why = this.#file.run.objective === 'grpo' ? 'too long for' : 'too short for';
    return new UserError(`${this.#file.path}: document ${id} is not in the data, or ${why} the model's positions`);
  }

  /** Data and tokenizer are the same, so this fails where the model has fewer positions, or the file is not what it says. */
  #check(row: RolloutRecord, document: RolloutDocument | undefined): void {
    const { documentId, position, targetTokens, context } = row;
    if (document === undefined) throw internal(`document ${documentId} was not found`);
    const { tokens, promptTokens = 0 } = document;
    const start = promptTokens + position;
    const place = `${this.#file.path}: document ${documentId}, position ${position}`;
    const { objective } = this.#file.run;
    const needed = objective === 'rlp' ? targetTokens.length : objective === 'rpt' ? 1 : 0;
    if (start + needed > tokens.length) {
      throw new UserError(`${place}: the model's positions hold only ${tokens.length - promptTokens} tokens of it`);
    }
    // Of a completion the data has not what was written, but what was before it.
    if (objective !== 'rlp') {
      const before = contextOf(document, start, this.thoughts.decode);
      if (before === context) return;
      const [found, expected] = [context, before].map((text) => JSON.stringify(text));
      throw new UserError(
        `${place}: stands behind ${found}, in the data there is ${expected}; the file has been changed`,
      );
    }
    const there = Array.from(targetTokens, (_, i) => tokens[start + i]);
    if (there.every((token, i) => token === targetTokens[i])) return;
    throw new UserError(
      `${place}: has the targets ${targetTokens.join(', ')}, in the data there is ${there.join(', ')}; the file has been changed`,
    );
  }
}

import { existsSync, writeFileSync } from 'node:fs';
import { type Job, type JobResult, readJson } from './job.ts';
import { groupBy, mean } from './statistics.ts';

/** Seconds of jobs, from what jobs of their kind took before. */
export type Costs = (study: string, job: Job) => number;

/** What is taken where nothing was measured: seconds a step by objective, an evaluation, and the start of a job. */
const STEP_SECONDS: Readonly<Record<string, number>> = { cpt: 0.07, sft: 0.1, rlp: 0.36, rpt: 0.36, grpo: 0.4 };
const EVALUATION_SECONDS = 3;
const START_SECONDS = 1.5;

type Measured = Pick<JobResult, 'name' | 'seconds' | 'curve'> & Partial<JobResult>;

/** sweep/ARM/RATE, arms/ARM/SEED ...: what differs in the last part takes as long. */
const kindOf = (name: string) => name.slice(0, name.lastIndexOf('/'));

/** Costs as an earlier run measured them: its reproduction.json, if there is one. */
export async function readCosts(file: string): Promise<Costs> {
  const earlier: { studies: { name: string; results: Record<string, Measured> }[] } = existsSync(file)
    ? await readJson(file)
    : { studies: [] };
  const ofStep = new Map<string, number>();
  const ofEvaluation = new Map<string, number>();
  for (const { name: study, results } of earlier.studies) {
    const runs = Object.values(results);
    for (const [kind, own] of groupBy(runs, ({ name }) => kindOf(name))) {
      const perStep = own.map(({ seconds, curve }) => seconds / (curve.at(-1)?.step ?? Number.NaN));
      ofStep.set(`${study}/${kind}`, mean(perStep));
    }
    const evaluated = runs.flatMap(({ evaluationSeconds, curve }) =>
      evaluationSeconds === undefined ? [] : [evaluationSeconds / curve.length],
    );
    if (evaluated.length > 0) ofEvaluation.set(study, mean(evaluated));
  }
  return (study, { name, settings, evaluateAt }) => {
    const kind = kindOf(name);
    const [folder, what] = kind.split('/');
    const alike = [kind, `arms/${what}`, ...(folder === 'ablations' || folder === 'stability' ? ['arms/rlp-ema'] : [])];
    const known = alike.map((one) => ofStep.get(`${study}/${one}`)).find((seconds) => seconds !== undefined);
    return (
      START_SECONDS +
      settings.steps * (known ?? STEP_SECONDS[String(settings.objective)]) +
      evaluateAt.length * (ofEvaluation.get(study) ?? EVALUATION_SECONDS)
    );
  };
}

/** What a folder's file tells of the time that its results took. */
interface Sittings {
  code: string;
  /** Of the command, while it ran jobs. */
  minutes: number;
  /** Times that it was started: more than one if it was interrupted. */
  sittings: number;
}

/** Time that was taken, over interruptions, and that is left. */
export class Clock {
  readonly #start = performance.now();
  readonly #file: string;
  readonly #processes: number;
  readonly #earlier: Sittings;
  #last: Sittings;
  /** Estimated seconds of jobs to do, by study and name. */
  readonly #left = new Map<string, number>();
  #estimated = 0;
  #taken = 0;

  private constructor(file: string, processes: number, earlier: Sittings) {
    this.#file = file;
    this.#processes = processes;
    this.#earlier = earlier;
    this.#last = earlier;
  }

  /** @param file of the sittings before; those of other code do not count */
  static async open(file: string, code: string, processes: number): Promise<Clock> {
    const nothing = { code, minutes: 0, sittings: 0 };
    const earlier = existsSync(file) ? await readJson<Sittings>(file) : nothing;
    return new Clock(file, processes, earlier.code === code ? earlier : nothing);
  }

  /** Adds to what is to be done. */
  expect(job: string, seconds: number): void {
    this.#left.set(job, seconds);
  }

  /** A job is done; `fresh` if this sitting did it. */
  done(job: string, { wallSeconds }: Pick<JobResult, 'wallSeconds'>, fresh: boolean): void {
    const estimated = this.#left.get(job) ?? 0;
    this.#left.delete(job);
    if (!fresh) return;
    this.#estimated += estimated;
    this.#taken += wallSeconds;
    const { code, minutes, sittings } = this.#earlier;
    this.#last = { code, minutes: minutes + this.#minutes, sittings: sittings + 1 };
    writeFileSync(this.#file, JSON.stringify(this.#last));
  }

  get #minutes(): number {
    return (performance.now() - this.#start) / 60_000;
  }

  /** Of all sittings, up to the last job. */
  get total(): Pick<Sittings, 'minutes' | 'sittings'> {
    return { minutes: this.#last.minutes, sittings: this.#last.sittings };
  }

  /** Minutes that are left, as this machine has taken them so far. */
  get left(): number {
    const pace = this.#estimated > 0 ? this.#taken / this.#estimated : 1;
    return (pace * [...this.#left.values()].reduce((a, b) => a + b, 0)) / this.#processes / 60;
  }
}

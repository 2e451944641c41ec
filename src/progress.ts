/** One report of how far long work has come. A new `stage` starts a new bar or block of lines. */
export interface Progress {
  /** What is being done: `rollout`, `step`, `evaluate` ... */
  stage: string;
  /** Units finished so far, of `total` if that is known. */
  done: number;
  total?: number;
  /** How much of the units in flight is done, in units: time left goes by it, too. */
  inFlight?: number;
  /** What is counted: `documents`, `steps` ... */
  unit: string;
  /** Figures worth seeing while waiting, by name: `reward`, `tokens/s` ... */
  figures?: Readonly<Record<string, number>>;
}

/** What the long calls of the library take besides their settings. */
export interface RunHooks {
  onProgress?: (progress: Progress) => void;
  /** What the user should know and nobody has to act on now: a whole sentence. */
  onNotice?: (message: string) => void;
  /** Notices go into detail. */
  verbose?: boolean;
  /**
   * Aborted: a rollout finishes the batch of documents in flight, training gives up the step in flight, which a resume takes
   * again; then reject with a RunError that says how to continue. A call that has no more to do resolves.
   */
  signal?: AbortSignal;
}

/**
 * Fixed before the run that the report tells of, and not changed after a look at it. The report names them, and the looks at
 * earlier runs with other seeds that came before.
 */
export const DECLARED = {
  /** Of training: order of the documents, positions, thoughts. An arm with fewer takes the first. */
  trainingSeeds: [11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
  /** Of the runs that choose a learning rate. */
  sweepSeed: 10,
  /** Of the texts: to train on, to choose learning rates on, held out, to post-train on. */
  textSeeds: { train: 11, validation: 12, heldOut: 13, postTraining: 14 },
  /** Of the thoughts of an evaluation. */
  evaluationSeed: 11,
  /** Optimizer steps of the arms that think after which all arms are compared, by text. */
  comparisonSteps: { settled: 40, open: 10 },
  /** Times as many at the end of the run. */
  stability: 10,
  /** Of the intervals over questions and seeds. */
  bootstrap: { seed: 11, resamples: 2000 },
} as const;

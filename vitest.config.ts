import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // ONNX Runtime lives in native memory of the process: a process per file keeps tests apart.
    pool: 'forks',
    maxWorkers: 2,
    // Some tests train hundreds of steps, or start programs over and over; on a busy machine that takes minutes.
    testTimeout: 240_000,
    hookTimeout: 240_000,
  },
});

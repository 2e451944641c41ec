// Prints "N passed, N failed" from the JSON report of a vitest run, and fails unless tests ran and all of them passed.
// Usage: node scripts/test-summary.mjs REPORT.json
import { readFileSync } from 'node:fs';

/** A file that broke before its first test counts as one failure: its tests did not run. */
const brokenFiles = (report) =>
  report.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0).length;

let passed = 0;
let failed = 0;
let ended = false;
try {
  const report = JSON.parse(readFileSync(process.argv[2], 'utf8'));
  passed = report.numPassedTests;
  failed = report.numFailedTests + brokenFiles(report);
  ended = report.success || failed > 0;
  const skipped = report.numTotalTests - report.numPassedTests - report.numFailedTests;
  if (skipped > 0) console.log(`${skipped} skipped`);
} catch (error) {
  console.error(`no test report: ${error.message}`);
}
if (passed + failed === 0) console.error('no test ran');
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = ended && failed === 0 && passed > 0 ? 0 : 1;

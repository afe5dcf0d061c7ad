/** `npm test`: prepares the machine, runs every test, and ends with the line "N passed, N failed". `--long`: the full counts. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toMount, toTest } from './debian.mjs';
import { prepare, root } from './prepare.mjs';

prepare([...toMount, ...toTest]);

const long = process.argv.includes('--long');
const chosen = process.argv.slice(2).filter((argument) => argument !== '--long');
const scratch = mkdtempSync(join(tmpdir(), 'mirage-test-'));
const report = join(scratch, 'report.json');
const jest = spawnSync(
  process.execPath,
  [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    join(root, 'node_modules', 'jest', 'bin', 'jest.js'),
    '--json',
    `--outputFile=${report}`,
    ...chosen,
  ],
  {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...(long && { MIRAGE_TEST_LONG: '1' }) },
  },
);

const result = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined;
rmSync(scratch, { recursive: true, force: true });
// A file that does not even load counts as one failure.
const failed = result === undefined ? 1 : result.numFailedTests + result.numRuntimeErrorTestSuites;
console.log(`${result?.numPassedTests ?? 0} passed, ${failed} failed`);
process.exit(jest.status === 0 && failed === 0 ? 0 : 1);
